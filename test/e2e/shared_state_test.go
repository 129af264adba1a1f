package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// A sharedState is a workspace whose state is in Postgres and S3.
type sharedState struct {
	*harness.Workspace
	// url is that of the state, and storeURL that of the destination.
	url, storeURL, schema string
	object                func(key string) string
	users                 int
	// losesRuns reports whether the database has lost runs whose data was delivered.
	losesRuns bool
}

// newSharedState returns a workspace with a shared state and simulated users of Okta.
func newSharedState(t *testing.T) *sharedState {
	t.Helper()
	s := &sharedState{Workspace: harness.NewWorkspace(t), users: 30}
	s.UseVendors(harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: s.users}, vendorsim.NewOkta()))
	s.object = shareState(t, s.Workspace)
	s.url, s.schema = s.Env["CLUSTER_POSTGRES_URL"], s.Env["CLUSTER_SCHEMA"]
	s.storeURL = s.url
	return s
}

// shareState gives a workspace a state in Postgres and S3.
func shareState(t *testing.T, ws *harness.Workspace) (object func(key string) string) {
	t.Helper()
	object = ws.UseS3()
	ws.Env["CLUSTER_POSTGRES_URL"] = testserver.StartPostgres(t).URL(testserver.Owner, testserver.Password)
	ws.Env["CLUSTER_SCHEMA"], ws.Env["CLUSTER_LEASE"] = "state_"+uuid.NewString()[:8], "1s"
	ws.Env["STORE_AWS_S3_KEY"] = "data/%TAG.json"
	delete(ws.Env, "STORE_FILE")
	return object
}

// onOtherMachine returns the workspace of another machine with the same settings.
func (s *sharedState) onOtherMachine(t *testing.T) *sharedState {
	t.Helper()
	other := *s
	other.Workspace = harness.NewWorkspace(t)
	dir := other.Env["STATE_DIR"]
	for name, value := range s.Env {
		other.Env[name] = value
	}
	delete(other.Env, "STORE_FILE")
	other.Env["STATE_DIR"], other.Env["CLUSTER_NODE"] = dir, "other"
	return &other
}

// A container without a disk of its own collects, and another one knows all of it.
func TestSharedState(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	s.AssertResult(s.Run("status"), harness.ExitOK, "no state in schema "+s.schema)
	s.AssertResult(s.Run("--once"), harness.ExitOK)
	if _, err := os.Stat(s.Env["STATE_DIR"] + "/collectord.db"); err == nil {
		t.Error("there is a database in STATE_DIR")
	}
	other := s.onOtherMachine(t)
	s.AssertResult(other.Run("status"), harness.ExitOK, "state: schema "+s.schema, "okta_users", "collected")
	s.AssertResult(other.Run("query", "SELECT count(*) AS n FROM okta_users"), harness.ExitOK, fmt.Sprint(s.users))
	s.AssertResult(other.Run("--once"), harness.ExitOK)
	if n := strings.Count(s.Content(s.object("data/okta_users.json")), `"_upload_id"`); n != s.users {
		t.Errorf("the object has %d records, want %d", n, s.users)
	}
	for _, command := range [][]string{{"check"}, {"doctor"}, {"deliver", "okta_users"}, {"restore"}} {
		s.AssertResult(other.Run(command...), harness.ExitOK)
	}
	s.AssertNoPartialFiles()
}

