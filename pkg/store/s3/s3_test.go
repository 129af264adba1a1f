package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// An s3Test is a test with a bucket of its own on the server.
type s3Test struct {
	*testing.T
	server *testserver.S3
	bucket string
	direct *s3.Client // requests that do not use the sink
	logged *bytes.Buffer
}

// newTest creates a bucket and points the AWS variables at the server.
func newTest(t *testing.T) *s3Test {
	t.Helper()
	server := testserver.StartS3(t)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": testserver.S3Key, "AWS_SECRET_ACCESS_KEY": testserver.S3Secret, "AWS_SESSION_TOKEN": "", "AWS_REGION": "",
		"AWS_ENDPOINT_URL": "http://" + server.Addr(), "AWS_ENDPOINT_URL_S3": "http://" + server.Addr(), "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	s := &s3Test{T: t, server: server, bucket: "b-" + uuid.NewString(), logged: &bytes.Buffer{}}
	conn, err := s.sink("unused.json").connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.direct = conn.client
	if _, err := s.direct.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
		t.Fatal(err)
	}
	return s
}

// sink returns a sink that is configured by the present AWS variables. In key, %TAG
// stands for the stream and %ID for the upload id.
func (s *s3Test) sink(key string, change ...func(*Options)) *Sink {
	s.Helper()
	opts := Options{Bucket: s.bucket, OneObject: true, Key: func(h snapshot.Header) string {
		return strings.NewReplacer("%TAG", h.Stream, "%ID", h.UploadID).Replace(key)
	}, Note: func(_ *snapshot.Snapshot, text string) { fmt.Fprintln(s.logged, text) }}
	for _, c := range change {
		c(&opts)
	}
	sink, err := New(opts)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { sink.Close() })
	return sink
}

func (s *s3Test) write(sink *Sink, snap *snapshot.Snapshot) {
	s.Helper()
	if err := sink.Write(s.Context(), snap); err != nil {
		s.Fatal(err)
	}
}

// body returns an object's bytes, or false when there is none.
func (s *s3Test) body(sink *Sink, key string) ([]byte, bool) {
	s.Helper()
	r, _, err := sink.Get(s.Context(), key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		s.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		s.Fatal(err)
	}
	return b, true
}

// stat returns the description of an object.
func (s *s3Test) stat(sink *Sink, key string) (Object, error) {
	r, o, err := sink.Get(s.Context(), key)
	if err == nil {
		r.Close()
	}
	return o, err
}

// unfinished counts the bucket's uploads that were begun and neither
// completed nor aborted.
func (s *s3Test) unfinished() int {
	s.Helper()
	out, err := s.direct.ListMultipartUploads(s.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.bucket})
	if err != nil {
		s.Fatal(err)
	}
	return len(out.Uploads)
}

// keys lists the bucket.
func (s *s3Test) keys() []string {
	s.Helper()
	out, err := s.direct.ListObjectsV2(s.Context(), &s3.ListObjectsV2Input{Bucket: &s.bucket})
	if err != nil {
		s.Fatal(err)
	}
	var keys []string
	for _, o := range out.Contents {
		keys = append(keys, *o.Key)
	}
	return keys
}

