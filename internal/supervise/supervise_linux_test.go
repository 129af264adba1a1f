package supervise

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// userCommand makes the test binary use a program, for tests that kill the user of it.
const userCommand = "use-program"

func TestMain(m *testing.M) {
	if IsWorker(os.Args[1:]) {
		os.Exit(Work())
	}
	if len(os.Args) == 3 && os.Args[1] == userCommand {
		os.Exit(useProgram(os.Args[2]))
	}
	os.Exit(m.Run())
}

// useProgram runs a script and prints the output, as a process of its own.
func useProgram(script string) int {
	stdout, writer, err := os.Pipe()
	if err != nil {
		return 1
	}
	p, err := Start(shell(os.TempDir(), script), writer, os.Stderr)
	if err != nil {
		return 1
	}
	_, _ = io.Copy(os.Stdout, stdout)
	if _, err := p.Wait(); err != nil {
		return 1
	}
	return 0
}

// hangLimit is how long a test waits for what happens at once on an idle machine.
const hangLimit = 2 * time.Minute

// shell returns the program that runs a script in a directory.
func shell(dir, script string) Program {
	return Program{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: dir, Grace: hangLimit}
}

// A running is a program that a test has started.
type running struct {
	*testing.T
	*Process
	stdout *os.File
	stderr *os.File
}

func startRunning(t *testing.T, p Program) *running {
	t.Helper()
	stdout, stdoutWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, stderrWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	process, err := Start(p, stdoutWriter, stderrWriter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stdout.Close(), stderr.Close() })
	return &running{T: t, Process: process, stdout: stdout, stderr: stderr}
}

