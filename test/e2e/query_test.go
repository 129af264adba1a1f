package e2e_test

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

func TestQuery(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("query", "SELECT 1 AS one"), harness.ExitFailed, "no state in ")
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	const text = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM tenable_assets;\n"
	if err := os.WriteFile(ws.Path("q.sql"), []byte("\ufeff"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(ws.Run("query", text), harness.ExitOK, "n   ids", "80  80")
	ws.AssertResult(ws.Run("query", "-f", "q.sql", "--format", "csv"), harness.ExitOK, "n,ids\n80,80\n")
	const formula = "SELECT '=1' AS text, -1 AS number"
	ws.AssertResult(ws.Run("query", formula, "--format", "csv"), harness.ExitOK, "text,number\n'=1,-1\n")
	ws.AssertResult(ws.Run("query", formula, "--format", "csv", "--raw"), harness.ExitOK, "text,number\n=1,-1\n")
	ws.AssertResult(ws.Run("query", formula, "--raw"), harness.ExitUsage, "--raw needs --format csv")
	ws.AssertResult(ws.Run("query", "SHOW TABLES", "--format", "csv"), harness.ExitOK, "name\ntenable_assets\n")
	ws.AssertResult(ws.Run("query", "-f", "q.sql", "--format", "json"), harness.ExitOK, `{"n":80,"ids":80}`)
	ws.AssertResult(ws.Run("query", "FROM tenable_assets", "--rows", "3", "--format", "csv"), harness.ExitOK, "more rows than the 3")
	ws.AssertResult(ws.Run("query", "-f", "q.sql", "--format", "csv", "-o", "out.csv"), harness.ExitOK)
	if got := ws.Content(ws.Path("out.csv")); got != "n,ids\n80,80\n" {
		t.Errorf("out.csv: %q", got)
	}
	if e := ws.Run("query", "FROM tenable_assets", "--format", "parquet"); !strings.HasPrefix(e.Stdout, "PAR1") || !strings.HasSuffix(e.Stdout, "PAR1") {
		t.Errorf("the output is not Parquet: %.100q %s", e.Stdout, e.Stderr)
	}
	ws.AssertResult(ws.Run("query", "SELECT * FROM tenable_asset"), harness.ExitFailed, "tenable_assets, ", vendorsim.TenableVulns)
	ws.AssertResult(ws.Run("query", "SELECT * FROM read_text('/etc/passwd')"), harness.ExitFailed, "disabled by configuration")
	ws.AssertResult(ws.Run("query", "COPY (SELECT 1) TO 'x.csv'"), harness.ExitFailed, "disabled by configuration")
	ws.AssertResult(ws.Run("query", "CREATE TABLE x AS SELECT 1"), harness.ExitUsage, "only one SELECT")
	ws.AssertResult(ws.Run("query", "SELECT 1; SELECT 2"), harness.ExitUsage, "several statements")
	ws.AssertResult(ws.Run("query"), harness.ExitUsage, "one text in quotes")
	ws.AssertResult(ws.Run("query", "SELECT 1", "--format", "xml"), harness.ExitUsage, "csv, json or parquet")
	ws.AssertResult(ws.Run("query", "-f", "missing.sql"), harness.ExitUsage, "missing.sql")
	ws.AssertResult(ws.Run("query", "SELECT count(*) FROM range(10000000) a, range(10000000) b", "--timeout", "100ms"), harness.ExitFailed, "the limit is 100ms")
}

// TestOfferedQueries has files in HTTP_QUERIES of which check reports every invalid one. The
// service starts and offers the others, but does not start without the directory.
func TestOfferedQueries(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	dir := ws.Path("queries")
	ws.Env["HTTP_QUERIES"] = dir
	ws.AssertResult(ws.Run("check"), harness.ExitSettings, "HTTP_QUERIES: open "+dir+": no such file or directory: it is a directory with files *.sql")
	harness.WriteFile(t, ws.Path("queries/assets.sql"), "-- All assets\nFROM tenable_assets")
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "warning      HTTP_QUERIES: queries over HTTP are off: HTTP_QUERY=true together with HTTP_TOKEN")
	const token = "a-token-of-the-test"
	maps.Copy(ws.Env, map[string]string{"HTTP_LISTEN": "127.0.0.1:0", "HTTP_QUERY": "true", "HTTP_TOKEN": token, "SCHEDULE_CATCHUP": "false"})
	if result := ws.Run("check"); result.Code != harness.ExitOK || strings.Contains(result.Output(), "HTTP_QUERIES") {
		t.Errorf("check of a valid query ends with %d:\n%s", result.Code, result.Output())
	}
	harness.WriteFile(t, ws.Path("queries/untitled.sql"), "SELECT 1")
	harness.WriteFile(t, ws.Path("queries/two.sql"), "-- Two\nSELECT 1; SELECT 2")
	harness.WriteFile(t, ws.Path("queries/wrong.sql"), "-- Wrong\nSELEC 1")
	invalid := []string{
		"HTTP_QUERIES: " + dir + "/two.sql: only one SELECT is allowed: there are several statements",
		"HTTP_QUERIES: " + dir + "/untitled.sql: the first line is not a comment with the title of the query",
		"HTTP_QUERIES: " + dir + `/wrong.sql: syntax error at or near "SELEC"`,
	}
	ws.AssertResult(ws.Run("check"), harness.ExitSettings, invalid...)
	service := ws.StartService()
	url := service.BaseURL() + "/api/v1/queries"
	service.WaitForLog("a query is not offered", dir+"/two.sql")
	status, body := service.Request("GET", url, token)
	if status != http.StatusOK || !strings.Contains(body, `{"name":"assets","title":"All assets","sql":"-- All assets\nFROM tenable_assets"}`) || !strings.Contains(body, invalid[0]) || strings.Contains(body, "SELECT 2") {
		t.Errorf("the queries are %d %s", status, body)
	}
	if status, body := service.Request("GET", url, ""); status != http.StatusUnauthorized {
		t.Errorf("without the token: %d %s", status, body)
	}
	service.Signal(syscall.SIGTERM)
	service.Wait()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(ws.Run(), harness.ExitSettings, "HTTP_QUERIES: open "+dir)
}

