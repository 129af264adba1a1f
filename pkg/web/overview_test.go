package web

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// TestSkippedTicks checks that a tick without a run is shown as skipped, is no failure, and
// leaves the duration of the last run.
func TestSkippedTicks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addCollector("okta", time.Hour, "okta_users")
	f.addSuccess("okta", "okta_users", 2*time.Hour, nil, `{"id":1}`)
	for i := range sparkRuns + 5 { // more than the sparkline shows
		f.addSkipped("okta", "okta_users", time.Hour-time.Duration(i)*time.Minute)
	}
	server := f.startServer("")
	_, _, overview := httpGet(t, server.URL+"/")
	if !strings.Contains(overview, `data-label="Took">42`) || strings.Contains(overview, `<rect class="bad"`) || !strings.Contains(overview, `<rect class="skipped"`) {
		t.Errorf("the overview shows another duration than that of the run, or a failure: %s", overview)
	}
	_, _, page := httpGet(t, server.URL+"/streams/okta_users")
	if !strings.Contains(page, `<td class="outcome skipped">skipped</td>`) || strings.Contains(page, `class="bad"`) {
		t.Errorf("the page does not show the run as skipped, or a failure: %s", page)
	}
	if !strings.Contains(page, "Failures in a row</b> <span>last 0, highest 0") {
		t.Error("the skipped run counts as a failure")
	}
	_, _, style := httpGet(t, server.URL+"/assets/style.css")
	if !strings.Contains(style, ".outcome.skipped { color: var(--dim); }") {
		t.Error("a skipped run has the color of a failure")
	}
}

// TestCommonProblemIsShownOnce has a destination that fails for every stream.
func TestCommonProblemIsShownOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	streams := []string{"okta_a", "okta_b", "okta_c"}
	f.addCollector("okta", time.Hour, streams...)
	for _, name := range streams {
		f.addSuccess("okta", name, time.Hour, []string{"postgres", "file"}, `{"id":1}`)
	}
	queue, err := f.state.Queue.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range queue {
		cause := errors.New("connection refused")
		if d.Sink == "file" {
			cause = errors.New("no space for " + d.Stream)
		}
		if err := f.state.Queue.ScheduleRetry(t.Context(), d, cause, state.Transient, shownAt.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	_, _, overview := httpGet(t, f.startServer("").URL+"/")
	if n := strings.Count(overview, "connection refused"); n != 1 || !strings.Contains(overview, "postgres, for 3 streams: connection refused") {
		t.Errorf("the common error is shown %d times", n)
	}
	for _, name := range streams {
		if !strings.Contains(overview, "file, after 1 attempt: no space for "+name) {
			t.Errorf("the error of %s is not shown", name)
		}
	}
}

// TestResultsOfControlsAreNotOff checks that the streams of results are shown as what they
// are, on the pages and in the API, and that one that failed says so.
func TestResultsOfControlsAreNotOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addCollector("okta", time.Hour, "okta_users")
	f.addSuccess("control", "control_summary", 2*time.Hour, nil, `{"metric_id":"a"}`)
	f.addSuccess("control", "control_detail", 2*time.Hour, nil, `{"metric_id":"a"}`)
	f.addFailure("control", "control_detail", time.Hour, "no space for the details")
	server := f.startServer("")
	for path, wants := range map[string][]string{
		"/": {
			`<span class="n results">2 results</span>`, `<span class="state results">results</span>`, "after runs",
			"The stream has the results of controls.", "no space for the details",
		},
		"/streams/control_summary": {`<span class="state results">results</span>`, "The stream has the results of controls."},
		"/api/v1/status":           {`"freshness": "results"`},
	} {
		_, _, text := httpGet(t, server.URL+path)
		for _, want := range wants {
			if !strings.Contains(text, want) && !strings.Contains(text, strings.ReplaceAll(want, `": "`, `":"`)) {
				t.Errorf("%s has no %q: %s", path, want, text)
			}
		}
		if strings.Contains(text, "The stream is off") || strings.Contains(text, `class="state off"`) {
			t.Errorf("%s says that a stream is off", path)
		}
	}
}
