// Package supervise runs programs of others so that nothing of them outlives their use. A
// supervisor process, which is this program with another argument, starts the program in a
// process group of its own and ends it, with all processes that it has started, when it is
// stopped, when the program ends, and when the process that uses it dies.
package supervise

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command and startCommand are the only arguments of a supervisor process, and of the
// process that becomes the program. A program that calls Start calls Work when it is
// started with Command or startCommand: see IsWorker.
const (
	Command      = "supervise"
	startCommand = "supervise-start"
)

// IsWorker reports whether the arguments of this process, without its name, are those of
// a process that Start has started.
func IsWorker(args []string) bool {
	return len(args) == 1 && (args[0] == Command || args[0] == startCommand)
}

// Work does what a process that Start has started does, and returns its exit code.
func Work() int {
	if os.Args[1] == startCommand {
		return becomeProgram()
	}
	return superviseProgram()
}

// A Program is what to start.
type Program struct {
	// Path is the path of the executable, and Args its arguments, the name first.
	Path string   `json:"path"`
	Args []string `json:"args"`
	// Env is its whole environment, as NAME=value.
	Env []string `json:"env"`
	// Dir is its working directory.
	Dir string `json:"dir"`
	// Memory bounds the private memory of each of its processes, in bytes; 0 does not. It is
	// enforced on Linux.
	Memory int64 `json:"memory"`
	// Grace is how long the program may continue after SIGTERM.
	Grace time.Duration `json:"grace"`
	// Remove is a directory that is removed when the program has ended, also if the process
	// that has started it is gone by then; "" for none.
	Remove string `json:"remove"`
}

// An Exit is how a program ended.
type Exit struct {
	// Code is the exit status; -1 when a signal ended the program.
	Code int `json:"code"`
	// Signal is the name of that signal, such as "killed".
	Signal string `json:"signal"`
	// Left is the number of processes of the program that were still running when it had
	// ended. They were killed.
	Left int `json:"left"`
	// Problem says why the program was not started; "" if it was.
	Problem string `json:"problem"`
}

// String describes the exit, such as "exit status 1".
func (e Exit) String() string {
	switch {
	case e.Problem != "":
		return e.Problem
	case e.Signal != "":
		return "signal: " + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// A Process is a program that runs.
type Process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser // the program is stopped when it is closed
	// remove is that of the Program. The supervisor removes it unless it is killed.
	remove string
	done   chan struct{}
	exit   Exit  // after done
	err    error // after done
}

// Start starts a program, whose output goes to stdout and stderr, and closes both in this
// process. The program reads nothing.
func Start(p Program, stdout, stderr *os.File) (*Process, error) {
	defer stdout.Close()
	defer stderr.Close()
	task, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	self, err := ownPath()
	if err != nil {
		return nil, fmt.Errorf("find the own program: %w", err)
	}
	reports, reportEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reportEnd.Close()
	cmd := exec.Command(self, Command)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{reportEnd}
	// Ctrl-C on a terminal is a signal to a group of processes. The supervisor is in another
	// one, so that the program is stopped by this process alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", self, err), reports.Close())
	}
	process := &Process{cmd: cmd, stdin: stdin, remove: p.Remove, done: make(chan struct{})}
	go process.waitSupervisor(reports)
	if _, err := stdin.Write(append(task, '\n')); err != nil {
		process.Stop()
		_, waitErr := process.Wait()
		return nil, errors.Join(fmt.Errorf("start %s: %w", p.Path, err), waitErr)
	}
	return process, nil
}

// Stop ends the program: it gets SIGTERM, and after its grace SIGKILL, with all of its
// processes. Stop does not wait. It may be called again.
func (p *Process) Stop() { _ = p.stdin.Close() }

// Wait waits until the program and all of its processes have ended.
func (p *Process) Wait() (Exit, error) {
	<-p.done
	return p.exit, p.err
}

// waitSupervisor reads the reports of the supervisor and waits for its end.
func (p *Process) waitSupervisor(file *os.File) {
	defer close(p.done)
	defer file.Close()
	reports := json.NewDecoder(file)
	var started struct{ PID int }
	err := reports.Decode(&started)
	if err == nil {
		err = reports.Decode(&p.exit)
	}
	if err != nil && started.PID > 0 {
		// The supervisor was killed, and the program has lost its parent.
		_ = syscall.Kill(-started.PID, syscall.SIGKILL)
	}
	_ = p.stdin.Close()
	waitErr := p.cmd.Wait()
	if err != nil {
		p.exit, p.err = Exit{}, fmt.Errorf("the process that supervises the program ended (%v): did the program end it, or was the machine out of memory?", cmp.Or(waitErr, err))
		if p.remove != "" {
			p.err = errors.Join(p.err, os.RemoveAll(p.remove))
		}
	}
}

// describeStartError returns why a program was not started, without the path, which the
// caller names.
func describeStartError(err error) string {
	text := err.Error()
	if errors.Is(err, syscall.ENOENT) {
		return text + ": the file, or the interpreter that its first line names, does not exist"
	}
	if errors.Is(err, syscall.ENOEXEC) {
		return text + ": want a program, or a script whose first line begins with #!"
	}
	return strings.TrimSpace(text)
}
