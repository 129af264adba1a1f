package control_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/test/checkout"
)

// ago returns a time some days ago, as vendors write it.
func ago(days int) string {
	return time.Now().UTC().AddDate(0, 0, -days).Format("2006-01-02T15:04:05.000Z")
}

// estate has records of an organisation, each of which an example treats differently.
func estate() map[string][]string {
	return map[string][]string{
		"okta_users": {
			fmt.Sprintf(`{"id":"1","status":"ACTIVE","activated":%q,"lastLogin":%q,"profile":{"login":"used","email":"Used@x","department":"Sales"}}`, ago(900), ago(10)),
			fmt.Sprintf(`{"id":"2","status":"ACTIVE","activated":%q,"lastLogin":%q,"profile":{"login":"dormant","email":"dormant@x","department":null}}`, ago(900), ago(200)),
			fmt.Sprintf(`{"id":"3","status":"ACTIVE","activated":%q,"lastLogin":null,"profile":{"login":"new","email":"new@x"}}`, ago(5)),
			fmt.Sprintf(`{"id":"4","status":"ACTIVE","activated":%q,"lastLogin":null,"profile":{"login":"never","email":"never@x"}}`, ago(100)),
			`{"id":"5","status":"DEPROVISIONED","profile":{"login":"gone","email":"gone@x"}}`,
		},
		"knowbe4_enrollments": {
			fmt.Sprintf(`{"user":{"email":"used@X"},"completion_date":%q}`, ago(400)),
			fmt.Sprintf(`{"user":{"email":"used@x"},"completion_date":%q}`, ago(20)),
			fmt.Sprintf(`{"user":{"email":"dormant@x"},"completion_date":%q}`, ago(500)),
			`{"user":{"email":"new@x"},"completion_date":null}`,
		},
		"crowdstrike_hosts": {
			fmt.Sprintf(`{"device_id":"a","hostname":"clean","last_seen":%q}`, ago(1)),
			fmt.Sprintf(`{"device_id":"b","hostname":"bad","last_seen":%q}`, ago(1)),
			fmt.Sprintf(`{"device_id":"c","hostname":"away","last_seen":%q}`, ago(200)),
		},
		"crowdstrike_vulnerabilities": {
			fmt.Sprintf(`{"aid":"a","status":"open","created_timestamp":%q,"cve":{"severity":"CRITICAL"}}`, ago(5)),
			fmt.Sprintf(`{"aid":"a","status":"closed","created_timestamp":%q,"cve":{"severity":"CRITICAL"}}`, ago(90)),
			fmt.Sprintf(`{"aid":"b","status":"open","created_timestamp":%q,"cve":{"severity":"CRITICAL"}}`, ago(90)),
			fmt.Sprintf(`{"aid":"b","status":"reopen","created_timestamp":%q,"cve":{"severity":"CRITICAL"}}`, ago(80)),
		},
		"tenable_assets": {
			fmt.Sprintf(`{"id":"1","hostnames":["scanned"],"last_seen":%q,"last_authenticated_scan_date":%q,"has_agent":false}`, ago(2), ago(3)),
			fmt.Sprintf(`{"id":"2","hostnames":["agent"],"last_seen":%q,"last_authenticated_scan_date":null,"has_agent":true}`, ago(2)),
			fmt.Sprintf(`{"id":"3","hostnames":[],"last_seen":%q,"last_authenticated_scan_date":%q,"has_agent":false}`, ago(2), ago(90)),
			fmt.Sprintf(`{"id":"4","hostnames":["deleted"],"last_seen":%q,"deleted_at":%q}`, ago(2), ago(1)),
		},
		"snyk_projects": {`{"id":"p1","attributes":{"name":"good"}}`, `{"id":"p2","attributes":{"name":"bad"}}`},
		"snyk_issues": {
			fmt.Sprintf(`{"id":"i1","attributes":{"status":"open","effective_severity_level":"critical","ignored":true,"created_at":%q},"relationships":{"scan_item":{"data":{"id":"p1"}}}}`, ago(90)),
			fmt.Sprintf(`{"id":"i2","attributes":{"status":"open","effective_severity_level":"critical","ignored":false,"created_at":%q},"relationships":{"scan_item":{"data":{"id":"p2"}}}}`, ago(90)),
			fmt.Sprintf(`{"id":"i3","attributes":{"status":"resolved","effective_severity_level":"critical","ignored":false,"created_at":%q},"relationships":{"scan_item":{"data":{"id":"p1"}}}}`, ago(90)),
		},
	}
}

// TestExamples checks the compliance of each resource in the examples, which are one row
// for each resource, and that optional members may be missing everywhere.
func TestExamples(t *testing.T) {
	t.Parallel()
	p := newPreviewer(t, estate(), checkout.Join(t, "configs", "controls"))
	got := map[string]map[string]float64{}
	problems, err := p.Preview(t.Context(), nil, true, func(one control.Preview) error {
		if one.State != control.Measured {
			t.Errorf("%s is %s: %s", one.ID, one.State, one.Err)
		}
		rows := map[string]float64{}
		for _, row := range one.Rows {
			if _, twice := rows[row.Resource]; twice || row.Compliance == nil || row.Detail == "" || row.ResourceType == "" {
				t.Errorf("%s: row %+v", one.ID, row)
				continue
			}
			rows[row.Resource] = *row.Compliance
		}
		got[one.ID] = rows
		return nil
	})
	if err != nil || len(problems) > 0 {
		t.Fatalf("problems %v, error %v", problems, err)
	}
	want := map[string]map[string]float64{
		"dormant_accounts":     {"used": 1, "dormant": 0, "new": 1, "never": 0},
		"security_training":    {"used": 1, "dormant": 0, "new": 0, "never": 0},
		"host_vulnerabilities": {"clean": 1, "bad": 0},
		"authenticated_scans":  {"scanned": 1, "agent": 1, "3": 0},
		"code_issues":          {"good": 1, "bad": 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// newPreviewer returns a previewer of the files in dir over the records of streams, with the
// optional members of all vendors.
func newPreviewer(t *testing.T, streams map[string][]string, dir string) *control.Previewer {
	t.Helper()
	optional := map[string][]string{}
	for _, d := range sources.All() {
		for _, s := range d.Streams {
			optional[s.Name] = s.Optional
		}
	}
	st, err := local.Open(t.Context(), t.TempDir(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	engine := query.New(query.Options{State: st, Tenancy: "default", Dir: filepath.Join(st.Dir(), "query"), Optional: optional})
	t.Cleanup(func() {
		engine.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	for stream, records := range streams {
		addSnapshot(t, st, stream, records)
	}
	return &control.Previewer{State: st, Tenancy: "default", Engine: engine, Settings: control.Settings{Dir: dir}}
}

// addSnapshot adds a snapshot of records.
func addSnapshot(t *testing.T, st *state.State, stream string, records []string) {
	t.Helper()
	now := time.Now().UTC()
	h := snapshot.Header{Collector: "x", Stream: stream, Tenancy: "default", UploadID: uuid.NewString(), UploadTimestamp: now}
	id, err := st.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: now})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	for _, r := range records {
		if err := batch.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Runs.Commit(t.Context(), id, w, state.RunStats{}, state.Policy{}); err != nil {
		t.Fatal(err)
	}
}