// A query runs in a process of its own, without the daemon's variables, and ends with
// the daemon.
func TestQueryEndsWithTheDaemon(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	const token = "a-token-of-the-test"
	maps.Copy(ws.Env, map[string]string{
		"HTTP_LISTEN": "127.0.0.1:0", "HTTP_QUERY": "true", "HTTP_TOKEN": token, "SCHEDULE_CATCHUP": "false",
	})
	service := ws.StartService()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, service.BaseURL()+"/api/v1/query", strings.NewReader(
		`{"sql": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	began := time.Now()
	go func() {
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
			t.Error("the query has a response")
		}
	}()
	worker := ""
	for worker == "" {
		if t.Context().Err() != nil || time.Since(began) > harness.HangLimit {
			t.Fatal("no worker was started")
		}
		time.Sleep(10 * time.Millisecond)
		worker = workerIn(ws.Dir)
	}
	environ, err := os.ReadFile(filepath.Join(worker, "environ"))
	if err != nil || strings.Contains(string(environ), "HTTP_TOKEN") {
		t.Errorf("environment of the worker %q, error %v", environ, err)
	}
	service.Signal(syscall.SIGKILL)
	service.Wait()
	for workerIn(ws.Dir) != "" {
		if time.Since(began) > harness.HangLimit {
			t.Fatal("the worker goes on")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// workerIn returns the directory in /proc of a worker process that works below dir,
// or "".
func workerIn(dir string) string {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range all {
		line, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(process, "cwd"))
		if strings.Contains(string(line), "query-worker") && strings.HasPrefix(cwd, dir) {
			return process
		}
	}
	return ""
}
