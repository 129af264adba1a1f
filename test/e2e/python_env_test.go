package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/harness"
)

// TestDotenvOfPythonCollectors checks files that the Python collectors run with: check
// accepts them as they are, reports what is off and switches the rest on.
func TestDotenvOfPythonCollectors(t *testing.T) {
	t.Parallel()
	const okta = "OKTA_DOMAIN=acme.okta.com\nOKTA_TOKEN=00canary-secret\n"
	const good, warned = "settings are good", "settings can be used, with warnings"
	for _, tc := range []struct {
		name string
		text string
		path string // of the file; the working directory is repo/01-collectors
		want []string
	}{
		{name: "bare domain", text: okta, want: []string{good, "collector    okta"}},
		{name: "domain as a URL", text: "OKTA_DOMAIN=https://acme.okta.com/\nOKTA_TOKEN=00canary-secret", want: []string{good, "collector    okta"}},
		{name: "quotes", text: "OKTA_DOMAIN=\"acme.okta.com\"\nOKTA_TOKEN='00canary-secret'\n", want: []string{good, "collector    okta"}},
		{name: "export", text: "export OKTA_DOMAIN=acme.okta.com\nexport OKTA_TOKEN=00canary-secret\n", want: []string{good, "collector    okta"}},
		{name: "spaces around the sign", text: "OKTA_DOMAIN = acme.okta.com\nOKTA_TOKEN = 00canary-secret\n", want: []string{good, "collector    okta"}},
		{name: "name in quotes", text: "'OKTA_DOMAIN'=acme.okta.com\nOKTA_TOKEN=00canary-secret\n", want: []string{good, "collector    okta"}},
		{name: "Windows line ends", text: "\ufeff" + strings.ReplaceAll(okta, "\n", "\r\n"), want: []string{good, "collector    okta"}},
		{name: "comments", text: "# keys\n\nOKTA_DOMAIN=acme.okta.com # ours\nOKTA_TOKEN=\"00canary-secret\"#x\n", want: []string{good, "collector    okta"}},
		{name: "escaped quote", text: okta + `TENANCY='it\'s'` + "\n", want: []string{good}},
		{name: "name with a dash", text: okta + "my-key=1\n", want: []string{good, "collector    okta"}},
		{name: "bare word", text: okta + "EXTRACT\n", want: []string{warned, ".env:3: is not a setting and is ignored", "collector    okta"}},
		{name: "open quote", text: okta + "NOTE=\"canary\nTENANCY=acme\n", want: []string{warned, ".env:3: the value of NOTE has no closing", "collector    okta"}},
		{name: "in the root of the repository", path: "repo/.env", text: okta, want: []string{good, "collector    okta"}},
		{name: "reference", text: "SECRET=00canary-secret\nOKTA_DOMAIN=acme.okta.com\nOKTA_TOKEN=${SECRET}\n", want: []string{warned, "OKTA_TOKEN (.env:3): refers to SECRET, which is not expanded"}},
		{name: "all vendors", text: okta + "FALCON_CLIENT_ID=a1\nFALCON_SECRET=canary-1\nTIO_ACCESS_KEY=" + strings.Repeat("a", 64) + "\nTIO_SECRET_KEY=" + strings.Repeat("b", 64) +
			"\nKNOWBE4_TOKEN=canary-2\nSNYK_TOKEN=token canary-3\n", want: []string{good, "crowdstrike (3", "knowbe4 (1", "okta (1", "snyk (4", "tenable (4"}},
		{name: "empty endpoints", text: okta + "KNOWBE4_ENDPOINT=\nSNYK_ENDPOINT=\nTENANCY=\n", want: []string{good, "collector    okta"}},
		{name: "empty keys of others", text: okta + "FALCON_CLIENT_ID=\nFALCON_SECRET=\nTIO_ACCESS_KEY=\nTIO_SECRET_KEY=\n", want: []string{good, "collector    okta"}},
		{name: "half of a pair", text: okta + "FALCON_CLIENT_ID=a1\n", want: []string{warned, "FALCON_SECRET: not set, but FALCON_CLIENT_ID is: the collector crowdstrike is off", "collector    okta"}},
		{name: "domain without a token", text: "OKTA_DOMAIN=acme.okta.com\nSNYK_TOKEN=canary-3\n", want: []string{warned, "OKTA_TOKEN: not set, but OKTA_DOMAIN is: the collector okta is off", "collector    snyk"}},
		{name: "key without a bucket", text: okta + "STORE_AWS_S3_KEY=data/$TAG.json\n", want: []string{warned, "STORE_AWS_S3_BUCKET: not set", "S3 is off", "destination  file"}},
		{name: "database without a host", text: okta + "#STORE_POSTGRES_HOST=db\nSTORE_POSTGRES_USER=u\nSTORE_POSTGRES_DBNAME=d\nSTORE_POSTGRES_PASSWORD=canary-4\n",
			want: []string{warned, "STORE_POSTGRES_HOST: not set", "Postgres is off", "destination  file"}},
		{name: "host without a user", text: okta + "STORE_POSTGRES_HOST=127.0.0.1\nPGUSER=u\nPGPASSWORD=canary-4\n", want: []string{good, "destination  postgres", "library      PGUSER (.env:4)"}},
		{name: "AWS keys", text: okta + "STORE_AWS_S3_BUCKET=b\nAWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY=canary-5\nAWS_DEFAULT_REGION=eu-west-1\n",
			want: []string{good, "destination  backup", "library      AWS_SECRET_ACCESS_KEY (.env:5)"}},
		{name: "proxy", text: okta + "HTTP_PROXY=http://me:canary-6@proxy:3128\nHTTPS_PROXY=http://proxy:3128\n", want: []string{good, "library      HTTP_PROXY (.env:3)"}},
		{name: "own certificates", text: okta + "REQUESTS_CA_BUNDLE=/ca.pem\n", want: []string{warned, "REQUESTS_CA_BUNDLE (.env:3): has no effect on collectord: set SSL_CERT_FILE"}},
		{name: "reports and metrics", text: okta + "STORE_AWS_S3_WEB=web\nSTORE_AWS_S3_HISTORY=h\nEXTRACT_ONLY=true\nPOSTGRES_HOST=db\nDB_NAME=x\nPLUGIN_NAME=x\nTENANT=x\n", want: []string{good}},
		{name: "other keys", text: okta + "SLACK_WEBHOOK=https://hooks.slack.com/services/T0/B0/canary\nGITHUB_TOKEN=canary-7\n", want: []string{good, "notification SLACK_WEBHOOK"}},
		{name: "older paths", text: okta + "STORE_FILE='../data/source/$TAG/$TENANCY.json'\nSTORE_DUCKDB=../data/database.duckdb\n", want: []string{good, "destination  file", "destination  duckdb"}},
		{name: "dollars", text: okta + `STORE_POSTGRES_HOST=127.0.0.1` + "\n" + `STORE_POSTGRES_PASSWORD=p\$canary$$x` + "\n", want: []string{good, "destination  postgres"}},
		{name: "misspelt", text: okta + "TENNANCY=acme\nSTORE_FIEL=x\n", want: []string{warned, "did you mean TENANCY?", "did you mean STORE_FILE?"}},
		{name: "region of KnowBe4", text: "KNOWBE4_TOKEN=canary-2\nKNOWBE4_REGION=eu\n", want: []string{warned, "KNOWBE4_REGION (.env:2): not a setting of collectord", "collector    knowbe4"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			ws := &harness.Workspace{T: t, Dir: filepath.Join(root, "repo", "01-collectors"), Env: map[string]string{}}
			harness.WriteFile(t, filepath.Join(root, "repo", ".git", "HEAD"), "ref: refs/heads/main\n")
			path := tc.path
			if path == "" {
				path = "repo/01-collectors/.env"
			}
			harness.WriteFile(t, filepath.Join(ws.Dir, "wrapper.py"), "")
			harness.WriteFile(t, filepath.Join(root, path), tc.text)
			e := ws.Run("check")
			ws.AssertResult(e, harness.ExitOK, tc.want...)
			if strings.Contains(e.Output(), "canary") {
				t.Errorf("a secret is shown:\n%s", e.Output())
			}
		})
	}
}

