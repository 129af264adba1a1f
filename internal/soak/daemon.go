package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// token authorizes requests that change something over HTTP.
	token = "soak-canary-http-token-7731"
	// stopTimeout is longer than SHUTDOWN_GRACE plus the time for a clean stop.
	stopTimeout = 45 * time.Second
)

// An instance is one process of the daemon.
type instance struct {
	url      string
	cmd      *exec.Cmd
	ready    atomic.Bool
	stopping atomic.Bool // it was sent a signal that ends it
	ended    chan struct{}
	code     int // valid once ended is closed
}

// An endEvent records when and how the daemon was stopped.
type endEvent struct {
	at     time.Time
	killed bool
}

// daemon is the program under test with its settings.
type daemon struct {
	s    *soak
	env  []string
	addr string
	log  *os.File

	badSince time.Time // when the settings became invalid; zero while they are valid

	mu       sync.Mutex
	process  *instance
	ends     []endEvent
	settings settings // in force
	changes  int      // begins and ends of changes of the settings
	secrets  []string // values that must not appear in any output
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
	vendorEnv, keys := s.vendors.settingsEnv()
	d.env = append(s.baseEnvironment(), "HTTP_LISTEN="+d.addr, "HTTP_TOKEN="+token)
	d.env = append(append(d.env, vendorEnv...), s.destinations.settingsEnv()...)
	d.settings = settings{keys: keys, seconds: maps.Clone(scheduleSeconds), parallel: "6", retryWait: "2s"}
	d.secrets = append(secretValues(d.env), s.destinations.password)
	for _, key := range keys {
		d.addSecret(key)
	}
	if err := d.writeSettings(d.settings); err != nil {
		return nil, err
	}
	d.log, err = os.OpenFile(s.file("daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return d, err
}

// baseEnvironment returns the settings that are the same on every machine.
func (s *soak) baseEnvironment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.file("tmp"), "NO_PROXY=127.0.0.1",
		"SOAK_CLOCK=" + s.file("clock"), "GORACE=halt_on_error=1", // for a program that is built with the race detector
		"TENANCY=" + tenancy, "LOG_FORMAT=json",
		"STATE_DIR=" + s.file("state"), "STORE_FILE=" + s.file("source", "%TAG", "%TENANCY.json"),
		"STORE_WRITE_TIMEOUT=15s", "RUN_TIMEOUT=90s", "RUN_IDLE_TIMEOUT=8s", "RUN_PATIENCE=3s", "SHUTDOWN_GRACE=2s",
	}
}

// startProcess starts the program and waits until it is ready.
func (d *daemon) startProcess() error {
	in := &instance{url: "http://" + d.addr, ended: make(chan struct{})}
	in.cmd = exec.Command(d.s.opts.binary)
	in.cmd.Dir, in.cmd.Env = d.s.dir, d.env
	in.cmd.Stdout, in.cmd.Stderr = d.log, d.log
	if err := in.cmd.Start(); err != nil {
		return err
	}
	d.mu.Lock()
	d.process = in
	d.mu.Unlock()
	go func() {
		_ = in.cmd.Wait() // the exit code is checked later
		in.code = in.cmd.ProcessState.ExitCode()
		if !in.stopping.Load() {
			d.s.violations.addf("the daemon ended unexpectedly: %v; see daemon.log", in.cmd.ProcessState)
		}
		close(in.ended)
	}()
	err := waitUntil(d.s.ctx, "the daemon's start", func() (bool, error) {
		select {
		case <-in.ended:
			return true, errDaemonEnded
		default:
		}
		_, status, err := in.getPage(d.s.ctx, "/-/ready")
		in.ready.Store(err == nil && status == 200)
		return in.ready.Load(), err
	})
	if ends := len(d.ends); ends > 0 {
		d.s.events.record(downEvent, "", d.ends[ends-1].at, time.Now())
	}
	d.endBadSettings()
	return err
}

// endBadSettings records that the daemon has valid settings again.
func (d *daemon) endBadSettings() {
	if !d.badSince.IsZero() {
		d.s.events.record(badReload, "", d.badSince, time.Now())
		d.badSince = time.Time{}
	}
}

var errDaemonEnded = errors.New("the daemon ended unexpectedly; see daemon.log")

// hasEnded reports whether the process has ended.
func (in *instance) hasEnded() bool {
	select {
	case <-in.ended:
		return true
	default:
		return false
	}
}

// current returns the process that is ready, or nil if there is none.
func (d *daemon) current() *instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil || !d.process.ready.Load() {
		return nil
	}
	return d.process
}

// signalAndWait sends a signal to the process and waits for its end.
func (d *daemon) signalAndWait(signal syscall.Signal) (*instance, error) {
	in := d.current()
	if in == nil {
		return nil, errors.New("the daemon is not running")
	}
	in.stopping.Store(true)
	d.mu.Lock()
	d.ends = append(d.ends, endEvent{time.Now(), signal == syscall.SIGKILL})
	d.mu.Unlock()
	if err := in.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return in, err
	}
	select {
	case <-in.ended:
		return in, nil
	case <-time.After(stopTimeout):
		return in, fmt.Errorf("the daemon did not end within %v of %v", stopTimeout, signal)
	}
}

func (d *daemon) killProcess() error {
	_, err := d.signalAndWait(syscall.SIGKILL)
	d.s.faults.count("daemon: SIGKILL", 1)
	return err
}

// stopProcess stops the daemon with SIGTERM, as systemd does.
func (d *daemon) stopProcess() error {
	in, err := d.signalAndWait(syscall.SIGTERM)
	if err == nil && in.code != 0 {
		d.s.violations.addf("SIGTERM: exit code %d, want 0", in.code)
	}
	d.s.faults.count("daemon: SIGTERM", 1)
	return err
}

// countChange counts the begin or the end of a change of the settings.
func (d *daemon) countChange() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
}

// collectorState reports whether a collector is off, and returns a number that changes
// when the settings do. It is odd during a change.
func (d *daemon) collectorState(name string) (off bool, changes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	on := slices.ContainsFunc(streamsByVendor[name], func(stream string) bool { return !slices.Contains(d.settings.off, stream) })
	return !on, d.changes
}

// killedNear reports whether the daemon was killed within span after t, or
// shortly before.
func (d *daemon) killedNear(t time.Time, span time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.ends {
		if m.killed && !m.at.Before(t.Add(-span/10)) && m.at.Before(t.Add(span)) {
			return true
		}
	}
	return false
}

// ensureEnded kills the process if it is running, and closes the log.
func (d *daemon) ensureEnded() {
	d.mu.Lock()
	in := d.process
	d.mu.Unlock()
	if in != nil {
		in.stopping.Store(true)
		_ = in.cmd.Process.Kill() // it may already have ended
		<-in.ended
	}
	if d.log != nil {
		_ = d.log.Close()
	}
}

// addSecret adds a value that must not appear in any output.
func (d *daemon) addSecret(value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secrets = append(d.secrets, value)
}

// allSecrets returns the values that must not appear in any output.
func (d *daemon) allSecrets() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.secrets)
}

// secretValues returns the values of the settings in an environment that are secret.
func secretValues(env []string) (secrets []string) {
	for _, line := range env {
		name, value, _ := strings.Cut(line, "=")
		for _, part := range []string{"SECRET", "TOKEN", "ACCESS_KEY", "PASSWORD"} {
			if strings.Contains(name, part) && len(value) > 6 {
				secrets = append(secrets, value)
				break
			}
		}
	}
	return secrets
}
