package supervise

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// The file descriptors of a supervisor and of the process that becomes the program.
const (
	reportFile = 3 // of a supervisor: reports to the process that uses it
	taskFile   = 3 // of the other: the Program
	statusFile = 4 // of the other: why the program was not started
)

// superviseProgram is the life of a supervisor. Standard input has the Program, and stays
// open until the program is to be stopped or the process that uses it is gone.
func superviseProgram() int {
	// These signals are for the program, if at all: a supervisor ends when nothing of the
	// program is left. A signal that is caught, unlike one that is ignored, has its default
	// effect in the program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	runtime.LockOSThread() // the program dies with the thread that started it
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	var p Program
	if err == nil {
		err = json.Unmarshal(line, &p)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: read the task: %v\n", Command, err)
		return 1
	}
	reports := os.NewFile(reportFile, "report")
	syscall.CloseOnExec(reportFile)
	exit := superviseTask(p, input, json.NewEncoder(reports))
	// The process that uses the program may be gone, with the reader of the report.
	_ = json.NewEncoder(reports).Encode(exit)
	return 0
}

// superviseTask starts the program, waits for its end and ends what it has left behind.
func superviseTask(p Program, input io.Reader, reports *json.Encoder) Exit {
	defer func() {
		if p.Remove != "" {
			_ = os.RemoveAll(p.Remove)
		}
	}()
	adoptOrphans()
	pid, err := startProgram(p)
	if err := reports.Encode(map[string]int{"PID": pid}); err != nil && pid > 0 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	if err != nil {
		return Exit{Code: -1, Problem: describeStartError(err)}
	}
	// The output is the program's alone, so that its reader sees the end of it.
	_, _ = os.Stdout.Close(), os.Stderr.Close()
	g := &processGroup{leader: pid}
	exited := make(chan struct{})
	go g.stopAfter(input, p.Grace, exited)
	status := g.waitLeader()
	close(exited)
	exit := Exit{Code: status.ExitStatus(), Left: endChildren()}
	if status.Signaled() {
		exit.Code, exit.Signal = -1, status.Signal().String()
	}
	return exit
}

// startProgram starts the program in a process group of its own and returns its process id,
// which is also that of the group.
func startProgram(p Program) (pid int, err error) {
	self, err := ownPath()
	if err != nil {
		return 0, err
	}
	task, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	taskEnd, taskWriter, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer taskEnd.Close()
	defer taskWriter.Close()
	status, statusEnd, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer status.Close()
	defer statusEnd.Close()
	cmd := exec.Command(self, startCommand)
	cmd.Env, cmd.Dir = []string{}, p.Dir
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{taskEnd, statusEnd}
	cmd.SysProcAttr = programAttributes()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid = cmd.Process.Pid
	_ = cmd.Process.Release() // waitLeader waits for it
	_, _ = taskEnd.Close(), statusEnd.Close()
	_, writeErr := taskWriter.Write(task)
	_ = taskWriter.Close()
	text, readErr := io.ReadAll(status)
	if len(text) > 0 || writeErr != nil || readErr != nil {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		waitProcess(pid)
	}
	if len(text) > 0 {
		var failure startFailure
		if err := json.Unmarshal(text, &failure); err != nil {
			return 0, err
		}
		return 0, failure.err()
	}
	if err := errors.Join(writeErr, readErr); err != nil {
		return 0, err
	}
	return pid, nil
}

// A startFailure is why the program was not started.
type startFailure struct {
	What  string        `json:"what"`
	Errno syscall.Errno `json:"errno"`
	Text  string        `json:"text"`
}

func (sf startFailure) err() error {
	if sf.Errno != 0 {
		return fmt.Errorf("%s: %w", sf.What, sf.Errno)
	}
	return fmt.Errorf("%s: %s", sf.What, sf.Text)
}

// becomeProgram sets the limits of this process and replaces it by the program. It returns
// if that fails.
func becomeProgram() int {
	syscall.CloseOnExec(taskFile)
	syscall.CloseOnExec(statusFile)
	status := os.NewFile(statusFile, "status")
	fail := func(what string, err error) int {
		f := startFailure{What: what, Text: err.Error()}
		_ = errors.As(err, &f.Errno) // if it is none, there is the text
		_ = json.NewEncoder(status).Encode(f)
		return 1
	}
	task, err := io.ReadAll(os.NewFile(taskFile, "task"))
	if err != nil {
		return fail("read the task", err)
	}
	var p Program
	if err := json.Unmarshal(task, &p); err != nil {
		return fail("read the task", err)
	}
	runtime.LockOSThread() // the attributes of the thread that calls Exec become the program's
	keepDyingWithParent()
	debug.SetGCPercent(-1) // the limit is for the program, which may need less than this one
	if err := limitOwnProcess(p.Memory); err != nil {
		return fail("limit the process", err)
	}
	return fail("start", syscall.Exec(p.Path, p.Args, p.Env))
}

// waitProcess waits for the end of a child and returns how it ended.
func waitProcess(pid int) (status syscall.WaitStatus) {
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			return status
		}
	}
}

// A processGroup is the group of the program. It receives no signal after the process id
// of its leader may be that of another program.
type processGroup struct {
	mu     sync.Mutex
	leader int
	reaped bool
}

// signal sends a signal to the processes of the group.
func (pg *processGroup) signal(s syscall.Signal) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if !pg.reaped {
		_, _ = syscall.Kill(-pg.leader, s), syscall.Kill(pg.leader, s)
	}
}

// stopAfter stops the group when the input ends: with SIGTERM, and after the grace with
// SIGKILL.
func (pg *processGroup) stopAfter(input io.Reader, grace time.Duration, exited <-chan struct{}) {
	_, _ = io.Copy(io.Discard, input)
	pg.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-exited:
	case <-timer.C:
		pg.signal(syscall.SIGKILL)
	}
}

// setReaped records that the process id of the leader is not its own any more, or will not
// be.
func (pg *processGroup) setReaped() {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.reaped = true
}

// endWait is how long the ends of killed processes are waited for, which do not end while
// they are in an uninterruptible wait of the kernel.
const endWait = 10 * time.Second

// endChildren kills the children of this process, which are those that the program has
// left behind, and returns how many there were.
func endChildren() (left int) {
	for deadline := time.Now().Add(endWait); time.Now().Before(deadline); {
		// The children of a process that ends become children of this one.
		for _, child := range ownChildren() {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return left
		case pid > 0:
			left++
		default:
			time.Sleep(5 * time.Millisecond)
		}
	}
	return left
}
