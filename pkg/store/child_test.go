package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/testserver"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// A job is what a child process of the tests does: what needs a process of
// its own, because of its user, its limits or its end.
type job struct {
	// Sink and Dir name the sink, see sinkAt.
	Sink string
	Dir  string
	// Snapshots are the folders of the snapshots to write, in turn. The
	// upload id of each is printed when it is stored.
	Snapshots []string
	// UID is the user to become; 0 stays.
	UID int
	// FileSize limits the files that are written, in bytes; 0 does not.
	FileSize uint64
	// Hold is a DuckDB file to keep open until standard input ends.
	Hold string
}

const jobVariable = "COLLECTORD_TEST_JOB"

func TestMain(m *testing.M) {
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
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	if err := j.do(); err != nil {
		fmt.Printf("error refused=%t canceled=%t %v\n", errors.Is(err, ErrRefused), errors.Is(err, context.Canceled), err)
	}
	fmt.Printf("peak %d\n", peakMemory())
}

func (j job) do() error {
	if j.Hold != "" {
		db, err := duckdb.Open(context.Background(), j.Hold, duckdb.Options{})
		if err != nil {
			return err
		}
		fmt.Println("held")
		_, err = io.Copy(io.Discard, os.Stdin)
		return errors.Join(err, db.Close())
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
	sink, err := sinkAt(j.Sink, j.Dir)
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

// peakMemory is the process's largest resident set so far, in bytes.
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

// A child is a running job.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin io.Closer
}

// start starts the job in a process of its own.
func (j job) start(t *testing.T) *child {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command(self)}
	c.cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// line returns the next line that the child prints, "" after the last.
func (c *child) line() string {
	c.lines.Scan()
	return c.lines.Text()
}

// run runs the job and returns its error, "" for none, whether it was
// ErrRefused, and its peak memory in bytes.
func (j job) run(t *testing.T) (problem string, refused bool, peak int64) {
	t.Helper()
	c := j.start(t)
	for line := c.line(); line != ""; line = c.line() {
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "error":
			problem, refused = rest, strings.HasPrefix(rest, "refused=true")
		case "peak":
			var err error
			if peak, err = strconv.ParseInt(rest, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return problem, refused, peak
}
