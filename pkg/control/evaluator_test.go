package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == query.WorkerCommand {
		os.Exit(query.Work())
	}
	if dir := os.Getenv(killedDirVariable); dir != "" {
		os.Exit(evaluateUntilKilled(dir))
	}
	goleak.VerifyTestMain(m)
}

// fixture is an evaluator over an empty state with a directory of files.
type fixture struct {
	*testing.T
	*Evaluator
	dir   string
	clock time.Time
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, dir: t.TempDir(), clock: start}
	f.Evaluator = openEvaluator(t.Context(), filepath.Join(t.TempDir(), "state"), f.dir, func() time.Time { return f.clock })
	t.Cleanup(func() {
		f.Engine.Close()
		if err := f.State.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// openEvaluator opens a state and returns an evaluator with the files of dir.
func openEvaluator(ctx context.Context, stateDir, dir string, now func() time.Time) *Evaluator {
	st, err := local.Open(ctx, stateDir, local.Options{Now: now})
	if err != nil {
		panic(err)
	}
	e := &Evaluator{
		State: st, Tenancy: "default", Log: zap.NewNop(), Now: now,
		Engine: query.New(query.Options{State: st, Tenancy: "default", Dir: filepath.Join(st.Dir(), "query")}),
	}
	e.ApplySettings(Settings{
		Dir: dir, Timeout: 10 * time.Minute, Memory: 512 << 20, Detail: true, Keep: 400 * 24 * time.Hour,
		Runner: &run.Runner{
			State: st, Tenancy: "default", Policy: state.Policy{Sinks: []string{"file"}, GuardDropPercent: 50},
			Now: now, Parallel: 1, Active: &run.ActiveRuns{}, Log: zap.NewNop(),
		},
	})
	return e
}

// writeControl writes the file of a control; more are further fields.
func (f *fixture) writeControl(id, sql string, more ...string) {
	f.Helper()
	text := fmt.Sprintf("metric_id: %s\ntitle: T\ncategory: c\nslo: [0.5, 0.9]\nweight: 2\n%s\nquery: |\n  %s\n", id, strings.Join(more, "\n"), sql)
	f.writeFile(id+".yml", text)
}

// writeFile writes a file into the directory of the controls.
func (f *fixture) writeFile(name, text string) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

// collect adds a snapshot of records that is taken now.
func (f *fixture) collect(stream string, records ...string) {
	f.Helper()
	if err := collectRecords(f.Context(), f.State, stream, f.clock, records...); err != nil {
		f.Fatal(err)
	}
}

func collectRecords(ctx context.Context, st *state.State, stream string, taken time.Time, records ...string) error {
	h := snapshot.Header{Collector: "okta", Stream: stream, Tenancy: "default", UploadID: uuid.NewString(), UploadTimestamp: taken}
	id, err := st.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: taken})
	if err != nil {
		return err
	}
	w, err := st.Snapshots.Spool(h)
	if err != nil {
		return err
	}
	batch := w.NewBatch()
	for _, r := range records {
		if err := batch.Append([]byte(r)); err != nil {
			return err
		}
	}
	if err := batch.Commit(); err != nil {
		return err
	}
	_, err = st.Runs.Commit(ctx, id, w, state.RunStats{Records: int64(len(records))}, state.Policy{StoreEmpty: true})
	return err
}

// evaluate measures the controls that are due.
func (f *fixture) evaluate() Evaluation {
	f.Helper()
	done, err := f.EvaluateDue(f.Context(), "test")
	if err != nil {
		f.Fatal(err)
	}
	return done
}

