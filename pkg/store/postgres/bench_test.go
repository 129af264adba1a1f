package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func BenchmarkPostgresWrite(b *testing.B) {
	server := testserver.StartPostgres(b)
	snap := storetest.SealHosts(b, 50_000)
	for _, column := range []string{"json", "jsonb"} {
		b.Run(column, func(b *testing.B) {
			conn, err := pgx.Connect(b.Context(), server.URL(testserver.Owner, testserver.Password))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(b.Context()))
			s, err := New(Options{URL: server.URL(testserver.Owner, testserver.Password), Schema: "bench_" + column, JSON: column})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(snap.Bytes)
			n := 0
			for b.Loop() {
				each := *snap
				each.UploadID = fmt.Sprint("upload-", n, time.Now())
				n++
				if err := s.Write(b.Context(), &each); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if _, err := conn.Exec(b.Context(), "TRUNCATE bench_"+column+".bench_hosts; CHECKPOINT"); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkPostgresTypedView measures the delivery of 5,000 records of 45 members with
// a typed view, and reading all columns of it, against reading the same members with
// ->> from the view of newest snapshots.
func BenchmarkPostgresTypedView(b *testing.B) {
	server := testserver.StartPostgres(b)
	snap := storetest.SealHosts(b, 5_000)
	conn, err := pgx.Connect(b.Context(), server.URL(testserver.Owner, testserver.Password))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.Context()))
	s, err := New(Options{URL: server.URL(testserver.Owner, testserver.Password), Schema: "bench_typed", Views: store.ViewsTyped, Retention: store.Retention{Newest: 1}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		b.SetBytes(snap.Bytes)
		n := 0
		for b.Loop() {
			each := *snap
			n++
			each.UploadID, each.UploadTimestamp = fmt.Sprint("upload-", n, time.Now()), snap.UploadTimestamp.Add(time.Duration(n)*time.Second)
			if err := s.Write(b.Context(), &each); err != nil {
				b.Fatal(err)
			}
		}
	})
	extracted := `json_data->>'device_id', json_data->>'hostname', json_data->'tags', json_data->'nested'`
	for i := range 40 {
		extracted += fmt.Sprintf(", json_data->>'field_%02d'", i)
	}
	for _, read := range []struct{ name, query string }{
		{name: "read", query: `SELECT count(v::text) FROM bench_typed.bench_hosts_latest_typed AS v`},
		{name: "extract", query: `SELECT count(v::text) FROM (SELECT ` + extracted + ` FROM bench_typed.bench_hosts_latest OFFSET 0) AS v`},
	} {
		b.Run(read.name, func(b *testing.B) {
			b.SetBytes(snap.Bytes)
			for b.Loop() {
				var rows int
				if err := conn.QueryRow(b.Context(), read.query).Scan(&rows); err != nil || rows != 5_000 {
					b.Fatalf("%d rows: %v", rows, err)
				}
			}
		})
	}
}
