package s3

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/s3dialects"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// oneKey makes all snapshots have one key.
func oneKey(o *Options) {
	o.Key = func(snapshot.Header) string { return "users.json" }
}

// sealAt returns a snapshot of n records that was taken at a time.
func sealAt(t *testing.T, taken time.Time, n int) *snapshot.Snapshot {
	t.Helper()
	return storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", taken), n)
}

// sizes are numbers of records that are stored in one request and in parts.
var sizes = map[string]int{"one request": 10, "parts": 6000}

// TestS3Overtaken suspends a write at several moments while a newer snapshot is stored.
func TestS3Overtaken(t *testing.T) {
	for size, records := range sizes {
		t.Run(size, func(t *testing.T) {
			for moment := 0; ; moment = max(1, 2*moment) {
				test := newDialectTest(t, s3dialects.AWS)
				sink := test.sink(oneKey)
				sink.part = smallPart
				newer := sealAt(t, storetest.Noon.Add(2*time.Hour), 20)
				storetest.Write(t, sink, sealAt(t, storetest.Noon, 10))
				if !storetest.Overtake(t, sink, sealAt(t, storetest.Noon.Add(time.Hour), records), newer, moment) {
					return
				}
				test.requireStored(sink, newer)
				if n := test.server.Uploads(); n != 0 {
					t.Errorf("%d unfinished uploads", n)
				}
				if t.Failed() {
					t.Fatalf("the write was suspended at moment %d", moment)
				}
			}
		})
	}
}

// TestS3OvertakenWithoutConditions has servers without conditional writes. They are asked
// once more immediately before an object appears; a newer one that is there by then stays.
func TestS3OvertakenWithoutConditions(t *testing.T) {
	for _, dialect := range []s3dialects.Dialect{s3dialects.OldAWS, s3dialects.S3Mock} {
		for size, records := range sizes {
			t.Run(dialect.Name+" "+size, func(t *testing.T) {
				test := newDialectTest(t, dialect)
				sink, other := test.sink(oneKey), test.sink(oneKey)
				sink.part = smallPart
				storetest.Write(t, sink, sealAt(t, storetest.Noon.Add(-time.Hour), 10), sealAt(t, storetest.Noon, 10))
				newer := sealAt(t, storetest.Noon.Add(2*time.Hour), 20)
				var heads atomic.Int64
				test.server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodHead && heads.Add(1) == 2 {
						storetest.Write(t, other, newer)
					}
					return false
				})
				var report store.Report
				if err := sink.Write(store.WithReport(t.Context(), &report), sealAt(t, storetest.Noon.Add(time.Hour), records)); err != nil {
					t.Fatal(err)
				}
				test.requireStored(sink, newer)
				if !report.KeptOut() || test.server.Uploads() != 0 {
					t.Errorf("kept out: %v, %d unfinished uploads", report.KeptOut(), test.server.Uploads())
				}
			})
		}
	}
}

// TestS3OvertakenOnTheWay has a newer snapshot that is stored while the request that
// makes an older one appear is on its way to the server.
func TestS3OvertakenOnTheWay(t *testing.T) {
	for _, before := range []bool{true, false} { // whether there is an object before
		for size, records := range sizes {
			t.Run(fmt.Sprintf("%s, object before: %v", size, before), func(t *testing.T) {
				test := newDialectTest(t, s3dialects.AWS)
				sink, other := test.sink(oneKey), test.sink(oneKey)
				sink.part = smallPart
				if before {
					storetest.Write(t, sink, sealAt(t, storetest.Noon, 10))
				}
				newer := sealAt(t, storetest.Noon.Add(2*time.Hour), 20)
				var began atomic.Bool
				test.server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
					query := r.URL.Query()
					completes := r.Method == http.MethodPut && !query.Has("partNumber") || r.Method == http.MethodPost && query.Has("uploadId")
					if completes && began.CompareAndSwap(false, true) {
						storetest.Write(t, other, newer)
					}
					return false
				})
				var report store.Report
				if err := sink.Write(store.WithReport(t.Context(), &report), sealAt(t, storetest.Noon.Add(time.Hour), records)); err != nil {
					t.Fatal(err)
				}
				test.requireStored(sink, newer)
				if !report.KeptOut() || test.server.Uploads() != 0 {
					t.Errorf("kept out: %v, %d unfinished uploads", report.KeptOut(), test.server.Uploads())
				}
			})
		}
	}
}

