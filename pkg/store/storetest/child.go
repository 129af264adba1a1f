package storetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// A Job is the work of a child process: what needs a process of its own because
// of its user, its limits or its end.
type Job struct {
	// Sink and Place name the sink; the function that Main was called with
	// opens it.
	Sink  string
	Place string
	// Snapshots are the directories of the snapshots to write, in order. The
	// child prints "stored" and the upload id after each.
	Snapshots []string
	// UID is the user that the child becomes; 0 means no change.
	UID int
	// FileSize limits the files that the child writes, in bytes; 0 means no
	// limit.
	FileSize uint64
	// Hold makes the child open the place, print "held", and keep it open
	// until its standard input ends. It writes no snapshots.
	Hold bool
}

// A Child says how Main runs jobs.
type Child struct {
	// OpenSink opens the sink of a Job.
	OpenSink func(sink, place string) (store.Sink, error)
	// OpenPlace opens the place of a Job with Hold, as another program would;
	// nil where no test has one.
	OpenPlace func(place string) (io.Closer, error)
}

const jobVariable = "COLLECTORD_TEST_JOB"

// Main is for TestMain: it runs the tests, stops the servers that they started
// and fails if goroutines are left; in a child process it runs the Job instead.
func Main(m *testing.M, c Child) {
	text := os.Getenv(jobVariable)
	if text == "" {
		code := m.Run()
		testserver.Stop()
		if err := goleak.Find(); code == 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	var j Job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	if err := j.runInChild(c); err != nil {
		fmt.Printf("error refused=%t canceled=%t %v\n", errors.Is(err, store.ErrRefused), errors.Is(err, context.Canceled), err)
	}
	fmt.Printf("peak %d\n", peakMemory())
}

func (j Job) runInChild(c Child) error {
	if j.Hold {
		opened, err := c.OpenPlace(j.Place)
		if err != nil {
			return err
		}
		fmt.Println("held")
		_, err = io.Copy(io.Discard, os.Stdin)
		return errors.Join(err, opened.Close())
	}
	if j.FileSize > 0 {
		signal.Ignore(syscall.SIGXFSZ) // the write fails instead
		limit := syscall.Rlimit{Cur: j.FileSize, Max: j.FileSize}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
	}
	if j.UID != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(j.UID), syscall.Setuid(j.UID)); err != nil {
			return err
		}
	}
	sink, err := c.OpenSink(j.Sink, j.Place)
	if err != nil {
		return err
	}
	for _, dir := range j.Snapshots {
		s, err := snapshot.Open(dir)
		if err != nil {
			return err
		}
		if err := sink.Write(context.Background(), s); err != nil {
			return err
		}
		fmt.Println("stored", s.UploadID)
	}
	return nil
}

// peakMemory returns the largest resident set of the process so far, in bytes.
func peakMemory() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				panic(err)
			}
			return kib << 10
		}
	}
	panic("no VmHWM")
}

// A Process is a running Job.
type Process struct {
	Cmd   *exec.Cmd
	Stdin io.Closer
	lines *bufio.Scanner
}

// Start starts the job in a process of its own.
func (j Job) Start(t *testing.T) *Process {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Cmd: exec.Command(self)}
	p.Cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	p.Cmd.Stderr = os.Stderr
	if p.Stdin, err = p.Cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Line returns the next line that the process prints, "" after the last.
func (p *Process) Line() string {
	p.lines.Scan()
	return p.lines.Text()
}

// A JobResult is the outcome of a Job.
type JobResult struct {
	Problem    string // the error's text, "" for none
	Refused    bool   // the error wrapped store.ErrRefused
	PeakMemory int64  // bytes
}

// Run runs the job in a process of its own.
func (j Job) Run(t *testing.T) (res JobResult) {
	t.Helper()
	p := j.Start(t)
	for line := p.Line(); line != ""; line = p.Line() {
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "error":
			res.Problem, res.Refused = rest, strings.HasPrefix(rest, "refused=true")
		case "peak":
			var err error
			if res.PeakMemory, err = strconv.ParseInt(rest, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return res
}

// NobodyID is a user and a group without permissions.
const NobodyID = 65534

// RunUnprivileged runs the job as a user for whom path has the mode. The error
// must name the missing permission and a setting. It returns what a Breakage
// returns.
func (j Job) RunUnprivileged(t *testing.T, path string, mode fs.FileMode) (problem string, refused bool) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		j.UID = NobodyID
		// The directories above belong to the test and let no other user
		// through.
		for d := filepath.Dir(path); strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		mode &= 0o555
		if path == j.Place {
			mode = 0
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	res := j.Run(t)
	if err := os.Chmod(path, fi.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(res.Problem, "ermission denied") || !strings.Contains(res.Problem, "STORE_") {
		t.Errorf("%q does not name the setting and the reason", res.Problem)
	}
	return res.Problem, res.Refused
}
