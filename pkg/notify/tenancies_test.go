package notify_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/notify"
)

// TestUnusableTenancyIsReportedOnce, with the end of the problem, and without a secret in the
// error. A tenancy that has the name "" in the state is none.
func TestUnusableTenancyIsReportedOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	st := w.openState()
	unusable := map[string]error{"acme": errors.New("SCHEDULE: vendor-secret is not a schedule")}
	n := notify.New(notify.Options{
		State: st, Host: "host-1", Log: zap.NewNop(), Now: func() time.Time { return w.now },
		Redact:     func(text string) string { return strings.ReplaceAll(text, "vendor-secret", "[redacted]") },
		LastReload: func() (time.Time, error) { return w.now, nil },
		Unusable:   func() map[string]error { return unusable },
	}, notify.Settings{Targets: parseTargets(t, s.URL+secretPath, "")})
	n.Check(t.Context())
	want := "collectord on host-1\n\nThe tenancy acme cannot be used: SCHEDULE: [redacted] is not a schedule\nNothing of it is collected. Fix its file and reload: collectord check --tenancy \"acme\" finds errors."
	if got := s.nextText(t); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	n.Check(t.Context())
	s.assertNoNotification(t)
	unusable = nil
	n.Check(t.Context())
	if got := s.nextText(t); !strings.Contains(got, "The settings of the tenancy acme are no longer refused.") {
		t.Errorf("got %s", got)
	}
	if all, err := st.Backend.Tenancies(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("the state has the tenancies %v, %v", all, err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
