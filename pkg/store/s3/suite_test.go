package s3

import (
	"net/http"
	"testing"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Main(m, storetest.Child{OpenSink: openBucket})
}

func TestSinks(t *testing.T) { storetest.Run(t, objectHarness("json"), objectHarness("ndjson.zst")) }

func TestMillionRecords(t *testing.T) { storetest.RunMillion(t, objectHarness("json")) }

// one is a record.
const one = `{"id":1}`

// suiteKey returns the template of the suite's keys with the extension ext.
func suiteKey(ext string) (*store.Path, error) {
	return store.ParsePath("STORE_AWS_S3_KEY", "data/%TAG/%TENANCY."+ext)
}

// openBucket opens a sink that stores objects with the extension ext in a bucket.
func openBucket(ext, bucket string) (store.Sink, error) {
	key, err := suiteKey(ext)
	if err != nil {
		return nil, err
	}
	return New(Options{Bucket: bucket, Key: key.Render, OneObject: true})
}

// A place is the bucket of a suite test.
type place struct {
	*s3Test
	reader *Sink // reads without a proxy
}

func (p place) Latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	s := *p.s3Test
	s.T = t
	key := p.reader.opts.Key(h)
	body, ok := s.body(p.reader, key)
	if !ok {
		return nil
	}
	return storetest.DecodeFile(t, key, body)
}

func (p place) All(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	if n := p.unfinished(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
	return p.Latest(t, h)
}

// newSuiteSink returns a sink that stores objects with the extension ext in a
// new bucket.
func newSuiteSink(t *testing.T, ext string) (*Sink, place) {
	t.Helper()
	s := newTest(t)
	key, err := suiteKey(ext)
	if err != nil {
		t.Fatal(err)
	}
	reader := s.directSink()
	reader.opts.Key = key.Render
	return s.sink("", func(o *Options) { o.Key = key.Render }), place{s3Test: s, reader: reader}
}

// objectHarness returns the harness of a sink that stores objects with the extension
// ext.
func objectHarness(ext string) storetest.Harness {
	return storetest.Harness{
		Name:   ext,
		Serial: true,
		New: func(t *testing.T) (store.Sink, storetest.Place) {
			sink, p := newSuiteSink(t, ext)
			return sink, p
		},
		NewBehindProxy: func(t *testing.T) (store.Sink, storetest.Place, *faultproxy.Proxy) {
			sink, p := newSuiteSink(t, ext)
			return sink, p, p.throughProxy()
		},
		CommitText: "PUT /",
		Child:      func(t *testing.T) (string, string) { return ext, newTest(t).bucket },
		MaxMemory:  250 << 20,
		Breakages: map[string]storetest.Breakage{
			"full disk": {
				Refused: false,
				Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
					return p.(place).writeRejected(t, s, http.StatusInsufficientStorage, "XMinioStorageFull")
				},
			},
			"slow down": {
				Refused: false,
				Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
					return p.(place).writeRejected(t, s, http.StatusServiceUnavailable, "SlowDown")
				},
			},
			// These two write a few records: a server that rejects a long body
			// resets the connection, and then its response may not arrive.
			"no permission": {
				Refused: true,
				Write: func(t *testing.T, p storetest.Place, _ *snapshot.Snapshot) (string, bool) {
					sp := p.(place)
					for name, value := range sp.user() {
						t.Setenv(name, value)
					}
					return storetest.WriteFailing(t, sp.newSink(), storetest.Seal(t, storetest.Header(2), storetest.Numbered(2, 20)...))
				},
			},
			"missing bucket": {
				Refused: true,
				Write: func(t *testing.T, p storetest.Place, _ *snapshot.Snapshot) (string, bool) {
					sink := p.(place).newSink()
					sink.opts.Bucket = "b-nowhere"
					return storetest.WriteFailing(t, sink, storetest.Seal(t, storetest.Header(2), storetest.Numbered(2, 20)...))
				},
			},
		},
	}
}

// newSink returns another sink, configured by the present AWS variables.
func (p place) newSink() *Sink {
	return p.sink("", func(o *Options) { o.Key = p.reader.opts.Key })
}

// writeRejected writes s through a server that rejects every PUT.
func (p place) writeRejected(t *testing.T, s *snapshot.Snapshot, status int, code string) (string, bool) {
	t.Helper()
	forward := p.reverse()
	p.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			respondError(w, r, status, code, "no")
			return
		}
		forward.ServeHTTP(w, r)
	})
	return storetest.WriteFailing(t, p.newSink(), s)
}