// status returns the status of a control.
func (f *fixture) status(id string) Status {
	f.Helper()
	list, err := f.State.Controls("default").ListControls(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range StatusesOf(list) {
		if s.ID == id {
			return s
		}
	}
	f.Fatalf("no control %s", id)
	return Status{}
}

// records returns the records of a stream's last-known snapshot.
func (f *fixture) records(stream string) (all []map[string]any) {
	f.Helper()
	sealed, _, err := f.State.Snapshots.LastKnown(f.Context(), stream, "default")
	if errors.Is(err, state.ErrNoSnapshot) {
		return nil
	}
	if err != nil {
		f.Fatal(err)
	}
	r, err := sealed.Reader(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	defer r.Close()
	for {
		text, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			f.Fatal(err)
		}
		var record map[string]any
		if err := json.Unmarshal(text, &record); err != nil {
			f.Fatal(err)
		}
		for name := range record {
			if strings.HasPrefix(name, "_") {
				delete(record, name)
			}
		}
		all = append(all, record)
	}
}

// summaries returns "day id state ok/total weight" of each summary record.
func (f *fixture) summaries() (all []string) {
	f.Helper()
	for _, r := range f.records(SummaryStream) {
		all = append(all, fmt.Sprint(r["datestamp"], " ", r["metric_id"], " ", r["state"], " ", r["totalok"], "/", r["total"], " ", r["weight"]))
	}
	return all
}

// details returns "id resource compliance day" of each detail record.
func (f *fixture) details() (all []string) {
	f.Helper()
	for _, r := range f.records(DetailStream) {
		all = append(all, fmt.Sprint(r["metric_id"], " ", r["resource"], " ", r["compliance"], " ", r["datestamp"]))
	}
	return all
}

func (f *fixture) requireEqual(what string, want, got any) {
	f.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const mfaSQL = "SELECT login AS resource, 'user' AS resource_type, mfa AS compliance, 'd' AS detail FROM {{ ref('okta_users') }}"

// TestEvaluation checks the results of controls in the state and in both streams.
func TestEvaluation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a","mfa":1}`, `{"login":"b","mfa":0.5}`, `{"login":"c","mfa":null}`)
	f.writeControl("mfa", mfaSQL, "type: control", "description: why", "how: so", "references:", "  CIS 8.1: [6.30]")
	f.writeControl("none", mfaSQL+" WHERE false")
	f.writeControl("off", mfaSQL, "enabled: false")
	done := f.evaluate()
	f.requireEqual("measured", []string{"mfa", "none"}, done.Measured)
	s := f.status("mfa")
	if s.State != Measured || s.Score != 0.75 || s.Colour != Amber || s.Rows != 3 || s.Total != 2 || s.NotFull != 1 ||
		!s.Data.Equal(start) || !s.ControlResult.Measured.Equal(start) || s.References != `[{"framework":"CIS 8.1","sections":["6.30"]}]` {
		t.Errorf("%+v", s)
	}
	if s := f.status("none"); s.State != Empty || s.Known || s.Colour != None {
		t.Errorf("%+v", s)
	}
	if s := f.status("off"); s.State != Off || s.Off != "enabled is false" {
		t.Errorf("%+v", s)
	}
	f.requireEqual("summaries", []string{"2026-03-01 mfa measured 1.5/2 2", "2026-03-01 none empty <nil>/<nil> <nil>"}, f.summaries())
	f.requireEqual("first detail", map[string]any{
		"metric_id": "mfa", "title": "T", "category": "c", "type": "control", "description": "why", "how": "so", "resource": "a",
		"resource_type": "user", "compliance": 1.0, "detail": "d", "slo": 0.9, "slo_min": 0.5, "weight": 2.0, "indicator": false,
		"datestamp": "2026-03-01", "business_unit": "undefined", "team": "undefined", "location": "undefined",
	}, f.records(DetailStream)[0])
	queue, err := f.State.Queue.List(t.Context())
	if err != nil || len(queue) != 2 {
		t.Errorf("queue %v, error %v", queue, err)
	}
	if again := f.evaluate(); len(again.Measured) > 0 || len(again.Results) > 0 {
		t.Errorf("evaluated again without a reason: %+v", again)
	}
}

// TestDue checks what makes a control due.
func TestDue(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.collect("tenable_assets", `{"login":"t","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	f.writeControl("other", strings.ReplaceAll(mfaSQL, "okta_users", "tenable_assets"))
	f.requireEqual("at first", []string{"mfa", "other"}, f.evaluate().Measured)
	f.clock = f.clock.Add(time.Hour)
	f.collect("okta_users", `{"login":"a","mfa":0}`)
	f.requireEqual("after new data", []string{"mfa"}, f.evaluate().Measured)
	f.requireEqual("details of both", []string{"mfa a 0 2026-03-01", "other t 1 2026-03-01"}, f.details())
	f.writeControl("other", strings.ReplaceAll(mfaSQL, "okta_users", "tenable_assets")+" LIMIT 1")
	f.requireEqual("after a change of the file", []string{"other"}, f.evaluate().Measured)
	f.clock = time.Date(2026, 3, 1, 23, 59, 59, 0, time.UTC)
	f.requireEqual("before midnight", []string(nil), f.evaluate().Measured)
	f.clock = time.Date(2026, 3, 2, 0, 0, 1, 0, time.UTC)
	f.requireEqual("after midnight", []string{"mfa", "other"}, f.evaluate().Measured)
	f.requireEqual("days", []string{
		"2026-03-01 mfa measured 0/1 2", "2026-03-01 other measured 1/1 2", "2026-03-02 mfa measured 0/1 2", "2026-03-02 other measured 1/1 2",
	}, f.summaries())
	s := *f.currentSettings()
	s.Register = filepath.Join(t.TempDir(), "resources.csv")
	if err := os.WriteFile(s.Register, []byte("team,resource\nRed,a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.ApplySettings(s)
	f.requireEqual("with a register", []string{"mfa", "other"}, f.evaluate().Measured)
	f.requireEqual("failed with a register", "", f.status("mfa").Err)
	if team := f.records(DetailStream)[0]["team"]; team != "Red" {
		t.Errorf("team %v", team)
	}
}

// TestControlKeepsLast checks that a control that fails keeps its score, its day and its
// details, and says since when it fails.
func TestControlKeepsLast(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	f.writeControl("fresh", mfaSQL)
	f.evaluate()
	f.clock = f.clock.Add(24 * time.Hour)
	failed := f.clock
	f.collect("okta_users", `{"login":"a"}`)
	f.writeControl("fresh", strings.ReplaceAll(mfaSQL, "mfa", "1"))
	done := f.evaluate()
	f.requireEqual("failed", []string{"mfa"}, done.Failed)
	want := `mfa.yml:8: Binder Error: Referenced column "mfa" not found in FROM clause!`
	s := f.status("mfa")
	if s.State != Failed || !s.Known || s.Score != 1 || !strings.HasPrefix(s.Err, want) || !s.ControlResult.Measured.Equal(start) || !s.Attempt.FailedSince.Equal(failed) {
		t.Errorf("%+v", s)
	}
	f.requireEqual("days", []string{
		"2026-03-01 fresh measured 1/1 2", "2026-03-01 mfa measured 1/1 2", "2026-03-02 fresh measured 1/1 2", "2026-03-02 mfa failed 1/1 2",
	}, f.summaries())
	f.requireEqual("details", []string{"fresh a 1 2026-03-02", "mfa a 1 2026-03-01"}, f.details())
	f.clock = f.clock.Add(time.Hour)
	f.requireEqual("an hour later", []string(nil), f.evaluate().Measured)
	f.clock = f.clock.Add(5 * time.Hour)
	f.requireEqual("six hours later", []string{"mfa"}, f.evaluate().Failed)
	if s := f.status("mfa"); !s.Attempt.FailedSince.Equal(failed) {
		t.Errorf("failed since %v", s.Attempt.FailedSince)
	}
	f.writeControl("mfa", strings.ReplaceAll(mfaSQL, "mfa", "0.5"))
	f.evaluate()
	if s := f.status("mfa"); s.State != Measured || s.Score != 0.5 || s.Err != "" || !s.Attempt.FailedSince.IsZero() {
		t.Errorf("after the repair: %+v", s)
	}
}

// TestBrokenFile checks that a control whose file is broken fails, keeps its score and has a
// row on each day, whether its file can be read in part or not, and that a new broken file is
// visible, too.
func TestBrokenFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	f.writeControl("part", mfaSQL)
	f.evaluate()
	f.clock = f.clock.Add(24 * time.Hour)
	failed := f.clock
	for name, text := range map[string]string{
		"mfa.yml": "%", "part.yml": "metric_id: part\ntitle: other\nweight: 7\n", "metric_new.yml": "title: 'x\ncategory: c\nweight: 3",
	} {
		f.writeFile(name, text)
	}
	done := f.evaluate()
	f.requireEqual("failed", []string{"mfa", "new", "part"}, done.Failed)
	if len(done.Problems) != 4 {
		t.Errorf("problems %v", done.Problems)
	}
	for id, want := range map[string]string{"mfa": "mfa.yml: not YAML: could not find expected directive name", "part": "part.yml: category is missing"} {
		s := f.status(id)
		if s.State != Failed || !s.Known || s.Score != 1 || s.Title != "T" || s.Weight != 2 || !strings.HasPrefix(s.Err, want) || !s.Attempt.FailedSince.Equal(failed) {
			t.Errorf("%+v, want the error %s", s, want)
		}
	}
	if s := f.status("new"); s.State != Failed || s.Known || s.Category != "c" || s.Weight != 3 || s.Title != "new" || !s.Attempt.FailedSince.Equal(failed) {
		t.Errorf("%+v", s)
	}
	f.requireEqual("days", []string{
		"2026-03-01 mfa measured 1/1 2", "2026-03-01 part measured 1/1 2", "2026-03-02 mfa failed 1/1 2",
		"2026-03-02 new failed <nil>/<nil> <nil>", "2026-03-02 part failed 1/1 2",
	}, f.summaries())
	f.requireEqual("details", []string{"mfa a 1 2026-03-01", "part a 1 2026-03-01"}, f.details())
	f.requireEqual("a minute later", []string(nil), f.evaluate().Measured)
	if err := os.Remove(filepath.Join(f.dir, "metric_new.yml")); err != nil {
		t.Fatal(err)
	}
	f.writeControl("mfa", mfaSQL)
	f.writeControl("part", mfaSQL)
	f.evaluate()
	if s := f.status("mfa"); s.State != Measured || s.Err != "" || !s.Attempt.FailedSince.IsZero() {
		t.Errorf("%+v", s)
	}
	if list, err := f.State.Controls("default").ListControls(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("controls %v, error %v", list, err)
	}
}

// TestNewBrokenFile checks that a file that could never be used is shown as it is now.
func TestNewBrokenFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, title := range []string{"first", "second"} {
		f.writeFile("x.yml", "metric_id: x\ntitle: "+title+"\n")
		f.evaluate()
		if s := f.status("x"); s.State != Failed || s.Title != title {
			t.Errorf("%+v, want the title %s", s, title)
		}
	}
}

// TestControlWithoutData checks the states of controls whose stream was never collected.
func TestControlWithoutData(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.writeControl("mfa", mfaSQL)
	f.evaluate()
	if s := f.status("mfa"); s.State != Empty || s.Note != "query 1 is left out: there is no data of okta_users" {
		t.Errorf("%+v", s)
	}
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.evaluate()
	if s := f.status("mfa"); s.State != Measured || s.Note != "" {
		t.Errorf("%+v", s)
	}
}

// TestMissingStream checks what is said of streams without data: one that is off, one that
// does not exist, and one of two queries of a control that has a score.
func TestMissingStream(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const off = "there is no data of okta_users: the collector okta is off: set OKTA_TOKEN"
	why := off
	s := *f.currentSettings()
	s.Missing = func(stream string) (string, bool) {
		if stream == "okta_users" {
			return why, true
		}
		return stream + " is no stream: did you mean okta_users?", false
	}
	f.ApplySettings(s)
	f.writeControl("off", mfaSQL)
	f.writeControl("typo", strings.ReplaceAll(mfaSQL, "okta_users", "okta_userz"))
	f.writeFile("both.yml", "metric_id: both\ntitle: T\ncategory: c\nslo: 0.9\nweight: 1\nquery:\n  - "+mfaSQL+"\n  - "+strings.ReplaceAll(mfaSQL, "okta_users", "okta_userz")+"\n")
	f.requireEqual("failed", []string{"both", "typo"}, f.evaluate().Failed)
	if s := f.status("off"); s.State != Empty || s.Note != "query 1 is left out: "+off {
		t.Errorf("%+v", s)
	}
	if s := f.status("typo"); s.State != Failed || s.Err != "typo.yml:8: okta_userz is no stream: did you mean okta_users?" || s.Attempt.FailedSince.IsZero() {
		t.Errorf("%+v", s)
	}
	why = "there is no data of okta_users: it was not collected yet"
	f.requireEqual("measured again for another reason", []string{"both", "off"}, f.evaluate().Measured)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.evaluate()
	if s := f.status("both"); s.State != Measured || s.Note != "query 2 is left out: okta_userz is no stream: did you mean okta_users?" {
		t.Errorf("%+v", s)
	}
}

// TestRestoreIsAskedOnce checks that the backup is asked for the history when there is a
// control to measure, again after a failure, and not after it had none.
func TestRestoreIsAskedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	asked, failure := 0, errors.New("the bucket is gone")
	s := *f.currentSettings()
	s.Restore = func(context.Context) error {
		asked++
		return failure
	}
	f.ApplySettings(s)
	f.evaluate()
	f.writeControl("off", mfaSQL, "enabled: false")
	f.evaluate()
	f.requireEqual("requests without a control to measure", 0, asked)
	f.writeControl("mfa", mfaSQL)
	for range 2 {
		if _, err := f.EvaluateDue(t.Context(), "test"); !errors.Is(err, failure) {
			t.Errorf("error %v", err)
		}
	}
	failure = nil
	f.evaluate()
	f.writeControl("mfa", mfaSQL+" LIMIT 1")
	f.evaluate()
	f.requireEqual("requests", 3, asked)
	if err := f.State.Controls("default").RemoveDaysBefore(t.Context(), "9999"); err != nil {
		t.Fatal(err)
	}
	f.writeControl("mfa", mfaSQL+" LIMIT 2")
	f.evaluate()
	f.requireEqual("requests of a process that has asked", 3, asked)
}

// TestKeptDetails checks that the details of a control that is not measured again stay as
// they are, byte for byte.
func TestKeptDetails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a \",\"_tenancy\":\"x é<","mfa":0.25}`)
	f.writeControl("mfa", mfaSQL)
	f.writeControl("other", strings.ReplaceAll(mfaSQL, "okta_users", "tenable_assets"))
	f.evaluate()
	before := f.records(DetailStream)
	f.collect("tenable_assets", `{"login":"t","mfa":1}`)
	f.requireEqual("measured", []string{"other"}, f.evaluate().Measured)
	after := f.records(DetailStream)
	if len(before) != 1 || len(after) != 2 || after[1]["metric_id"] != "mfa" && after[0]["metric_id"] != "mfa" {
		t.Fatalf("before %v, after %v", before, after)
	}
	if after[0]["metric_id"] != "mfa" {
		after[0] = after[1]
	}
	f.requireEqual("kept record", before[0], after[0])
	f.requireEqual("resource", `a ","_tenancy":"x é<`, before[0]["resource"])
}

// TestNumbersAreFractions checks the types of both streams in queries when no value has a
// fraction, and when there is none.
func TestNumbersAreFractions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	engine := query.New(query.Options{State: f.State, Tenancy: "default", Dir: filepath.Join(f.State.Dir(), "other"), Declared: DeclaredMembers()})
	defer engine.Close()
	f.collect("okta_users", `{"login":"a","mfa":null}`)
	f.writeControl("mfa", mfaSQL)
	f.evaluate()
	for stream, want := range map[string]string{
		SummaryStream: "datestamp DATE, metric_id VARCHAR, title VARCHAR, category VARCHAR, slo DOUBLE, slo_min DOUBLE, weight DOUBLE, indicator BOOLEAN, " +
			"business_unit VARCHAR, team VARCHAR, location VARCHAR, totalok DOUBLE, total BIGINT, state VARCHAR, ",
		DetailStream: "metric_id VARCHAR, title VARCHAR, category VARCHAR, type VARCHAR, description VARCHAR, how VARCHAR, resource VARCHAR, " +
			"resource_type VARCHAR, compliance DOUBLE, detail VARCHAR, slo DOUBLE, slo_min DOUBLE, weight DOUBLE, indicator BOOLEAN, datestamp DATE, " +
			"business_unit VARCHAR, team VARCHAR, location VARCHAR, ",
	} {
		list, err := engine.Columns(t.Context(), stream, query.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, c := range list {
			got.WriteString(c.Name + " " + c.Type + ", ")
		}
		f.requireEqual(stream, want+"_tenancy VARCHAR, _upload_timestamp TIMESTAMP, _upload_id UUID, ", got.String())
	}
}

// TestWithoutDetail checks that no resource is in a snapshot when the settings say so, and
// that the scores are the same.
func TestWithoutDetail(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := *f.currentSettings()
	s.Detail = false
	f.ApplySettings(s)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	f.evaluate()
	f.requireEqual("summaries", []string{"2026-03-01 mfa measured 1/1 2"}, f.summaries())
	f.requireEqual("details", []string(nil), f.details())
}

// TestKeepDays checks that old days are removed.
func TestKeepDays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := *f.currentSettings()
	s.Keep = 48 * time.Hour
	f.ApplySettings(s)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	for range 4 {
		f.evaluate()
		f.clock = f.clock.Add(24 * time.Hour)
	}
	f.requireEqual("days", []string{"2026-03-02 mfa measured 1/1 2", "2026-03-03 mfa measured 1/1 2", "2026-03-04 mfa measured 1/1 2"}, f.summaries())
}

