package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/test/harness"
)

var (
	kills    = flag.Int("kills", 12, "how often TestKilledAnywhere kills the program")
	killSeed = flag.Uint64("seed", 0, "the seed of TestKilledAnywhere; 0 takes one from the clock")
)

// killedStreams are the streams of the killed runs. None of them is an export,
// because the vendor stays busy with an export whose id was lost.
var killedStreams = map[string]int{vendorsim.TenableWAS: 80, vendorsim.OktaUsers: 60}

// TestKilledAnywhere kills the program with SIGKILL at random times of runs that
// deliver to all destinations, and starts it again. Before every third run the
// local data is removed, so that it is restored from the backup. Afterwards the
// last-known snapshots must verify, every file and object must be complete, and every
// snapshot of a successful run must be in the databases exactly once.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d kills, -seed %d", *kills, seed)
	const each = 20 // kills per workspace, because large tables are slow
	for first := 0; first < *kills; first += each {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			t.Parallel()
			k := newKilling(t, rand.New(rand.NewPCG(seed, uint64(first))))
			for i := first; i < min(first+each, *kills) && !t.Failed(); i++ {
				k.killOneRun(i)
			}
		})
	}
}

// killing is a workspace whose program is killed.
type killing struct {
	*harness.Workspace
	random  *rand.Rand
	object  func(string) string
	schema  string
	length  time.Duration   // of the newest run that was not killed
	hits    int             // kills before the end of the run
	success map[string]bool // "stream upload-id" of the successful runs
}

func newKilling(t *testing.T, random *rand.Rand) *killing {
	t.Helper()
	sim := harness.StartVendors(t, killedStreams, harness.NewSmallTenable(), vendorsim.NewOkta())
	k := &killing{Workspace: harness.NewWorkspace(t).UseVendors(sim), random: random, success: map[string]bool{}}
	k.object = k.UseS3()
	k.schema = "k" + strings.ReplaceAll(uuid.NewString(), "-", "")
	k.queryCounts("CREATE SCHEMA " + k.schema)
	server := testserver.StartPostgres(t)
	k.Env["STORE_POSTGRES_URL"] = server.URL(testserver.Quick, "none")
	k.Env["STORE_POSTGRES_SCHEMA"] = k.schema
	k.Env["STORE_DUCKDB"] = k.Path("security.duckdb")
	k.Env["STORE_AWS_S3_KEY"] = "source/%TAG/%TENANCY.json"
	k.assertRecovers()
	t.Cleanup(func() { t.Logf("%d kills before the end of the run", k.hits) })
	return k
}

func (k *killing) args() []string {
	return []string{"--once", vendorsim.TenableWAS, vendorsim.OktaUsers}
}

// killOneRun kills a run and starts the program again.
func (k *killing) killOneRun(i int) {
	k.Helper()
	if i%3 == 2 {
		k.RemoveData()
	}
	at := time.Duration(k.random.Int64N(int64(k.length) * 11 / 10))
	cmd, wait := k.Start(k.args()...)
	timer := time.AfterFunc(at, func() { _ = cmd.Process.Kill() }) // it may have ended
	if wait().Code == -1 {
		k.hits++
	}
	timer.Stop()
	if _, err := os.Stat(k.Path("state", "collectord.db")); err == nil {
		k.verifyLastKnown(true)
	}
	for stream, n := range killedStreams {
		k.assertComplete(k.SourceFile(stream), n, "")
		for _, kind := range []string{"source/", "backup/"} {
			k.assertComplete(k.object(kind+stream+"/default.json"), n, "")
		}
	}
	k.assertRecovers()
	if k.Failed() {
		k.Logf("kill %d, after %v", i, at)
	}
}

// assertRecovers runs the program to its end and checks everything.
func (k *killing) assertRecovers() {
	k.Helper()
	began := time.Now()
	k.AssertResult(k.Run(k.args()...), harness.ExitOK)
	k.length = time.Since(began)
	last := k.verifyLastKnown(false)
	for stream, n := range killedStreams {
		k.assertComplete(k.SourceFile(stream), n, last[stream])
		for _, kind := range []string{"source/", "backup/"} {
			k.assertComplete(k.object(kind+stream+"/default.json"), n, last[stream])
		}
		k.assertInDatabases(stream, n)
	}
	k.AssertNoPartialFiles()
}

