package web

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// skipTicks adds n skipped ticks of a stream, a minute apart, the last a minute ago.
func (f *fixture) skipTicks(collector, stream string, n int) {
	f.Helper()
	for i := n; i > 0; i-- {
		at := shownAt.Add(-time.Duration(i) * time.Minute)
		h := newHeader(collector, stream, at)
		h.UploadID = fmt.Sprint("skipped-", i)
		err := f.state.Runs.Skip(f.Context(), state.RunStart{Header: h, Trigger: "schedule", Started: at}, errors.New("the run is still in progress"))
		if err != nil {
			f.Fatal(err)
		}
	}
}

// TestSkippedTicksOnPages checks that a skipped tick is neither a success nor a failure on
// the status page, and has no duration there.
func TestSkippedTicksOnPages(t *testing.T) {
	for name, skipped := range map[string]int{"some": 2, "more than the sparkline shows": sparkRuns + 5} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.addCollector("okta", time.Minute, "okta_users")
			f.addSuccess("okta", "okta_users", 2*time.Hour, nil, `{"id":1}`, `{"id":2}`)
			f.skipTicks("okta", "okta_users", skipped)
			u := &ui{Server: New(Options{State: f.state, Daemon: f.daemon, Tenancy: "acme", Now: func() time.Time { return shownAt }})}
			overview, err := u.readOverview(t.Context())
			if err != nil || len(overview.Rows) != 1 {
				t.Fatal(overview, err)
			}
			row := overview.Rows[0]
			if row.Took != formatDuration(42*time.Second) {
				t.Errorf("took %q", row.Took)
			}
			if spark := string(row.Spark); strings.Contains(spark, `class="bad"`) || strings.Count(spark, `class="skipped"`) != min(skipped, sparkRuns) {
				t.Errorf("sparkline: %s", spark)
			}
			page, _, err := u.readStream(t.Context(), "okta_users")
			if err != nil || len(page.Charts) != 4 {
				t.Fatal(page.Charts, err)
			}
			for i, want := range []struct{ last, most string }{
				{last: "2", most: "2"}, {last: formatDuration(42 * time.Second), most: formatDuration(42 * time.Second)},
				{last: formatSize(60 << 20), most: formatSize(60 << 20)}, {last: "0", most: "0"},
			} {
				c := page.Charts[i]
				if figure := string(c.Figure); c.Last != want.last || c.Most != want.most || strings.Contains(figure, `class="bad"`) || strings.Count(figure, `class="skipped"`) != skipped {
					t.Errorf("%s: last %s, highest %s: %s", c.Title, c.Last, c.Most, figure)
				}
			}
		})
	}
}

// TestQueuedRunsAndRetriesOnPages checks that a queued run is not shown as running, and
// that the next retry is shown.
func TestQueuedRunsAndRetriesOnPages(t *testing.T) {
	f := newFixture(t)
	at := shownAt.Add(12 * time.Minute)
	f.daemon.statuses = []schedule.CollectorStatus{{Collector: "okta", Streams: []schedule.StreamStatus{
		{Stream: "okta_users", Schedule: "@daily", Zone: "UTC", Interval: 24 * time.Hour, Next: at, Retry: at},
		{Stream: "okta_groups", Schedule: "@daily", Zone: "UTC", Interval: 24 * time.Hour, Next: shownAt.Add(time.Hour), Queued: true, Started: shownAt},
	}}}
	server := f.startServer("")
	for path, want := range map[string][]string{
		"/":                    {">retry in 12\u202fmin<", ">queued<"},
		"/streams/okta_users":  {">retry in 12\u202fmin<"},
		"/api/v1/status":       {`"retry":"2026-11-24T12:12:00Z"`, `"queued":true`},
		"/api/v1/collectors":   {`"retry":"2026-11-24T12:12:00Z"`, `"running":false`, `"queued":true`},
		"/streams/okta_groups": {">queued<"},
	} {
		_, _, text := httpGet(t, server.URL+path)
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s does not contain %s:\n%s", path, part, text)
			}
		}
	}
}
