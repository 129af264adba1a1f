package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/test/harness"
)

// moveToEnvFile moves the variables with a prefix from the environment of the
// workspace to its .env, and returns the lines.
func moveToEnvFile(ws *harness.Workspace, prefix string) (lines []string) {
	for name, value := range ws.Env {
		if strings.HasPrefix(name, prefix) {
			lines = append(lines, name+"="+value)
			delete(ws.Env, name)
		}
	}
	ws.WriteEnvFile(lines...)
	return lines
}

// TestAWSVariablesFromDotenv checks that credentials and the endpoint in .env reach
// the S3 client, that check names them and that no secret is shown.
func TestAWSVariablesFromDotenv(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	object := ws.UseS3()
	ws.Env["STORE_AWS_S3_KEY"] = "now/%TAG/%TENANCY.json"
	secret := ws.Env["AWS_SECRET_ACCESS_KEY"]
	moveToEnvFile(ws, "AWS_")
	all := ws.Run("check", "--connect")
	ws.AssertResult(all, harness.ExitOK, "settings are good", "library      AWS_SECRET_ACCESS_KEY (.env:", "library      AWS_ENDPOINT_URL")
	once := ws.Run("--once", "tenable_assets")
	ws.AssertResult(once, harness.ExitOK, "success")
	if text := ws.Content(object("now/tenable_assets/default.json")); !strings.HasPrefix(text, "[") {
		t.Errorf("the object is %.80s", text)
	}
	if strings.Contains(all.Output()+once.Output(), secret) {
		t.Error("the secret is shown")
	}
}

// TestPostgresVariablesFromDotenv checks that a protection in .env is in force: the
// server's certificate is not verifiable.
func TestPostgresVariablesFromDotenv(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	server := testserver.StartPostgres(t)
	ws.Env["STORE_POSTGRES_HOST"], ws.Env["STORE_POSTGRES_PORT"] = "127.0.0.1", fmt.Sprint(server.Port)
	credentials := []string{"PGUSER=" + testserver.Owner, "PGPASSWORD=" + testserver.Password, "PGDATABASE=postgres"}
	ws.WriteEnvFile(append(credentials, "PGSSLMODE=verify-full")...)
	refused := ws.Run("check", "--connect")
	ws.AssertResult(refused, harness.ExitPartial, "destination  postgres", "tls")
	ws.WriteEnvFile(append(credentials, "PGSSLMODE=disable")...)
	accepted := ws.Run("check", "--connect")
	ws.AssertResult(accepted, harness.ExitOK, "library      PGPASSWORD (.env:2)")
	if strings.Contains(refused.Output()+accepted.Output(), testserver.Password) {
		t.Error("the password is shown")
	}
}

// TestProxyFromDotenv checks that requests to vendors use a proxy from --env-file, whose
// password is hidden.
func TestProxyFromDotenv(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	address := strings.Replace(proxy.URL, "http://", "http://someone:pw-canary-55@", 1)
	harness.WriteFile(t, ws.Path("prod.env"), "OKTA_DOMAIN=acme.okta.invalid\nOKTA_TOKEN=00canary-token\nHTTPS_PROXY="+address+"\n")
	e := ws.Run("--env-file", "prod.env", "check", "--connect")
	ws.AssertResult(e, harness.ExitPartial, "library      HTTPS_PROXY (prod.env:3)", "proxy", "HTTPS_PROXY")
	if strings.Contains(e.Output(), "canary") {
		t.Errorf("a secret is shown:\n%s", e.Output())
	}
}

