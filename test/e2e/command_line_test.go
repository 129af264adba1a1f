package e2e_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/test/harness"
	"github.com/collectord/collectord/test/markdown"
)

// TestSuggestions misspells commands, flags and names.
func TestSuggestions(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	ws.Env["OKTA_DOMAIN"], ws.Env["OKTA_TOKEN"] = "acme.okta.com", "00-a-token-of-the-test"
	for _, tc := range []struct{ line, want string }{
		{line: "stauts", want: `unknown command "stauts": did you mean status?`},
		{line: "docter", want: "did you mean doctor?"},
		{line: "okta", want: "collectord --once okta"},
		{line: "okta_usrs", want: "did you mean collectord --once okta_users?"},
		{line: "nonsense", want: "the commands are accept, check,"},
		{line: "--onec", want: "unknown flag: --onec: did you mean --once?"},
		{line: "-once", want: "did you mean --once?"},
		{line: "restore --too x", want: "did you mean --to?"},
		{line: "check --conect", want: "did you mean --connect?"},
		{line: "status --jsn", want: "did you mean --json?"},
		{line: "query --outptu x", want: "did you mean --output?"},
		{line: "--once okta_user", want: "did you mean okta_users?"},
		{line: "--json", want: "--json is for --once"},
	} {
		ws.AssertResult(ws.Run(strings.Split(tc.line, " ")...), harness.ExitUsage, tc.want)
	}
	if _, err := os.Stat(ws.Env["STATE_DIR"]); err == nil {
		t.Error("a misspelled command has created a state")
	}
}

// freePort returns a port of this machine on which nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// webConfigWithTLS writes a web configuration with a certificate and a password.
func webConfigWithTLS(ws *harness.Workspace) (path string) {
	ws.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	certificate := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		ws.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		harness.WriteFile(ws, ws.Path(name), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		return ws.Path(name)
	}
	harness.WriteFile(ws, ws.Path("web.yml"), fmt.Sprintf("tls_server_config:\n  cert_file: %s\n  key_file: %s\n",
		write("tls.crt", "CERTIFICATE", certificate.Certificate[0]), write("tls.key", "PRIVATE KEY", key)))
	return ws.Path("web.yml")
}

// TestHealth asks running services for their health, on several addresses.
func TestHealth(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	for name, tc := range map[string]struct {
		host   string
		change func(ws *harness.Workspace)
		want   string // before the port
	}{
		"loopback": {host: "127.0.0.1", want: "http://127.0.0.1:"},
		"any":      {host: "", want: "http://localhost:"},
		"any IPv4": {host: "0.0.0.0", want: "http://localhost:"},
		"any IPv6": {host: "[::]", want: "http://localhost:"},
		"a name":   {host: "localhost", want: "http://localhost:"},
		"TLS": {host: "127.0.0.1", want: "https://127.0.0.1:", change: func(ws *harness.Workspace) {
			ws.Env["HTTP_WEB_CONFIG_FILE"] = webConfigWithTLS(ws)
		}},
		"a password": {host: "127.0.0.1", want: "responds, and asks for a password", change: func(ws *harness.Workspace) {
			ws.Env["HTTP_WEB_CONFIG_FILE"] = ws.Path("web.yml")
			// The password is "test".
			harness.WriteFile(ws, ws.Path("web.yml"), "basic_auth_users:\n  admin: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi\n")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := harness.NewWorkspace(t).UseVendors(sim)
			ws.Env["HTTP_LISTEN"], ws.Env["SCHEDULE_CATCHUP"] = tc.host+":"+freePort(t), "false"
			if tc.change != nil {
				tc.change(ws)
			}
			ws.AssertResult(ws.Run("health"), harness.ExitFailed, "not healthy: no service responds at "+ws.Env["HTTP_LISTEN"])
			s := ws.StartService()
			s.WaitForLog(`"ready"`)
			for _, args := range [][]string{{"health"}, {"health", "--ready"}} {
				result := ws.Run(args...)
				ws.AssertResult(result, harness.ExitOK, tc.want)
				if strings.Count(result.Output(), "\n") != 1 {
					t.Errorf("%q prints more than a line:\n%s", args, result.Output())
				}
			}
			s.Signal(syscall.SIGKILL)
			s.Wait()
			ws.AssertResult(ws.Run("health", "--ready"), harness.ExitFailed, "not ready: no service responds")
		})
	}
	ws := harness.NewWorkspace(t)
	for listen, want := range map[string]string{"off": "set it, such as to 127.0.0.1:19610, or remove the health check", "127.0.0.1:0": "set a port"} {
		ws.Env["HTTP_LISTEN"] = listen
		ws.AssertResult(ws.Run("health"), harness.ExitFailed, want)
	}
	// A server that does not respond in time.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ws.Env["HTTP_LISTEN"] = l.Addr().String()
	ws.AssertResult(ws.Run("health", "--timeout", "100ms"), harness.ExitFailed, "no service responds")
}

