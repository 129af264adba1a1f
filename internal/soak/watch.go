package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A sample holds the resource use of the daemon at a point in time.
type sample struct {
	at           time.Time
	memory       int64 // RssAnon, in bytes
	files        int   // open file descriptors
	goroutines   int
	children     int
	postgres     int   // connections of the daemon
	state, spool int64 // bytes
	temporary    int   // files
}

// watch samples the resource use of the daemon and requests its pages.
type watch struct {
	s *soak

	mu       sync.Mutex
	samples  []sample
	steady   time.Time
	requests int
	slowest  time.Duration
}

func newWatch(s *soak) *watch { return &watch{s: s} }

// steadySince records the time from which on the daemon was no longer stopped. It
// reports whether it was the first call; later ones have no effect.
func (w *watch) steadySince(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.steady.IsZero()
	if first {
		w.steady = t
	}
	return first
}

// hasEnoughSamples reports whether there are enough samples of the long-lived daemon.
func (w *watch) hasEnoughSamples() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.steadySamples()) >= minSamples
}

// steadySamples returns the samples of the long-lived daemon. The caller holds the
// lock.
func (w *watch) steadySamples() (steady []sample) {
	for _, m := range w.samples {
		if !w.steady.IsZero() && m.at.After(w.steady) {
			steady = append(steady, m)
		}
	}
	return steady
}

// takeSamples takes a sample each second until ctx is done.
func (w *watch) takeSamples(ctx context.Context) {
	for sleepContext(ctx, min(time.Second, w.s.opts.time/60)) {
		in := w.s.daemon.current()
		if in == nil || in.stopping.Load() {
			continue
		}
		began := time.Now()
		m, err := w.takeSample(ctx, in)
		if took := time.Since(began); took > w.s.prometheus.interval/2 {
			w.s.events.record(slowEvent, "", began, time.Now())
		}
		if errors.Is(err, errNoGoroutines) {
			w.s.violations.addf("the soak itself failed: %v", err)
		}
		if err != nil { // the daemon may be stopping, and Postgres may be down
			continue
		}
		w.mu.Lock()
		w.samples = append(w.samples, m)
		w.mu.Unlock()
	}
}

func (w *watch) takeSample(ctx context.Context, in *instance) (m sample, err error) {
	m.at = time.Now()
	if m.memory, err = anonymousMemory(in.cmd.Process.Pid); err != nil {
		return m, err
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", in.cmd.Process.Pid))
	if err != nil {
		return m, err
	}
	m.files = len(entries)
	if m.children, err = childrenOf(in.cmd.Process.Pid); err != nil {
		return m, err
	}
	metrics, err := in.scrapeMetrics(ctx)
	if err != nil {
		return m, err
	}
	if m.goroutines = int(metrics[`go_goroutines{tenancy="`+tenancy+`"}`]); m.goroutines == 0 {
		return m, errNoGoroutines
	}
	m.state, m.spool = sizeOf(w.s.file("state")), sizeOf(w.s.file("state", "spool"))
	m.temporary = len(filesIn(w.s.file("tmp")))
	m.postgres = w.s.destinations.postgresProxy.Conns()
	return m, nil
}

var errNoGoroutines = errors.New("/metrics has no go_goroutines")

// anonymousMemory returns the anonymous resident memory of a process in bytes.
func anonymousMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kb); err == nil {
			return kb << 10, nil
		}
	}
	return 0, errors.New("no RssAnon in the process's status")
}

// childrenOf returns the number of children of a process, including zombies.
func childrenOf(pid int) (n int, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err == nil { // otherwise the thread has ended
			n += len(strings.Fields(string(text)))
		}
	}
	return n, err
}

// sizeOf returns the total size of the files below a directory, which may
// change meanwhile, without the file that fills its disk.
func sizeOf(dir string) (n int64) {
	for _, path := range filesIn(dir) {
		if info, err := os.Lstat(path); err == nil && info.Name() != ballastName {
			n += info.Size()
		}
	}
	return n
}

// filesIn lists everything below a directory except directories.
func filesIn(dir string) (files []string) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return nil // a file that was removed meanwhile is not an error
	})
	return files
}

// pagePaths are the paths that are requested.
var pagePaths = []string{
	"/metrics", "/-/ready", "/-/healthy", "/", "/api/v1/status", "/api/v1/collectors", "/api/v1/runs?limit=1000",
	"/streams/okta_users", "/streams/tenable_vulnerabilities",
}

// maxResponseTime is the longest allowed time of a response on a busy machine.
const maxResponseTime = 15 * time.Second

// requestPages requests all pages again and again until ctx is done.
func (w *watch) requestPages(ctx context.Context) {
	for {
		for _, page := range pagePaths {
			if !sleepContext(ctx, 150*time.Millisecond) {
				return
			}
			if in := w.s.daemon.current(); in != nil && !in.stopping.Load() {
				w.requestPage(ctx, in, page)
			}
		}
	}
}

// requestPage requests one page and checks its status, its time and that it
// contains no secret. Failures of a daemon that is stopping do not count.
func (w *watch) requestPage(ctx context.Context, in *instance, page string) {
	began := time.Now()
	body, status, err := in.getPage(ctx, page)
	took := time.Since(began)
	if ctx.Err() != nil || in.stopping.Load() {
		return
	}
	switch {
	case err != nil:
		w.s.violations.addf("GET %s: %v", page, err)
	case status >= 500, status != 200 && !strings.HasPrefix(page, "/streams/"):
		w.s.violations.addf("GET %s: status %d: %.200s", page, status, body)
	case took > maxResponseTime:
		w.s.violations.addf("GET %s: the response took %v", page, took.Round(time.Millisecond))
	}
	for _, secret := range w.s.daemon.allSecrets() {
		if strings.Contains(string(body), secret) {
			w.s.violations.addf("GET %s: the response contains a secret", page)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests, w.slowest = w.requests+1, max(w.slowest, took)
}
