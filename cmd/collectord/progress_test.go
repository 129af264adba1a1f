package main

import (
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
)

// TestProgressLineShowsWaits checks what the terminal shows while a stream waits.
func TestProgressLineShowsWaits(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		wait collector.Wait
		want string // the end of the line
	}{
		{name: "requested", wait: collector.Wait{Until: now.Add(3 * time.Hour), For: "rate limit", Requested: true}, want: "  waiting for rate limit until 03:00:00 UTC as the vendor asks"},
		{name: "not requested", wait: collector.Wait{Until: now.Add(20 * time.Second), For: "retry of GET /x"}, want: "  waiting for retry of GET /x until 00:00:20 UTC"},
		{name: "over", wait: collector.Wait{Until: now, For: "retry of GET /x"}, want: "1m0s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stats := &collector.Stats{}
			defer stats.BeginWait(tc.wait)()
			line := progressLine(&run.ActiveRun{Stream: "okta_users", Started: now.Add(-time.Minute), Stats: stats}, now)
			if !strings.HasSuffix(line, tc.want) {
				t.Errorf("line %q, want one that ends with %q", line, tc.want)
			}
		})
	}
}