// flattenJSON adds the values of a document by path: a[].b for the members b of the
// objects in the array a. An empty array has the path without [].
func flattenJSON(values map[string][]any, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			flattenJSON(values, strings.TrimPrefix(path+"."+name, "."), member)
		}
	case []any:
		for _, element := range v {
			flattenJSON(values, path+"[]", element)
		}
		if len(v) == 0 {
			values[path] = append(values[path], []any{})
		}
	default:
		values[path] = append(values[path], v)
	}
}

// isOfType reports whether a value is of a documented type.
func isOfType(value any, documented string) bool {
	name, nullable := strings.CutSuffix(documented, " or null")
	if value == nil {
		return nullable
	}
	switch v := value.(type) {
	case bool:
		return name == "true or false"
	case json.Number:
		_, err := v.Int64()
		return name == "number" || name == "integer" && err == nil
	case string:
		_, err := time.Parse(time.RFC3339, v)
		return name == "text" || name == "time" && err == nil && strings.HasSuffix(v, "Z")
	}
	return false
}

// assertDocumentedJSON compares a document with a section of docs/reference/json.md.
func assertDocumentedJSON(ws *harness.Workspace, section, text string) map[string][]any {
	ws.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		ws.Fatalf("%s: %v: %.500s", section, err, text)
	}
	if _, err := decoder.Token(); err != io.EOF {
		ws.Errorf("%s: more than one document: %.500s", section, text)
	}
	documented := map[string]string{}
	for _, row := range markdown.Read(ws.T, "docs/reference/json.md").Rows(section) {
		documented[strings.Trim(row[0], "`")] = row[1]
	}
	values := map[string][]any{}
	flattenJSON(values, "", document)
	for _, path := range slices.Sorted(maps.Keys(values)) {
		isList := slices.ContainsFunc(slices.Collect(maps.Keys(documented)), func(p string) bool { return strings.HasPrefix(p, path+"[]") })
		for _, value := range values[path] {
			if _, isEmpty := value.([]any); isList && (value == nil || isEmpty) {
				continue
			}
			if !isOfType(value, documented[path]) {
				ws.Errorf("%s: %s is %v, documented as %q", section, path, value, documented[path])
			}
		}
	}
	for path := range documented {
		found := len(values[path]) > 0
		for parent := path; !found && strings.Contains(parent, "[]"); {
			parent = parent[:strings.LastIndex(parent, "[]")]
			found = len(values[parent]) > 0 // an empty list
		}
		if !found {
			ws.Errorf("%s: the document has no %s", section, path)
		}
	}
	return values
}

