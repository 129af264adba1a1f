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

	"github.com/collectord/collectord/internal/testserver"
)

// A sample is how the daemon stood at a moment.
type sample struct {
	at           time.Time
	memory       int64 // RssAnon, in bytes
	files        int   // open file descriptors
	goroutines   int
	children     int
	postgres     int   // its connections
	state, spool int64 // bytes
	temporary    int   // files
}

// watch measures the daemon, and asks it everything that people and
// Prometheus ask.
type watch struct {
	s *soak

	mu      sync.Mutex
	samples []sample
	steady  time.Time
	scraped int
	slowest time.Duration
}

func newWatch(s *soak) *watch { return &watch{s: s} }

// steadySince notes from when on the daemon was not ended any more.
func (w *watch) steadySince(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steady = t
}

// measure takes a sample each second until ctx ends.
func (w *watch) measure(ctx context.Context) {
	for pause(ctx, min(time.Second, w.s.opts.time/60)) {
		in := w.s.daemon.current()
		if in == nil || in.leaving.Load() {
			continue
		}
		m, err := w.sample(ctx, in)
		if err != nil { // it may be leaving, and Postgres may be down
			continue
		}
		w.mu.Lock()
		w.samples = append(w.samples, m)
		w.mu.Unlock()
	}
}

func (w *watch) sample(ctx context.Context, in *instance) (m sample, err error) {
	m.at = time.Now()
	if m.memory, err = ownMemory(in.cmd.Process.Pid); err != nil {
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
	metrics, err := in.metrics(ctx)
	if err != nil {
		return m, err
	}
	m.goroutines = int(metrics["go_goroutines"])
	m.state, m.spool = sizeOf(w.s.file("state")), sizeOf(w.s.file("state", "spool"))
	m.temporary = len(filesIn(w.s.file("tmp")))
	conn, err := w.s.dest.connect(ctx)
	if err != nil {
		return m, err
	}
	defer conn.Close(ctx)
	return m, conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND backend_type = 'client backend'`, testserver.Owner).Scan(&m.postgres)
}

// ownMemory is the resident memory of a process that is its own.
func ownMemory(pid int) (int64, error) {
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

// childrenOf counts a process's children, ended ones included.
func childrenOf(pid int) (n int, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err == nil { // else the thread has ended
			n += len(strings.Fields(string(text)))
		}
	}
	return n, err
}

// sizeOf sums the files below a folder, which change meanwhile.
func sizeOf(dir string) (n int64) {
	for _, path := range filesIn(dir) {
		if info, err := os.Lstat(path); err == nil {
			n += info.Size()
		}
	}
	return n
}

// filesIn lists what is below a folder and is no folder.
func filesIn(dir string) (files []string) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return nil // what has gone meanwhile is no error
	})
	return files
}

// pages are what is asked for.
var pages = []string{
	"/metrics", "/-/ready", "/-/healthy", "/", "/api/v1/status", "/api/v1/collectors", "/api/v1/runs?limit=1000",
	"/streams/okta_users", "/streams/tenable_vulnerabilities",
}

// tooSlow is how long an answer may take at most, on a machine that is busy.
const tooSlow = 15 * time.Second

// scrapes asks for every page, again and again, until ctx ends.
func (w *watch) scrapes(ctx context.Context) {
	secrets := w.s.daemon.secrets()
	for {
		for _, page := range pages {
			if !pause(ctx, 150*time.Millisecond) {
				return
			}
			in := w.s.daemon.current()
			if in == nil || in.leaving.Load() {
				continue
			}
			began := time.Now()
			body, status, err := in.get(ctx, page)
			took := time.Since(began)
			if ctx.Err() != nil || in.leaving.Load() {
				continue
			}
			switch {
			case err != nil:
				w.s.seen.add("GET %s: %v", page, err)
			case status != 200 && !strings.HasPrefix(page, "/streams/"):
				w.s.seen.add("GET %s: status %d: %.200s", page, status, body)
			case status >= 500:
				w.s.seen.add("GET %s: status %d: %.200s", page, status, body)
			case took > tooSlow:
				w.s.seen.add("GET %s: the answer took %v", page, took.Round(time.Millisecond))
			}
			for _, secret := range secrets {
				if strings.Contains(string(body), secret) {
					w.s.seen.add("GET %s: the answer shows a secret", page)
				}
			}
			w.mu.Lock()
			w.scraped, w.slowest = w.scraped+1, max(w.slowest, took)
			w.mu.Unlock()
		}
	}
}
