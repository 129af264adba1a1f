package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
)

// impatience is how long a test waits for a server that does not go on.
const impatience = 2 * time.Second

// attempt is one Write as a breakage returns it.
func attempt(ctx context.Context, sink Sink, s *snapshot.Snapshot) (string, bool) {
	err := sink.Write(ctx, s)
	return fmt.Sprint(err), errors.Is(err, ErrRefused)
}

// A pgPlace is the schema in which a Postgres stores.
type pgPlace struct{ *pgTest }

func postgresHarness() harness {
	return harness{
		name: "postgres", history: true,
		sink: func(t *testing.T) (Sink, place) {
			p := newPgTest(t)
			return p.sink(PostgresOptions{}), pgPlace{p}
		},
		breaks: map[string]breakage{
			"no permission": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				return p.(pgPlace).asRole(t, s)
			}},
			"another table": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				pg := p.(pgPlace)
				pg.exec(`ALTER TABLE $S.okta_users RENAME tenancy TO tenant`)
				defer pg.exec(`ALTER TABLE $S.okta_users RENAME tenant TO tenancy`)
				return attempt(t.Context(), pg.sink(PostgresOptions{}), s)
			}},
			"full disk": {write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				pg := p.(pgPlace)
				pg.exec(`CREATE FUNCTION $S.no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF (NEW.json_data->>'n')::int > 15000 THEN
						RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
					END IF; RETURN NEW; END $$;
					CREATE TRIGGER no_room BEFORE INSERT ON $S.okta_users FOR EACH ROW EXECUTE FUNCTION $S.no_room()`)
				defer pg.exec(`DROP TRIGGER no_room ON $S.okta_users; DROP FUNCTION $S.no_room()`)
				return attempt(t.Context(), pg.sink(PostgresOptions{}), s)
			}},
			"dead server":        {write: pgUnder(faultproxy.Fault{Refuse: true})},
			"dies mid-write":     {write: pgUnder(faultproxy.Fault{CutUp: 3 << 20})},
			"stalls mid-write":   {write: pgUnder(faultproxy.Fault{StallUp: 3 << 20})},
			"answer cut off":     {write: pgUnder(faultproxy.Fault{CutDown: 200})},
			"dies after commit":  {either: true, write: pgUnder(faultproxy.Fault{CutReplyTo: commit})},
			"slow, out of time":  {write: pgUnder(faultproxy.Fault{Latency: 300 * time.Millisecond})},
			"cut before a query": {write: pgUnder(faultproxy.Fault{CutUp: 100})},
		},
	}
}

func pgUnder(f faultproxy.Fault) func(*testing.T, place, *snapshot.Snapshot) (string, bool) {
	return func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
		sink, proxy := p.(pgPlace).throughProxy(PostgresOptions{})
		defer proxy.Close() // ends the session that a stall leaves
		proxy.Set(f)
		ctx, cancel := context.WithTimeout(t.Context(), impatience)
		defer cancel()
		return attempt(ctx, sink, s)
	}
}

// asRole writes as a role that may read the tables.
func (p pgPlace) asRole(t *testing.T, s *snapshot.Snapshot) (string, bool) {
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role'; GRANT USAGE ON SCHEMA $S TO ` + role +
		`; GRANT SELECT ON ALL TABLES IN SCHEMA $S TO ` + role)
	defer p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role)
	problem, refused := attempt(t.Context(), p.sink(PostgresOptions{URL: p.server.URL(role, "pw-role")}), s)
	if !strings.Contains(problem, "grant the role ") || strings.Contains(problem, "pw-role") {
		t.Errorf("%q does not say what to grant, or shows the password", problem)
	}
	return problem, refused
}

func (p pgPlace) latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.read(t, h.Stream+"_latest", h)
}

func (p pgPlace) all(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.read(t, h.Stream, h)
}

func (p pgPlace) read(t *testing.T, table string, h snapshot.Header) []string {
	t.Helper()
	name := pgx.Identifier{p.schema, table}.Sanitize()
	var there bool
	if err := p.conn.QueryRow(t.Context(), `SELECT to_regclass($1) IS NOT NULL`, name).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if !there {
		return nil
	}
	rows, err := p.conn.Query(t.Context(), `SELECT json_data::text FROM `+name+` WHERE tenancy = $1`, h.Tenancy)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// An s3Place is the bucket in which an S3 stores.
type s3Place struct{ *s3Test }

const suiteKey = "%TAG/%TENANCY.json"

func s3Harness() harness {
	return harness{
		name: "s3", alone: true,
		sink: func(t *testing.T) (Sink, place) {
			s := newS3Test(t)
			return s.smallParts(), s3Place{s}
		},
		breaks: map[string]breakage{
			"no permission": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				b := p.(s3Place)
				for name, value := range b.user() {
					b.Setenv(name, value)
				}
				return attempt(t.Context(), b.smallParts(), s)
			}},
			"full disk": {write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				b := p.(s3Place)
				onward := b.reverse()
				b.answering(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Query().Get("partNumber") == "2" {
						say(w, r, http.StatusInternalServerError, "InternalError", "No space left on device")
						return
					}
					onward.ServeHTTP(w, r)
				})
				return attempt(t.Context(), b.smallParts(), s)
			}},
			"dead server":       {write: s3Under(faultproxy.Fault{Refuse: true})},
			"dies mid-write":    {write: s3Under(faultproxy.Fault{CutUp: 3 << 20})},
			"stalls mid-write":  {write: s3Under(faultproxy.Fault{StallUp: 3 << 20})},
			"answer cut off":    {write: s3Under(faultproxy.Fault{CutDown: 20})},
			"dies after commit": {either: true, write: s3Under(faultproxy.Fault{CutReplyTo: "default.json?uploadId"})},
			"slow, out of time": {write: s3Under(faultproxy.Fault{Latency: time.Second})},
		},
	}
}

// smallParts makes the destination so that the suite's snapshots take several
// parts.
func (s *s3Test) smallParts() *S3 {
	sink := s.sink("", func(o *S3Options) {
		o.Key = func(h snapshot.Header) string {
			return strings.NewReplacer("%TAG", fileName(h.Stream), "%TENANCY", fileName(h.Tenancy)).Replace(suiteKey)
		}
	})
	sink.part = smallPart
	return sink
}

func s3Under(f faultproxy.Fault) func(*testing.T, place, *snapshot.Snapshot) (string, bool) {
	return func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
		b := p.(s3Place)
		proxy, err := faultproxy.New("tcp", b.server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		b.Setenv("AWS_ENDPOINT_URL_S3", "http://"+proxy.Addr())
		b.Setenv("AWS_MAX_ATTEMPTS", "1")
		proxy.Set(f)
		ctx, cancel := context.WithTimeout(t.Context(), impatience)
		defer cancel()
		sink := b.smallParts()
		defer sink.Close()
		return attempt(ctx, sink, s)
	}
}

func (p s3Place) latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	key := strings.NewReplacer("%TAG", fileName(h.Stream), "%TENANCY", fileName(h.Tenancy)).Replace(suiteKey)
	text, found := p.body(p.look(), key)
	if !found {
		return nil
	}
	return lines(t, string(text), true)
}

func (p s3Place) all(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.latest(t, h)
}
