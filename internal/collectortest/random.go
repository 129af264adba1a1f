package collectortest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

var (
	firstSeed = flag.Uint64("fault-seed", 1, "the seed of the first run with random faults")
	faultRuns = flag.Int("fault-runs", 0, "the number of runs with random faults; 0 for the usual number")
)

// usualFaultRuns is the number of runs of each vendor. The race detector makes a
// run about ten times as slow.
func usualFaultRuns() int {
	if raceEnabled {
		return 20
	}
	return 300
}

// A FaultyVendor is a vendor whose collector is run with random faults.
type FaultyVendor struct {
	// Options returns a simulated vendor with little data.
	Options func(random *rand.Rand) vendorsim.Options
	// Open opens the vendor's collector.
	Open func(h *Harness, random *rand.Rand) *collector.Collector
	// MaxSkip bounds the number of requests before the first one that a fault hits;
	// 0 means 12.
	MaxSkip int
	// Indices returns which records a stream must have; nil for all.
	Indices func(h *Harness, stream string) []int
	// Record returns a record as the collector stores it; nil for the vendor's
	// record.
	Record func(h *Harness, stream string, i int) string
	// Normalize removes from a record what the vendor may change more than once
	// while a client reads; nil if there is nothing.
	Normalize func(record string) string
	// Unit returns the ids of what record i belongs to, as they are in requests,
	// such as its organisation. Doubts count at least what the last id stands
	// for. nil, or no ids, if doubts count records.
	Unit func(h *Harness, stream string, i int) []string
	// IndexOf returns which record a stored one is, or an error that says why it is
	// none. kinds are the names of the faults. nil if stored records are those of
	// Record.
	IndexOf func(h *Harness, stream, record string, kinds []string) (int, error)
	// Settle is a wait at the end of a run, in which the vendor's other servers close
	// their connections.
	Settle time.Duration
	// Doubts are the names of the kinds of faults that explain a doubt, by its
	// text. Any fault explains a doubt without names.
	Doubts map[string][]string
}

// TestRandomFaults runs the collector with random faults, often. Each run of a
// stream must end in one of two ways:
//
//   - It succeeds, and its snapshot has each record of the vendor exactly once.
//     Records may be missing only if a fault hides them: it is a fault of the
//     vendor's data that names them, or it hit a request for what they belong to.
//     What the vendor removed meanwhile, such as an organisation, is not stored in
//     part. If the vendor still has what is missing, doubts must be recorded that count at least
//     as many things as are missing. A doubt must be one that an injected fault
//     explains.
//   - It fails, and the snapshot from before the run is still the last-known one.
//
// Each run is a subtest with its seed as its name, so that one can be repeated
// alone. The order of requests that are made at the same time can differ.
func (f FaultyVendor) TestRandomFaults(t *testing.T) {
	n := *faultRuns
	if n == 0 {
		n = usualFaultRuns()
	}
	var counts faultCounts
	t.Run("runs", func(t *testing.T) {
		for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
			t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
				t.Parallel()
				f.runOnce(t, seed, &counts)
			})
		}
	})
	if n >= usualFaultRuns() && !t.Failed() {
		counts.check(t, f)
	}
}

// faultCounts counts what happened in all runs, which shows that the test tests
// something.
type faultCounts struct {
	mu                sync.Mutex
	succeeded, failed int
	doubts            map[string]int
	hits              map[string]int
}

func (f *faultCounts) add(results []run.Result, faults []*vendorsim.FaultInjection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hits == nil {
		f.hits, f.doubts = map[string]int{}, map[string]int{}
	}
	for _, result := range results {
		if result.Err != nil {
			f.failed++
		} else {
			f.succeeded++
		}
		for _, d := range result.Doubts {
			f.doubts[d.Text]++
		}
	}
	for _, fault := range faults {
		f.hits[fault.Kind.Name] += fault.Hits()
	}
}

// check checks that streams succeeded and failed, and that each kind of fault hit
// requests.
func (f *faultCounts) check(t *testing.T, v FaultyVendor) {
	t.Logf("%d streams succeeded, %d failed; doubts: %v", f.succeeded, f.failed, f.doubts)
	if f.succeeded < f.failed/4 || f.failed < f.succeeded/20 {
		t.Errorf("%d streams succeeded and %d failed: the faults are too hard or too soft", f.succeeded, f.failed)
	}
	if raceEnabled {
		return // too few runs for all kinds
	}
	for _, k := range vendorsim.FaultKinds(v.Options(rand.New(rand.NewPCG(1, 1))).Vendors[0].Name()) {
		if f.hits[k.Name] == 0 {
			t.Errorf("no request met the fault %q", k.Name)
		}
	}
}

