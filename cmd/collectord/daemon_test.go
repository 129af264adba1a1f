package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

// served is the program while it runs as a service.
type served struct {
	*place
	cmd   *exec.Cmd
	lines chan string
	mu    sync.Mutex
	seen  bytes.Buffer
	out   bytes.Buffer
	read  chan struct{} // closed when its standard error has ended
}

// serve starts the program as a service.
func (p *place) serve(args ...string) *served {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	s := &served{place: p, cmd: p.command(ctx, args...), lines: make(chan string, 10_000), read: make(chan struct{})}
	s.cmd.Stdout = &s.out
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		p.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		p.Fatal(err)
	}
	go s.listen(stderr)
	p.Cleanup(func() {
		cancel()
		<-s.read
	})
	return s
}

func (s *served) listen(stderr io.Reader) {
	defer close(s.read)
	defer close(s.lines)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		s.mu.Lock()
		s.seen.WriteString(lines.Text() + "\n")
		s.mu.Unlock()
		s.lines <- lines.Text()
	}
}

func (s *served) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

// until reads on to the line that holds all the texts, and returns it.
func (s *served) until(texts ...string) string {
	s.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line, more := <-s.lines:
			if !more {
				s.Fatalf("it ended and did not say %q:\n%s", texts, s.text())
			}
			all := true
			for _, text := range texts {
				all = all && strings.Contains(line, text)
			}
			if all {
				return line
			}
		case <-deadline:
			s.Fatalf("it does not say %q:\n%s", texts, s.text())
		}
	}
}

func (s *served) signal(signal syscall.Signal) {
	s.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.Fatal(err)
	}
}

// ended waits for the end.
func (s *served) ended() ended {
	s.Helper()
	<-s.read
	err := s.cmd.Wait()
	return s.endOf(s.cmd, err, s.out.String(), s.text())
}

// set changes the .env file of the place.
func (p *place) set(lines ...string) {
	p.Helper()
	if err := os.WriteFile(p.file(".env"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		p.Fatal(err)
	}
}

// TestServiceCollectsAndStops: without data it collects at once; SIGTERM ends
// it with 0.
func TestServiceCollectsAndStops(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	s := p.serve()
	s.until(`"ready"`)
	for range smallCounts {
		s.until(`"msg":"stored"`)
	}
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0, `"trigger":"catch-up"`, `"stopped"`)
	if n := len(p.stored("tenable_assets")); n != smallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records stored", n)
	}
	p.noHalves()
	again := p.serve() // what is young is not collected again
	again.until(`"ready"`)
	again.signal(syscall.SIGHUP)
	again.until("settings were read anew")
	again.signal(syscall.SIGINT)
	if e := again.ended(); e.code != 0 || strings.Contains(e.stderr, "run starts") {
		t.Errorf("exit code %d:\n%s", e.code, e.stderr)
	}
}

// TestServiceRunsByItsTicks: every second, of one collector alone, and SIGUSR1
// runs what is off.
func TestServiceRunsByItsTicks(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.env["SCHEDULE"], p.env["SCHEDULE_TENABLE"], p.env["SCHEDULE_CATCHUP"] = "off", "@every 1s", "no"
	s := p.serve()
	s.until("run starts", `"tenable"`, `"trigger":"schedule"`)
	s.until("run starts", `"tenable"`, `"trigger":"schedule"`)
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0)
	p.env["SCHEDULE_TENABLE"] = "off"
	s = p.serve()
	s.until(`"ready"`)
	s.signal(syscall.SIGUSR1)
	s.until("run starts", `"trigger":"manual"`)
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0)
}

// TestServiceGivesRunsTime: a run ends within the grace, is cancelled after
// it, and at once by a second signal.
func TestServiceGivesRunsTime(t *testing.T) {
	for name, tc := range map[string]struct {
		grace string
		then  func(s *served, release func())
		says  string
	}{
		"it ends in time": {"30s", func(s *served, release func()) { release() }, `"outcome":"success"`},
		"the grace ends":  {"1s", func(s *served, release func()) {}, "SHUTDOWN_GRACE, 1s, is over"},
		"a second signal": {"30s", func(s *served, release func()) { s.signal(syscall.SIGTERM) }, "a second signal came"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := startVendors(t, smallCounts, smallTenant())
			p := newPlace(t).with(sim)
			p.env["SHUTDOWN_GRACE"] = tc.grace
			gate, asked := hold(sim)
			s := p.serve()
			<-asked
			s.signal(syscall.SIGTERM)
			s.until(`"stopping`)
			tc.then(s, gate)
			sent := time.Now()
			e := s.ended()
			p.want(e, 0, tc.says, `"stopped"`)
			if took := time.Since(sent); took > 15*time.Second {
				t.Errorf("it took %v to end", took)
			}
			gate()
			p.noHalves()
		})
	}
}

// TestServiceReloads: a run goes on through it, good settings are in force
// after it, bad ones change nothing.
func TestServiceReloads(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant(), oktaVendor())
	p := newPlace(t).with(sim)
	gate, asked := hold(sim)
	delete(p.env, "STORE_FILE")
	p.set("STORE_FILE="+p.file("one", "%TAG.json"), "SCHEDULE=0 0 1 1 *", "COLLECTORS=tenable")
	s := p.serve()
	<-asked
	p.set("STORE_FILE="+p.file("two", "%TAG.json"), "SCHEDULE=0 0 30 2 *")
	s.signal(syscall.SIGHUP)
	s.until("old ones stay in force", "SCHEDULE", "never comes")
	p.set("STORE_FILE="+p.file("two", "%TAG.json"), "STATE_KEEP=10d", "TENANCY=other")
	s.signal(syscall.SIGHUP)
	s.until("old ones stay in force", "TENANCY", "restart")
	p.set("STORE_FILE="+p.file("two", "%TAG.json"), "SCHEDULE=@every 1s", "COLLECTORS=okta")
	s.signal(syscall.SIGHUP)
	s.until("settings were read anew")
	gate()
	s.until(`"stream done"`, "tenable_vulnerabilities")
	s.until("run starts", `"okta"`)
	s.signal(syscall.SIGTERM)
	e := s.ended()
	p.want(e, 0, `"stopped"`)
	if strings.Count(e.stderr, `"run starts"`) != 1+strings.Count(e.stderr, `"run starts","collector":"okta"`) {
		t.Errorf("runs that should not be:\n%s", e.stderr)
	}
	if text := p.content(p.file("two", "tenable_vulnerabilities.json")); !strings.HasPrefix(text, "[") {
		t.Errorf("the run was not stored where the new settings say: %.80s", text)
	}
}

// TestServiceWithoutCollectors names what would switch one on.
func TestServiceWithoutCollectors(t *testing.T) {
	p := newPlace(t)
	p.want(p.run(), 78, "no collector is switched on", "OKTA_DOMAIN")
	p.env["SCHEDULE_TENABLE"], p.env["SCHEDULE_TZ"] = "0 0 0 * * *", "Mars/North"
	p.want(p.run(), 78, "SCHEDULE_TENABLE", "none for seconds", "SCHEDULE_TZ", "is not a time zone")
}