// TestS3ReplacesWhatIsStoredMeanwhile has an older snapshot that is stored while a newer
// one is on its way: the newer one is stored in the end.
func TestS3ReplacesWhatIsStoredMeanwhile(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusConflict} {
		test := newDialectTest(t, s3dialects.AWS)
		sink, other := test.sink(oneKey), test.sink(oneKey)
		newer := sealAt(t, storetest.Noon.Add(time.Hour), 10)
		puts := 0
		test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			if puts++; puts != 1 {
				return false
			}
			if status == http.StatusConflict {
				(&s3dialects.Refusal{Status: status, Code: "ConditionalRequestConflict", Message: "in progress"}).WriteTo(w, r)
				return true
			}
			storetest.Write(t, other, sealAt(t, storetest.Noon, 20))
			return false
		})
		storetest.Write(t, sink, newer)
		test.requireStored(sink, newer)
		if len(test.notes) > 0 {
			t.Errorf("notes %q", test.notes)
		}
	}
}

// TestS3ResponseOfAConditionLost has a PUT whose response is lost and which the client
// repeats: the object is there already, and the write is a success.
func TestS3ResponseOfAConditionLost(t *testing.T) {
	test := newDialectTest(t, s3dialects.AWS)
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	sink := test.sink(oneKey)
	snap := sealAt(t, storetest.Noon, 10)
	puts := 0
	test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		if puts++; puts == 1 {
			test.server.Intercept(nil)
			test.server.ServeHTTP(discardedResponse{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	storetest.Write(t, sink, snap)
	test.requireStored(sink, snap)
}

// A discardedResponse is a response that no client receives.
type discardedResponse struct{ header http.Header }

func (d discardedResponse) Header() http.Header         { return d.header }
func (d discardedResponse) Write(b []byte) (int, error) { return len(b), nil }
func (d discardedResponse) WriteHeader(int)             {}

// TestS3ConditionsOfDialects checks what is given up on a server that refuses something
// without saying what, and that it is noted.
func TestS3ConditionsOfDialects(t *testing.T) {
	for _, tt := range []struct {
		dialect         s3dialects.Dialect
		acl, conditions bool // whether the requests have these in the end
		note            string
	}{
		{dialect: s3dialects.AWS, acl: true, conditions: true},
		{dialect: s3dialects.OldAWS, acl: true, note: "no conditional writes"},
		{dialect: s3dialects.S3Mock, acl: true, note: "no conditional writes"},
		{dialect: s3dialects.CloudflareR2Silent, conditions: true, note: "no ACLs"},
	} {
		t.Run(tt.dialect.Name, func(t *testing.T) {
			test := newDialectTest(t, tt.dialect)
			sink := test.sink(oneKey)
			for hour := range 3 {
				snap := sealAt(t, storetest.Noon.Add(time.Duration(hour)*time.Hour), 10)
				storetest.Write(t, sink, snap)
				test.requireStored(sink, snap)
			}
			header := test.server.Object("users.json").Header
			if acl, conditions := header.Get("X-Amz-Acl") != "", header.Get("If-Match") != ""; acl != tt.acl || conditions != tt.conditions {
				t.Errorf("the last request has an ACL: %v, conditions: %v", acl, conditions)
			}
			if notes := strings.Join(test.notes, "\n"); tt.note == "" && notes != "" || len(test.notes) > 1 || !strings.Contains(notes, tt.note) {
				t.Errorf("notes %q, want %q", notes, tt.note)
			}
			if described := strings.Contains(sink.Description(), "no conditional writes"); described == tt.conditions {
				t.Errorf("description %q", sink.Description())
			}
		})
	}
}

// TestS3ClockOfTheServer has a machine whose clock is five hours behind, as after it was
// suspended: the object of the present does not look like one from the future.
func TestS3ClockOfTheServer(t *testing.T) {
	test := newDialectTest(t, s3dialects.AWS)
	sink := test.sink(oneKey)
	now := time.Now().UTC().Truncate(time.Second)
	present := now.Add(5 * time.Hour)
	test.server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Date", present.Format(http.TimeFormat))
		return false
	})
	newer := sealAt(t, present, 10)
	storetest.Write(t, sink, newer, sealAt(t, now, 20))
	test.requireStored(sink, newer)
}