// faultyRun is one run with random faults.
type faultyRun struct {
	*Harness
	vendor FaultyVendor
	state  *state.State
	faults []*vendorsim.FaultInjection
	// indices are those of the records by their bytes, before and after the run,
	// by stream.
	indices map[string]map[string]int
}

func (f FaultyVendor) runOnce(t *testing.T, seed uint64, counts *faultCounts) {
	random := rand.New(rand.NewPCG(seed, 1))
	o := f.Options(random)
	o.Seed, o.Gzip = seed, vendorsim.GzipStored
	Run(t, o, func(h *Harness) {
		st, err := local.Open(h.Context(), filepath.Join(h.TempDir(), "state"), local.Options{})
		if err != nil {
			h.Fatal(err)
		}
		defer func() {
			if err := st.Close(); err != nil {
				h.Error(err)
			}
		}()
		r := faultyRun{Harness: h, vendor: f, state: st, indices: map[string]map[string]int{}}
		c := f.Open(h, random)
		r.runAll(previousCollector(c))
		r.injectFaults(random)
		r.addIndices(c)
		results := r.runAll(c)
		counts.add(results, r.faults)
		r.addIndices(c)
		for _, result := range results {
			r.checkResult(result)
		}
		if h.Failed() {
			h.logFaults(r.faults)
		}
		time.Sleep(f.Settle)
	})
}

// injectFaults injects one to three faults.
func (f *faultyRun) injectFaults(random *rand.Rand) {
	kinds := vendorsim.FaultKinds(f.Host.Name())
	for range 1 + random.IntN(3) {
		kind := kinds[random.IntN(len(kinds))]
		f.faults = append(f.faults, kind.Inject(f.Host, vendorsim.FaultDraw{Random: random, MaxWait: time.Hour, MaxSkip: f.vendor.MaxSkip}))
	}
}

func (h *Harness) logFaults(faults []*vendorsim.FaultInjection) {
	for _, fault := range faults {
		h.Logf("fault: %s; it hit %d requests: %.400q", fault.Kind.Name, fault.Hits(), fault.HitRequests())
	}
	h.Logf("requests: %v", h.Host.Stats().Requests)
}

// previousRecord is the record of the snapshots from before a run.
const previousRecord = `{"previous":true}`

// previousCollector returns a collector with the same streams, which have one
// record.
func previousCollector(c *collector.Collector) *collector.Collector {
	before := &collector.Collector{Name: c.Name}
	for _, s := range c.Streams {
		before.Streams = append(before.Streams, collector.Stream{Name: s.Name, Extract: func(_ context.Context, out collector.Output) error {
			b := out.NewBatch()
			defer b.Discard()
			if err := b.Append([]byte(previousRecord)); err != nil {
				return err
			}
			return b.Commit()
		}})
	}
	return before
}

func (f *faultyRun) runAll(c *collector.Collector) []run.Result {
	runner := &run.Runner{
		State: f.state, Tenancy: "t", Policy: state.Policy{StoreEmpty: true},
		Timeout: 12 * time.Hour, IdleTimeout: 10 * time.Minute, RetryTime: 15 * time.Minute, Parallel: 1, Active: &run.ActiveRuns{}, Log: zap.NewNop(),
	}
	return runner.Run(f.Context(), run.Job{Collector: c}, "test")
}

// wantedIndices returns which records a stream must have.
func (f *faultyRun) wantedIndices(stream string) []int {
	if f.vendor.Indices != nil {
		if list := f.vendor.Indices(f.Harness, stream); list != nil {
			return list
		}
	}
	var all []int
	for i := range f.Sim.RecordCount(stream) {
		all = append(all, i)
	}
	return all
}

// addIndices adds the present records to indices.
func (f *faultyRun) addIndices(c *collector.Collector) {
	for _, s := range c.Streams {
		if f.indices[s.Name] == nil {
			f.indices[s.Name] = map[string]int{}
		}
		if f.vendor.IndexOf != nil {
			continue
		}
		for _, i := range f.wantedIndices(s.Name) {
			record := string(f.Sim.Record(s.Name, i))
			if f.vendor.Record != nil {
				record = f.vendor.Record(f.Harness, s.Name, i)
			}
			f.indices[s.Name][f.normalize(record)] = i
		}
	}
}

// indexOf returns which record of a stream a stored one is.
func (f *faultyRun) indexOf(stream, record string) (int, error) {
	if f.vendor.IndexOf != nil {
		var kinds []string
		for _, fault := range f.faults {
			kinds = append(kinds, fault.Kind.Name)
		}
		return f.vendor.IndexOf(f.Harness, stream, record, kinds)
	}
	i, known := f.indices[stream][f.normalize(record)]
	if !known {
		return 0, errors.New("the vendor has no such record")
	}
	return i, nil
}

