package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// A daemon is a running collectord that was started without --once.
type daemon struct {
	cmd *exec.Cmd
	url string
	// ready is the time from the start to the first 200 of /-/ready, and readyCPU the
	// processor time that the process used until then.
	ready, readyCPU time.Duration
	errs            bytes.Buffer
	ended           chan error
}

// fiveVendors enables five collectors whose next run is far in the future.
var fiveVendors = []string{
	"FALCON_CLIENT_ID=bench", "FALCON_SECRET=bench", "FALCON_BASE_URL=http://127.0.0.1:9",
	"TIO_ACCESS_KEY=bench", "TIO_SECRET_KEY=bench", "TIO_URL=http://127.0.0.1:9",
	"KNOWBE4_TOKEN=bench", "KNOWBE4_ENDPOINT=http://127.0.0.1:9",
	"OKTA_DOMAIN=http://127.0.0.1:9", "OKTA_TOKEN=bench",
	"SNYK_TOKEN=bench", "SNYK_URL=http://127.0.0.1:9",
}

// startDaemon starts a daemon in dir with the settings of env, and waits until it is ready.
func (l *lab) startDaemon(dir string, env ...string) (*daemon, error) {
	binary, err := l.buildProgram("cmd/collectord")
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
	env = append([]string{
		"STATE_DIR=" + filepath.Join(dir, "state"), "HTTP_LISTEN=" + addr, "SCHEDULE=0 0 1 1 *", "SCHEDULE_CATCHUP=false",
	}, env...)
	d := &daemon{cmd: newCommand(l.ctx, env, binary), url: "http://" + addr, ended: make(chan error, 1)}
	d.cmd.Dir, d.cmd.Stderr = dir, &d.errs
	began := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { d.ended <- d.cmd.Wait() }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, _, err := timeLastByte(l.ctx, d.url+"/-/ready"); err == nil {
			d.ready = time.Since(began)
			d.readyCPU, err = processorTime(d.cmd.Process.Pid)
			return d, err
		}
		select {
		case err := <-d.ended:
			return nil, fmt.Errorf("the daemon ended before it was ready: %w: %s", err, messageTail(d.errs.String()))
		case <-tick.C:
			if time.Since(began) > 20*time.Second {
				return nil, errors.Join(errors.New("the daemon was not ready in 20 s"), d.stopDaemon())
			}
		}
	}
}

// startFiveVendors starts a daemon in dir with five collectors and a destination.
func (l *lab) startFiveVendors(dir string) (*daemon, error) {
	return l.startDaemon(dir, append([]string{"STORE_FILE=" + filepath.Join(dir, "%TAG.json")}, fiveVendors...)...)
}