// TestFewerFindingsAreDelivered checks that details with far fewer records, and none, are
// not held.
func TestFewerFindingsAreDelivered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a","mfa":1}`, `{"login":"b","mfa":1}`, `{"login":"c","mfa":1}`, `{"login":"d","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	f.evaluate()
	f.writeControl("mfa", mfaSQL+" WHERE login = 'a'")
	f.evaluate()
	f.requireEqual("details", []string{"mfa a 1 2026-03-01"}, f.details())
	f.writeControl("mfa", mfaSQL+" WHERE false")
	f.evaluate()
	f.requireEqual("no details", []string(nil), f.details())
}

// TestNothingMeasuredIsNotDelivered checks that a new state directory, in which no control
// could be measured yet, does not replace the details that a destination may have.
func TestNothingMeasuredIsNotDelivered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.writeControl("mfa", "SELECT nothing FROM okta_users")
	f.evaluate()
	queue, err := f.State.Queue.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range queue {
		if d.Stream == DetailStream {
			t.Errorf("%d records of %s are queued for %s", d.Records, d.Stream, d.Sink)
		}
	}
	if len(queue) == 0 {
		t.Error("nothing at all is queued: want the day of the failed control")
	}
}

// TestPreview checks that a preview records nothing.
func TestPreview(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	f.writeControl("bad", "SELECT")
	p := &Previewer{State: f.State, Tenancy: "default", Engine: f.Engine, Settings: *f.currentSettings()}
	states := map[string]State{}
	rows := 0
	problems, err := p.Preview(t.Context(), nil, true, func(one Preview) error {
		states[one.ID] = one.State
		rows += len(one.Rows)
		return nil
	})
	if err != nil || len(problems) > 0 || rows != 1 {
		t.Errorf("%d rows, problems %v, error %v", rows, problems, err)
	}
	f.requireEqual("states", map[string]State{"mfa": Measured, "bad": Failed}, states)
	if list, err := f.State.Controls("default").ListControls(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("recorded %v, error %v", list, err)
	}
	if _, err := p.Preview(t.Context(), []string{"mfaa"}, true, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v", err)
	}
}

