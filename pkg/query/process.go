package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/gofrs/flock"
)

// runTask does a task in a worker process and copies its result to w. It starts
// again, once for each newer snapshot, if a snapshot is replaced before anything of
// the result was written.
func (e *Engine) runTask(ctx context.Context, t task, w io.Writer) (Summary, error) {
	dir, remove, err := e.createTaskDir()
	if err != nil {
		return Summary{}, withKind(ErrNotRun, err)
	}
	defer remove()
	t.Dir, t.lowPriority = dir, e.o.LowPriority
	out := &countingWriter{w: w}
	for previous := ""; ; {
		if t.Streams, err = e.streamSources(ctx, t.Text); err != nil && !errors.Is(err, errGone) {
			return Summary{}, notRun(err)
		}
		var sum Summary
		if err == nil {
			sum, err = runWorker(ctx, t, e.o.Memory, out)
			err = explainMemory(err, e.o.Memory, e.o.MemorySetting)
		}
		if out.err != nil {
			return sum, out.err
		}
		sources := fmt.Sprint(t.Streams)
		if !errors.Is(err, errGone) || out.n > 0 || sources == previous {
			return sum, err
		}
		previous = sources
	}
}

// streamSources returns the streams that have data. Those that text names have a
// columnar copy and their optional members.
func (e *Engine) streamSources(ctx context.Context, text string) (all []streamSource, err error) {
	streams, err := e.o.State.Streams(ctx)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	names := namesIn(text)
	for _, stream := range streams {
		if !e.covers(stream.Tenancy) || stream.Taken.IsZero() {
			continue
		}
		sealed, info, err := e.o.State.Snapshots.LastKnown(ctx, stream.Stream, stream.Tenancy)
		if err != nil {
			return all, fmt.Errorf("query: %w", e.withTenancy(stream.Tenancy, err))
		}
		source := e.sourceOf(sealed, info)
		used := names.mayRead(stream.Stream)
		if !used {
			source.Optional = nil
		}
		switch {
		case source.Records == 0:
		case used:
			source, err = e.withColumns(ctx, source)
		default:
			source = withExistingColumns(source)
		}
		if all = append(all, source); err != nil {
			return all, e.withTenancy(stream.Tenancy, err)
		}
	}
	return all, nil
}

// covers reports whether queries read the data of a tenancy.
func (e *Engine) covers(tenancy string) bool {
	if len(e.o.Tenancies) > 0 {
		return slices.Contains(e.o.Tenancies, tenancy)
	}
	return tenancy == e.o.Tenancy
}

// withTenancy returns an error with the name of the tenancy, if there are several.
func (e *Engine) withTenancy(tenancy string, err error) error {
	if len(e.o.Tenancies) < 2 {
		return err
	}
	return fmt.Errorf("tenancy %s: %w", tenancy, err)
}

// taskDirPrefix begins the names of directories that may be among those of other programs.
const taskDirPrefix = "collectord-query-"

// createTaskDir creates the directory of a task and returns the function that removes
// it. It first removes those of processes that died.
func (e *Engine) createTaskDir() (dir string, remove func(), err error) {
	if err := os.MkdirAll(e.o.Dir, 0o700); err != nil {
		return "", nil, err
	}
	RemoveLeftovers(e.o.Dir)
	for {
		if dir, err = os.MkdirTemp(e.o.Dir, taskDirPrefix); err != nil {
			return "", nil, err
		}
		lock := flock.New(filepath.Join(dir, "lock"))
		locked, err := lock.TryLock()
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
		if _, err := os.Stat(dir); !locked || err != nil {
			_ = lock.Close()
			continue // another call found the file before it was locked, and removed the directory
		}
		return dir, func() {
			_ = os.RemoveAll(dir)
			_ = lock.Unlock()
		}, nil
	}
}

// RemoveLeftovers removes from the directory of an Engine what killed processes have left:
// the directories whose lock no process holds. One that is being created has no lock file
// yet and stays.
func RemoveLeftovers(dir string) {
	found, _ := fs.Glob(os.DirFS(dir), taskDirPrefix+"*/lock")
	for _, name := range found {
		path := filepath.Join(dir, name)
		if !isOwn(filepath.Dir(path)) || !isOwn(path) {
			continue
		}
		lock := flock.New(path, flock.SetFlag(os.O_RDWR))
		if free, err := lock.TryLock(); err == nil && free {
			_ = os.RemoveAll(filepath.Dir(path))
			_ = lock.Unlock()
		}
	}
}

