package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/duckdb/duckdb-go/v2" // the driver

	"github.com/collectord/collectord/internal/duckdb"
)

func benchDuckDB(l *lab) (result, error) {
	s, err := l.snapshot(delivered)
	if err != nil {
		return result{}, err
	}
	file, err := l.finished(s, ".ndjson")
	if err != nil {
		return result{}, err
	}
	ours, theirs, err := l.compare(l.write(s, nil, "duckdb"), func() (measured, error) {
		dir, err := l.folder()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		return timed(program(l.ctx, nil, l.self, "worker", "duckdb", filepath.Join(dir, "x.duckdb"), file))
	})
	if err != nil {
		return result{}, err
	}
	r := versus(s, ours, theirs, "DuckDB's own statement", 1)
	r.notes = append(r.notes, "Both into the columns upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON of a new file, with the checkpoint. DuckDB's own runs with its defaults: all cores, 80 % of the machine's memory.")
	return r, nil
}

// loadNDJSON is DuckDB's own way, with its defaults: DATABASE FILE.
func loadNDJSON(ctx context.Context, args []string) (err error) {
	fmt.Print(ready)
	defer fmt.Print(done)
	db, err := sql.Open("duckdb", args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, statement := range []string{
		"CREATE TABLE records (upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON)",
		"INSERT INTO records SELECT TIMESTAMP '2026-01-01', 'default', json FROM read_ndjson_objects(" + duckdb.Literal(args[1]) + ")",
		"CHECKPOINT",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// benchDuckDBMemory runs the program from the vendor to the database.
func benchDuckDBMemory(l *lab) (result, error) {
	v, err := l.simulate(2_000_000)
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	dir, err := l.folder()
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	m, err := l.extract(v, dir, "STORE_DUCKDB="+filepath.Join(dir, "records.duckdb"))
	if err != nil {
		return result{}, err
	}
	s, err := sealed(dir)
	if err != nil {
		return result{}, err
	}
	return result{
		figure: fmt.Sprintf("%s at the most; %d records, %s, from the vendor to the database in %s", mb(m.rss), s.Records, mb(s.Bytes), seconds(m.wall)),
		ratio:  fmt.Sprintf("%.2f of 512 MB", float64(m.rss)/512e6),
		met:    m.rss < 512e6,
		notes:  []string{"One run of the whole program with its default settings, extraction and load: memory repeats itself and needs no pairs."},
	}, nil
}
