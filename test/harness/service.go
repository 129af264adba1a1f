package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	serviceTimeout = 2 * HangLimit // bounds the life of a service
	logTimeout     = HangLimit     // bounds the wait for a log line
)

// A Service is the program while it runs as a service.
type Service struct {
	*Workspace
	cmd    *exec.Cmd
	lines  chan string
	mu     sync.Mutex
	stderr bytes.Buffer
	stdout bytes.Buffer
	read   chan struct{} // closed at the end of standard error
}

// StartService starts the program as a service. It is killed at the end of the test.
func (w *Workspace) StartService(args ...string) *Service {
	w.Helper()
	return w.StartProgram(Program(w), args...)
}

// StartProgram starts another build of the program as a service.
func (w *Workspace) StartProgram(path string, args ...string) *Service {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), serviceTimeout)
	s := &Service{Workspace: w, cmd: w.Command(ctx, args...), lines: make(chan string, 10_000), read: make(chan struct{})}
	s.cmd.Path = path
	s.cmd.Stdout = &s.stdout
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		cancel()
		w.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		cancel()
		w.Fatal(err)
	}
	go s.readLog(stderr)
	w.Cleanup(func() {
		cancel()
		<-s.read
		if w.Failed() {
			w.Logf("the end of the log of the service:\n%s", tail(s.log(), maxLoggedBytes))
		}
	})
	return s
}

// maxLoggedBytes bounds what a test that failed prints of a log.
const maxLoggedBytes = 16 << 10

// tail returns the last max bytes of a text.
func tail(text string, max int) string { return text[len(text)-min(len(text), max):] }

func (s *Service) readLog(stderr io.Reader) {
	defer close(s.read)
	defer close(s.lines)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		s.mu.Lock()
		s.stderr.WriteString(lines.Text() + "\n")
		s.mu.Unlock()
		s.lines <- lines.Text()
	}
}

// log returns all of the log that has been read.
func (s *Service) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

// WaitForLog reads the log up to the next line that contains all the texts, and
// returns that line.
func (s *Service) WaitForLog(texts ...string) string {
	s.Helper()
	deadline := time.After(logTimeout)
	for {
		select {
		case line, more := <-s.lines:
			if !more {
				s.Fatalf("the service ended and did not log %q:\n%s", texts, s.log())
			}
			all := true
			for _, text := range texts {
				all = all && strings.Contains(line, text)
			}
			if all {
				return line
			}
		case <-deadline:
			s.Fatalf("the service does not log %q:\n%s", texts, s.log())
		}
	}
}

// Process returns the process of the service, which may have ended.
func (s *Service) Process() *os.Process { return s.cmd.Process }

// Signal sends a signal to the service.
func (s *Service) Signal(signal syscall.Signal) {
	s.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.Fatal(err)
	}
}

// HasEnded reports whether the service has ended.
func (s *Service) HasEnded() bool {
	select {
	case <-s.read:
		return true
	default:
		return false
	}
}

// Wait waits for the end of the service.
func (s *Service) Wait() Result {
	s.Helper()
	<-s.read
	err := s.cmd.Wait()
	return s.ResultOf(s.cmd, err, s.stdout.String(), s.log())
}

// BaseURL waits until the service listens and returns its URL.
func (s *Service) BaseURL() string {
	s.Helper()
	var line struct{ Address string }
	if err := json.Unmarshal([]byte(s.WaitForLog(`"serving HTTP"`)), &line); err != nil {
		s.Fatal(err)
	}
	return "http://" + line.Address
}

// Request makes an HTTP request, with the token when it is not empty, and returns
// the status and the body of the response.
func (s *Service) Request(method, url, token string) (int, string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, url, nil)
	if err != nil {
		s.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return response.StatusCode, string(body)
}