// TestReloadAppliesLibraryVariables checks that a rotated key in .env is used after a
// reload, and that a changed proxy takes a restart.
func TestReloadAppliesLibraryVariables(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	object := ws.UseS3()
	ws.Env["STORE_AWS_S3_KEY"], ws.Env["COLLECTORS"], ws.Env["RESTORE_TIMEOUT"] = "now/%TAG/%TENANCY.json", "tenable", "1s"
	good := moveToEnvFile(ws, "AWS_")
	var bad []string
	for _, line := range good {
		bad = append(bad, strings.Replace(line, "AWS_SECRET_ACCESS_KEY=", "AWS_SECRET_ACCESS_KEY=wrong", 1))
	}
	ws.WriteEnvFile(bad...)
	s := ws.StartService()
	s.WaitForLog(`"sink":"s3"`, "SignatureDoesNotMatch")
	ws.WriteEnvFile(append(good, "HTTPS_PROXY=http://127.0.0.1:1")...)
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("settings reloaded", `"changed":["AWS_SECRET_ACCESS_KEY"]`)
	s.WaitForLog("some settings were not applied", "HTTPS_PROXY: was changed, which takes a restart")
	waitForRecords(ws, object("now/tenable_assets/default.json"))
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// TestEnvFileAndSystemd reads a file with a real systemd and with collectord: check
// names exactly the lines that the two read differently.
func TestEnvFileAndSystemd(t *testing.T) {
	t.Parallel()
	lines := []struct{ text, value string }{ // of AWS_<index>, as collectord reads it
		{text: "plain", value: "plain"},
		{text: "a #b", value: "a"},
		{text: `back\slash`, value: `back\slash`},
		{text: `back\\slash`, value: `back\\slash`},
		{text: `'single # "quotes" $x'`, value: `single # "quotes" $x`},
		{text: `'back\slash'`, value: `back\slash`},
		{text: `'back\\slash'`, value: `back\slash`},
		{text: `"double quotes"`, value: "double quotes"},
		{text: `"a\tb"`, value: "a\tb"},
		{text: `"a\"b\\c\$d"`, value: `a"b\c$d`},
		{text: `"a" # note`, value: "a"},
		{text: `x'y'z`, value: `x'y'z`},
		{text: "a=b==", value: "a=b=="},
		{text: " padded \t", value: "padded"},
		{text: "Zürich ☃", value: "Zürich ☃"},
		{text: "$HOME", value: "$HOME"},
		{text: "'two\nlines'", value: "two\nlines"},
		{text: "a;b", value: "a;b"},
		{text: `it's`, value: `it's`},
		{text: `end\`, value: `end\`},
	}
	var file strings.Builder
	for i, line := range lines {
		fmt.Fprintf(&file, "AWS_T%02d=%s\n", i, line.text)
	}
	file.WriteString("# after the line that continues\nexport AWS_EXPORT=x\n")
	ws := harness.NewWorkspace(t)
	harness.WriteFile(t, ws.Path("service.env"), file.String()+"OKTA_DOMAIN=d\nOKTA_TOKEN=t\n")

	m := harness.StartSystemd(ws)
	m.InstallUnitText("[Service]\nUser=collectord\n", "Type=oneshot", "EnvironmentFile="+ws.Path("service.env"),
		"ExecStart=/bin/sh -c 'env -0 >"+ws.Path("env")+"'")
	m.MustSystemctl("start", harness.Unit)
	bySystemd := map[string]string{}
	for entry := range strings.SplitSeq(ws.Content(ws.Path("env")), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		bySystemd[name] = value
	}
	if bySystemd["AWS_T00"] != "plain" {
		t.Fatalf("systemd has not read the file: %.300q", ws.Content(ws.Path("env")))
	}
	e := ws.Run("check", "--env-file", "service.env")
	named := map[string]bool{}
	for _, found := range regexp.MustCompile(`(AWS_\w+) \(service\.env:\d+\): systemd's`).FindAllStringSubmatch(e.Output(), -1) {
		named[found[1]] = true
	}
	for i, line := range lines {
		name := fmt.Sprintf("AWS_T%02d", i)
		if differs := bySystemd[name] != line.value; differs != named[name] {
			t.Errorf("%s=%s: systemd reads %q, collectord %q, named: %v", name, line.text, bySystemd[name], line.value, named[name])
		}
	}
	if _, set := bySystemd["AWS_EXPORT"]; set || !named["AWS_EXPORT"] {
		t.Errorf("export: set by systemd: %v, named: %v", set, named["AWS_EXPORT"])
	}
	_ = os.Remove(ws.Path("env"))
}
