package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// measured is what one run of a process took.
type measured struct {
	wall time.Duration
	cpu  time.Duration
	// rss is the most resident memory in bytes.
	rss int64
	out string
}

// ready and done are what a program writes when the clock is to start and to
// stop there: that of a daemon's destination counts neither the program's start
// nor its end.
const ready, done = "ready\n", "done\n"

// A transcript keeps what a program writes, and when it was ready and done.
type transcript struct {
	bytes.Buffer
	began, ended time.Time
}

func (o *transcript) Write(b []byte) (int, error) {
	switch string(b) {
	case ready:
		o.began = time.Now()
		return len(b), nil
	case done:
		o.ended = time.Now()
		return len(b), nil
	}
	return o.Buffer.Write(b)
}

// timed runs cmd to its end, and counts from where it says that it is ready to
// where it says that it is done, if it does. What earlier runs left to be
// written to the disk is written before.
func timed(cmd *exec.Cmd) (measured, error) {
	syscall.Sync()
	var out transcript
	var errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	out.began = time.Now()
	if err := cmd.Start(); err != nil {
		return measured{}, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	most := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	if out.ended.IsZero() {
		out.ended = time.Now()
	}
	r := measured{wall: out.ended.Sub(out.began), rss: most(), out: out.String()}
	if err != nil {
		return r, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, tail(errs.String()))
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, nil
}

// watchMemory looks at a process's peak of resident memory until most is
// called, a hundred times a second. What the kernel tells of a process that
// has ended includes what its parent had resident when it was started.
func watchMemory(pid int) (most func() int64) {
	peak, stop, done := int64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if v, err := statusKB(pid, "VmHWM"); err == nil {
				peak = max(peak, v)
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(stop); <-done; return peak }
}

// tail returns the end of a program's messages.
func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 2000 {
		s = "…" + s[len(s)-2000:]
	}
	return s
}

// program prepares a program with an environment of its own.
func program(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "NO_PROXY=127.0.0.1"}, env...)
	return cmd
}

// resident returns the resident memory of a process in bytes, and how much of
// it is its own: the rest are pages of the program's file, which the kernel
// may drop at any time.
func resident(pid int) (all, own int64, err error) {
	if all, err = statusKB(pid, "VmRSS"); err != nil {
		return 0, 0, err
	}
	own, err = statusKB(pid, "RssAnon")
	return all, own, err
}

// statusKB returns a figure of a process's status in bytes.
func statusKB(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if _, err := fmt.Sscanf(line, name+": %d kB", &kb); err == nil {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", name, pid)
}

// A load is how busy the machine's cores were, in percent.
type load struct {
	// overall counts all the time, computing that in which no core waited for
	// the disk.
	overall, computing float64
}

// watchCores looks at the cores twenty times a second until done is called.
func watchCores() (done func() load) {
	type ticks struct{ busy, all float64 }
	var whole, free ticks
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		busy, disk, all := cores()
		for more := true; more; {
			select {
			case <-stop:
				more = false
			case <-tick.C:
			}
			busy2, disk2, all2 := cores()
			now := ticks{busy2 - busy, all2 - all}
			whole = ticks{whole.busy + now.busy, whole.all + now.all}
			if disk2 == disk {
				free = ticks{free.busy + now.busy, free.all + now.all}
			}
			busy, disk, all = busy2, disk2, all2
		}
	}()
	return func() load {
		close(stop)
		<-stopped
		return load{overall: 100 * whole.busy / max(whole.all, 1), computing: 100 * free.busy / max(free.all, 1)}
	}
}

// cores returns the machine's processor time so far, in ticks: busy, idle only
// because of the disk, and in all.
func cores() (busy, disk, all float64) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, 0
	}
	defer f.Close()
	var v [8]float64
	if _, err := fmt.Fscanf(io.Reader(f), "cpu %f %f %f %f %f %f %f %f", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]); err != nil {
		return 0, 0, 0
	}
	for _, n := range v {
		all += n
	}
	return all - v[3] - v[4], v[4], all
}
