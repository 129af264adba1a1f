package store

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/duckdb"
)

// documented returns the blocks of that kind in docs/destinations.md.
func documented(t *testing.T, kind string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "destinations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```sql "+kind+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("no block of kind %s", kind)
	}
	return blocks
}

// TestDocumentedDuckDB runs the documented query.
func TestDocumentedDuckDB(t *testing.T) {
	d, place := newDuck(t, DuckDBOptions{})
	write(t, d, small(t, 1), small(t, 3))
	got := query(t, place.path(), func(db *duckdb.DB) ([]string, error) {
		return texts(t.Context(), db, "SELECT name FROM ("+strings.TrimSuffix(strings.TrimSpace(documented(t, "duckdb")[0]), ";")+")")
	})
	if len(got) != 3 || !strings.HasPrefix(got[0], "user ") {
		t.Errorf("got %q", got)
	}
}

// TestDocumentedPostgres makes the documented roles, stores as one and asks the
// documented query as the other.
func TestDocumentedPostgres(t *testing.T) {
	p := newPgTest(t)
	// Roles belong to all databases of a server; the schema is this test's.
	writer, reader := "w_"+p.schema, "r_"+p.schema
	own := strings.NewReplacer("collectord", writer, "analyst", reader, "security", p.schema)
	t.Cleanup(func() {
		p.exec(`DROP OWNED BY ` + reader + ` CASCADE; DROP OWNED BY ` + writer + ` CASCADE; DROP ROLE ` + writer + `, ` + reader)
	})
	for _, block := range documented(t, "grants") {
		p.exec(own.Replace(block))
	}
	s := p.sink(PostgresOptions{URL: p.server.URL(writer, "change%20me")})
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	write(t, s, small(t, 1), small(t, 3))
	conn, err := pgx.Connect(t.Context(), p.server.URL(reader, "change%20me%20too"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var n int
	sql := strings.TrimSuffix(strings.TrimSpace(own.Replace(documented(t, "psql")[0])), ";")
	if err := conn.QueryRow(t.Context(), `SELECT count(name) FROM (`+sql+`) AS q`).Scan(&n); err != nil || n != 3 {
		t.Errorf("%d rows: %v", n, err)
	}
}
