package web

import (
	"bytes"
	"mime"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// writeQueries returns a directory with two queries, an invalid file, and what is not offered.
func (f *fixture) writeQueries() (dir string) {
	f.Helper()
	dir = f.TempDir()
	for name, text := range map[string]string{
		"10-suspended.sql": "\ufeff-- Suspended users\r\nSELECT id, profile.login\r\nFROM okta_users WHERE status = 'SUSPENDED'\r\n",
		"20-hosts.sql":     "--- " + hostileText + "\n-- of CrowdStrike\nFROM crowdstrike_hosts",
		"30-untitled.sql":  "SELECT 1",
		".hidden.sql":      "SELECT 1",
		"README.md":        "SELECT 1",
	} {
		f.writeFile(filepath.Join(dir, name), text)
	}
	if err := os.Mkdir(filepath.Join(dir, "old"), 0o700); err != nil {
		f.Fatal(err)
	}
	return dir
}

func (f *fixture) writeFile(path, text string) {
	f.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

func TestReadQueries(t *testing.T) {
	t.Parallel()
	dir := newFixture(t).writeQueries()
	queries, invalid, err := NewQueryFiles(dir, zap.NewNop()).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []OfferedQuery{
		{Name: "10-suspended", Title: "Suspended users", SQL: "-- Suspended users\nSELECT id, profile.login\nFROM okta_users WHERE status = 'SUSPENDED'"},
		{Name: "20-hosts", Title: hostileText, SQL: "--- " + hostileText + "\n-- of CrowdStrike\nFROM crowdstrike_hosts"},
	}
	if diff := cmp.Diff(want, queries); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
	if len(invalid) != 1 || invalid[0].Error() != "HTTP_QUERIES: "+dir+"/30-untitled.sql: the first line is not a comment with the title of the query, such as: -- Users without MFA" {
		t.Errorf("the invalid files are %v", invalid)
	}
	if queries, invalid, err := NewQueryFiles("", zap.NewNop()).Read(t.Context()); queries != nil || invalid != nil || err != nil {
		t.Errorf("without a directory: %v, %v, %v", queries, invalid, err)
	}
}

// TestCheckQueries has a directory with a file for each error.
func TestCheckQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good.sql": "-- Good\nFROM no_such_stream", "untitled.sql": "SELECT 1", "empty.sql": "", "title.sql": "-- Only a title\n \n",
		"blank.sql": "--\nSELECT 1", "long.sql": "-- Long\nSELECT '" + strings.Repeat("x", maxQueryBytes) + "'",
		"binary.sql": "-- Binary\nSELECT '\xff'", "syntax.sql": "-- Syntax\nSELEC 1", "two.sql": "-- Two\nSELECT 1; SELECT 2",
		"write.sql": "-- Write\nCREATE TABLE x AS SELECT 1",
	} {
		f.writeFile(filepath.Join(dir, name), text)
	}
	pipe := filepath.Join(dir, "pipe.sql")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link.sql")); err != nil {
		t.Fatal(err)
	}
	const untitled = "the first line is not a comment with the title of the query, such as: -- Users without MFA"
	want := []string{
		"binary.sql: it is not text in UTF-8", "blank.sql: " + untitled, "empty.sql: " + untitled, "link.sql: stat: no such file or directory",
		"long.sql: it is larger than 32768 bytes", "pipe.sql: it is not a regular file", `syntax.sql: syntax error at or near "SELEC"`,
		"title.sql: there is no query after the first line", "two.sql: only one SELECT is allowed: there are several statements",
		"untitled.sql: " + untitled, "write.sql: only one SELECT is allowed",
	}
	err := CheckQueries(t.Context(), dir)
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), "HTTP_QUERIES: "+dir+"/", ""), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if err := CheckQueries(t.Context(), filepath.Join(dir, "missing")); err == nil || !strings.Contains(err.Error(), "HTTP_QUERIES: open "+dir+"/missing") {
		t.Errorf("a missing directory: %v", err)
	}
	if err := CheckQueries(t.Context(), ""); err != nil {
		t.Errorf("no directory: %v", err)
	}
}

// TestResultFiles compares the names and types of results.
func TestResultFiles(t *testing.T) {
	t.Parallel()
	handler := newFullFixture(t).newHandler(func(o *Options) { o.Token = "secret-token" })
	for _, tc := range []struct{ sql, format, contentType, file, rows string }{
		{"FROM okta_users", "csv", "text/csv; charset=utf-8", "query_okta_users_20261124T120000Z.csv", "2"},
		{"SELECT 1 FROM crowdstrike_hosts, okta_users", "parquet", "application/vnd.apache.parquet", "query_crowdstrike_hosts_okta_users_20261124T120000Z.parquet", "4"},
		{"SELECT 1 FROM crowdstrike_hosts, okta_users, tenable_was, tenable_assets, manual_stream", "json", "application/json; charset=utf-8", "query_crowdstrike_hosts_manual_stream_okta_users_20261124T120000Z.json", "4"},
		{"SELECT 1 WHERE false", "json", "application/json; charset=utf-8", "query_20261124T120000Z.json", "0"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "http://localhost/api/v1/query", strings.NewReader(`{"sql":"`+tc.sql+`","format":"`+tc.format+`","complete":true}`))
		r.Header.Set("Authorization", "Bearer secret-token")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		_, parameters, err := mime.ParseMediaType(w.Header().Get("Content-Disposition"))
		if w.Code != 200 || err != nil || parameters["filename"] != tc.file || w.Header().Get("Content-Type") != tc.contentType || w.Header().Get("X-Collectord-Rows") != tc.rows {
			t.Errorf("%s: %d %v, error %v, want %q, %q and %s rows", tc.sql, w.Code, w.Header(), err, tc.file, tc.contentType, tc.rows)
		}
		if tc.format == "parquet" && !bytes.HasSuffix(w.Body.Bytes(), []byte("PAR1")) {
			t.Errorf("%s: not a Parquet file: %.100q", tc.sql, w.Body)
		}
	}
}