// isOwn reports whether a file or directory is of the user of this process, and no link:
// other users may have files in a directory for temporary files.
func isOwn(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// killWait is how long the output of a killed worker is waited for.
const killWait = 10 * time.Second

// runWorker starts a worker for the task and waits for it. The worker has at most
// memory bytes and no variable of this process's environment, since some are secret.
func runWorker(ctx context.Context, t task, memory int64, w io.Writer) (Summary, error) {
	input, err := json.Marshal(t)
	if err != nil {
		return Summary{}, err
	}
	program, err := ownProgram()
	if err != nil {
		return Summary{}, fmt.Errorf("query: find the program: %w", err)
	}
	reports, reportEnd, err := os.Pipe()
	if err != nil {
		return Summary{}, err
	}
	defer reports.Close()
	cmd := exec.CommandContext(ctx, program, WorkerCommand)
	// GORACE has the options of the race detector, which only tests have.
	cmd.Env = []string{"TMPDIR=" + t.Dir, "GORACE=" + os.Getenv("GORACE")}
	cmd.Dir, cmd.WaitDelay = t.Dir, killWait
	cmd.ExtraFiles = []*os.File{reportEnd}
	// Ctrl-C on a terminal is a signal to a group of processes. The worker gets none of
	// its own, so that its end always has the reason that ctx has.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr := &firstBytes{max: 64 << 10}
	cmd.Stdout, cmd.Stderr = w, stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return Summary{}, errors.Join(err, reportEnd.Close())
	}
	err = errors.Join(cmd.Start(), reportEnd.Close())
	if cmd.Process == nil {
		return Summary{}, withKind(ErrNotRun, fmt.Errorf("start %s: %w", program, err))
	}
	// The worker waits for its task, so that the limits are there before it does
	// anything.
	if err = limitProcess(cmd.Process.Pid, memory, t.lowPriority); err == nil {
		_, err = stdin.Write(append(input, '\n'))
	}
	if err != nil {
		_ = cmd.Process.Kill()
	}
	var r report
	reportErr := json.NewDecoder(reports).Decode(&r)
	_ = stdin.Close()
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return Summary{}, context.Cause(ctx)
	case reportErr != nil:
		return Summary{}, workerDeath(memory, stderr.String(), errors.Join(err, waitErr))
	case r.Error != "":
		return r.Summary, r.err()
	}
	return r.Summary, nil
}

// workerDeath returns the error of a worker that ended without a report. The limit
// of memory is the usual cause: neither DuckDB nor Go survives it everywhere.
func workerDeath(memory int64, stderr string, err error) error {
	if strings.Contains(err.Error(), "signal: killed") {
		return withKind(ErrMemory, errors.New(systemKilled+", as it does when the machine or the service is out of memory"))
	}
	for _, sign := range []string{"out of memory", "cannot allocate memory", "bad_alloc", "pthread_create failed"} {
		if strings.Contains(strings.ToLower(stderr+err.Error()), sign) {
			return withKind(ErrMemory, fmt.Errorf("its process ended at the limit of %d MiB", memory>>20))
		}
	}
	for _, signal := range []string{"signal: segmentation fault", "signal: bus error", "signal: aborted"} {
		if strings.Contains(err.Error(), signal) {
			return withKind(ErrMemory, fmt.Errorf("its process crashed (%s), as it may at the limit of %d MiB", signal, memory>>20))
		}
	}
	line, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	return withKind(ErrNotRun, fmt.Errorf("its process ended: %w: %s", err, line))
}

// explainMemory returns the error of a worker that needed more memory or disk space than its
// limit in one sentence with the setting, and other errors as they are.
func explainMemory(err error, memory int64, setting string) error {
	switch {
	case !errors.Is(err, ErrMemory) || strings.Contains(err.Error(), systemKilled):
		return err
	case strings.Contains(err.Error(), "max_temp_directory_size"):
		return &workerError{"the query needs too much disk space for what does not fit in memory: select fewer rows and columns", ErrMemory}
	}
	limit := "it may use " + humanize.IBytes(uint64(memory)) + ": select fewer rows and columns"
	if setting != "" {
		limit += ", or set " + setting + " to more"
	}
	return &workerError{fmt.Sprintf("%v: %s", ErrMemory, limit), ErrMemory}
}

// systemKilled begins the reason of a worker that this process did not kill.
const systemKilled = "the system killed its process"

// countingWriter counts the bytes that were written and keeps the error of w.
type countingWriter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.err = err
	return n, err
}

// firstBytes keeps the first bytes that are written to it.
type firstBytes struct {
	buf bytes.Buffer
	max int
}

func (f *firstBytes) Write(b []byte) (int, error) {
	f.buf.Write(b[:min(len(b), f.max-f.buf.Len())])
	return len(b), nil
}

func (f *firstBytes) String() string { return f.buf.String() }
