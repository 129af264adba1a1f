package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
)

// clusterCollectors are the collectors of three vendors, one for each service of the case
// cluster: a service runs one collector at a time.
var clusterCollectors = []string{"okta", "snyk", "knowbe4"}

// clusterMost is the largest time of all vendors in three services, in times of the slowest
// vendor alone.
const clusterMost = 1.15

// A clusterBench is three services that share a state.
type clusterBench struct {
	l       *lab
	conn    *pgx.Conn
	daemons []*daemon // the first leads
}

// clusterToken permits requests for runs.
const clusterToken = "bench-token-of-the-cluster"

// benchClusterRuns compares three vendors in three services with each vendor alone.
func benchClusterRuns(l *lab) (r result, err error) {
	v, err := l.startVendor("-vendors", strings.Join(clusterCollectors, ","), "-gzip", "off", "-edge-every", "-1", "-latency", "500ms",
		"-count", "okta_users=10000", "-count", "snyk_issues=3000", "-count", "knowbe4_enrollments=15000")
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	c, err := l.startCluster(v)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, c.stopServices()) }()
	var slowest time.Duration
	var notes []string
	for _, name := range clusterCollectors {
		took, _, err := c.collect(name)
		if err != nil {
			return result{}, err
		}
		notes = append(notes, fmt.Sprintf("%s alone: %s", name, formatSeconds(took)))
		slowest = max(slowest, took)
	}
	// The vendors' limits of a minute begin again.
	select {
	case <-time.After(time.Minute):
	case <-l.ctx.Done():
	}
	all, services, err := c.collect(clusterCollectors...)
	if err != nil {
		return result{}, err
	}
	ratio := all.Seconds() / slowest.Seconds()
	return result{
		figure: fmt.Sprintf("%s for %d vendors in %d services", formatSeconds(all), len(clusterCollectors), services),
		ratio:  fmt.Sprintf("%.2f times the %s of the slowest vendor alone", ratio, formatSeconds(slowest)),
		met:    ratio <= clusterMost && services == len(clusterCollectors),
		notes:  append(notes, clusterNote),
	}, nil
}

const clusterNote = "Each response of the vendors takes half a second, and each service runs one collector at a time. " +
	"The time is from the request to the end of the last run, by the tables of the state; until a service " +
	"begins a run, up to a tenth of CLUSTER_LEASE passes."

// startCluster starts three services that share a new state, and waits until they lead and follow.
func (l *lab) startCluster(v vendor) (c *clusterBench, err error) {
	server, err := testserver.OpenPostgres()
	if err != nil {
		return nil, err
	}
	env, err := l.prepareS3()
	if err != nil {
		return nil, err
	}
	url := server.URL(testserver.Owner, testserver.Password)
	env = append(append(env, v.env...), "CLUSTER_POSTGRES_URL="+url, "CLUSTER_SCHEMA=bench_cluster", "STORE_AWS_S3_BUCKET=bench",
		"HTTP_TOKEN="+clusterToken, "MAX_PARALLEL_RUNS=1", "COLLECTORS="+strings.Join(clusterCollectors, ","))
	c = &clusterBench{l: l}
	if c.conn, err = pgx.Connect(l.ctx, url); err != nil {
		return nil, err
	}
	for n := range clusterCollectors {
		dir, err := l.newDir()
		var d *daemon
		if err == nil {
			d, err = l.startDaemon(dir, append(env, fmt.Sprint("CLUSTER_NODE=node-", n))...)
		}
		if err != nil {
			return nil, errors.Join(err, c.stopServices())
		}
		c.daemons = append(c.daemons, d)
	}
	time.Sleep(10 * time.Second) // the leader reads the services four times per lease
	return c, nil
}

// stopServices stops the services, and removes their state.
func (c *clusterBench) stopServices() (err error) {
	for _, d := range c.daemons {
		err = errors.Join(err, d.stopDaemon())
	}
	ctx := context.WithoutCancel(c.l.ctx)
	_, dropped := c.conn.Exec(ctx, "DROP SCHEMA IF EXISTS bench_cluster CASCADE")
	return errors.Join(err, dropped, c.conn.Close(ctx))
}

// collect requests runs of collectors, and returns the time until the last has ended, and the
// number of services that have executed them.
func (c *clusterBench) collect(names ...string) (took time.Duration, services int, err error) {
	var began time.Time
	if err := c.conn.QueryRow(c.l.ctx, "SELECT clock_timestamp()").Scan(&began); err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		if err := c.requestRun(name); err != nil {
			return 0, 0, err
		}
	}
	for {
		var ended, succeeded int
		var last *time.Time
		err := c.conn.QueryRow(c.l.ctx, `SELECT count(*) FILTER (WHERE ended IS NOT NULL), count(*) FILTER (WHERE state = 'done'), max(ended), count(DISTINCT node)
			FROM bench_cluster.tasks WHERE tick >= $1`, began.UnixMilli()-1000).Scan(&ended, &succeeded, &last, &services)
		switch {
		case err != nil:
			return 0, 0, err
		case ended == len(names) && succeeded < ended:
			return 0, 0, fmt.Errorf("%d of %d runs of %q succeeded", succeeded, ended, names)
		case ended == len(names):
			return last.Sub(began), services, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-c.l.ctx.Done():
			return 0, 0, c.l.ctx.Err()
		}
	}
}

// requestRun asks the leader for a run of a collector.
func (c *clusterBench) requestRun(name string) error {
	r, err := http.NewRequestWithContext(c.l.ctx, http.MethodPost, c.daemons[0].url+"/api/v1/collectors/"+name+"/run", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+clusterToken)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return fmt.Errorf("run of %s: %s", name, response.Status)
	}
	return nil
}
