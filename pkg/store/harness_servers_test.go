package store

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/testserver"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
)

// A pgPlace is a schema.
type pgPlace struct {
	*pgTest
	jsonb bool
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
	rows, err := p.conn.Query(context.WithoutCancel(t.Context()),
		`SELECT json_data::text FROM `+quote(p.schema, table)+` WHERE tenancy = $1`, h.Tenancy)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		if p.jsonb {
			text = canonical(text)
		}
		list = append(list, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func postgresHarness(column string) harness {
	h := harness{
		name:    "postgres." + column,
		history: true,
		sink: func(t *testing.T) (Sink, place) {
			p := newPgTest(t)
			return p.sink(PostgresOptions{JSON: column}), pgPlace{p, column == "jsonb"}
		},
		behind: func(t *testing.T) (Sink, place, *faultproxy.Proxy) {
			p := newPgTest(t)
			sink, proxy := p.throughProxy(PostgresOptions{JSON: column})
			return sink, pgPlace{p, column == "jsonb"}, proxy
		},
		commit: commit,
		child: func(t *testing.T) (string, string) {
			p := newPgTest(t)
			return "postgres." + column, p.server.URL(testserver.Owner, testserver.Password) + "#" + p.schema
		},
		memory: 200 << 20,
	}
	if column == "jsonb" {
		h.expect = func(record string) string {
			if spelt, changed := respell(nil, []byte(record)); changed {
				record = string(spelt)
			}
			return canonical(record)
		}
	}
	h.breaks = map[string]breakage{
		"no permission":    {refused: true, write: postgresForbidden},
		"missing database": {refused: true, write: postgresElsewhere},
		"another table": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
			pg := p.(pgPlace)
			pg.exec(`ALTER TABLE $S.okta_users RENAME tenancy TO tenant`)
			defer pg.exec(`ALTER TABLE $S.okta_users RENAME tenant TO tenancy`)
			return outcome(t, pg.sink(PostgresOptions{}), s)
		}},
		"locked": {write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
			pg := p.(pgPlace)
			tx, err := pg.conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer rollBack(tx)
			if _, err := tx.Exec(t.Context(), `LOCK TABLE `+pg.schema+`.okta_users`); err != nil {
				t.Fatal(err)
			}
			return outcome(t, pg.sink(PostgresOptions{URL: pg.server.URL(testserver.Quick, "") + "&lock_timeout=50"}), s)
		}},
	}
	return h
}

// outcome writes where it must fail.
func outcome(t *testing.T, sink Sink, s *snapshot.Snapshot) (string, bool) {
	t.Helper()
	err := sink.Write(t.Context(), s)
	if err == nil {
		return "", false
	}
	if strings.Contains(err.Error(), "pw-") || strings.Contains(err.Error(), testserver.S3Secret) {
		t.Errorf("a secret is in: %v", err)
	}
	return err.Error(), errors.Is(err, ErrRefused)
}

func postgresForbidden(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
	pg := p.(pgPlace)
	role := "r_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	pg.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role'; GRANT USAGE ON SCHEMA $S TO ` + role)
	defer pg.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role)
	return outcome(t, pg.sink(PostgresOptions{URL: pg.server.URL(role, "pw-role")}), s)
}

func postgresElsewhere(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
	pg := p.(pgPlace)
	return outcome(t, pg.sink(PostgresOptions{URL: strings.Replace(pg.server.URL(testserver.Quick, ""), "/postgres?", "/nowhere?", 1)}), s)
}

// canonical is a record with its members in order and its numbers in one
// spelling: jsonb keeps neither as it came.
func canonical(record string) string {
	d := json.NewDecoder(strings.NewReader(record))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	var plain func(v any) any
	plain = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			if r, ok := new(big.Rat).SetString(v.String()); ok {
				return r.RatString()
			}
		case []any:
			for i := range v {
				v[i] = plain(v[i])
			}
		case map[string]any:
			for name := range v {
				v[name] = plain(v[name])
			}
		}
		return v
	}
	text, err := json.Marshal(plain(v))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// s3Keys are the keys of the suite's objects, less the extension.
const s3Keys = "data/%TAG/%TENANCY."

// An s3Place is a bucket.
type s3Place struct {
	*s3Test
	sink *S3 // looks without a proxy
	ext  string
}

func (p s3Place) latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	s := *p.s3Test
	s.T = t
	key := p.sink.opts.Key(h)
	b, ok := s.body(p.sink, key)
	if !ok {
		return nil
	}
	return lines(t, string(unpack(t, key, b)), strings.HasPrefix(p.ext, "json"))
}

func (p s3Place) all(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	if n := p.unfinished(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
	return p.latest(t, h)
}

func s3Harness(ext string) harness {
	name := "s3." + ext
	make := func(t *testing.T) (*S3, s3Place) {
		s := newS3Test(t)
		look := s.look()
		p, err := ParsePath("STORE_AWS_S3_KEY", s3Keys+ext)
		if err != nil {
			t.Fatal(err)
		}
		look.opts.Key = p.Render
		sink := s.sink("", func(o *S3Options) { o.Key = p.Render })
		return sink, s3Place{s, look, ext}
	}
	return harness{
		name:   name,
		serial: true,
		sink: func(t *testing.T) (Sink, place) {
			sink, p := make(t)
			return sink, p
		},
		behind: func(t *testing.T) (Sink, place, *faultproxy.Proxy) {
			sink, p := make(t)
			return sink, p, p.throughProxy()
		},
		commit: "PUT /",
		child: func(t *testing.T) (string, string) {
			return name, newS3Test(t).bucket
		},
		memory: 250 << 20,
		breaks: map[string]breakage{
			"full disk": {write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				return p.(s3Place).refusing(t, s, http.StatusInsufficientStorage, "XMinioStorageFull")
			}},
			"slow down": {write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				return p.(s3Place).refusing(t, s, http.StatusServiceUnavailable, "SlowDown")
			}},
			// A few records: a server that refuses a long body resets the connection,
			// and then its answer may not arrive.
			"no permission": {refused: true, write: func(t *testing.T, p place, _ *snapshot.Snapshot) (string, bool) {
				place := p.(s3Place)
				sink := place.another(t, func() {
					for name, value := range place.user() {
						t.Setenv(name, value)
					}
				})
				return outcome(t, sink, sealed(t, header(2), numbered(2, 20)...))
			}},
			"missing bucket": {refused: true, write: func(t *testing.T, p place, _ *snapshot.Snapshot) (string, bool) {
				sink := p.(s3Place).another(t, func() {})
				sink.opts.Bucket = "b-nowhere"
				return outcome(t, sink, sealed(t, header(2), numbered(2, 20)...))
			}},
		},
	}
}

// another makes a sink after set has changed the variables.
func (p s3Place) another(t *testing.T, set func()) *S3 {
	t.Helper()
	set()
	return p.s3Test.sink("", func(o *S3Options) { o.Key = p.sink.opts.Key })
}

// refusing writes through a server that lets nothing be put.
func (p s3Place) refusing(t *testing.T, s *snapshot.Snapshot, status int, code string) (string, bool) {
	t.Helper()
	onward := p.reverse()
	sink := p.another(t, func() {
		p.answering(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				say(w, r, status, code, "no")
				return
			}
			onward.ServeHTTP(w, r)
		})
	})
	return outcome(t, sink, s)
}
