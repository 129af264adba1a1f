package harness

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A Terminal is a pseudo terminal in which the program runs.
type Terminal struct {
	ws  *Workspace
	cmd *exec.Cmd
	pty *os.File
	end chan struct{} // closed when the terminal has no more output

	mu      sync.Mutex
	changed *sync.Cond
	ended   bool
	output  string // without control sequences
	seen    int    // the part of output that Expect has passed
}

// StartInTerminal starts the program in a terminal of 24 lines and 100 columns.
func (w *Workspace) StartInTerminal(args ...string) *Terminal {
	w.Helper()
	Program(w) // building it does not count
	t := &Terminal{ws: w, cmd: w.Command(w.Context(), args...), end: make(chan struct{})}
	t.cmd.Env = append(t.cmd.Env, "TERM=xterm")
	t.changed = sync.NewCond(&t.mu)
	var err error
	if t.pty, err = pty.StartWithSize(t.cmd, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = t.cmd.Process.Kill()
		_ = t.pty.Close()
		<-t.end
	})
	go t.readOutput()
	return t
}

var controlSequence = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]`)

// readOutput collects the output until the terminal has no more.
func (t *Terminal) readOutput() {
	defer close(t.end)
	var raw strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := t.pty.Read(buf)
		raw.Write(buf[:n])
		t.mu.Lock()
		t.output, t.ended = controlSequence.ReplaceAllString(raw.String(), ""), err != nil
		t.changed.Broadcast()
		t.mu.Unlock()
		if err != nil { // the last process has closed the terminal
			return
		}
	}
}

// Type sends keys to the program.
func (t *Terminal) Type(keys string) {
	t.ws.Helper()
	if _, err := t.pty.WriteString(keys); err != nil {
		t.ws.Fatal(err)
	}
}

// Expect waits until the output has the texts, one after the other and after those of
// the calls before, and returns the output up to their end.
func (t *Terminal) Expect(texts ...string) (passed string) {
	t.ws.Helper()
	stop := t.killAtHangLimit()
	defer stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.seen
	for _, text := range texts {
		for {
			if i := strings.Index(t.output[min(t.seen, len(t.output)):], text); i >= 0 {
				t.seen += i + len(text)
				break
			}
			if t.ended {
				t.ws.Fatalf("the terminal does not show %q after what was expected before:\n%s", text, t.output[min(from, len(t.output)):])
			}
			t.changed.Wait()
		}
	}
	return t.output[from:t.seen]
}

// killAtHangLimit kills the program when it hangs. The returned function prevents it.
func (t *Terminal) killAtHangLimit() (stop func() bool) {
	return time.AfterFunc(HangLimit, func() { _ = t.cmd.Process.Kill() }).Stop
}

// Signal sends a signal to the program.
func (t *Terminal) Signal(s os.Signal) {
	t.ws.Helper()
	if err := t.cmd.Process.Signal(s); err != nil {
		t.ws.Fatal(err)
	}
}

// Echoes reports whether the terminal shows what is typed, as a shell leaves it.
func (t *Terminal) Echoes() bool {
	t.ws.Helper()
	mode, err := unix.IoctlGetTermios(int(t.pty.Fd()), unix.TCGETS)
	if err != nil {
		t.ws.Fatal(err)
	}
	return mode.Lflag&unix.ECHO != 0
}

// Wait waits for the end of the program and returns its exit code and all of its output.
func (t *Terminal) Wait() Result {
	t.ws.Helper()
	stop := t.killAtHangLimit()
	defer stop()
	err := t.cmd.Wait()
	<-t.end
	return t.ws.ResultOf(t.cmd, err, "", t.output)
}