// readLine reads one line of the output of the program.
func (r *running) readLine() string {
	r.Helper()
	if err := r.stdout.SetReadDeadline(time.Now().Add(hangLimit)); err != nil {
		r.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := r.stdout.Read(b); err != nil {
			r.Fatalf("after %q: %v", line, err)
		}
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// end reads all output and waits for the end of the program.
func (r *running) end() (exit Exit, stdout, stderr string) {
	r.Helper()
	out, err := io.ReadAll(r.stdout)
	if err != nil {
		r.Fatal(err)
	}
	errors, err := io.ReadAll(r.stderr)
	if err != nil {
		r.Fatal(err)
	}
	exit, err = r.Wait()
	if err != nil {
		r.Fatal(err)
	}
	return exit, string(out), string(errors)
}

// requireGone waits until there is no process with that id.
func requireGone(t *testing.T, text string) {
	t.Helper()
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(hangLimit); syscall.Kill(pid, 0) == nil && !isZombie(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

// isZombie reports whether a process has ended and its parent has not noticed: that of a
// test without an init process never does.
func isZombie(pid int) bool {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return strings.Contains(string(text), ") Z ")
}

func TestProgramIsRun(t *testing.T) {
	t.Parallel()
	dir, scratch := t.TempDir(), filepath.Join(t.TempDir(), "scratch")
	if err := os.Mkdir(scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	p := shell(dir, `pwd; env | grep -v '^PWD=\|^SHLVL=\|^_='; echo problem >&2; cat; ulimit -c; exit 7`)
	p.Env, p.Remove = append(p.Env, "A=b c"), scratch
	exit, stdout, stderr := startRunning(t, p).end()
	if exit != (Exit{Code: 7}) || exit.String() != "exit status 7" {
		t.Errorf("exit %+v", exit)
	}
	if want := dir + "\nPATH=" + os.Getenv("PATH") + "\nA=b c\n0\n"; sortLines(stdout) != sortLines(want) || stderr != "problem\n" {
		t.Errorf("printed %q and %q, want %q", stdout, stderr, want)
	}
	if _, err := os.Stat(scratch); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func sortLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		for j := range lines[:i] {
			if lines[i] < lines[j] {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	return strings.Join(lines, "\n")
}

func TestProgramThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	noInterpreter := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(noInterpreter, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	noProgram := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(noProgram, []byte("text"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ path, want string }{
		{path: "/no/such/program", want: "start: no such file or directory: the file, or the interpreter"},
		{path: noInterpreter, want: "start: no such file or directory: the file, or the interpreter"},
		{path: noProgram, want: "start: exec format error: want a program, or a script"},
		{path: t.TempDir(), want: "start: permission denied"},
	} {
		exit, stdout, stderr := startRunning(t, Program{Path: tc.path, Args: []string{"x"}, Dir: "/"}).end()
		if !strings.HasPrefix(exit.String(), tc.want) || stdout+stderr != "" {
			t.Errorf("%s: %v, %q, %q, want %q", tc.path, exit, stdout, stderr, tc.want)
		}
	}
}

// TestChildrenDoNotSurvive: a process in the background, and one in a session of its own,
// end with the program and do not keep its output open.
func TestChildrenDoNotSurvive(t *testing.T) {
	t.Parallel()
	r := startRunning(t, shell(t.TempDir(), `sleep 100000 & echo $!; setsid sh -c "echo \$\$; : >ready; exec sleep 100000" & until [ -e ready ]; do sleep 0.01; done`))
	first, second := r.readLine(), r.readLine()
	exit, _, _ := r.end()
	if exit != (Exit{Left: 2}) {
		t.Errorf("exit %+v, want 2 processes left", exit)
	}
	requireGone(t, first)
	requireGone(t, second)
}

func TestStop(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		script string
		grace  time.Duration
		want   string
	}{
		"gentle":       {script: `trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done`, grace: hangLimit, want: "exit status 3"},
		"by default":   {script: `echo ready; sleep 100000`, grace: hangLimit, want: "signal: terminated"},
		"unresponsive": {script: `trap '' TERM; echo ready; while :; do sleep 100000; done`, grace: time.Millisecond, want: "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := shell(t.TempDir(), tc.script)
			p.Grace = tc.grace
			r := startRunning(t, p)
			r.readLine()
			r.Stop()
			exit, err := r.Wait()
			if err != nil || exit.String() != tc.want {
				t.Errorf("%v, %v, want %s", exit, err, tc.want)
			}
		})
	}
}

// TestKilledUser: a process that uses a program and is killed leaves nothing of it.
func TestKilledUser(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"user", "supervisor"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self, userCommand, `echo $$; echo $PPID; exec sleep 100000`)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := &running{T: t, stdout: stdout.(*os.File)}
			pid, supervisor := r.readLine(), r.readLine()
			target := cmd.Process.Pid
			if victim == "supervisor" {
				target, _ = strconv.Atoi(supervisor) // Kill fails if it is no number
			}
			if err := syscall.Kill(target, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed, or reports that the supervisor was
			requireGone(t, pid)
			requireGone(t, supervisor)
		})
	}
}

// TestKilledSupervisorLeavesNoDirectory: what the supervisor would have removed, which may
// have secrets, is removed without it.
func TestKilledSupervisorLeavesNoDirectory(t *testing.T) {
	t.Parallel()
	p := shell(t.TempDir(), `kill -9 $PPID; exec sleep 100000`)
	p.Remove = filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(p.Remove, 0o700); err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	process, err := Start(p, null, other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Wait(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(p.Remove); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	p := shell(t.TempDir(), `exec python3 -c 'print(len(bytearray(400 << 20)))'`)
	p.Memory = 256 << 20
	exit, stdout, stderr := startRunning(t, p).end()
	if exit.Code == 0 || !strings.Contains(stderr, "MemoryError") {
		t.Errorf("%v: %q, %q, want MemoryError", exit, stdout, stderr)
	}
	p.Memory = 1 << 30
	if exit, stdout, stderr = startRunning(t, p).end(); exit.Code != 0 || stdout != "419430400\n" {
		t.Errorf("%v: %q, %q, want success", exit, stdout, stderr)
	}
}
