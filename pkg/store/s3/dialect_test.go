package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/collectord/collectord/internal/s3dialects"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// A dialectTest is a server that speaks a dialect, and sinks for it.
type dialectTest struct {
	*testing.T
	server *s3dialects.Server
	addr   string
	mu     sync.Mutex
	notes  []string
}

// newDialectTest points the AWS variables at a server that speaks a dialect.
func newDialectTest(t *testing.T, d s3dialects.Dialect) *dialectTest {
	t.Helper()
	test := &dialectTest{T: t, server: s3dialects.New(d, "acme")}
	listener := httptest.NewServer(test.server)
	t.Cleanup(listener.Close)
	test.addr = listener.Listener.Addr().String()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_REGION": "us-east-1",
		// The client never uses host names of buckets with an IP address.
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "http://s3.acme.example", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
		"AWS_REQUEST_CHECKSUM_CALCULATION": "",
	} {
		t.Setenv(name, value)
	}
	return test
}

// sink returns a sink that stores an object for each upload id.
func (d *dialectTest) sink(change func(*Options)) *Sink {
	d.Helper()
	o := Options{Bucket: "acme", OneObject: true, Key: func(h snapshot.Header) string { return h.UploadID + ".json" }, Note: func(_ *snapshot.Snapshot, text string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.notes = append(d.notes, text)
	}}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { s.Close() })
	d.connect(s)
	return s
}

// connect connects a sink to the server, whatever the host name.
func (d *dialectTest) connect(s *Sink) {
	d.Helper()
	conn, err := s.connect(d.Context())
	if err != nil {
		d.Fatal(err)
	}
	// All host names are this server.
	conn.transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, d.addr)
	}
}

// requireStored checks that the object is the snapshot.
func (d *dialectTest) requireStored(s *Sink, snap *snapshot.Snapshot) {
	d.Helper()
	o := d.server.Object(s.opts.Key(snap.Header))
	if o == nil || !bytes.Equal(o.Body, encoded(d.T, snap, snapshot.JSON)) {
		d.Errorf("%s: the object is not the snapshot", d.server.Name)
	}
}

// TestS3Dialects stores small and large snapshots on servers that refuse a part of
// the requests, with checksums requested and not.
func TestS3Dialects(t *testing.T) {
	small := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 10)
	large := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 6000)
	for _, dialect := range s3dialects.Dialects {
		for _, calculation := range []string{"", "when_supported"} {
			t.Run(dialect.Name+calculation, func(t *testing.T) {
				test := newDialectTest(t, dialect)
				t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", calculation)
				sink := test.sink(func(o *Options) {
					if dialect.Payer != nil {
						o.RequestPayer = "requester"
					}
				})
				sink.part = smallPart
				for _, snap := range []*snapshot.Snapshot{small, large, small} {
					if err := sink.Write(t.Context(), snap); err != nil {
						t.Fatal(err)
					}
					test.requireStored(sink, snap)
				}
				before := test.server.Refusals()
				if err := errors.Join(sink.Check(t.Context()), sink.Write(t.Context(), small)); err != nil {
					t.Error(err)
				}
				if n := test.server.Refusals() - before; n != 0 {
					t.Errorf("%d more refusals", n)
				}
				if n := test.server.Uploads(); n != 0 {
					t.Errorf("%d unfinished uploads", n)
				}
				if before > 0 && len(test.notes) == 0 {
					t.Errorf("no note after %d refusals", before)
				}
				slices.Sort(test.notes)
				if len(slices.Compact(slices.Clone(test.notes))) != len(test.notes) {
					t.Errorf("notes are repeated: %q", test.notes)
				}
			})
		}
	}
}

// TestS3DialectAtOnce has two uploads that are both refused before either has
// learned why.
func TestS3DialectAtOnce(t *testing.T) {
	for _, dialect := range []s3dialects.Dialect{s3dialects.BackblazeB2ObjectLock, s3dialects.CloudflareR2, s3dialects.AWSNoPutObjectACL, s3dialects.MinIOObjectLock} {
		t.Run(dialect.Name, func(t *testing.T) {
			test := newDialectTest(t, dialect)
			var arrived sync.WaitGroup
			arrived.Add(2)
			var first sync.Map
			test.server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				if _, again := first.LoadOrStore(r.URL.Path, true); !again {
					arrived.Done()
					arrived.Wait() // until the other upload is here
				}
				return false
			})
			sink := test.sink(nil)
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() {
					snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
					if err := sink.Write(t.Context(), snap); err != nil {
						t.Error(err)
						return
					}
					test.requireStored(sink, snap)
				})
			}
			all.Wait()
		})
	}
}

