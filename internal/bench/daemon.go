package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// A daemon is a running collectord without --once.
type daemon struct {
	cmd *exec.Cmd
	url string
	// ready is how long it took until it answered /-/ready with 200.
	ready time.Duration
	errs  bytes.Buffer
	ended chan error
}

// fiveVendors switches on five collectors whose next run is far away.
var fiveVendors = []string{
	"FALCON_CLIENT_ID=bench", "FALCON_SECRET=bench", "FALCON_BASE_URL=http://127.0.0.1:9",
	"TIO_ACCESS_KEY=bench", "TIO_SECRET_KEY=bench", "TIO_URL=http://127.0.0.1:9",
	"KNOWBE4_TOKEN=bench", "KNOWBE4_ENDPOINT=http://127.0.0.1:9",
	"OKTA_DOMAIN=http://127.0.0.1:9", "OKTA_TOKEN=bench",
	"SNYK_TOKEN=bench", "SNYK_URL=http://127.0.0.1:9",
}

// start starts a daemon in the folder dir and waits until it is ready.
func (l *lab) start(dir string) (*daemon, error) {
	binary, err := l.built("cmd/collectord")
	if err != nil {
		return nil, err
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := port.Addr().String()
	if err := port.Close(); err != nil {
		return nil, err
	}
	env := append([]string{"STATE_DIR=" + filepath.Join(dir, "state"), "STORE_FILE=" + filepath.Join(dir, "%TAG.json"), "HTTP_LISTEN=" + addr, "SCHEDULE=0 0 1 1 *", "SCHEDULE_CATCHUP=false"}, fiveVendors...)
	d := &daemon{cmd: program(l.ctx, env, binary), url: "http://" + addr, ended: make(chan error, 1)}
	d.cmd.Dir, d.cmd.Stderr = dir, &d.errs
	began := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { d.ended <- d.cmd.Wait() }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := get(l.ctx, d.url+"/-/ready"); err == nil {
			d.ready = time.Since(began)
			return d, nil
		}
		select {
		case err := <-d.ended:
			return nil, fmt.Errorf("the daemon ended before it was ready: %w: %s", err, tail(d.errs.String()))
		case <-tick.C:
			if time.Since(began) > 20*time.Second {
				return nil, errors.Join(errors.New("the daemon was not ready in 20 s"), d.stop())
			}
		}
	}
}

// stop ends the daemon as systemd does.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("the daemon did not end in 20 s"), d.cmd.Process.Kill())
	}
}

// get returns how long a page takes.
func get(ctx context.Context, url string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: status %d", url, resp.StatusCode)
	}
	return time.Since(began), nil
}

// untilIdle is how long after its last work a daemon gives memory back, and a
// little more.
const untilIdle = 70 * time.Second

func benchDaemon(l *lab) (result, error) {
	var ready, memory, own []float64
	var daemons []*daemon
	for range l.pairs {
		dir, err := l.folder()
		if err != nil {
			return result{}, err
		}
		d, err := l.start(dir)
		if err != nil {
			return result{}, err
		}
		daemons = append(daemons, d)
		ready = append(ready, d.ready.Seconds()*1000)
	}
	select {
	case <-time.After(untilIdle):
	case <-l.ctx.Done():
	}
	for _, d := range daemons {
		rss, anonymous, err := resident(d.cmd.Process.Pid)
		if err := errors.Join(err, d.stop()); err != nil {
			return result{}, err
		}
		memory, own = append(memory, float64(rss)), append(own, float64(anonymous))
	}
	return result{
		figure: fmt.Sprintf("%s resident, %s of it its own; ready after %.0f ms", mb(int64(median(memory))), mb(int64(median(own))), median(ready)),
		ratio:  fmt.Sprintf("%.2f of 40 MB, %.2f of 300 ms", median(memory)/40e6, median(ready)/300),
		met:    median(memory) < 40e6 && median(ready) < 300,
		notes:  []string{"Five collectors are on, none runs; a minute after the start. What is resident beyond its own (RssAnon) are pages of the program's file, which the kernel shares and drops as it needs. Ready is from the start of the process to the first 200 of /-/ready."},
	}, nil
}

// benchHistory compares a daemon with a year of runs to one with a day of them.
func benchHistory(l *lab) (result, error) {
	times := map[string][2]float64{}
	pages := []string{"/", "/metrics"}
	for i, days := range []int{1, 365} {
		dir, err := l.folder()
		if err != nil {
			return result{}, err
		}
		d, err := l.start(dir) // makes the schema
		if err != nil {
			return result{}, err
		}
		if err := d.stop(); err != nil {
			return result{}, err
		}
		if err := fillHistory(l.ctx, filepath.Join(dir, "state"), days*24); err != nil {
			return result{}, err
		}
		if d, err = l.start(dir); err != nil {
			return result{}, err
		}
		for _, page := range pages {
			var list []float64
			for range 40 {
				took, err := get(l.ctx, d.url+page)
				if err != nil {
					return result{}, errors.Join(err, d.stop())
				}
				list = append(list, took.Seconds()*1000)
			}
			both := times[page]
			both[i] = median(list)
			times[page] = both
		}
		if err := d.stop(); err != nil {
			return result{}, err
		}
	}
	status, metrics := times["/"], times["/metrics"]
	return result{
		figure: fmt.Sprintf("status page %.2f ms, metrics %.2f ms with 43,800 runs", status[1], metrics[1]),
		ratio:  fmt.Sprintf("%.2f and %.2f times those with 120 runs", status[1]/status[0], metrics[1]/metrics[0]),
		met:    status[1]-status[0] < max(1, status[0]*0.2) && metrics[1]-metrics[0] < max(1, metrics[0]*0.2),
		notes:  []string{"Medians of 40 requests of each page. Flat is within 20 %, or a millisecond. STATE_KEEP sweeps history after 90 days by default; here all of it is younger."},
	}, nil
}

// fillHistory adds hourly runs of five collectors to a state folder.
func fillHistory(ctx context.Context, dir string, hours int) (err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("%d databases in %s: %w", len(files), dir, err)
	}
	db, err := sql.Open("sqlite", files[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	streams := [][2]string{{"crowdstrike", "crowdstrike_hosts"}, {"tenable", "tenable_assets"}, {"knowbe4", "knowbe4_enrollments"}, {"okta", "okta_users"}, {"snyk", "snyk_issues"}}
	now := time.Now()
	for h := range hours {
		// All within the last 80 days, so that nothing is swept.
		started := now.Add(-80 * 24 * time.Hour * time.Duration(hours-h) / time.Duration(hours))
		for _, s := range streams {
			_, err := tx.ExecContext(ctx, `INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome, records, bytes, pages, requests)
				VALUES (?, ?, 'default', ?, 'schedule', ?, ?, 'success', 1000, 2000000, 10, 12)`,
				s[0], s[1], fmt.Sprint(s[1], h), started.UnixMilli(), started.Add(time.Minute).UnixMilli())
			if err != nil {
				return err
			}
		}
	}
	for _, s := range streams {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO counters (collector, stream, tenancy, outcome, runs, last_run, ended, error)
			VALUES (?, ?, 'default', 'success', ?, (SELECT max(id) FROM runs WHERE stream = ?), ?, '')`, s[0], s[1], hours, s[1], now.UnixMilli())
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}