func (f *faultyRun) normalize(record string) string {
	if f.vendor.Normalize == nil {
		return record
	}
	return f.vendor.Normalize(record)
}

// lastKnown returns the upload id and the records of the last-known snapshot of a
// stream, without the members that collectord adds.
func (f *faultyRun) lastKnown(stream string) (uploadID string, records []string) {
	f.Helper()
	sealed, _, err := f.state.Snapshots.LastKnown(f.Context(), stream, "t")
	if err != nil {
		f.Fatalf("%s: the last-known snapshot: %v", stream, err)
	}
	reader, err := sealed.Reader(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	for {
		record, err := reader.Next()
		if err == io.EOF {
			return sealed.Info.UploadID, records
		}
		if err != nil {
			f.Fatal(err)
		}
		end := bytes.LastIndex(record, []byte(`,"_tenancy":`))
		records = append(records, string(record[:end])+"}")
	}
}

// checkResult checks the result of one stream.
func (f *faultyRun) checkResult(result run.Result) {
	f.Helper()
	id, records := f.lastKnown(result.Stream)
	if result.Err != nil {
		if !slices.Equal(records, []string{previousRecord}) {
			f.Errorf("%s failed with %v, but the last-known snapshot is not the previous one: %d records", result.Stream, result.Err, len(records))
		}
		return
	}
	if id != result.UploadID {
		f.Errorf("%s: the last-known snapshot is %s, want that of the run, %s", result.Stream, id, result.UploadID)
	}
	got := map[int]int{}
	for _, record := range records {
		i, err := f.indexOf(result.Stream, record)
		if err != nil {
			f.Errorf("%s: %v: %.300s", result.Stream, err, record)
			return
		}
		got[i]++
	}
	for i, n := range got {
		if n > 1 {
			f.Errorf("%s: record %d is stored %d times", result.Stream, i, n)
		}
	}
	f.checkMissing(result, got)
	f.checkDoubts(result)
}

// checkMissing checks that the records that a snapshot lacks are hidden by a
// fault, and that the doubts count them.
func (f *faultyRun) checkMissing(result run.Result, got map[int]int) {
	f.Helper()
	units, goneUnits := map[string]bool{}, map[string]bool{}
	for _, i := range f.wantedIndices(result.Stream) {
		if got[i] > 0 {
			continue
		}
		var unit []string
		if f.vendor.Unit != nil {
			unit = f.vendor.Unit(f.Harness, result.Stream, i)
		}
		explained, gone := f.explains(result.Stream, i, unit)
		if !explained {
			f.Errorf("%s: record %d is missing without a fault that hides it; %d of %d records, doubts %v",
				result.Stream, i, len(got), len(f.wantedIndices(result.Stream)), result.Doubts)
			return
		}
		switch name := append([]string{fmt.Sprint(i)}, unit...)[len(unit)]; {
		case !gone:
			units[name] = true
		case len(unit) > 0:
			goneUnits[name] = true
		}
	}
	for i := range got {
		if f.vendor.Unit == nil {
			break
		}
		if unit := f.vendor.Unit(f.Harness, result.Stream, i); len(unit) > 0 && goneUnits[unit[len(unit)-1]] {
			f.Errorf("%s: %v was removed at the vendor and is stored in part", result.Stream, unit)
			break
		}
	}
	if counted := result.Doubts.Total(); int64(len(units)) > counted {
		f.Errorf("%s: %d things are missing, but the doubts count %d: %v: %v", result.Stream, len(units), counted, result.Doubts, slices.Collect(maps.Keys(units)))
	}
}

// explains reports whether a fault hides record i, and whether the vendor no
// longer has it.
func (f *faultyRun) explains(stream string, i int, unit []string) (explained, gone bool) {
	for _, fault := range f.faults {
		if hides, isGone := fault.HidesRecord(stream, i); hides {
			explained, gone = true, gone || isGone
		}
		for _, request := range fault.HitRequests() {
			if slices.ContainsFunc(unit, func(id string) bool { return strings.Contains(request, id) }) {
				explained = true
			}
		}
	}
	return explained, gone
}

// checkDoubts checks that a fault explains each doubt.
func (f *faultyRun) checkDoubts(result run.Result) {
	f.Helper()
	for _, d := range result.Doubts {
		kinds, known := f.vendor.Doubts[d.Text]
		explains := func(fault *vendorsim.FaultInjection) bool {
			return len(kinds) == 0 || slices.Contains(kinds, fault.Kind.Name)
		}
		if !known || !slices.ContainsFunc(f.faults, explains) {
			f.Errorf("%s: no fault explains the doubt %q (%d)", result.Stream, d.Text, d.Count)
		}
	}
}
