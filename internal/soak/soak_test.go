//go:build !race

// The program is built without the race detector in any case, and the simulated vendors
// and the checks would take three times as long with it.

package main

import (
	"errors"
	"os"
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

// TestSoak runs a short soak and then damages its results in many ways. The
// checks must detect each damage. The seed is fixed: `make soak` searches at random.
func TestSoak(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := buildWithClock(t.Context(), root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSoak(t.Context(), options{root: root, binary: binary, time: 20 * time.Second, seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cleanUp)
	t.Logf("seed %d", s.opts.seed)
	found, err := s.runSoak()
	s.printReport(t.Output())
	if err != nil || len(found) > 0 {
		s.keepEvidence()
		t.Fatalf("seed %d: %v: %d violations; the evidence is in %s:\n%s", s.opts.seed, err, len(found), s.dir, strings.Join(found, "\n"))
	}
	damages := s.damages()
	for _, d := range damages {
		if err := d.apply(); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
	}
	if err := os.RemoveAll(s.file("new")); err != nil {
		t.Fatal(err)
	}
	e, err := s.gatherEvidence()
	if err != nil {
		t.Fatal(err)
	}
	found = s.checkEvidence(e)
	for _, d := range damages {
		if !slices.ContainsFunc(found, regexp.MustCompile(d.violation).MatchString) {
			t.Errorf("%s: no violation matches %q:\n%s", d.name, d.violation, strings.Join(found, "\n"))
		}
	}
}

// A damage changes what a soak has left behind, so that its checks must report
// a violation.
type damage struct {
	name      string
	violation string // pattern of the violation
	apply     func() error
}

func (s *soak) damages() []damage {
	return []damage{
		{
			name:      "a row is missing in Postgres",
			violation: `^Postgres: okta_users: snapshot`,
			apply: func() error {
				return s.execPostgres(`DELETE FROM soak.okta_users WHERE ctid = (SELECT max(ctid) FROM soak.okta_users)`)
			},
		},
		{
			name:      "a snapshot of no run is in Postgres",
			violation: `^Postgres: snyk_projects: .* of 00000000-0000-4000-8000-000000000000, which is not a success in the history`,
			apply: func() error {
				return s.execPostgres(`INSERT INTO soak.snyk_projects SELECT upload_timestamp, tenancy,
				replace(json_data::text, right(json_data::text, 38), '00000000-0000-4000-8000-000000000000"}')::json FROM soak.snyk_projects LIMIT 1`)
			},
		},
		{
			name:      "a record is duplicated in DuckDB",
			violation: `^DuckDB: snyk_members: snapshot`,
			apply: func() error {
				return s.execDuckDB(`INSERT INTO snyk_members SELECT * FROM snyk_members LIMIT 1`)
			},
		},
		{
			name:      "a file is left in the spool",
			violation: `^left over: .*spool/left$`,
			apply: func() error {
				return os.WriteFile(s.file("state", "spool", "left"), nil, 0o600)
			},
		},
		{
			name:      "the backup is an older one",
			violation: `^backup: tenable_assets: `,
			apply: func() error {
				path := s.destinations.s3.Object(bucket, "backup/tenable_assets/default.json")
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				return os.WriteFile(path, []byte(strings.Replace(string(text), `"id":"`, `"id":"0`, 1)), 0o600)
			},
		},
		{
			name:      "a run is not counted",
			violation: `okta_users.*in its counts`,
			apply: func() error {
				return s.execState(`UPDATE counters SET runs = runs + 1 WHERE stream = 'okta_users' AND outcome = 'success'`)
			},
		},
		{
			name:      "a success has become a failure",
			violation: `crowdstrike_hosts: .*, which is not a success in the history`,
			apply: func() error {
				return s.execState(`UPDATE runs SET outcome = 'failed', error = 'x' WHERE id = (SELECT min(id) FROM runs WHERE outcome = 'success' AND stream = 'crowdstrike_hosts')`)
			},
		},
		{
			name:      "the vendor had other records",
			violation: `snyk_issues.*the vendor had`,
			apply: func() error {
				s.vendors.ledger[vendorsim.SnykIssues] = s.vendors.ledger[vendorsim.SnykIssues][:1]
				s.vendors.ledger[vendorsim.SnykIssues][0].records++
				return nil
			},
		},
		{
			name:      "the publisher had a new file in a run that is unchanged",
			violation: `^epss_scores: run \d+ is unchanged, but the publisher had`,
			apply: func() error {
				return s.execState(`UPDATE runs SET outcome = 'unchanged' WHERE id = (SELECT max(id) FROM runs WHERE outcome = 'success' AND stream = 'epss_scores')`)
			},
		},
		{
			name:      "a stream ran while it was off",
			violation: `began while the stream was off`,
			apply: func() error {
				s.reloads.switches[0].off = s.began
				return nil
			},
		},
		{
			name:      "the old key was used after the reload",
			violation: `the vendor received the old key`,
			apply: func() error {
				s.reloads.rotations[0].reloaded = s.began.Add(-time.Hour)
				return nil
			},
		},
		{
			name:      "an alert has no cause",
			violation: `^false alert: CollectordReloadFailed`,
			apply: func() error {
				s.events.list = slices.DeleteFunc(s.events.list, func(e event) bool { return e.kind == badReload })
				return nil
			},
		},
		{
			name:      "a secret is in the log",
			violation: `the log contains a secret`,
			apply: func() error {
				f, err := os.OpenFile(s.file("daemon.log"), os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteString(`{"level":"info","msg":"` + testserver.Password + `"}` + "\n")
				return errors.Join(err, f.Close())
			},
		},
	}
}

func (s *soak) execPostgres(statement string) error {
	conn, err := s.destinations.connectDirectly(s.ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(s.ctx, statement)
	return errors.Join(err, conn.Close(s.ctx))
}

func (s *soak) execDuckDB(statement string) error {
	db, err := duckdb.Open(s.ctx, s.destinations.duckdbPath(), duckdb.Options{})
	if err != nil {
		return err
	}
	_, err = db.ExecContext(s.ctx, statement)
	return errors.Join(err, db.Close())
}
