package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
)

// An apartTenancy is one of two tenancies, neither of which may see what is the other's.
type apartTenancy struct {
	name     string
	users    int
	token    string // of Okta
	marker   string // in the errors of its vendor only
	vendor   *vendorsim.Host
	messages <-chan string // the notifications that its webhook receives
}

// addApart adds a tenancy with its own vendor, its own token and its own webhook.
func (t *tenancies) addApart(name string, users int) *apartTenancy {
	t.Helper()
	sim := harness.StartVendors(t.T, map[string]int{vendorsim.OktaUsers: users}, vendorsim.NewOkta())
	a := &apartTenancy{name: name, users: users, token: "00token-of-" + name + "-only", marker: "error-of-" + name, vendor: sim.Hosts()[0]}
	a.vendor.AcceptKey(a.token)
	a.vendor.WithdrawKey(vendorsim.OktaToken)
	url, messages := startWebhook(t.T)
	a.messages = messages
	t.write(name, "OKTA_DOMAIN="+a.vendor.URL(), "OKTA_TOKEN="+a.token, "SLACK_WEBHOOK="+url)
	return a
}

// failWith makes the vendor refuse the token. Its error has the marker of the tenancy, and the
// tokens of both.
func (a *apartTenancy) failWith(other *apartTenancy) {
	body, _ := json.Marshal(map[string]string{"errorSummary": strings.Join([]string{a.marker, other.token, a.token}, " ")}) // strings have a JSON form
	a.vendor.Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(http.StatusUnauthorized, string(body))})
}

// assertOwn checks that a text has all records of a tenancy and none of another.
func (t *tenancies) assertOwn(what, text string, a *apartTenancy) {
	t.Helper()
	own, all := strings.Count(text, `"_tenancy":"`+a.name+`"`), strings.Count(text, `"_tenancy":`)
	if own != a.users || all != a.users {
		t.Errorf("%s has %d records of %s and %d in all, want %d", what, own, a.name, all, a.users)
	}
}

// assertApart checks that a text has the marker of a tenancy, nothing of the other and no token.
func (t *tenancies) assertApart(what, text string, a, other *apartTenancy) {
	t.Helper()
	if !strings.Contains(text, a.marker) || strings.Contains(text, other.marker) {
		t.Errorf("%s: want the errors of %s only:\n%s", what, a.name, text)
	}
	t.assertNoTokens(what, text, a, other)
}

func (t *tenancies) assertNoTokens(what, text string, all ...*apartTenancy) {
	t.Helper()
	for _, a := range all {
		if strings.Contains(text, a.token) {
			t.Errorf("%s: the token of %s is shown:\n%s", what, a.name, text)
		}
	}
}

// assertLogApart checks that each line about a run names the tenancy, that an error is in lines
// of its tenancy only, and that there is no token.
func (t *tenancies) assertLogApart(log string, all ...*apartTenancy) {
	t.Helper()
	lines := map[string]int{}
	for text := range strings.Lines(log) {
		var line struct{ Tenancy, Collector, Stream, Message, Msg string }
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("not JSON: %s", text)
			continue
		}
		lines[line.Tenancy]++
		if line.Tenancy == "" && line.Collector+line.Stream != "" {
			t.Errorf("a line without its tenancy: %s", text)
		}
		for _, a := range all {
			if strings.Contains(text, a.marker) && line.Tenancy != a.name {
				t.Errorf("an error of %s in a line of %q: %s", a.name, line.Tenancy, text)
			}
		}
	}
	for _, a := range all {
		if lines[a.name] == 0 || !strings.Contains(log, a.marker) {
			t.Errorf("the log has %d lines of %s, want those of its runs and its error", lines[a.name], a.name)
		}
	}
	t.assertNoTokens("the log", log, all...)
}