// TestJSONOutput compares what the commands print with their documentation.
func TestJSONOutput(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.UseS3()
	ws.Env["COLLECTORS"], ws.Env["STORE_ONCE_TIMEOUT"] = "-tenable_was", "2s"
	harness.WriteFile(t, ws.Path("blocked"), "")
	ws.Env["STORE_DUCKDB"] = ws.Path("blocked", "x.duckdb")
	run := func(section string, code int, args ...string) map[string][]any {
		t.Helper()
		result := ws.Run(args...)
		ws.AssertResult(result, code)
		return assertDocumentedJSON(ws, section, result.Stdout)
	}
	if values := run("status", harness.ExitOK, "status", "--json"); values["state_exists"][0] != false {
		t.Error("a state exists before the first run")
	}
	once := run("once", harness.ExitPartial, "--once", "--json")
	if len(once["streams[].stream"]) != 3 || once["error"][0] == nil || !slices.Contains(once["streams[].destinations[].status"], any("refused")) {
		t.Errorf("the document of --once is %v", once)
	}
	status := run("status", harness.ExitOK, "status", "--json")
	if len(status["queued[].sink"]) == 0 || len(status["streams[].stream"]) < 3 || status["state_dir"][0] != ws.Env["STATE_DIR"] {
		t.Errorf("the document of status is %v", status)
	}
	run("list", harness.ExitOK, "list", "--json")
	run("check", harness.ExitOK, "check", "--json")
	if values := run("check", harness.ExitPartial, "check", "--connect", "--json"); len(values["probes[].error"]) < 5 {
		t.Errorf("the document of check --connect is %v", values)
	}
	run("doctor", harness.ExitPartial, "doctor", "--json")
	if values := run("restore", harness.ExitOK, "restore", "--json", "--to", ws.Path("drill")); len(values["streams[].stream"]) != 3 {
		t.Errorf("the document of restore is %v", values)
	}
	run("restore", harness.ExitOK, "restore", "--json")
	ws.Env["RUN_TIMEOUT"], ws.Env["RUN_TIMOUT"] = "soon", "1h"
	refused := run("check", harness.ExitSettings, "check", "--json")
	if refused["usable"][0] != false || len(refused["errors[]"]) != 1 || len(refused["warnings[]"]) != 1 {
		t.Errorf("the document of check about invalid settings is %v", refused)
	}
}

// TestLogTimes: times in the log are UTC, whatever the zone of the machine, and have
// a date.
func TestLogTimes(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["TZ"] = "America/New_York"
	for format, want := range map[string]string{
		"json":    `^\{.*"ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`,
		"console": `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  INFO`,
	} {
		ws.Env["LOG_FORMAT"] = format
		result := ws.Run("--once", "tenable_assets")
		ws.AssertResult(result, harness.ExitOK)
		if line, _, _ := strings.Cut(result.Stderr, "\n"); !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("%s: a line of the log is %q", format, line)
		}
	}
}

// TestCheckFindsTablesOfAnotherShape: check --connect finds what would refuse every
// snapshot, and changes nothing.
func TestCheckFindsTablesOfAnotherShape(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	url, conn := databaseURL(ws, "e2e_shape", "UTF8")
	ws.Env["STORE_POSTGRES_URL"], ws.Env["STORE_DUCKDB"] = url, ws.Path("x.duckdb")
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitOK)
	if _, err := os.Stat(ws.Env["STORE_DUCKDB"]); err == nil {
		t.Error("check has created the DuckDB file")
	}
	if _, err := conn.Exec(t.Context(), `CREATE TABLE tenable_assets (id int)`); err != nil {
		t.Fatal(err)
	}
	db, err := duckdb.Open(t.Context(), ws.Env["STORE_DUCKDB"], duckdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE tenable_was (id INTEGER)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitPartial, `check table "public"."tenable_assets"`, "table tenable_was: ", "rename it", "2 of 9 checks failed")
	ws.AssertResult(ws.Run("doctor"), harness.ExitPartial, "tenable_was", `"tenable_assets"`)
	if testserver.Password != "" && strings.Contains(ws.Run("check", "--connect").Output(), testserver.Password) {
		t.Error("the password is shown")
	}
}