// stopDaemon stops the daemon with SIGTERM, as systemd does.
func (d *daemon) stopDaemon() error {
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

// idleDelay is a little longer than the time after which an idle daemon
// releases memory.
const idleDelay = 70 * time.Second

func benchDaemon(l *lab) (result, error) {
	var ready, memory, own []float64
	var daemons []*daemon
	for range l.pairs {
		dir, err := l.newDir()
		if err != nil {
			return result{}, err
		}
		d, err := l.startFiveVendors(dir)
		if err != nil {
			return result{}, err
		}
		daemons = append(daemons, d)
		ready = append(ready, d.ready.Seconds()*1000)
	}
	select {
	case <-time.After(idleDelay):
	case <-l.ctx.Done():
	}
	for _, d := range daemons {
		rss, anonymous, err := residentMemory(d.cmd.Process.Pid)
		if err := errors.Join(err, d.stopDaemon()); err != nil {
			return result{}, err
		}
		memory, own = append(memory, float64(rss)), append(own, float64(anonymous))
	}
	return result{
		figure: fmt.Sprintf("%s resident, %s of it its own; ready after %.0f ms",
			formatMB(int64(median(memory))), formatMB(int64(median(own))), median(ready)),
		ratio: fmt.Sprintf("%.2f of 40 MB, %.2f of 300 ms", median(memory)/40e6, median(ready)/300),
		met:   median(memory) < 40e6 && median(ready) < 300,
		notes: []string{daemonNote},
	}, nil
}

const daemonNote = "Five collectors are enabled but none is running. Memory is taken a minute after the start. " +
	"Resident memory that is not the daemon's own (RssAnon) is pages of the program file, which the " +
	"kernel shares and drops as needed. Ready is the time from the start of the process to the first " +
	"200 of /-/ready."

// benchHistory compares a daemon with a year of runs with one that has a day of runs.
func benchHistory(l *lab) (result, error) {
	day, err := l.measureHistory(1)
	if err != nil {
		return result{}, err
	}
	year, err := l.measureHistory(365)
	if err != nil {
		return result{}, err
	}
	return result{
		figure: fmt.Sprintf("status page %.2f ms, metrics %.2f ms with 43,800 runs", year.status, year.metrics),
		ratio:  fmt.Sprintf("%.2f and %.2f times those with 120 runs", year.status/day.status, year.metrics/day.metrics),
		met:    isFlat(day.status, year.status) && isFlat(day.metrics, year.metrics),
		notes:  []string{historyNote},
	}, nil
}

const historyNote = "Medians of 40 requests of each page. Flat means within 20 % or one millisecond. " +
	"STATE_KEEP deletes history after 90 days by default; here all of it is more recent."

// isFlat reports whether a time has grown by less than 20 % or one millisecond.
func isFlat(before, after float64) bool { return after-before < max(1, before*0.2) }

// pageTimes are the median times of the status page and of the metrics in
// milliseconds.
type pageTimes struct{ status, metrics float64 }

// measureHistory measures a daemon whose history has hourly runs for the given
// number of days.
func (l *lab) measureHistory(days int) (times pageTimes, err error) {
	dir, err := l.newDir()
	if err != nil {
		return pageTimes{}, err
	}
	if err := fillHistory(l.ctx, filepath.Join(dir, "state"), days*24); err != nil {
		return pageTimes{}, err
	}
	d, err := l.startFiveVendors(dir)
	if err != nil {
		return pageTimes{}, err
	}
	defer func() { err = errors.Join(err, d.stopDaemon()) }()
	if times.status, err = l.medianPageTime(d.url + "/"); err != nil {
		return pageTimes{}, err
	}
	times.metrics, err = l.medianPageTime(d.url + "/metrics")
	return times, err
}

// medianPageTime returns the median time of 40 requests in milliseconds.
func (l *lab) medianPageTime(url string) (float64, error) {
	times, _, err := repeatRequest(l.ctx, url, timeLastByte, requestsRemain)
	return medianOf(times), err
}

// requestsRemain reports whether a page was requested less than 40 times.
func requestsRemain(n int) bool { return n < 40 }

// fillHistory adds hourly runs of five collectors to a state directory.
func fillHistory(ctx context.Context, dir string, hours int) (err error) {
	st, err := local.Open(ctx, dir, local.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	now := time.Now()
	for _, s := range [][2]string{
		{"crowdstrike", "crowdstrike_hosts"}, {"tenable", "tenable_assets"}, {"knowbe4", "knowbe4_enrollments"},
		{"okta", "okta_users"}, {"snyk", "snyk_issues"},
	} {
		h := snapshot.Header{Collector: s[0], Stream: s[1], Tenancy: "default"}
		if err := st.Runs.ImportHistory(ctx, h, pastRuns(h.Stream, now, hours)); err != nil {
			return err
		}
	}
	return nil
}

// pastRuns returns a history of hourly successes until now. It is compressed
// into the last 80 days, so that the daemon does not sweep it.
func pastRuns(stream string, now time.Time, hours int) state.History {
	history := state.History{Ends: []state.OutcomeSummary{{Outcome: state.Success, Runs: int64(hours), Last: now}}}
	for ago := range hours { // the newest comes first
		started := now.Add(-80 * 24 * time.Hour * time.Duration(ago+1) / time.Duration(hours))
		history.Runs = append(history.Runs, state.PastRun{
			UploadID: fmt.Sprint(stream, hours-ago-1), Trigger: "schedule", Started: started, Ended: started.Add(time.Minute),
			Outcome: state.Success, Records: 1000, Bytes: 2_000_000, Pages: 10, Requests: 12,
		})
	}
	return history
}