// TestTenanciesStayApart checks that neither data, errors, notifications nor tokens of a tenancy
// reach another, with one bucket for both: while both collect, while the errors of the vendor of
// each have the tokens of both, and when a new machine restores both from the bucket.
func TestTenanciesStayApart(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	object := ws.UseS3()
	ws.Env["STORE_AWS_S3_KEY"] = "source/%TAG/%TENANCY.json"
	acme, globex := ws.addApart("acme", 30), ws.addApart("globex", 70)
	both := map[*apartTenancy]*apartTenancy{acme: globex, globex: acme}

	s := ws.StartService()
	base := s.BaseURL()
	for range 2 * 3 { // the file, the object and the backup of each
		s.WaitForLog(`"stored"`)
	}
	for a := range both {
		ws.assertOwn("the file", ws.Content(ws.file(vendorsim.OktaUsers, a.name)), a)
		for _, key := range []string{"source/okta_users/", "backup/okta_users/"} {
			ws.assertOwn(key, ws.Content(object(key+a.name+".json")), a)
		}
	}

	for a, other := range both {
		a.failWith(other)
	}
	s.Signal(syscall.SIGUSR1)
	for a, other := range both {
		select {
		case message := <-a.messages:
			ws.assertApart("the notification of "+a.name, message, a, other)
		case <-time.After(harness.HangLimit):
			t.Fatalf("%s is not notified", a.name)
		}
	}
	for a, other := range both {
		_, text := s.Request("GET", base+"/tenancies/"+a.name+"/api/v1/runs", "")
		ws.assertApart("the history of "+a.name, text, a, other)
	}
	s.Signal(syscall.SIGTERM)
	e := s.Wait()
	ws.AssertResult(e, harness.ExitOK)
	ws.assertLogApart(e.Stderr, acme, globex)
	if n := len(acme.messages) + len(globex.messages); n > 0 {
		t.Errorf("%d more notifications", n)
	}

	ws.RemoveData()
	s = ws.StartService() // the vendors still fail
	for a := range both {
		waitForRecords(ws.Workspace, ws.file(vendorsim.OktaUsers, a.name))
		ws.assertOwn("the restored file", ws.Content(ws.file(vendorsim.OktaUsers, a.name)), a)
	}
	s.Signal(syscall.SIGTERM)
	e = s.Wait()
	ws.AssertResult(e, harness.ExitOK)
	ws.assertNoTokens("the log", e.Stderr, acme, globex)

	// The backup of one tenancy under the key of the other.
	from, to := object("backup/okta_users/acme.json"), object("backup/okta_users/globex.json")
	for _, part := range []string{"/root/", "/sidecar/"} { // content and metadata
		from, to := strings.Replace(from, "/root/", part, 1), strings.Replace(to, "/root/", part, 1)
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	ws.RemoveData()
	ws.AssertResult(ws.Run("restore", "--tenancy", "globex"), harness.ExitPartial, "refused", `it is of another tenancy, want "globex"`)
	if kept := namedAfter(t, ws.Dir, "records"); len(kept) > 0 {
		t.Errorf("kept: %q", kept)
	}
}

// createBucket creates a bucket of a new user of the S3 server and returns its name and the lines
// of a profile with the user's credentials.
func createBucket(t *testing.T, s3 *testserver.S3, user string) (bucket, profile string) {
	t.Helper()
	bucket = "own-" + uuid.NewString()
	access, secret := user+"-"+uuid.NewString(), "secret-of-"+user
	for _, args := range [][]string{
		{"create-user", "--access", access, "--secret", secret, "--role", "user"},
		{"create-bucket", "--owner", access, "--bucket", bucket},
	} {
		cmd := exec.CommandContext(t.Context(), checkout.Join(t, "bin", "versitygw"),
			append([]string{"admin", "--access", testserver.S3Key, "--secret", testserver.S3Secret, "--endpoint-url", "http://" + s3.Addr()}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	return bucket, fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", user, access, secret)
}

// TestTenanciesWithOwnBuckets checks that each tenancy writes to its own bucket with its own
// credentials, which are of no use for the bucket of another.
func TestTenanciesWithOwnBuckets(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	s3 := testserver.StartS3(t)
	for name, value := range s3.Env() {
		ws.Env[name] = value
	}
	acme, acmeProfile := createBucket(t, s3, "acme")
	globex, globexProfile := createBucket(t, s3, "globex")
	ws.Env["AWS_SHARED_CREDENTIALS_FILE"] = ws.Path("credentials")
	harness.WriteFile(t, ws.Path("credentials"), acmeProfile+globexProfile)
	own := func(users int, bucket, profile, key string) []string {
		sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: users}, vendorsim.NewOkta())
		return append(sim.Hosts()[0].Env(), "STORE_AWS_S3_BUCKET="+bucket, "STORE_AWS_S3_PROFILE="+profile, "STORE_AWS_S3_KEY="+key, "STORE_ONCE_TIMEOUT=10s")
	}
	ws.write("acme", own(30, acme, "acme", "%TAG.json")...) // one key in two buckets
	ws.write("globex", own(70, globex, "globex", "%TAG.json")...)
	ws.write("intruder", own(11, globex, "acme", "of/%TENANCY/%TAG.json")...)
	r := ws.Run("--once")
	ws.AssertResult(r, harness.ExitPartial, "AccessDenied")
	for line := range strings.Lines(r.Stderr) {
		if strings.Contains(line, "AccessDenied") && !strings.Contains(line, "intruder") {
			t.Errorf("the credentials of another tenancy are refused: %s", line)
		}
	}
	for _, secret := range []string{"secret-of-acme", "secret-of-globex"} {
		if strings.Contains(r.Output(), secret) {
			t.Errorf("%s is shown:\n%s", secret, r.Output())
		}
	}
	for bucket, a := range map[string]*apartTenancy{acme: {name: "acme", users: 30}, globex: {name: "globex", users: 70}} {
		ws.assertOwn("the object", ws.Content(s3.Object(bucket, "okta_users.json")), a)
		ws.assertOwn("the backup", ws.Content(s3.Object(bucket, "backup/okta_users/"+a.name+".json")), a)
	}
	if found := append(namedAfter(t, s3.Object(acme, ""), "intruder"), namedAfter(t, s3.Object(globex, ""), "intruder")...); len(found) > 0 {
		t.Errorf("stored: %q", found)
	}
	ws.write("intruder", append(own(11, globex, "globex", "%TENANCY/%TAG.json"), "AWS_ACCESS_KEY_ID=x")...)
	ws.AssertResult(ws.Run("check"), harness.ExitSettings, "intruder.env: AWS_ACCESS_KEY_ID: ", "applies to the whole program")
}

// TestTenanciesWithEqualPaths checks that two tenancies are refused that would replace the data
// of one another, with an error that names the setting and the other one.
func TestTenanciesWithEqualPaths(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	ws.write("acme", oktaLines("STORE_FILE=out/%TAG/%TENANCY.json")...)
	ws.write("globex", oktaLines("STORE_FILE=out/%TAG/acme.json")...)
	ws.AssertResult(ws.Run("check"), harness.ExitSettings,
		`error        acme.env: STORE_FILE: "out/%TAG/%TENANCY.json" is the same place as that of globex.env: `,
		`error        globex.env: STORE_FILE: "out/%TAG/acme.json" is the same place as that of acme.env: `, "choose another place for one of them")
}