// verifyLastKnown verifies the last-known snapshots and returns their upload ids by
// stream. It also records the successful runs of the history.
func (k *killing) verifyLastKnown(mayMiss bool) map[string]string {
	k.Helper()
	st, err := local.Open(k.Context(), k.Env["STATE_DIR"], local.Options{})
	if err != nil {
		k.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			k.Error(err)
		}
	}()
	ids := map[string]string{}
	for stream, n := range killedStreams {
		last, _, err := st.Snapshots.LastKnown(k.Context(), stream, "default")
		if mayMiss && errors.Is(err, state.ErrNoSnapshot) {
			continue
		}
		if err == nil {
			err = last.Verify(k.Context())
		}
		if err != nil || last.Records != int64(n) {
			k.Fatalf("%s: the last-known snapshot: %v", stream, err)
		}
		ids[stream] = last.UploadID
	}
	runs, err := st.Runs.List(k.Context(), "", 1000)
	if err != nil {
		k.Fatal(err)
	}
	for _, r := range runs {
		if r.Outcome == state.Success {
			k.success[r.Stream+" "+r.UploadID] = true
		}
	}
	return ids
}

// assertComplete checks that a file has n records of one snapshot: of the upload id,
// or of any for "", where the file may also be missing.
func (k *killing) assertComplete(path string, n int, id string) {
	k.Helper()
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) && id == "" {
		return
	}
	var records []struct {
		ID string `json:"_upload_id"`
	}
	if err == nil {
		err = json.Unmarshal(text, &records)
	}
	if err != nil || len(records) != n {
		k.Errorf("%s: %d records, want %d: %v", path, len(records), n, err)
		return
	}
	for _, r := range records {
		if r.ID != records[0].ID || id != "" && r.ID != id {
			k.Errorf("%s: a record of %s, want %s", path, r.ID, id)
			return
		}
	}
}

// assertInDatabases checks that each successful snapshot is in the tables exactly once.
func (k *killing) assertInDatabases(stream string, n int) {
	k.Helper()
	count := func(where string, rows map[string]int) {
		for key := range k.success {
			if id, ok := strings.CutPrefix(key, stream+" "); ok && rows[id] != n {
				k.Errorf("%s: %s: %d rows of %s, want %d", where, stream, rows[id], id, n)
			}
		}
		for id, found := range rows {
			if found != n || !k.success[stream+" "+id] {
				k.Errorf("%s: %s: %d rows of %s, want %d of a successful run (%v)", where, stream, found, id, n, k.success[stream+" "+id])
			}
		}
	}
	count("Postgres", k.queryCounts(`SELECT right(json_data::text, 38)::char(36)::text, count(*) FROM `+k.schema+`.`+stream+` GROUP BY 1`))
	db, err := duckdb.Open(k.Context(), k.Env["STORE_DUCKDB"], duckdb.Options{ReadOnly: true})
	if err != nil {
		k.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			k.Error(err)
		}
	}()
	rows, err := db.QueryContext(k.Context(), `SELECT left(right(json_data::VARCHAR, 38), 36), count(*)::INTEGER FROM `+stream+` GROUP BY 1`)
	if err != nil {
		k.Fatal(err)
	}
	defer rows.Close()
	found := map[string]int{}
	for rows.Next() {
		id, n := "", 0
		if err := rows.Scan(&id, &n); err != nil {
			k.Fatal(err)
		}
		found[id] = n
	}
	count("DuckDB", found)
}

// queryCounts returns the names and counts that a query of Postgres selects.
func (k *killing) queryCounts(statement string) map[string]int {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, testserver.StartPostgres(k.T).URL(testserver.Quick, "none"))
	if err != nil {
		k.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, statement)
	if err != nil {
		k.Fatal(err)
	}
	found := map[string]int{}
	for rows.Next() {
		id, n := "", 0
		if err := rows.Scan(&id, &n); err != nil {
			k.Fatal(err)
		}
		found[id] = n
	}
	if err := rows.Err(); err != nil {
		k.Fatal(err)
	}
	return found
}
