package s3

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func BenchmarkS3Write(b *testing.B) {
	server := testserver.StartS3(b)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": testserver.S3Key, "AWS_SECRET_ACCESS_KEY": testserver.S3Secret, "AWS_ENDPOINT_URL_S3": "http://" + server.Addr()} {
		b.Setenv(name, value)
	}
	snap := storetest.SealHosts(b, 50_000)
	for _, ending := range []string{"json", "json.gz", "jsonl.zst"} {
		b.Run(ending, func(b *testing.B) {
			s, err := New(Options{Bucket: "b-bench", Key: func(snapshot.Header) string { return "hosts." + ending }})
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