// TestPrivateDotenvIsIgnored checks that the service's user can run commands in a
// directory that belongs to root, such as /root, and that a .env there is not read.
func TestPrivateDotenvIsIgnored(t *testing.T) {
	t.Parallel()
	shared, err := os.MkdirTemp("", "shared") // t.TempDir is private
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(shared) })
	for name, prepare := range map[string]func(dir string) error{
		"private directory": func(dir string) error { return os.Chmod(dir, 0o700) },
		"private file":      func(dir string) error { return os.Chmod(filepath.Join(dir, ".env"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			ws := harness.NewWorkspace(t)
			ws.Env["OKTA_DOMAIN"], ws.Env["OKTA_TOKEN"], ws.Env["STORE_FILE"], ws.Env["STATE_DIR"] = "acme.okta.com", "00canary-token", "off", "/tmp/no-such-state"
			ws.Env["COLLECTORS"] = "okta"
			dir := filepath.Join(shared, strings.ReplaceAll(name, " ", "-"))
			harness.WriteFile(t, filepath.Join(dir, ".env"), "TENANCY=../refused\n")
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(shared, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(shared, "collectord")
			copied, err := exec.Command("cp", harness.Program(t), program).CombinedOutput()
			if err != nil || os.Chmod(program, 0o755) != nil {
				t.Fatalf("%v: %s", err, copied)
			}
			cmd := ws.Command(t.Context(), "check")
			cmd.Path, cmd.Dir = program, dir
			if os.Geteuid() == 0 {
				// The directory is changed as root, as sudo does.
				other := exec.CommandContext(t.Context(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, "check")
				other.Dir, other.Env = dir, cmd.Env
				cmd = other
			} else if err := os.Chmod(filepath.Join(dir, ".env"), 0); err != nil {
				t.Fatal(err)
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "permission denied, and the file is ignored: name another with --env-file") {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}
