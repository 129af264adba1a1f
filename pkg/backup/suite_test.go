package backup

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/s3"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Main(m, storetest.Child{OpenSink: func(template, bucket string) (store.Sink, error) {
		return openBackup(bucket, template, nil)
	}})
}

// TestSinks runs the suite of all destinations on backups.
func TestSinks(t *testing.T) {
	storetest.Run(t, backupHarness("json"), backupHarness("ndjson.zst"))
}

// openBackup opens the backups in the bucket whose keys have the template.
func openBackup(bucket, template string, st *state.State) (*Sink, error) {
	path, err := ParsePath(template)
	if err != nil {
		return nil, err
	}
	return New(s3.Options{Bucket: bucket}, path, st, zap.NewNop())
}

// A bucket is a new bucket on the test server. The AWS variables point at the
// server.
type bucket struct {
	server *testserver.S3
	name   string
}

func newBucket(t *testing.T) bucket {
	t.Helper()
	server := testserver.StartS3(t)
	for name, value := range server.Env() {
		t.Setenv(name, value)
	}
	b := bucket{server: server, name: "b-" + uuid.NewString()}
	if err := os.Mkdir(server.Object(b.name, ""), 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

// open opens the backups in the bucket.
func (b bucket) open(t *testing.T, template string, st *state.State) *Sink {
	t.Helper()
	s, err := openBackup(b.name, template, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A place is the bucket of a suite test.
type place struct {
	reader *Sink // reads without a proxy
}

func (p place) Latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	key := p.reader.path.Render(h)
	body, _, err := p.reader.Get(t.Context(), key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return storetest.DecodeFile(t, key, text)
}

func (p place) All(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.Latest(t, h)
}

// backupHarness returns the harness of backups with the extension ext.
func backupHarness(ext string) storetest.Harness {
	template := "backup/%TAG/%TENANCY." + ext
	open := func(t *testing.T) (*Sink, place, bucket) {
		b := newBucket(t)
		reader := b.open(t, template, nil)
		// The reader keeps the address of the server although a test changes
		// the variables afterwards.
		if err := reader.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		return b.open(t, template, nil), place{reader}, b
	}
	return storetest.Harness{
		Name:   ext,
		Serial: true,
		New: func(t *testing.T) (store.Sink, storetest.Place) {
			s, p, _ := open(t)
			return s, p
		},
		NewBehindProxy: func(t *testing.T) (store.Sink, storetest.Place, *faultproxy.Proxy) {
			s, p, b := open(t)
			proxy, err := faultproxy.New("tcp", b.server.Addr())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { proxy.Close() })
			t.Setenv("AWS_ENDPOINT_URL_S3", "http://"+proxy.Addr())
			t.Setenv("AWS_MAX_ATTEMPTS", "1") // the suite counts attempts itself
			return s, p, proxy
		},
		CommitText: "PUT /",
		Child:      func(t *testing.T) (string, string) { return template, newBucket(t).name },
		MaxMemory:  250 << 20,
		Breakages: map[string]storetest.Breakage{
			"missing bucket": {
				Refused: true,
				Write: func(t *testing.T, p storetest.Place, _ *snapshot.Snapshot) (string, bool) {
					s, err := openBackup("b-nowhere", template, nil)
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					return storetest.WriteFailing(t, s, storetest.Seal(t, storetest.Header(2), storetest.Numbered(2, 20)...))
				},
			},
		},
	}
}
