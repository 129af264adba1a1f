package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
)

// hosts makes a snapshot of n records of 2 KB that compress as vendors' do.
func hosts(b *testing.B, n int) *snapshot.Snapshot {
	return sealEach(b, headerOf("bench_hosts", "acme", noon), n, func(i int) string {
		var s strings.Builder
		fmt.Fprintf(&s, `{"device_id":"%032x","hostname":"host-%d.example.com"`, i*7919, i)
		for j := range 40 {
			fmt.Fprintf(&s, `,"field_%02d":"value %d of %d"`, j, (i*31+j*17)%1000, i%97)
		}
		fmt.Fprintf(&s, `,"tags":["a","b","%d"],"nested":{"seen":%d,"ok":true,"text":%q}}`, i%13, 1700000000+i, strings.Repeat("x", 700))
		return s.String()
	})
}

func BenchmarkPostgresWrite(b *testing.B) {
	server := testserver.StartPostgres(b)
	snap := hosts(b, 50_000)
	for _, column := range []string{"json", "jsonb"} {
		b.Run(column, func(b *testing.B) {
			conn, err := pgx.Connect(b.Context(), server.URL(testserver.Owner, testserver.Password))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(b.Context()))
			s, err := NewPostgres(PostgresOptions{URL: server.URL(testserver.Owner, testserver.Password), Schema: "bench_" + column, JSON: column})
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

func BenchmarkS3Write(b *testing.B) {
	server := testserver.StartS3(b)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": testserver.S3Key, "AWS_SECRET_ACCESS_KEY": testserver.S3Secret, "AWS_ENDPOINT_URL_S3": "http://" + server.Addr()} {
		b.Setenv(name, value)
	}
	snap := hosts(b, 50_000)
	for _, ending := range []string{"json", "json.gz", "jsonl.zst"} {
		b.Run(ending, func(b *testing.B) {
			s, err := NewS3(S3Options{Bucket: "b-bench", Key: func(snapshot.Header) string { return "hosts." + ending }})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			conn, err := s.connect(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := conn.client.CreateBucket(b.Context(), &s3.CreateBucketInput{Bucket: &s.opts.Bucket}); err != nil && !strings.Contains(err.Error(), "BucketAlready") {
				b.Fatal(err)
			}
			b.SetBytes(snap.Bytes)
			for b.Loop() {
				if err := s.Write(b.Context(), snap); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
