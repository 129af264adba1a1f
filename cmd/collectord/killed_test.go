package main

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
)

var (
	kills    = flag.Int("kills", 12, "how often TestKilledAnywhere kills the program")
	killSeed = flag.Uint64("seed", 0, "the seed of TestKilledAnywhere; 0 takes one by the clock")
)

// killedStreams are what the killed runs collect. An export is none of them: the
// vendor keeps one whose number was lost busy until it ends.
var killedStreams = map[string]int{vendorsim.TenableWAS: 80, vendorsim.OktaUsers: 60}

// TestKilledAnywhere kills the program with SIGKILL at random instants of runs
// that deliver to all destinations, every third of them on a machine whose
// data is gone and comes back from the backup, and starts it again. Then the
// last-known snapshots verify, every file and object is whole, every snapshot
// that was ever a success is in the databases, and none is there twice.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d kills, -seed %d", *kills, seed)
	const each = 20 // kills a place, whose tables would grow slow
	for first := 0; first < *kills; first += each {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			t.Parallel()
			k := newKilling(t, rand.New(rand.NewPCG(seed, uint64(first))))
			for i := first; i < min(first+each, *kills) && !t.Failed(); i++ {
				k.once(i)
			}
		})
	}
}

// killing is a place whose program is killed.
type killing struct {
	*place
	random  *rand.Rand
	object  func(string) string
	schema  string
	length  time.Duration   // of the newest run that nobody killed
	hits    int             // kills that came before the run's end
	success map[string]bool // stream and upload id of what was a success
}

func newKilling(t *testing.T, random *rand.Rand) *killing {
	t.Helper()
	sim := startVendors(t, killedStreams, smallTenant(), vendorsim.NewOkta())
	k := &killing{place: newPlace(t).with(sim), random: random, success: map[string]bool{}}
	k.object = k.withS3()
	k.schema = "k" + strings.ReplaceAll(uuid.NewString(), "-", "")
	k.query("CREATE SCHEMA " + k.schema)
	server := testserver.StartPostgres(t)
	k.env["STORE_POSTGRES_URL"] = server.URL(testserver.Quick, "none")
	k.env["STORE_POSTGRES_SCHEMA"] = k.schema
	k.env["STORE_DUCKDB"] = k.file("security.duckdb")
	k.env["STORE_AWS_S3_KEY"] = "source/%TAG/%TENANCY.json"
	k.recovers()
	t.Cleanup(func() { t.Logf("%d kills came before their run's end", k.hits) })
	return k
}

func (k *killing) args() []string {
	return []string{"--once", vendorsim.TenableWAS, vendorsim.OktaUsers}
}

// once kills one run and starts the program again.
func (k *killing) once(i int) {
	k.Helper()
	if i%3 == 2 {
		k.wipe()
	}
	at := time.Duration(k.random.Int64N(int64(k.length) * 11 / 10))
	cmd, ended := k.start(k.args()...)
	timer := time.AfterFunc(at, func() { _ = cmd.Process.Kill() }) // it may have ended
	if ended().code == -1 {
		k.hits++
	}
	timer.Stop()
	if _, err := os.Stat(k.file("state", "collectord.db")); err == nil {
		k.lastKnown(true)
	}
	for stream, n := range killedStreams {
		k.whole(k.source(stream), n, "")
		for _, kind := range []string{"source/", "backup/"} {
			k.whole(k.object(kind+stream+"/default.json"), n, "")
		}
	}
	k.recovers()
	if k.Failed() {
		k.Logf("kill %d, after %v", i, at)
	}
}

// recovers runs the program to its end and checks everything.
func (k *killing) recovers() {
	k.Helper()
	began := time.Now()
	k.want(k.run(k.args()...), 0)
	k.length = time.Since(began)
	last := k.lastKnown(false)
	for stream, n := range killedStreams {
		k.whole(k.source(stream), n, last[stream])
		for _, kind := range []string{"source/", "backup/"} {
			k.whole(k.object(kind+stream+"/default.json"), n, last[stream])
		}
		k.databases(stream, n)
	}
	k.noHalves()
}

// lastKnown verifies the last-known snapshots and returns their upload ids.
// It notes what the history calls a success.
func (k *killing) lastKnown(mayMiss bool) map[string]string {
	k.Helper()
	st, err := state.Open(k.Context(), k.env["STATE_DIR"], state.Options{})
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
		last, _, err := st.LastKnown(k.Context(), stream, "default")
		if mayMiss && errors.Is(err, state.ErrNone) {
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
	runs, err := st.Runs(k.Context(), "", 1000)
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

// whole checks a file that may be missing where no upload id is wanted.
func (k *killing) whole(path string, n int, id string) {
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

// databases checks that each success is in the tables once and whole.
func (k *killing) databases(stream string, n int) {
	k.Helper()
	count := func(where string, rows map[string]int) {
		for key := range k.success {
			if id, ok := strings.CutPrefix(key, stream+" "); ok && rows[id] != n {
				k.Errorf("%s: %s: %d rows of %s, want %d", where, stream, rows[id], id, n)
			}
		}
		for id, found := range rows {
			if found != n || !k.success[stream+" "+id] {
				k.Errorf("%s: %s: %d rows of %s, want %d of a success (%v)", where, stream, found, id, n, k.success[stream+" "+id])
			}
		}
	}
	count("Postgres", k.query(`SELECT right(json_data::text, 38)::char(36)::text, count(*) FROM `+k.schema+`.`+stream+` GROUP BY 1`))
	db, err := duckdb.Open(k.Context(), k.env["STORE_DUCKDB"], duckdb.Options{ReadOnly: true})
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

// query asks Postgres for names and counts.
func (k *killing) query(statement string) map[string]int {
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
