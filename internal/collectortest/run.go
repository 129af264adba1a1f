package collectortest

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// A Runs is a state directory and a Runner with the default limits, for tests of
// whole runs.
type Runs struct {
	t      testing.TB
	state  *state.State
	runner *run.Runner
}

// OpenRuns opens an empty state directory. The caller must call Close before the
// synctest bubble ends.
func OpenRuns(t testing.TB) *Runs {
	t.Helper()
	st, err := local.Open(t.Context(), filepath.Join(t.TempDir(), "state"), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &Runs{t: t, state: st, runner: &run.Runner{
		State: st, Tenancy: "t", Policy: state.Policy{Sinks: []string{"file"}, SpoolMax: 1 << 30},
		Timeout: 12 * time.Hour, IdleTimeout: 10 * time.Minute, RetryTime: 15 * time.Minute,
		Parallel: 1, Active: &run.ActiveRuns{}, Log: zap.NewNop(),
	}}
}

// Close closes the state.
func (r *Runs) Close() {
	r.t.Helper()
	if err := r.state.Close(); err != nil {
		r.t.Error(err)
	}
}

// RunStream runs one stream.
func (r *Runs) RunStream(s collector.Stream) run.Result {
	r.t.Helper()
	job := run.Job{Collector: &collector.Collector{Name: "test", Streams: []collector.Stream{s}}}
	return r.runner.Run(r.t.Context(), job, "test")[0]
}

// LastRecords returns the records of a stream's last-known snapshot without the
// members that the snapshot added.
func (r *Runs) LastRecords(stream string) (all []string) {
	r.t.Helper()
	sealed, _, err := r.state.Snapshots.LastKnown(r.t.Context(), stream, "t")
	if err != nil {
		r.t.Fatalf("last-known snapshot of %s: %v", stream, err)
	}
	reader, err := sealed.Reader(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	for {
		record, err := reader.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, string(record[:bytes.LastIndex(record, []byte(`,"_tenancy":`))])+"}")
	}
}