// TestS3DialectForced has settings that say what to send: nothing else is tried,
// and the error names the setting.
func TestS3DialectForced(t *testing.T) {
	for _, tt := range []struct {
		name    string
		dialect s3dialects.Dialect
		change  func(*Options)
		hint    string // "" if it is stored
	}{
		{name: "ACL", dialect: s3dialects.BackblazeB2, change: func(o *Options) { o.ACL = "private" }, hint: "STORE_AWS_S3_ACL"},
		{name: "ACL at R2", dialect: s3dialects.CloudflareR2, change: func(o *Options) { o.ACL = "private" }, hint: "STORE_AWS_S3_ACL"},
		{name: "no ACL", dialect: s3dialects.BackblazeB2, change: func(o *Options) { o.ACL = None }},
		{name: "no checksum", dialect: s3dialects.MinIOObjectLock, change: func(o *Options) { o.Checksum = None }, hint: "STORE_AWS_S3_CHECKSUM"},
		{name: "no checksum for a lock", dialect: s3dialects.AWSObjectLock, change: func(o *Options) { o.Checksum = None }, hint: "STORE_AWS_S3_CHECKSUM"},
		{name: "MD5", dialect: s3dialects.MinIOObjectLock, change: func(o *Options) { o.Checksum = ChecksumMD5 }},
		{name: "CRC-32C", dialect: s3dialects.AWSObjectLock, change: func(o *Options) { o.Checksum = ChecksumCRC32C }},
		{name: "path style", dialect: s3dialects.AlibabaOSS, change: func(o *Options) { o.PathStyle = PathStyle }, hint: "STORE_AWS_S3_PATH_STYLE"},
		{name: "virtual hosts", dialect: s3dialects.AlibabaOSS, change: func(o *Options) { o.PathStyle = VirtualHosts }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			test := newDialectTest(t, tt.dialect)
			sink := test.sink(func(o *Options) { o.SkipLookup = true; tt.change(o) })
			snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
			err := sink.Write(t.Context(), snap)
			if tt.hint != "" {
				if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.hint) {
					t.Errorf("err = %v, want a refusal that names %s", err, tt.hint)
				}
				return
			}
			if n := test.server.Refusals(); err != nil || n > 0 && tt.dialect.ACL == nil {
				t.Errorf("err = %v after %d refusals", err, n)
			}
			test.requireStored(sink, snap)
		})
	}
}

// TestS3DialectOfHost checks what is sent first to servers whose host name is
// known.
func TestS3DialectOfHost(t *testing.T) {
	for _, tt := range []struct{ endpoint, want string }{
		{endpoint: "", want: "Amazon S3: virtual hosts, ACL bucket-owner-full-control, checksums CRC32C"},
		{endpoint: "https://bucket.vpce-1a2b-5e6f.s3.us-east-1.vpce.amazonaws.com", want: "Amazon S3: path style, ACL bucket-owner-full-control, checksums CRC32C"},
		{endpoint: "https://s3.cn-north-1.amazonaws.com.cn", want: "Amazon S3: path style, ACL bucket-owner-full-control, checksums CRC32C"},
		{endpoint: "https://storage.googleapis.com", want: "Google Cloud Storage: path style, no ACL, no checksums"},
		{endpoint: "https://s3.us-west-002.backblazeb2.com", want: "Backblaze B2: path style, no ACL, no checksums"},
		{endpoint: "https://0123.eu.r2.cloudflarestorage.com", want: "Cloudflare R2: path style, no ACL, no checksums"},
		{endpoint: "https://oss-eu-central-1.aliyuncs.com", want: "Alibaba Cloud OSS: virtual hosts, ACL bucket-owner-full-control, no checksums, no conditional writes"},
		{endpoint: "https://minio.acme.example:9000", want: "an unknown server: path style, ACL bucket-owner-full-control, no checksums"},
		{endpoint: "https://notamazonaws.com", want: "an unknown server: path style, ACL bucket-owner-full-control, no checksums"},
	} {
		t.Run(tt.endpoint, func(t *testing.T) {
			test := newDialectTest(t, s3dialects.AWS)
			t.Setenv("AWS_ENDPOINT_URL_S3", tt.endpoint)
			sink := test.sink(nil)
			if got := sink.Description(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestS3CheckDescribes checks that Check finds out what the server accepts.
func TestS3CheckDescribes(t *testing.T) {
	for _, tt := range []struct {
		dialect s3dialects.Dialect
		want    string
	}{
		{dialect: s3dialects.MinIO, want: "MinIO: path style, ACL bucket-owner-full-control, no checksums"},
		{dialect: s3dialects.MinIOObjectLock, want: "MinIO: path style, ACL bucket-owner-full-control, checksums Content-MD5"},
		{dialect: s3dialects.BackblazeB2ObjectLock, want: "nginx: path style, no ACL, checksums Content-MD5"},
		{dialect: s3dialects.AlibabaOSS, want: "AliyunOSS: virtual hosts, ACL bucket-owner-full-control, no checksums"},
	} {
		t.Run(tt.dialect.Name, func(t *testing.T) {
			test := newDialectTest(t, tt.dialect)
			sink := test.sink(nil)
			if err := sink.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := sink.Description(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestS3ForbiddenWithoutACL has a role that may not write: the ACL is not the
// reason, and the error is that of the first request.
func TestS3ForbiddenWithoutACL(t *testing.T) {
	test := newDialectTest(t, s3dialects.AWS)
	puts := 0
	test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		puts++
		(&s3dialects.Refusal{Status: http.StatusForbidden, Code: "AccessDenied", Message: fmt.Sprint("denied ", puts)}).WriteTo(w, r)
		return true
	})
	sink := test.sink(nil)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	err := sink.Write(t.Context(), snap)
	if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "denied 1") || !strings.Contains(err.Error(), "s3:PutObject,") {
		t.Errorf("err = %v", err)
	}
	if puts != 2 || len(test.notes) != 0 || sink.lessons.noACL {
		t.Errorf("%d requests, notes %q, ACLs given up: %v", puts, test.notes, sink.lessons.noACL)
	}
}
