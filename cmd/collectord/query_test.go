package main

import (
	"os"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestQuery(t *testing.T) {
	t.Parallel()
	p := newPlace(t).with(startVendors(t, smallCounts, smallTenant()))
	p.want(p.run("query", "SELECT 1 AS one"), 0, "one")
	p.want(p.run("query", "SELECT * FROM tenable_assets"), exitFailed, "No stream has data yet")
	p.want(p.run("--once"), 0)
	const text = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM tenable_assets;\n"
	if err := os.WriteFile(p.file("q.sql"), []byte("\ufeff"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.want(p.run("query", text), 0, "n   ids", "80  80")
	p.want(p.run("query", "-f", "q.sql", "--format", "csv"), 0, "n,ids\n80,80\n")
	p.want(p.run("query", "-f", "q.sql", "--format", "json"), 0, `{"n":80,"ids":80}`)
	p.want(p.run("query", "FROM tenable_assets", "--rows", "3", "--format", "csv"), 0, "more rows than the 3")
	p.want(p.run("query", "-f", "q.sql", "--format", "csv", "-o", "out.csv"), 0)
	if got := p.content(p.file("out.csv")); got != "n,ids\n80,80\n" {
		t.Errorf("out.csv: %q", got)
	}
	if e := p.run("query", "FROM tenable_assets", "--format", "parquet"); !strings.HasPrefix(e.stdout, "PAR1") || !strings.HasSuffix(e.stdout, "PAR1") {
		t.Errorf("no Parquet: %.100q %s", e.stdout, e.stderr)
	}
	p.want(p.run("query", "SELECT * FROM tenable_asset"), exitFailed, "tenable_assets, ", vendorsim.TenableVulns)
	p.want(p.run("query", "SELECT * FROM read_text('/etc/passwd')"), exitFailed, "disabled by configuration")
	p.want(p.run("query", "COPY (SELECT 1) TO 'x.csv'"), exitFailed, "disabled by configuration")
	p.want(p.run("query", "CREATE TABLE x AS SELECT 1"), exitUsage, "only one SELECT")
	p.want(p.run("query", "SELECT 1; SELECT 2"), exitUsage, "several statements")
	p.want(p.run("query"), exitUsage, "one text in quotes")
	p.want(p.run("query", "SELECT 1", "--format", "xml"), exitUsage, "csv, json or parquet")
	p.want(p.run("query", "-f", "missing.sql"), exitUsage, "missing.sql")
	p.want(p.run("query", "SELECT count(*) FROM range(10000000) a, range(10000000) b", "--timeout", "100ms"), exitFailed, "longer than 100ms")
}
