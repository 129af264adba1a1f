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
	s, file, err := l.snapshotAndFile(".ndjson")
	if err != nil {
		return result{}, err
	}
	ours, theirs, err := l.comparePair(l.storeCommand(s, nil, "duckdb"), func() (measured, error) {
		dir, err := l.newDir()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		return runTimed(newCommand(l.ctx, nil, l.self, "worker", "duckdb", filepath.Join(dir, "x.duckdb"), file))
	})
	if err != nil {
		return result{}, err
	}
	r := compareResults(s, ours, theirs, "DuckDB's own statement", 1)
	r.notes = append(r.notes, duckDBNote)
	return r, nil
}

const duckDBNote = "Both load into the columns upload_timestamp TIMESTAMP, tenancy VARCHAR and json_data JSON of a " +
	"new file, including the checkpoint. DuckDB's own statement runs with its defaults: all cores, " +
	"80 % of the machine's memory."

// loadNDJSON loads a file with DuckDB's own statement and defaults. args are
// DATABASE FILE.
func loadNDJSON(ctx context.Context, args []string) (err error) {
	fmt.Print(readyMark)
	defer fmt.Print(doneMark)
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

// benchDuckDBMemory measures the memory of the whole program from the vendor to
// the database.
func benchDuckDBMemory(l *lab) (result, error) {
	v, err := l.startSimulator(2_000_000)
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	dir, err := l.newDir()
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	m, err := l.runExtraction(v, dir, "STORE_DUCKDB="+filepath.Join(dir, "records.duckdb"))
	if err != nil {
		return result{}, err
	}
	s, err := openSealed(dir)
	if err != nil {
		return result{}, err
	}
	return result{
		figure: fmt.Sprintf("%s at the most; %d records, %s, from the vendor to the database in %s", formatMB(m.rss), s.Records,
			formatMB(s.Bytes), formatSeconds(m.wall)),
		ratio: fmt.Sprintf("%.2f of 512 MB", float64(m.rss)/512e6),
		met:   m.rss < 512e6,
		notes: []string{duckDBMemoryNote},
	}, nil
}

const duckDBMemoryNote = "One run of the whole program with its default settings, extraction and load. Memory varies " +
	"little between runs, so no pairs are needed."
