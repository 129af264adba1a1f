package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/postgres"
)

// The year of history that the views of newest snapshots are measured over.
const (
	historySnapshots = 365
	historyRecords   = 10_000
	historyStream    = "okta_users"
	historyTenancy   = "default"
)

// latestMost is the most time that a view may take, in times of the direct read.
const latestMost = 1.2

// planningMost is how much longer the view in DuckDB may take all the same. Most of
// that is the time to plan it, which does not depend on the number of rows.
const planningMost = 10 * time.Millisecond

// historyOf is the SQL that adds the other snapshots of the year to a database in
// which the product has stored one, with their entries in the ledger.
const historyOf = `
	INSERT INTO %[1]s.okta_users SELECT r.upload_timestamp - g.n * INTERVAL '1 day', r.tenancy, r.json_data
		FROM %[1]s.okta_users AS r, generate_series(1, %[2]d) AS g(n);
	INSERT INTO %[1]s._collectord_snapshots SELECT l.stream, l.tenancy, l.upload_id || '-' || g.n, l.upload_timestamp - g.n * INTERVAL '1 day', l.records, l.stored_at - g.n * INTERVAL '1 day'
		FROM %[1]s._collectord_snapshots AS l, generate_series(1, %[2]d) AS g(n);`

// latestRead and directRead read the newest snapshot by the view and by its own
// timestamp.
const (
	latestRead = `SELECT upload_timestamp, tenancy, json_data FROM %s.okta_users_latest`
	directRead = `SELECT upload_timestamp, tenancy, json_data FROM %s.okta_users WHERE tenancy = '` + historyTenancy + `' AND upload_timestamp = $1`
)

// historySnapshot seals the newest snapshot of the history.
func (l *lab) historySnapshot() (*snapshot.Snapshot, error) {
	return memoize(l, "history snapshot", func() (_ *snapshot.Snapshot, err error) {
		dir, err := l.newDir()
		if err != nil {
			return nil, err
		}
		w, err := snapshot.Create(filepath.Join(dir, "spool"), snapshot.Header{
			Collector: "okta", Stream: historyStream, Tenancy: historyTenancy, UploadID: uuid.NewString(),
			UploadTimestamp: time.Now().UTC().Add(-time.Hour).Truncate(time.Second),
		})
		if err != nil {
			return nil, err
		}
		batch := w.NewBatch()
		for i := range historyRecords {
			record := fmt.Sprintf(`{"id":"00u%017d","status":"ACTIVE","login":"user.%d@example.com","profile":{"name":"User %d","department":"department %d","note":%q}}`,
				i, i, i, i%37, uuid.NewString()+uuid.NewString()+uuid.NewString())
			if err := batch.Append([]byte(record)); err != nil {
				return nil, err
			}
		}
		if err := batch.Commit(); err != nil {
			return nil, err
		}
		return w.Seal(filepath.Join(dir, "snapshot"))
	})
}

// benchLatestPostgres compares the view in Postgres with a direct read.
func benchLatestPostgres(l *lab) (r result, err error) {
	s, err := l.historySnapshot()
	if err != nil {
		return result{}, err
	}
	if _, err := l.prepareServer("postgres"); err != nil {
		return result{}, err
	}
	p, err := testserver.OpenPostgres()
	if err != nil {
		return result{}, err
	}
	url := p.URL(testserver.Owner, testserver.Password)
	sink, err := postgres.New(postgres.Options{URL: url, Schema: "bench", JSON: "json"})
	if err != nil {
		return result{}, err
	}
	if err := storeOnce(l.ctx, sink, s); err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, l.runPSQL("DROP SCHEMA bench CASCADE")) }()
	if err := l.runPSQL(fmt.Sprintf(historyOf, "bench", historySnapshots-1)); err != nil {
		return result{}, err
	}
	if err := l.runPSQL("VACUUM (ANALYZE) bench.okta_users"); err != nil { // as autovacuum does
		return result{}, err
	}
	conn, err := pgx.Connect(l.ctx, url)
	if err != nil {
		return result{}, err
	}
	defer conn.Close(context.WithoutCancel(l.ctx))
	return l.compareReads(s, 0, func(query string, args ...any) (int64, error) {
		rows, err := conn.Query(l.ctx, fmt.Sprintf(query, "bench"), args...)
		if err != nil {
			return 0, err
		}
		for rows.Next() { // the values are received, and not decoded
		}
		return rows.CommandTag().RowsAffected(), rows.Err()
	})
}

// benchLatestDuckDB compares the view in DuckDB with a direct read.
func benchLatestDuckDB(l *lab) (r result, err error) {
	s, err := l.historySnapshot()
	if err != nil {
		return result{}, err
	}
	dir, err := l.newDir()
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	sink, err := openSink("duckdb", dir)
	if err != nil {
		return result{}, err
	}
	if err := storeOnce(l.ctx, sink, s); err != nil {
		return result{}, err
	}
	db, err := sql.Open("duckdb", filepath.Join(dir, "records.duckdb"))
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(l.ctx, fmt.Sprintf(historyOf, "main", historySnapshots-1)+"CHECKPOINT"); err != nil {
		return result{}, err
	}
	return l.compareReads(s, planningMost, func(query string, args ...any) (n int64, err error) {
		rows, err := db.QueryContext(l.ctx, fmt.Sprintf(query, "main"), args...)
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		for rows.Next() {
			n++
		}
		return n, rows.Err()
	})
}

func storeOnce(ctx context.Context, sink store.Sink, s *snapshot.Snapshot) error {
	return errors.Join(sink.Write(ctx, s), sink.Close())
}

// compareReads reads the newest snapshot by the view and directly, alternately. The
// view may take longer by more. read executes a query and returns the number of rows.
func (l *lab) compareReads(s *snapshot.Snapshot, more time.Duration, read func(query string, args ...any) (int64, error)) (result, error) {
	timed := func(query string, args ...any) runFunc {
		return func() (measured, error) {
			began := time.Now()
			n, err := read(query, args...)
			if err == nil && n != s.Records {
				err = fmt.Errorf("%d rows, want %d", n, s.Records)
			}
			return measured{wall: time.Since(began)}, err
		}
	}
	view, direct := timed(latestRead), timed(directRead, s.UploadTimestamp)
	if _, err := l.runInterleaved(3, view, direct); err != nil { // fills the caches
		return result{}, err
	}
	runs, err := l.runInterleaved(10*l.pairs, view, direct)
	if err != nil {
		return result{}, err
	}
	ratio := medianRatio(runs[0], runs[1])
	return result{
		figure: fmt.Sprintf("%.1f ms for %d of %d rows", medianWall(runs[0])*1e3, s.Records, historySnapshots*s.Records),
		ratio:  fmt.Sprintf("%.2f times the same rows read by their own timestamp (%.1f ms)", ratio, medianWall(runs[1])*1e3),
		met:    ratio <= latestMost || medianWall(runs[0])-medianWall(runs[1]) <= more.Seconds(),
	}, nil
}
