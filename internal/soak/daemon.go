package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// token permits what changes something over HTTP.
	token = "soak-canary-http-token-7731"
	// stopsWithin is longer than SHUTDOWN_GRACE and what ending takes.
	stopsWithin = 45 * time.Second
)

// An instance is one process of the daemon.
type instance struct {
	url     string
	cmd     *exec.Cmd
	ready   atomic.Bool
	leaving atomic.Bool // it was told to end
	ended   chan struct{}
	code    int // once ended
}

// A moment is when the daemon was ended.
type moment struct {
	at     time.Time
	killed bool
}

// daemon is the program under test, with its settings.
type daemon struct {
	s    *soak
	env  []string
	addr string
	log  *os.File

	mu    sync.Mutex
	now   *instance
	ends  []moment
	turns int
}

func newDaemon(s *soak) (*daemon, error) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &daemon{s: s, addr: port.Addr().String()}
	if err := port.Close(); err != nil {
		return nil, err
	}
	d.env = append(s.environment(), "HTTP_LISTEN="+d.addr, "HTTP_TOKEN="+token)
	d.env = append(append(d.env, s.vendors.env()...), s.dest.env()...)
	if err := d.settings("", true); err != nil {
		return nil, err
	}
	d.log, err = os.OpenFile(s.file("daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return d, err
}

// environment are the settings that stay the same on every machine.
func (s *soak) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.file("tmp"), "NO_PROXY=127.0.0.1",
		"GORACE=halt_on_error=1", // where the program is built with the race detector
		"TENANCY=" + tenancy, "LOG_FORMAT=json",
		"STATE_DIR=" + s.file("state"), "STORE_FILE=" + s.file("source", "%TAG", "%TENANCY.json"),
		"STORE_RETRY_MAX_WAIT=2s", "STORE_WRITE_TIMEOUT=15s", "RUN_TIMEOUT=90s", "RUN_IDLE_TIMEOUT=8s", "SHUTDOWN_GRACE=2s",
	}
}

// settings writes what a reload reads anew.
func (d *daemon) settings(more string, scheduled bool) error {
	text := "SCHEDULE=off\nSCHEDULE_RETRY=0\n" + more
	if scheduled {
		text += "SCHEDULE_CROWDSTRIKE=@every 6s\nSCHEDULE_OKTA=@every 3s\nSCHEDULE_SNYK=@every 5s\n"
	}
	return os.WriteFile(d.s.file(".env"), []byte(text), 0o600)
}

// start starts the program and waits until it is ready.
func (d *daemon) start() error {
	in := &instance{url: "http://" + d.addr, ended: make(chan struct{})}
	in.cmd = exec.Command(d.s.opts.binary)
	in.cmd.Dir, in.cmd.Env = d.s.dir, d.env
	in.cmd.Stdout, in.cmd.Stderr = d.log, d.log
	if err := in.cmd.Start(); err != nil {
		return err
	}
	d.mu.Lock()
	d.now = in
	d.mu.Unlock()
	go func() {
		_ = in.cmd.Wait() // the code tells
		in.code = in.cmd.ProcessState.ExitCode()
		if !in.leaving.Load() {
			d.s.seen.add("the daemon ended by itself: %v; see daemon.log", in.cmd.ProcessState)
		}
		close(in.ended)
	}()
	return await(d.s.ctx, "the daemon's start", func() (bool, error) {
		select {
		case <-in.ended:
			return true, errGone
		default:
		}
		_, status, err := in.get(d.s.ctx, "/-/ready")
		in.ready.Store(err == nil && status == 200)
		return in.ready.Load(), err
	})
}

var errGone = errors.New("the daemon has ended by itself; see daemon.log")

// gone tells that the process has ended.
func (in *instance) gone() bool {
	select {
	case <-in.ended:
		return true
	default:
		return false
	}
}

// current is the process that runs and answers; nil when there is none.
func (d *daemon) current() *instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now == nil || !d.now.ready.Load() {
		return nil
	}
	return d.now
}

// finish sends the process a signal that ends it and waits.
func (d *daemon) finish(signal syscall.Signal) (*instance, error) {
	in := d.current()
	if in == nil {
		return nil, errors.New("the daemon does not run")
	}
	in.leaving.Store(true)
	d.mu.Lock()
	d.ends = append(d.ends, moment{time.Now(), signal == syscall.SIGKILL})
	d.mu.Unlock()
	if err := in.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return in, err
	}
	select {
	case <-in.ended:
		return in, nil
	case <-time.After(stopsWithin):
		return in, fmt.Errorf("the daemon did not end within %v of %v", stopsWithin, signal)
	}
}

func (d *daemon) kill() error {
	_, err := d.finish(syscall.SIGKILL)
	d.s.faults.add("daemon: SIGKILL", 1)
	return err
}

// stop ends the daemon as systemd does.
func (d *daemon) stop() error {
	in, err := d.finish(syscall.SIGTERM)
	if err == nil && in.code != 0 {
		d.s.seen.add("SIGTERM: exit code %d, want 0", in.code)
	}
	d.s.faults.add("daemon: SIGTERM", 1)
	return err
}

// reload changes a setting and sends SIGHUP; each second time it spoils it.
func (d *daemon) reload() error {
	d.turns++
	bad := d.turns%2 == 0
	more, kind := fmt.Sprintf("MAX_PARALLEL_RUNS=%d\n", 3+d.turns%3), "daemon: SIGHUP"
	if bad {
		more, kind = "MAX_PARALLEL_RUNS=many\n", "daemon: SIGHUP with bad settings"
	}
	if err := d.settings(more, true); err != nil {
		return err
	}
	in := d.current()
	if in == nil {
		return errors.New("the daemon does not run")
	}
	if err := in.hangUp(d.s.ctx, !bad); err != nil {
		return err
	}
	d.s.faults.add(kind, 1)
	if bad { // a start would refuse it, rightly
		return d.settings("", true)
	}
	return nil
}

// killedWithin tells whether the daemon was ended in the time after t.
func (d *daemon) killedWithin(t time.Time, span time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.ends {
		if m.killed && !m.at.Before(t.Add(-span/10)) && m.at.Before(t.Add(span)) {
			return true
		}
	}
	return false
}

// end makes sure that no process is left.
func (d *daemon) end() {
	d.mu.Lock()
	in := d.now
	d.mu.Unlock()
	if in != nil {
		in.leaving.Store(true)
		_ = in.cmd.Process.Kill() // it may have ended
		<-in.ended
	}
	if d.log != nil {
		_ = d.log.Close()
	}
}

// secrets are the values of settings that nothing may show.
func (d *daemon) secrets() (secrets []string) {
	for _, line := range d.env {
		name, value, _ := strings.Cut(line, "=")
		for _, part := range []string{"SECRET", "TOKEN", "ACCESS_KEY", "PASSWORD"} {
			if strings.Contains(name, part) && len(value) > 6 {
				secrets = append(secrets, value)
				break
			}
		}
	}
	return append(secrets, d.s.dest.password)
}
