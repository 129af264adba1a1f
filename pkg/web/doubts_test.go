package web

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
)

// newDoubtFixture returns a fixture with a stream that has two doubts and one that has none.
func newDoubtFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.addCollector("crowdstrike", 6*time.Hour, "crowdstrike_hosts")
	f.addCollector("okta", 6*time.Hour, "okta_users")
	f.addSuccess("crowdstrike", "crowdstrike_hosts", 8*time.Hour, nil, `{"id":1}`)
	f.addSuccessWithDoubts("crowdstrike", "crowdstrike_hosts", 2*time.Hour, snapshot.Doubts{
		{Text: "received fewer hosts than declared", Count: 3}, {Text: "hosts <b>without</b> an id", Count: 12},
	}, nil, `{"id":1}`)
	f.addSuccess("okta", "okta_users", time.Hour, nil, `{"id":1}`)
	return f
}

// TestDoubtsOnPages checks the overview and the pages of streams with and without doubts.
func TestDoubtsOnPages(t *testing.T) {
	t.Parallel()
	server := newDoubtFixture(t).startServer("")
	const accepted = "accepted: received fewer hosts than declared (3); hosts &lt;b&gt;without&lt;/b&gt; an id (12)"
	for _, tc := range []struct {
		path  string
		parts []string
		count int // how often "accepted: " is on the page
	}{
		{path: "/", parts: []string{`<p class="note warning">` + accepted + `</p>`}, count: 1},
		{
			path: "/streams/crowdstrike_hosts", count: 2, // in the notice and in the row of the run
			parts: []string{`<p class="note warning">` + accepted + `</p>`, `<td class="text">` + accepted + `</td>`},
		},
		{path: "/streams/okta_users", count: 0},
	} {
		code, _, text := httpGet(t, server.URL+tc.path)
		if n := strings.Count(text, "accepted: "); code != 200 || n != tc.count {
			t.Errorf("%s: code %d, %d times accepted, want %d", tc.path, code, n, tc.count)
		}
		for _, part := range tc.parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the page does not contain %q", tc.path, part)
			}
		}
	}
}

// TestDoubtsInTheAPI checks that the member doubts is there only for streams and runs that have
// doubts.
func TestDoubtsInTheAPI(t *testing.T) {
	t.Parallel()
	server := newDoubtFixture(t).startServer("")
	want := []any{
		map[string]any{"text": "received fewer hosts than declared", "count": 3.0},
		map[string]any{"text": "hosts <b>without</b> an id", "count": 12.0},
	}
	for _, tc := range []struct {
		path, list string
		want       map[string]any // the doubts by stream and time
	}{
		{
			path: "/api/v1/status", list: "streams",
			want: map[string]any{"crowdstrike_hosts 2026-11-24T10:00:00Z": want, "okta_users 2026-11-24T11:00:00Z": nil},
		},
		{
			path: "/api/v1/runs", list: "runs",
			want: map[string]any{
				"crowdstrike_hosts 2026-11-24T04:00:00Z": nil, "crowdstrike_hosts 2026-11-24T10:00:00Z": want,
				"okta_users 2026-11-24T11:00:00Z": nil,
			},
		},
	} {
		_, _, text := httpGet(t, server.URL+tc.path)
		var response map[string]any
		if err := json.Unmarshal([]byte(text), &response); err != nil {
			t.Fatalf("%s: %v: %s", tc.path, err, text)
		}
		got := map[string]any{}
		for _, entry := range response[tc.list].([]any) {
			one := entry.(map[string]any)
			at, ok := one["data_timestamp"].(string)
			if !ok {
				at, _ = one["started"].(string)
			}
			doubts, ok := one["doubts"]
			if ok && doubts == nil {
				t.Errorf("%s: doubts are null: %v", tc.path, one)
			}
			got[one["stream"].(string)+" "+at] = doubts
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: doubts (-want +got):\n%s", tc.path, diff)
		}
	}
}
