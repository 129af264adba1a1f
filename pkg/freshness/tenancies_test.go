package freshness

import (
	"errors"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// planned is a StatusSource with one stream of a collector.
type planned struct{ plan schedule.StreamStatus }

func (p planned) Statuses() []schedule.CollectorStatus {
	return []schedule.CollectorStatus{{Collector: "okta", Streams: []schedule.StreamStatus{p.plan}}}
}
func (planned) DisabledStreams() []DisabledStream { return nil }
func (planned) ActiveRuns() []*run.ActiveRun      { return nil }
func (planned) MaxAge(string) time.Duration       { return 0 }

// TestReadTenancies checks that each tenancy has its own streams, also one without a source.
func TestReadTenancies(t *testing.T) {
	now := at(t, "02 12:00")
	st, err := local.Open(t.Context(), t.TempDir(), local.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, tenancy := range []string{"acme", "umbrella", "other"} {
		h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: tenancy, UploadID: "id-" + tenancy, UploadTimestamp: now}
		id, err := st.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: now})
		if err == nil {
			err = st.Runs.Fail(t.Context(), id, state.Failed, errors.New("error of "+tenancy), state.RunStats{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	plan := newPlan(t, "okta_users", "@every 6h")
	plan.FirstDue = now
	all, err := ReadTenancies(t.Context(), st, map[string]StatusSource{"acme": planned{plan}, "umbrella": nil, "new": planned{plan}}, now)
	if err != nil {
		t.Fatal(err)
	}
	for tenancy, want := range map[string]Stream{
		"acme":     {Freshness: Never, StreamStatus: state.StreamStatus{FailureErr: "error of acme"}},
		"umbrella": {Freshness: Off, WhyOff: whyCollectorOff, StreamStatus: state.StreamStatus{FailureErr: "error of umbrella"}},
		"new":      {Freshness: Never},
	} {
		got := all[tenancy]
		if len(got) != 1 || got[0].Tenancy != tenancy || got[0].Freshness != want.Freshness || got[0].WhyOff != want.WhyOff || got[0].FailureErr != want.FailureErr {
			t.Errorf("%s: %+v", tenancy, got)
		}
	}
	if len(all) != 3 {
		t.Errorf("%d tenancies", len(all))
	}
}
