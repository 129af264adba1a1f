package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
)

// stored reads a stream's file and returns its records as they came, without
// the three members that every one must have.
func (p *place) stored(stream string) []string {
	p.Helper()
	text := p.content(p.source(stream))
	var records []json.RawMessage
	if err := json.Unmarshal([]byte(text), &records); err != nil {
		p.Fatalf("%s: %v: %.200s", stream, err, text)
	}
	var all []string
	for _, raw := range records {
		var ours struct {
			Tenancy string `json:"_tenancy"`
			Time    string `json:"_upload_timestamp"`
			ID      string `json:"_upload_id"`
		}
		if err := json.Unmarshal(raw, &ours); err != nil {
			p.Fatal(err)
		}
		if ours.Tenancy != "default" || len(ours.ID) != 36 {
			p.Fatalf("members %+v", ours)
		}
		if _, err := time.Parse("2006-01-02 15:04:05", ours.Time); err != nil {
			p.Error(err)
		}
		tail := `,"_tenancy":"default","_upload_timestamp":"` + ours.Time + `","_upload_id":"` + ours.ID + `"}`
		own, found := strings.CutSuffix(string(raw), tail)
		if !found {
			p.Fatalf("a record does not end with %s", tail)
		}
		all = append(all, own+"}")
	}
	return all
}

// rows counts a table's rows in the DuckDB file.
func (p *place) rows(table string) int {
	p.Helper()
	db, err := duckdb.Open(p.Context(), p.env["STORE_DUCKDB"], duckdb.Options{ReadOnly: true})
	if err != nil {
		p.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			p.Error(err)
		}
	}()
	n := 0
	if err := db.QueryRowContext(p.Context(), `SELECT count(*) FROM "`+table+`"`).Scan(&n); err != nil {
		p.Fatal(err)
	}
	return n
}

// files lists all files below dir with their content, but for those that a
// run may change without harm.
func (p *place) files(dir string) map[string]string {
	p.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		all[path] = p.content(path)
		return nil
	})
	if err != nil {
		p.Fatal(err)
	}
	return all
}

// sameSet compares records as sets, byte for byte.
func sameSet(t *testing.T, got, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, w := range want {
		count[w]++
	}
	for _, g := range got {
		count[g]--
	}
	for record, n := range count {
		if n != 0 {
			t.Fatalf("%d stored, %d expected; one that differs (missing %d times): %.200s", len(got), len(want), n, record)
		}
	}
}