// Settings that cannot be right are refused with the name of the variable.
func TestSharedStateSettings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(env map[string]string)
		code   int
		texts  []string
	}{
		"no bucket": {func(env map[string]string) { delete(env, "STORE_AWS_S3_BUCKET") }, harness.ExitSettings, []string{"STORE_AWS_S3_BUCKET", "CLUSTER_POSTGRES_URL"}},
		"a file":    {func(env map[string]string) { env["STORE_FILE"] = "/data/%TAG.json" }, harness.ExitSettings, []string{"STORE_FILE", "CLUSTER_FILES=shared"}},
		"no URL":    {func(env map[string]string) { env["CLUSTER_POSTGRES_URL"] = "db.example.com" }, harness.ExitSettings, []string{"CLUSTER_POSTGRES_URL"}},
		"another password": {func(env map[string]string) {
			env["CLUSTER_POSTGRES_URL"] = strings.Replace(env["CLUSTER_POSTGRES_URL"], ":"+testserver.Password+"@", ":wrong-5512@", 1)
		}, harness.ExitSettings, []string{"CLUSTER_POSTGRES_URL", "password"}},
		"no server": {func(env map[string]string) { env["CLUSTER_POSTGRES_URL"] = "postgres://a:b-5512@127.0.0.1:1/x" }, harness.ExitFailed, []string{"CLUSTER_POSTGRES_URL", "refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSharedState(t)
			tc.change(s.Env)
			r := s.Run("--once")
			s.AssertResult(r, tc.code, tc.texts...)
			s.AssertNoSecrets(r.Output())
		})
	}
	t.Run("another bucket", func(t *testing.T) {
		t.Parallel()
		s := newSharedState(t)
		s.AssertResult(s.Run("--once"), harness.ExitOK)
		s.Env["CLUSTER_S3_PREFIX"] = "elsewhere/"
		s.AssertResult(s.Run("--once"), harness.ExitSettings, "CLUSTER_S3_PREFIX", "elsewhere/")
	})
}

// A second service stands by, shows the state, and takes over when the first one is killed.
func TestStandby(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	s.Env["SCHEDULE"], s.Env["SCHEDULE_CATCHUP"] = "@every 1s", "false"
	first := s.StartService()
	first.WaitForLog(`"ready"`)
	other := s.onOtherMachine(t)
	second := other.StartService()
	base := second.BaseURL()
	second.WaitForLog("another service leads")
	if code, body := second.Request("GET", base+"/-/ready", ""); code != 200 || !strings.Contains(body, "standing by") {
		t.Errorf("ready: %d %s", code, body)
	}
	if code, body := second.Request("GET", base+"/-/healthy", ""); code != 200 {
		t.Errorf("healthy: %d %s", code, body)
	}
	first.WaitForLog(`"stored"`)
	if code, body := second.Request("GET", base+"/", ""); code != 200 || !strings.Contains(body, "okta_users") {
		t.Errorf("the page of the second service: %d", code)
	}
	s.AssertResult(other.Run("cluster", "status"), harness.ExitOK, "leader", "follower")
	first.Signal(syscall.SIGKILL)
	first.Wait()
	second.WaitForLog("this process leads now")
	second.WaitForLog(`"ready"`)
	second.WaitForLog(`"stored"`)
	second.Signal(syscall.SIGTERM)
	s.AssertResult(second.Wait(), harness.ExitOK)
	s.assertRunsAreSuccesses(t)
}

// assertRunsAreSuccesses checks the history: only runs that were killed are no successes, and
// none is open.
func (s *sharedState) assertRunsAreSuccesses(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT outcome, count(*)::integer FROM `+pgx.Identifier{s.schema, "runs"}.Sanitize()+` GROUP BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for rows.Next() {
		var outcome string
		var n int
		if err := rows.Scan(&outcome, &n); err != nil {
			t.Fatal(err)
		}
		counts[outcome] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("outcomes: %v", counts)
	if counts["success"] == 0 || counts[""] > 0 || counts["failed"] > 0 {
		t.Errorf("outcomes: %v", counts)
	}
}

// The database of the state is restarted while a run is in progress: the service goes on, and
// the run is recorded.
func TestSharedStateDatabaseRestarts(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	server, err := testserver.NewPostgres(0)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOkta()}, Latency: 200 * time.Millisecond,
		Counts: map[string]int{vendorsim.OktaUsers: s.users}, PageLimits: map[string]int{vendorsim.OktaUsers: 3},
		Limits: map[string]vendorsim.LimitNumbers{"okta": {Max: 1e6}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slow.Close)
	s.UseVendors(slow)
	s.url = server.URL(testserver.Owner, testserver.Password)
	s.Env["CLUSTER_POSTGRES_URL"] = s.url
	service := s.StartService()
	service.WaitForLog(`"run starts"`)
	server.Crash()
	service.WaitForLog("did not note that this process is alive")
	time.Sleep(3 * time.Second) // the extraction ends meanwhile
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	service.WaitForLog(`"stream done"`, `"outcome":"success"`)
	service.WaitForLog(`"stored"`)
	service.Signal(syscall.SIGTERM)
	s.AssertResult(service.Wait(), harness.ExitOK)
	s.assertRunsAreSuccesses(t)
}
