package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
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
