package schedule

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// A panicking destination has a mistake in it.
type panicking struct{ store.Sink }

func (panicking) Name() string { return "panicking" }

func (panicking) Write(context.Context, *snapshot.Snapshot) error {
	panic("a mistake in the destination")
}

// TestPanicsStayInside: a mistake in a vendor's code fails its stream, one in
// a destination's code its delivery; everything else goes on.
func TestPanicsStayInside(t *testing.T) {
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	good := func(_ context.Context, out collector.Output) error {
		p := out.Page()
		defer p.Discard()
		if err := p.Append([]byte(`{"n":1}`)); err != nil {
			return err
		}
		return p.Commit()
	}
	r := &Runner{State: st, Tenancy: "acme", Policy: state.Policy{Sinks: []string{"panicking"}}, SpoolMax: 1 << 30,
		Timeout: time.Hour, IdleTimeout: time.Hour, Parallel: 1, Lives: &Lives{}, Log: zap.NewNop(), Sealed: func() {}}
	results := r.Run(t.Context(), Job{Collector: &collector.Collector{Name: "okta", Streams: []collector.Stream{
		{Name: "okta_groups", Extract: func(context.Context, collector.Output) error { panic("a mistake in the vendor's code") }},
		{Name: "okta_users", Extract: good},
	}}}, "test")
	if err := results[0].Err; results[0].Outcome != state.Failed || err == nil || !strings.Contains(err.Error(), "a mistake in the vendor's code") {
		t.Errorf("%+v", results[0])
	}
	if results[1].Outcome != state.Success || results[1].Records != 1 {
		t.Errorf("%+v", results[1])
	}

	d := NewDeliverer(st, []store.Sink{panicking{}}, time.Hour, time.Hour, zap.NewNop())
	heads, err := st.Heads(t.Context())
	if err != nil || len(heads) != 1 {
		t.Fatalf("%v, %v", heads, err)
	}
	d.deliver(t.Context(), d.to, heads[0])
	if err := d.Outcome(heads[0].UploadID, "okta_users", "panicking").Err; err == nil || !strings.Contains(err.Error(), "a mistake in the destination") {
		t.Errorf("err = %v", err)
	}
	if queue, err := st.Queue(t.Context()); err != nil || len(queue) != 1 || queue[0].Attempts != 1 {
		t.Errorf("%+v, %v", queue, err)
	}
}
