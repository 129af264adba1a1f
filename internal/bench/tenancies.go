package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// tenancyCount is the number of tenancies, each with the 13 streams of
	// tenancyVendors.
	tenancyCount   = 100
	tenancyVendors = "crowdstrike,tenable,knowbe4,okta,snyk"
	// tenancyRecords is the number of records of the streams in tenancyStreams.
	tenancyRecords = 200
	// loadTime is how long pages and metrics are requested while all collectors run.
	loadTime = 20 * time.Second
)

// tenancyStreams are the streams whose number of records the simulator does not derive from
// others.
var tenancyStreams = []string{
	"crowdstrike_hosts", "crowdstrike_vulnerabilities", "crowdstrike_zero_trust_assessment", "tenable_vulnerabilities",
	"tenable_assets", "tenable_findings", "tenable_was", "knowbe4_enrollments", "okta_users", "snyk_issues",
}

// The limits of the case tenancies. Times of requests are in milliseconds.
const (
	tenanciesReadyMost  = 2 * time.Second
	tenanciesIdleMost   = 96e6
	tenanciesLoadedMost = 160e6
	tenanciesPageMost   = 50
)

// requestTimes are the medians of the times of requests in milliseconds: of pages to the
// first byte, of the metrics to the last.
type requestTimes struct {
	overview, page, metrics float64
	metricsBytes            int64
	// earlyMetrics and lateMetrics are those of the first and the second half of the
	// requests of metrics.
	earlyMetrics, lateMetrics float64
}

// tenancyFigures are the results of benchTenancies. A start is first without a state, and
// then with the data that the load has left.
type tenancyFigures struct {
	firstStart, secondStart       time.Duration
	firstStartCPU, secondStartCPU time.Duration
	idle, loaded                  int64 // resident memory in bytes
	calm, busy                    requestTimes
	// machine is the load average of the machine in the minute before.
	machine float64
}

// isMet reports whether all limits were kept. Requests have limits only while no collector
// runs: under load the simulated vendors have much of the cores.
func (t tenancyFigures) isMet() bool {
	return max(t.firstStart, t.secondStart) < tenanciesReadyMost && t.idle < tenanciesIdleMost && t.loaded < tenanciesLoadedMost &&
		max(t.calm.overview, t.calm.page) < tenanciesPageMost && isFlat(t.calm.earlyMetrics, t.calm.lateMetrics)
}

// benchTenancies measures the service with many tenancies.
func benchTenancies(l *lab) (result, error) {
	dir, env, stop, err := l.prepareTenancies()
	if err != nil {
		return result{}, err
	}
	defer stop()
	f := tenancyFigures{}
	if f.machine, err = readLoadAverage(); err != nil {
		return result{}, err
	}
	if err := errors.Join(l.measureLoad(dir, env, &f), l.measureIdle(dir, env, &f)); err != nil {
		return result{}, err
	}
	return result{
		figure: fmt.Sprintf("ready after %.2f s without and %.2f s with data; %s resident idle, at most %s under load; "+
			"first byte of the overview %.1f ms and of a tenancy %.1f ms, metrics %.0f ms for %.1f MB",
			f.firstStart.Seconds(), f.secondStart.Seconds(), formatMB(f.idle), formatMB(f.loaded),
			f.calm.overview, f.calm.page, f.calm.metrics, float64(f.calm.metricsBytes)/1e6),
		ratio: fmt.Sprintf("%.2f and %.2f of 2 s, %.2f of 96 MB, %.2f of 160 MB, %.2f and %.2f of 50 ms; metrics %.2f times as long in the second half of the requests",
			f.firstStart.Seconds()/tenanciesReadyMost.Seconds(), f.secondStart.Seconds()/tenanciesReadyMost.Seconds(),
			float64(f.idle)/tenanciesIdleMost, float64(f.loaded)/tenanciesLoadedMost,
			f.calm.overview/tenanciesPageMost, f.calm.page/tenanciesPageMost, f.calm.lateMetrics/f.calm.earlyMetrics),
		met: f.isMet(),
		notes: []string{
			tenanciesNote,
			fmt.Sprintf("The starts take %.2f s and %.2f s of CPU, at a load average of %.1f before. Under load the overview takes %.1f ms, a tenancy %.1f ms and the metrics %.0f ms.",
				f.firstStartCPU.Seconds(), f.secondStartCPU.Seconds(), f.machine, f.busy.overview, f.busy.page, f.busy.metrics),
		},
	}, nil
}

const tenanciesNote = "100 tenancies with 5 collectors and 13 streams each, all of the same simulated vendors, which run on the same cores. " +
	"Under load means for 20 s after SIGUSR1, with the default of MAX_PARALLEL_RUNS, while one client each requests the overview, a tenancy and the metrics " +
	"without a pause; memory is the peak since the start. All else is of the second start, with the data of these runs; idle is a minute after the requests. " +
	"Medians of 40 requests. Flat means as in `history`."

