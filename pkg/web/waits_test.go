package web

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
)

// TestWaitsAreShown checks that the pages and the API show what a running
// extraction waits for, until when, and whether the vendor asks for that.
func TestWaitsAreShown(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		wait collector.Wait
		page string
		api  map[string]any
	}{
		{
			name: "requested", wait: collector.Wait{Until: shownAt.Add(3 * time.Hour), For: "rate limit of GET /api/v1/users", Requested: true, RateLimit: true},
			page: "waiting for rate limit of GET /api/v1/users until 15:00:00 UTC as the vendor asks",
			api:  map[string]any{"wait_for": "rate limit of GET /api/v1/users", "wait_until": "2026-11-24T15:00:00Z", "wait_requested": true},
		},
		{
			name: "tomorrow", wait: collector.Wait{Until: shownAt.Add(20 * time.Hour), For: "rate limit", Requested: true},
			page: "waiting for rate limit until 2026-11-25 08:00:00 UTC as the vendor asks",
			api:  map[string]any{"wait_for": "rate limit", "wait_until": "2026-11-25T08:00:00Z", "wait_requested": true},
		},
		{
			name: "not requested", wait: collector.Wait{Until: shownAt.Add(30 * time.Second), For: "retry of GET /api/v1/users"},
			page: "waiting for retry of GET /api/v1/users until 12:00:30 UTC<",
			api:  map[string]any{"wait_for": "retry of GET /api/v1/users", "wait_until": "2026-11-24T12:00:30Z"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.addCollector("okta", 6*time.Hour, "okta_users")
			f.addSuccess("okta", "okta_users", time.Hour, nil, `{"id":1}`)
			active := &run.ActiveRun{Collector: "okta", Stream: "okta_users", Started: shownAt.Add(-time.Minute), Stats: &collector.Stats{}}
			active.Stats.CountRequest("GET /api/v1/users", 1)
			defer active.Stats.BeginWait(tc.wait)()
			f.daemon.active = append(f.daemon.active, active)
			server := f.startServer("")
			for _, path := range []string{"/", "/streams/okta_users"} {
				if _, _, text := httpGet(t, server.URL+path); !strings.Contains(text, tc.page) {
					t.Errorf("%s does not contain %q", path, tc.page)
				}
			}
			_, _, text := httpGet(t, server.URL+"/api/v1/status")
			var response struct {
				Streams []struct {
					Running map[string]any `json:"running"`
				} `json:"streams"`
			}
			if err := json.Unmarshal([]byte(text), &response); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			want := map[string]any{"started": "2026-11-24T11:59:00Z", "records": 0.0, "requests": 1.0, "retries": 0.0, "step": "GET /api/v1/users"}
			for name, value := range tc.api {
				want[name] = value
			}
			if diff := cmp.Diff(want, response.Streams[0].Running); diff != "" {
				t.Errorf("running (-want +got):\n%s", diff)
			}
		})
	}
}
