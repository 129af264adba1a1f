package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testserver.Stop()
	os.Exit(code)
}

// TestSoak soaks for a short while, and then spoils what it left in many
// places: each must be found.
func TestSoak(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "collectord")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/collectord")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s, err := newSoak(t.Context(), options{binary: binary, time: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	t.Logf("seed %d", s.opts.seed)
	found, err := s.soak()
	if err != nil || len(found) > 0 {
		s.keep()
		t.Fatalf("seed %d: %v: %d violations; the evidence is in %s:\n%s", s.opts.seed, err, len(found), s.dir, strings.Join(found, "\n"))
	}
	s.report(t.Output())
	spoils := []struct {
		name, found string
		do          func() error
	}{
		{"a row is gone from Postgres", `^Postgres: okta_users: snapshot`, func() error {
			return s.inPostgres(`DELETE FROM soak.okta_users WHERE ctid = (SELECT max(ctid) FROM soak.okta_users)`)
		}},
		{"a snapshot of no run is in Postgres", `^Postgres: snyk_projects: .* of 00000000-0000-4000-8000-000000000000, which is no success in the history`, func() error {
			return s.inPostgres(`INSERT INTO soak.snyk_projects SELECT upload_timestamp, tenancy,
				replace(json_data::text, right(json_data::text, 38), '00000000-0000-4000-8000-000000000000"}')::json FROM soak.snyk_projects LIMIT 1`)
		}},
		{"a record is doubled in DuckDB", `^DuckDB: snyk_members: snapshot`, func() error {
			return s.inDuckDB(`INSERT INTO snyk_members SELECT * FROM snyk_members LIMIT 1`)
		}},
		{"a file lies in the spool", `^left over: .*spool/left$`, func() error {
			return os.WriteFile(s.file("state", "spool", "left"), nil, 0o600)
		}},
		{"the backup is an older one", `^backup: tenable_assets: `, func() error {
			path := s.dest.s3.Object(bucket, "backup/tenable_assets/default.json")
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.Replace(string(text), `"id":"`, `"id":"0`, 1)), 0o600)
		}},
		{"a run is not counted", `okta_users.*in its counts`, func() error {
			return s.inState(`UPDATE counters SET runs = runs + 1 WHERE stream = 'okta_users' AND outcome = 'success'`)
		}},
		{"a success has become a failure", `crowdstrike_hosts: .*, which is no success in the history`, func() error {
			return s.inState(`UPDATE runs SET outcome = 'failed', error = 'x' WHERE id = (SELECT min(id) FROM runs WHERE outcome = 'success' AND stream = 'crowdstrike_hosts')`)
		}},
		{"the vendor had something else", `snyk_issues.*the vendor had`, func() error {
			s.vendors.ledger[vendorsim.SnykIssues] = s.vendors.ledger[vendorsim.SnykIssues][:1]
			s.vendors.ledger[vendorsim.SnykIssues][0].records++
			return nil
		}},
		{"a secret is in the log", `the log shows a secret`, func() error {
			f, err := os.OpenFile(s.file("daemon.log"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(`{"level":"info","msg":"` + testserver.Password + `"}` + "\n")
			return errors.Join(err, f.Close())
		}},
	}
	for _, spoil := range spoils {
		if err := spoil.do(); err != nil {
			t.Fatalf("%s: %v", spoil.name, err)
		}
	}
	if err := os.RemoveAll(s.file("new")); err != nil {
		t.Fatal(err)
	}
	e, err := s.gather()
	if err != nil {
		t.Fatal(err)
	}
	found = s.check(e)
	for _, spoil := range spoils {
		if !slices.ContainsFunc(found, regexp.MustCompile(spoil.found).MatchString) {
			t.Errorf("%s: nothing says %q:\n%s", spoil.name, spoil.found, strings.Join(found, "\n"))
		}
	}
}

func (s *soak) inPostgres(statement string) error {
	conn, err := s.dest.connect(s.ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(s.ctx, statement)
	return errors.Join(err, conn.Close(s.ctx))
}

func (s *soak) inDuckDB(statement string) error {
	db, err := duckdb.Open(s.ctx, s.dest.duckdb(), duckdb.Options{})
	if err != nil {
		return err
	}
	_, err = db.ExecContext(s.ctx, statement)
	return errors.Join(err, db.Close())
}
