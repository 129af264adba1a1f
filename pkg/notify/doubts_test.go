package notify_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// successWithDoubts is success with a doubt for each text.
func successWithDoubts(stream string, texts ...string) run.Result {
	r := success(stream)
	for i, text := range texts {
		r.Doubts = append(r.Doubts, snapshot.Doubt{Text: text, Count: int64(i + 3)})
	}
	return r
}

// nextText returns the text of the next notification.
func (s *service) nextText(t *testing.T) string {
	t.Helper()
	var message struct{ Text string }
	if err := json.Unmarshal([]byte(s.nextBody(t)), &message); err != nil {
		t.Fatal(err)
	}
	return message.Text
}

const (
	heading    = "collectord on host-1, tenancy acme\n\n"
	reportOnce = "\nThe same doubt is not reported again while it recurs; the status page shows it."
	acceptedIn = " succeeded with 1,234 records. Accepted: "
)

// TestDoubtsAreReportedOnce, by programs that follow each other.
func TestDoubtsAreReportedOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	slack := s.URL + secretPath
	w.report(slack, "", successWithDoubts("okta_users", "fewer users"), success("okta_groups"))
	want := heading + "okta_users" + acceptedIn + "fewer users (3)." + reportOnce
	if text := s.nextText(t); text != want {
		t.Errorf("first report %q, want %q", text, want)
	}
	// It recurs daily, with gaps of up to a month, and is not reported again.
	for range 100 {
		w.now = w.now.Add(24 * time.Hour)
		w.report(slack, "", successWithDoubts("okta_users", "fewer users"))
	}
	w.report(slack, "", success("okta_users"))
	w.now = w.now.Add(29 * 24 * time.Hour)
	w.report(slack, "", successWithDoubts("okta_users", "fewer users"))
	s.assertNoNotification(t)

	// Another one is reported alone, and also the first one after a long time without it.
	w.report(slack, "", successWithDoubts("okta_users", "fewer users", "no scan"))
	want = heading + "okta_users" + acceptedIn + "no scan (4)." + reportOnce
	if text := s.nextText(t); text != want {
		t.Errorf("report of another doubt %q, want %q", text, want)
	}
	w.now = w.now.Add(31 * 24 * time.Hour)
	w.report(slack, "", successWithDoubts("okta_users", "fewer users"), successWithDoubts("okta_groups", "no name"))
	want = heading + "okta_groups" + acceptedIn + "no name (3)." + reportOnce + "\n\nokta_users" + acceptedIn + "fewer users (3)." + reportOnce
	if text := s.nextText(t); text != want {
		t.Errorf("report after a long time %q, want %q", text, want)
	}
	if w.log.Len() > 0 {
		t.Errorf("the log: %s", w.log.String())
	}
}

// TestRecoveryWithDoubts: both are in one message. The doubts of a failed run are not
// reported.
func TestRecoveryWithDoubts(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	slack := s.URL + secretPath
	failed := successWithDoubts("okta_users", "fewer users")
	failed.Outcome, failed.Err = state.Failed, errors.New("no response")
	w.report(slack, "", failed)
	want := heading + "okta_users failed: no response\nThere are no earlier data."
	if text := s.nextText(t); text != want {
		t.Errorf("failure %q, want %q", text, want)
	}
	w.report(slack, "", successWithDoubts("okta_users", "fewer users"))
	want = heading + "okta_users" + acceptedIn + "fewer users (3)." + reportOnce + "\n\n" +
		"okta_users works again: 1,234 records. It had failed since 2026-03-01 15:00 UTC, now."
	if text := s.nextText(t); text != want {
		t.Errorf("recovery %q, want %q", text, want)
	}
	w.report(slack, "", successWithDoubts("okta_users", "fewer users"))
	s.assertNoNotification(t)
}

// TestDoubtsThatWereNotSentAreSentLater, once.
func TestDoubtsThatWereNotSentAreSentLater(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	slack := s.URL + secretPath
	s.status = func() int { return 500 }
	w.report(slack, "", successWithDoubts("okta_users", "fewer users"))
	for range 3 {
		s.nextText(t)
	}
	s.assertNoNotification(t)
	s.status = func() int { return 200 }
	w.now = w.now.Add(2 * time.Minute)
	w.report(slack, "", successWithDoubts("okta_users", "fewer users"))
	want := heading + "okta_users" + acceptedIn + "fewer users (3)." + reportOnce
	if text := s.nextText(t); text != want {
		t.Errorf("report %q, want %q", text, want)
	}
}