// TestRegisterProblems checks the errors of a register.
func TestRegisterProblems(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                          "read the header: EOF",
		"name,team\na,b\n":          "the header name,team has no column resource",
		"resource,x\na,b\n":         "the header has none of the columns business_unit, team and location",
		"resource,team\na,b\nA,c\n": "line 3: A is already in line 2: a resource may be there once for each resource_type",
		"resource,team\n ,b\n":      "line 2: resource is empty",
		"resource,team\na,b,c\n":    "record on line 2: wrong number of fields",
		"Resource , TEAM\na,b\n":    "",
		"resource,resource_type,team\na,host,b\na,user,c\na,,d\n": "",
	} {
		path := filepath.Join(t.TempDir(), "r.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Settings{Register: path}.CheckRegister()
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != "CONTROLS_RESOURCES: "+path+": "+want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

// TestBrokenRegister: while the register cannot be used, the controls fail and keep their
// score, and they are measured as soon as it can.
func TestBrokenRegister(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	path := filepath.Join(t.TempDir(), "r.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := *f.currentSettings()
	s.Register = path
	f.ApplySettings(s)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	f.writeControl("mfa", mfaSQL)
	write("resource,team\na,blue\n")
	f.evaluate()
	write("name,team\na,red\n")
	f.requireEqual("failed", []string{"mfa"}, f.evaluate().Failed)
	want := "mfa.yml: CONTROLS_RESOURCES: " + path + ": the header name,team has no column resource"
	if s := f.status("mfa"); s.State != Failed || !s.Known || s.Score != 1 || s.Err != want {
		t.Errorf("%+v, want the error %s", s, want)
	}
	f.requireEqual("a minute later", []string(nil), f.evaluate().Measured)
	write("resource,team\na,red\n")
	f.requireEqual("measured after the repair", []string{"mfa"}, f.evaluate().Measured)
	if s := f.status("mfa"); s.State != Measured || s.Err != "" {
		t.Errorf("%+v", s)
	}
}

// TestRunWakes checks that Run measures at its start, after Wake, and ends with its context.
func TestRunWakes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.writeControl("mfa", mfaSQL)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	evaluated := make(chan []Status)
	f.OnEvaluated = func(_, after []Status) { evaluated <- after }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Evaluator.Run(ctx)
	}()
	if after := <-evaluated; after[0].Score != 1 {
		t.Errorf("%+v", after)
	}
	f.writeControl("mfa", mfaSQL+" WHERE false")
	f.Wake()
	if after := <-evaluated; after[0].State != Empty {
		t.Errorf("%+v", after)
	}
	cancel()
	<-ended
}

// TestRunAppliesSettings checks that Run measures with settings as soon as they are in force.
func TestRunAppliesSettings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Debounce = 1000 * time.Hour
	f.writeControl("mfa", mfaSQL)
	f.collect("okta_users", `{"login":"a","mfa":1}`)
	evaluated := make(chan []Status)
	f.OnEvaluated = func(_, after []Status) { evaluated <- after }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Evaluator.Run(ctx)
	}()
	<-evaluated
	f.writeControl("mfa", mfaSQL+" WHERE false")
	f.ApplySettings(*f.currentSettings())
	if after := <-evaluated; after[0].State != Empty {
		t.Errorf("%+v", after)
	}
	cancel()
	<-ended
}
