package main

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

// start calls the program and returns at once, with what waits for its end.
func (p *place) start(args ...string) (*exec.Cmd, func() ended) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 2*time.Minute)
	var stdout, stderr bytes.Buffer
	cmd := p.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		cancel()
		p.Fatal(err)
	}
	return cmd, func() ended {
		p.Helper()
		defer cancel()
		err := cmd.Wait()
		return p.endOf(cmd, err, stdout.String(), stderr.String())
	}
}

// hang lets the tenant's chunk 2 never end, and tells on the channel whenever
// it is asked for.
func hang(sim *vendorsim.Server) (*vendorsim.Injection, <-chan struct{}) {
	asked := make(chan struct{}, 100)
	half := vendorsim.HangAfter(vendorsim.Half)
	return sim.Hosts()[0].Inject(vendorsim.Fault{
		Path: "/vulns/export/*/chunks/2", Times: vendorsim.Forever, Do: telling(asked, half),
	}), asked
}

// noHalves looks for files that are only there while something is written.
func (p *place) noHalves() {
	p.Helper()
	err := filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if name := entry.Name(); strings.HasPrefix(name, ".") || strings.Contains(path, "/spool/") {
			p.Errorf("left over: %s", path)
		}
		return nil
	})
	if err != nil {
		p.Fatal(err)
	}
}

// TestSignalsEndARun: within seconds, without half a file, and the last
// snapshot stays.
func TestSignalsEndARun(t *testing.T) {
	t.Parallel()
	for signal, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			sim := startVendors(t, smallCounts, smallTenant())
			p := newPlace(t).with(sim)
			p.want(p.run("--once", "tenable_vulnerabilities"), 0)
			before := p.content(p.source("tenable_vulnerabilities"))
			_, asked := hang(sim)
			cmd, ended := p.start("--once", "tenable_vulnerabilities")
			<-asked
			sent := time.Now()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			p.want(ended(), code, "stopped by")
			if took := time.Since(sent); took > 15*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if p.content(p.source("tenable_vulnerabilities")) != before {
				t.Error("the file has changed")
			}
			p.noHalves()
			if n := sim.Hosts()[0].Stats().Requests["POST /vulns/export/{uuid}/cancel"]; n != 0 {
				t.Errorf("%d exports were cancelled, want none: the next run continues them", n)
			}
		})
	}
}

// TestOneRunAtATime: the second process says who is at it.
func TestOneRunAtATime(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	_, asked := hang(sim)
	cmd, ended := p.start("--once", "tenable_vulnerabilities")
	<-asked
	p.want(p.run("--once", "tenable"), 75, "is being collected by process", "--once tenable_vulnerabilities")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.want(ended(), 143)
}

// TestAKilledRunLeavesNothingHalf: the next run starts again and succeeds.
func TestAKilledRunLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.want(p.run("--once", "tenable_vulnerabilities"), 0)
	before := p.content(p.source("tenable_vulnerabilities"))
	trouble, asked := hang(sim)
	cmd, ended := p.start("--once", "tenable_vulnerabilities")
	<-asked
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = ended()
	if p.content(p.source("tenable_vulnerabilities")) != before {
		t.Error("the file has changed")
	}
	trouble.Remove()
	p.want(p.run("--once", "tenable_vulnerabilities"), 0, "an earlier run was cut off", "success")
	p.noHalves()
	if n := len(p.stored("tenable_vulnerabilities")); n != smallCounts[vendorsim.TenableVulns] {
		t.Errorf("%d records stored", n)
	}
}

// TestIdleRunEndsAndNamesTheStep: nothing arrives any more.
func TestIdleRunEndsAndNamesTheStep(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.env["RUN_IDLE_TIMEOUT"] = "2s"
	hang(sim)
	p.want(p.run("--once", "tenable_vulnerabilities"), 3, "timeout", "no progress for 2s (RUN_IDLE_TIMEOUT)", "/chunks/2")
}

// hold keeps the answer of the tenant's chunk 2 back until release is called,
// and tells on the channel when it is asked for.
func hold(sim *vendorsim.Server) (release func(), asked <-chan struct{}) {
	arrived, gate := make(chan struct{}, 100), make(chan struct{})
	wait := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/vulns/export/*/chunks/2", Times: vendorsim.Forever, Do: telling(arrived, wait)})
	return sync.OnceFunc(func() { close(gate) }), arrived
}
