package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measured holds the time and the memory of one run of a process.
type measured struct {
	wall time.Duration
	cpu  time.Duration
	// rss is the peak of resident memory in bytes.
	rss int64
	out string
}

// readyMark and doneMark are what a program prints to start and to stop the
// clock. They exclude the start and the end of the process from the time of a
// destination, as in a daemon.
const readyMark, doneMark = "ready\n", "done\n"

// A transcript records what a program prints, and when it printed the marks.
type transcript struct {
	bytes.Buffer
	began, ended time.Time
}

func (t *transcript) Write(b []byte) (int, error) {
	switch string(b) {
	case readyMark:
		t.began = time.Now()
		return len(b), nil
	case doneMark:
		t.ended = time.Now()
		return len(b), nil
	}
	return t.Buffer.Write(b)
}

// runTimed runs cmd to its end. It measures the time from readyMark to
// doneMark, or the whole run if cmd does not print them. Dirty pages of earlier
// runs are written to disk first.
func runTimed(cmd *exec.Cmd) (measured, error) {
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
		return r, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, messageTail(errs.String()))
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, nil
}

// watchMemory samples the peak of a process's resident memory a hundred times a
// second until most is called. The value that the kernel reports after the end
// of a process cannot be used, because it includes the resident memory of the
// parent at the start.
func watchMemory(pid int) (most func() int64) {
	peak, stop, done := int64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if v, err := readStatusBytes(pid, "VmHWM"); err == nil {
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

// messageTail returns the last 2,000 bytes of a program's messages.
func messageTail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 2000 {
		s = "…" + s[len(s)-2000:]
	}
	return s
}

// newCommand returns a command with a minimal environment to which env is
// added.
func newCommand(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "NO_PROXY=127.0.0.1"}, env...)
	return cmd
}

// residentMemory returns the resident memory of a process in bytes, and how
// much of it is anonymous. The rest is pages of the program file, which the
// kernel may drop at any time.
func residentMemory(pid int) (all, own int64, err error) {
	if all, err = readStatusBytes(pid, "VmRSS"); err != nil {
		return 0, 0, err
	}
	own, err = readStatusBytes(pid, "RssAnon")
	return all, own, err
}

// processorTime returns the processor time that a process has used, in the resolution of the
// kernel: a hundredth of a second.
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, values, _ := strings.Cut(string(text), ") ") // after the name
	fields := strings.Fields(values)
	if len(fields) < 13 {
		return 0, fmt.Errorf("the status of process %d has %d fields, want 13 or more", pid, len(fields))
	}
	var ticks time.Duration
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond, nil
}

// readStatusBytes returns a value of /proc/PID/status in bytes.
func readStatusBytes(pid int, name string) (int64, error) {
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

// A coreLoad is the load of the machine's cores in percent.
type coreLoad struct {
	// overall is the load over all the time, computing the load while no core
	// waited for the disk.
	overall, computing float64
}

// watchCores samples the load of the cores twenty times a second until done is
// called.
func watchCores() (done func() coreLoad) {
	type ticks struct{ busy, all float64 }
	var whole, free ticks
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		busy, disk, all := readCoreTicks()
		for more := true; more; {
			select {
			case <-stop:
				more = false
			case <-tick.C:
			}
			busy2, disk2, all2 := readCoreTicks()
			now := ticks{busy2 - busy, all2 - all}
			whole = ticks{whole.busy + now.busy, whole.all + now.all}
			if disk2 == disk {
				free = ticks{free.busy + now.busy, free.all + now.all}
			}
			busy, disk, all = busy2, disk2, all2
		}
	}()
	return func() coreLoad {
		close(stop)
		<-stopped
		return coreLoad{overall: 100 * whole.busy / max(whole.all, 1), computing: 100 * free.busy / max(free.all, 1)}
	}
}

// readLoadAverage returns the load average of the machine in the last minute.
func readLoadAverage() (load float64, err error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		return 0, fmt.Errorf("/proc/loadavg: %w", err)
	}
	return load, nil
}

// readCoreTicks returns the processor time of the machine so far in ticks:
// busy, waiting for the disk, and total.
func readCoreTicks() (busy, disk, all float64) {
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