func encoded(t *testing.T, snap *snapshot.Snapshot, kind snapshot.Kind) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := snap.Encode(t.Context(), &b, snapshot.Format{Kind: kind}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestS3Stores(t *testing.T) {
	s := newTest(t)
	for _, test := range []struct {
		ending, contentType string
		kind                snapshot.Kind
	}{
		{ending: ".json", contentType: "application/json", kind: snapshot.JSON},
		{ending: ".jsonl", contentType: "application/x-ndjson", kind: snapshot.NDJSON},
		{ending: ".json.gz", contentType: "application/gzip", kind: snapshot.JSON},
		{ending: ".ndjson.zst", contentType: "application/zstd", kind: snapshot.NDJSON},
	} {
		for what, records := range map[string][]string{"awkward": storetest.AwkwardLarge(), "empty": nil} {
			t.Run(what+test.ending, func(t *testing.T) {
				s := *s
				s.T = t
				sink := s.sink("data/" + what + " ü/%TAG" + test.ending)
				snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acmé, inc/1", storetest.Noon), records...)
				s.write(sink, snap)
				s.write(sink, snap)
				key := sink.opts.Key(snap.Header)
				b, _ := s.body(sink, key)
				if !bytes.Equal(storetest.Decompress(t, key, b), encoded(t, snap, test.kind)) {
					t.Errorf("the object is not the snapshot")
				}
				head, err := s.direct.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key})
				if err != nil {
					t.Fatal(err)
				}
				if *head.ContentType != test.contentType || head.ContentEncoding != nil && *head.ContentEncoding != "" {
					t.Errorf("content type %v, encoding %v", *head.ContentType, head.ContentEncoding)
				}
				r, o, err := sink.Get(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				r.Close()
				want := snap.Header
				want.Collector = ""
				if o.Header != want || o.Records != int64(len(records)) || o.SnapshotSHA256 != snap.SHA256 || o.Size != int64(len(b)) || o.Key != key || o.ETag == "" || time.Since(o.Modified) > time.Hour {
					t.Errorf("Get says %+v", o)
				}
			})
		}
	}
	if n := len(s.keys()); n != 8 {
		t.Errorf("%d objects", n)
	}
	// One note for each snapshot, since the records have escapes that many programs refuse.
	notes := strings.Count(s.logged.String(), "2 records have \\u0000 or half a surrogate pair")
	if lines := strings.Count(s.logged.String(), "\n"); notes != 8 || lines != 8 {
		t.Errorf("logged: %s", s.logged)
	}
}

func TestS3StoresInParts(t *testing.T) {
	s := newTest(t)
	sink := s.sink("%TAG.json")
	sink.part = smallPart
	snap := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 12_000)
	for range 2 {
		s.write(sink, snap)
	}
	got, _ := s.body(sink, "okta_users.json")
	if sha256.Sum256(got) != sha256.Sum256(encoded(t, snap, snapshot.JSON)) {
		t.Error("the object is not the snapshot")
	}
	o, err := s.stat(sink, "okta_users.json")
	if err != nil || !strings.Contains(o.ETag, "-3") || o.Records != snap.Records {
		t.Errorf("%+v, %v: want an object of 3 parts", o, err)
	}
	if n := s.unfinished(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
}

// TestS3PartsEndAnywhere has objects of the size of one part or two, and a byte more
// or less. Except for the last part, S3 requires at least 5 MiB.
func TestS3PartsEndAnywhere(t *testing.T) {
	s := newTest(t)
	sink := s.sink("%TAG.jsonl")
	snap := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 10_000)
	want := encoded(t, snap, snapshot.NDJSON)
	size := int64(len(want))
	for _, test := range []struct{ part, parts int64 }{
		{part: size + 1, parts: 0}, {part: size, parts: 0}, {part: size - 1, parts: 2}, {part: (size + 1) / 2, parts: 2}, {part: size/2 - 1, parts: 3},
	} {
		sink.part = test.part
		s.write(sink, snap)
		got, _ := s.body(sink, "okta_users.jsonl")
		if !bytes.Equal(got, want) {
			t.Errorf("part of %d bytes: the object is not the snapshot", test.part)
		}
		o, err := s.stat(sink, "okta_users.jsonl")
		if err != nil || test.parts == 0 && strings.Contains(o.ETag, "-") || test.parts > 0 && !strings.Contains(o.ETag, fmt.Sprintf("-%d", test.parts)) {
			t.Errorf("part of %d bytes: ETag %s, %v: want %d parts", test.part, o.ETag, err, test.parts)
		}
	}
	if n := s.unfinished(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
}

func TestS3Get(t *testing.T) {
	s := newTest(t)
	sink := s.sink("%TAG.json")
	if _, _, err := sink.Get(t.Context(), "okta_users.json"); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrRefused) {
		t.Errorf("err = %v", err)
	}
	key := "foreign.json"
	if _, err := s.direct.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: strings.NewReader("[]")}); err != nil {
		t.Fatal(err)
	}
	r, o, err := sink.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if o.Header != (snapshot.Header{}) || o.Records != -1 || o.Size != 2 {
		t.Errorf("Get says %+v", o)
	}
	s.bucket = "b-nowhere"
	if _, _, err := s.sink("%TAG.json").Get(t.Context(), key); !errors.Is(err, store.ErrRefused) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

