package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/test/harness"
)

var tenancyKills = flag.Int("tenancy-kills", 4, "how often TestTenanciesKilled kills the service")

// killedTenancies is how many tenancies the service of TestTenanciesKilled has.
const killedTenancies = 20

// A tenancyKilling is a service with many tenancies that is killed.
type tenancyKilling struct {
	*tenancies
	random *rand.Rand
	conn   *pgx.Conn
	users  map[string]int // of each tenancy, all different
}

// TestTenanciesKilled kills a service of twenty tenancies with SIGKILL at random times while
// all of them collect and deliver to files and to one table of Postgres. Afterwards each
// successful run of each tenancy must be in the table exactly once, with the records and the
// name of that tenancy, and nothing else.
func TestTenanciesKilled(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d kills, -seed %d", *tenancyKills, seed)
	k := newTenancyKilling(t, rand.New(rand.NewPCG(seed, 0)))
	for range *tenancyKills {
		k.killService()
	}
	k.AssertResult(k.Run("--once"), harness.ExitOK)
	k.assertNothingLost()
}

func newTenancyKilling(t *testing.T, random *rand.Rand) *tenancyKilling {
	t.Helper()
	k := &tenancyKilling{tenancies: newTenancies(t), random: random, users: map[string]int{}}
	url := testserver.StartPostgres(t).URL(testserver.Quick, "none")
	schema := "k" + strings.ReplaceAll(uuid.NewString(), "-", "")
	var err error
	if k.conn, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.conn.Close(context.Background()) })
	if _, err := k.conn.Exec(t.Context(), "CREATE SCHEMA "+schema+"; SET search_path = "+schema); err != nil {
		t.Fatal(err)
	}
	k.Env["STORE_POSTGRES_URL"], k.Env["STORE_POSTGRES_SCHEMA"] = url, schema
	for i := range killedTenancies {
		name := fmt.Sprintf("tenancy %02d", i)
		k.users[name] = 10 + i
		sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 10 + i}, vendorsim.NewOkta())
		k.write(name, sim.Hosts()[0].Env()...)
	}
	return k
}

// killService starts the service and all runs, and kills it at a random time.
func (t *tenancyKilling) killService() {
	t.Helper()
	s := t.StartService()
	s.WaitForLog(`"ready"`)
	s.Signal(syscall.SIGUSR1)
	time.Sleep(time.Duration(t.random.Int64N(int64(3 * time.Second))))
	s.Signal(syscall.SIGKILL)
	s.Wait()
}

// assertNothingLost compares the history with the files and the table.
func (t *tenancyKilling) assertNothingLost() {
	t.Helper()
	st, err := local.Open(t.Context(), t.Env["STATE_DIR"], local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	if queue, err := st.Queue.List(t.Context()); err != nil || len(queue) > 0 {
		t.Errorf("%d deliveries are queued, error %v", len(queue), err)
	}
	rows := t.countRows()
	successes := 0
	for name, users := range t.users {
		runs, err := st.Runs.ListTenancy(t.Context(), vendorsim.OktaUsers, name, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range runs {
			if run.Outcome != state.Success {
				continue
			}
			successes++
			key := name + "/" + run.UploadID
			if rows[key] != users {
				t.Errorf("the run %s has %d rows, want %d", key, rows[key], users)
			}
			delete(rows, key)
		}
		if got := strings.Count(t.Content(t.file(vendorsim.OktaUsers, name)), `"_tenancy":"`+name+`"`); got != users {
			t.Errorf("the file of %s has %d records of its own, want %d", name, got, users)
		}
	}
	for key, n := range rows {
		t.Errorf("there are %d rows of %s, which is no successful run", n, key)
	}
	t.Logf("%d successful runs", successes)
	t.AssertNoPartialFiles()
}

// countRows returns the rows of the table by tenancy and upload id. Those whose record has
// another tenancy than the row are under both names.
func (t *tenancyKilling) countRows() map[string]int {
	t.Helper()
	found, err := t.conn.Query(t.Context(), `SELECT CASE WHEN tenancy = json_data->>'_tenancy' THEN tenancy ELSE tenancy || ' with records of ' || (json_data->>'_tenancy') END
		|| '/' || (json_data->>'_upload_id'), count(*)::integer FROM okta_users GROUP BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for found.Next() {
		key, n := "", 0
		if err := found.Scan(&key, &n); err != nil {
			t.Fatal(err)
		}
		rows[key] = n
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}