// prepareTenancies starts the vendors and writes the files of the tenancies below a new
// directory. It returns the directory and the settings that the tenancies share.
func (l *lab) prepareTenancies() (dir string, env []string, stop func(), err error) {
	args := []string{"-vendors", tenancyVendors, "-gzip", "off"}
	for _, name := range tenancyStreams {
		args = append(args, "-count", fmt.Sprintf("%s=%d", name, tenancyRecords))
	}
	v, err := l.startVendor(args...)
	if err != nil {
		return "", nil, nil, err
	}
	dir, err = l.newDir()
	files := filepath.Join(dir, "tenancies")
	if err == nil {
		err = os.Mkdir(files, 0o700)
	}
	for n := 0; n < tenancyCount && err == nil; n++ {
		err = os.WriteFile(filepath.Join(files, tenancyName(n)+".env"), []byte(strings.Join(v.env, "\n")+"\n"), 0o600)
	}
	if err != nil {
		v.stop()
		return "", nil, nil, err
	}
	env = []string{
		"TENANCIES_DIR=" + files, "STORE_FILE=" + filepath.Join(dir, "out/%TENANCY/%TAG.json"), "SHUTDOWN_GRACE=1s",
	}
	return dir, env, v.stop, nil
}

func tenancyName(n int) string { return fmt.Sprintf("tenancy-%03d", n) }

// measureLoad measures the first start, and the service while its collectors run.
func (l *lab) measureLoad(dir string, env []string, f *tenancyFigures) (err error) {
	d, err := l.startDaemon(dir, env...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stopDaemon()) }()
	f.firstStart, f.firstStartCPU = d.ready, d.readyCPU
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	if f.busy, err = l.requestUnderLoad(d.url); err != nil {
		return err
	}
	f.loaded, err = readStatusBytes(d.cmd.Process.Pid, "VmHWM")
	return err
}

// requestUnderLoad requests the pages and the metrics at once, again and again until loadTime
// is over.
func (l *lab) requestUnderLoad(url string) (times requestTimes, err error) {
	end := time.Now().Add(loadTime)
	var group errgroup.Group
	repeat := func(median *float64, path string, measure func(context.Context, string) (time.Duration, int64, error)) {
		group.Go(func() error {
			measured, _, err := repeatRequest(l.ctx, url+path, measure, func(int) bool { return time.Now().Before(end) })
			*median = medianOf(measured)
			return err
		})
	}
	repeat(&times.overview, "/", timeFirstByte)
	repeat(&times.page, "/tenancies/"+tenancyName(0)+"/", timeFirstByte)
	repeat(&times.metrics, "/metrics", timeLastByte)
	return times, group.Wait()
}

// measureIdle measures the second start, and the service while no collector runs.
func (l *lab) measureIdle(dir string, env []string, f *tenancyFigures) (err error) {
	d, err := l.startDaemon(dir, env...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stopDaemon()) }()
	f.secondStart, f.secondStartCPU = d.ready, d.readyCPU
	if f.calm, err = l.requestCalmly(d.url); err != nil {
		return err
	}
	select {
	case <-time.After(idleDelay):
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
	f.idle, _, err = residentMemory(d.cmd.Process.Pid)
	return err
}

// requestCalmly requests the pages and the metrics, one after the other.
func (l *lab) requestCalmly(url string) (times requestTimes, err error) {
	overview, _, err := repeatRequest(l.ctx, url+"/", timeFirstByte, requestsRemain)
	if err != nil {
		return times, err
	}
	page, _, err := repeatRequest(l.ctx, url+"/tenancies/"+tenancyName(0)+"/", timeFirstByte, requestsRemain)
	if err != nil {
		return times, err
	}
	metrics, size, err := repeatRequest(l.ctx, url+"/metrics", timeLastByte, requestsRemain)
	if err != nil {
		return times, err
	}
	half := len(metrics) / 2
	return requestTimes{
		overview: medianOf(overview), page: medianOf(page), metrics: medianOf(metrics), metricsBytes: size,
		earlyMetrics: medianOf(metrics[:half]), lateMetrics: medianOf(metrics[half:]),
	}, nil
}

// repeatRequest measures requests while isMore reports true for the number of those before,
// and returns their times and the size of the last response.
func repeatRequest(
	ctx context.Context, url string, measure func(context.Context, string) (time.Duration, int64, error), isMore func(n int) bool,
) (times []time.Duration, size int64, err error) {
	for isMore(len(times)) {
		took, n, err := measure(ctx, url)
		if err != nil {
			return nil, 0, err
		}
		times, size = append(times, took), n
	}
	return times, size, nil
}

// medianOf returns the median in milliseconds; 0 for none.
func medianOf(times []time.Duration) float64 {
	if len(times) == 0 {
		return 0
	}
	var ms []float64
	for _, t := range times {
		ms = append(ms, t.Seconds()*1000)
	}
	return median(ms)
}

// timeFirstByte returns how long the first byte of the body of a response takes, and the
// length of the body. It fails if the status is not 200.
func timeFirstByte(ctx context.Context, url string) (took time.Duration, size int64, err error) {
	took, _, size, err = timeResponse(ctx, url)
	return took, size, err
}

// timeLastByte is timeFirstByte to the last byte.
func timeLastByte(ctx context.Context, url string) (took time.Duration, size int64, err error) {
	_, took, size, err = timeResponse(ctx, url)
	return took, size, err
}

// timeResponse returns how long a GET request takes to the first and to the last byte of the
// body, and the length of the body. It fails if the status is not 200.
func timeResponse(ctx context.Context, url string) (first, last time.Duration, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, 0, err
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, 0, 0, fmt.Errorf("GET %s: status %d", url, resp.StatusCode)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		return 0, 0, 0, fmt.Errorf("GET %s: %w", url, err)
	}
	first = time.Since(began)
	rest, err := io.Copy(io.Discard, resp.Body)
	return first, time.Since(began), rest + 1, err
}