func TestS3Check(t *testing.T) {
	s := newTest(t)
	if err := s.sink("x/%TAG.json").Check(t.Context()); err != nil {
		t.Error(err)
	}
	if len(s.keys()) != 0 || s.unfinished() != 0 {
		t.Errorf("Check left %v and %d uploads", s.keys(), s.unfinished())
	}
	if err := s.sink("x/%TAG.txt").Check(t.Context()); !errors.Is(err, store.ErrRefused) {
		t.Errorf("err = %v", err)
	}
	s.bucket = "b-nowhere"
	if err := s.sink("x/%TAG.json").Check(t.Context()); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "STORE_AWS_S3_BUCKET") {
		t.Errorf("err = %v", err)
	}
}

func TestS3Options(t *testing.T) {
	key := func(snapshot.Header) string { return "x.json" }
	for _, opts := range []Options{
		{}, {Bucket: "b"}, {Key: key}, {Bucket: "b", Key: key, SSE: "rot13"}, {Bucket: "b", Key: key, SSE: "AES256", KMSKeyID: "k"}, {Bucket: "b", Key: key, KMSKeyID: "k"},
	} {
		if _, err := New(opts); err == nil {
			t.Errorf("%+v is taken", opts)
		}
	}
	s := newTest(t)
	for _, key := range []string{"%TAG", "%TAG.csv", "%TAG.parquet.gz"} {
		if err := s.sink(key).Write(t.Context(), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon))); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), ".json") {
			t.Errorf("%s: err = %v", key, err)
		}
	}
}

// reverse returns a handler that forwards requests to the server.
func (s *s3Test) reverse() http.Handler {
	target := &url.URL{Scheme: "http", Host: s.server.Addr()}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
}

// TestS3Requests checks the requests that are sent.
func TestS3Requests(t *testing.T) {
	s := newTest(t)
	var mu sync.Mutex
	var seen []*http.Request
	onward := s.reverse()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Clone(context.Background()))
		mu.Unlock()
		onward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	// The client never uses host names of buckets with an IP address.
	t.Setenv("AWS_ENDPOINT_URL_S3", strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1))
	sink := s.sink("%TAG.json", func(o *Options) { o.SSE = "aws:kms"; o.KMSKeyID = "key-1" })
	sink.part = 5 << 20
	for _, n := range []int{1, 8000} {
		_ = sink.Write(t.Context(), storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), n)) // the server may not support KMS
	}
	posts := 0
	for _, r := range seen {
		creates := r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") || r.Method == http.MethodPost && r.URL.Query().Has("uploads")
		if creates {
			posts++
			h := r.Header
			if h.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "key-1" || h.Get("X-Amz-Acl") != "bucket-owner-full-control" {
				t.Errorf("%s %s: %v", r.Method, r.URL, h)
			}
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum") || name == "X-Amz-Trailer" {
				t.Errorf("%s %s: %s is sent to what is not AWS", r.Method, r.URL, name)
			}
		}
		if !strings.HasPrefix(r.URL.Path, "/"+s.bucket+"/") && r.URL.Path != "/"+s.bucket {
			t.Errorf("%s: not path style", r.URL)
		}
	}
	if posts < 2 {
		t.Errorf("%d requests make an object", posts)
	}
	// Checksums are sent when they are configured.
	seen = nil
	t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
	sink = s.sink("%TAG.json")
	sink.part = 5 << 20
	for _, n := range []int{1, 8000} {
		snap := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), n)
		s.write(sink, snap)
		if got, _ := s.body(sink, "okta_users.json"); !bytes.Equal(got, encoded(t, snap, snapshot.JSON)) {
			t.Error("the object is not the snapshot")
		}
	}
	sums := 0 // the server verifies them
	for _, r := range seen {
		if r.Method != http.MethodPut {
			continue
		}
		if r.Header.Get("X-Amz-Checksum-Crc32c") == "" {
			t.Errorf("%s %s: no checksum", r.Method, r.URL)
		}
		sums++
	}
	if sums < 3 {
		t.Errorf("%d requests with checksums", sums)
	}
}
