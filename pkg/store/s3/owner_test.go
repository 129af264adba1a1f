package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/s3dialects"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// TestS3KeepsObjectsOfOthers has an object of another tenancy or stream: it is
// refused before anything is written.
func TestS3KeepsObjectsOfOthers(t *testing.T) {
	s := newTest(t)
	mine := storetest.NewHeader("okta_users", "acme", storetest.Noon)
	for _, tt := range []struct {
		name     string
		existing snapshot.Header
		parts    bool
		refused  bool
	}{
		{name: "another tenancy", existing: storetest.NewHeader("okta_users", "globex", storetest.Noon), refused: true},
		{name: "another tenancy, in parts", existing: storetest.NewHeader("okta_users", "globex", storetest.Noon), parts: true, refused: true},
		{name: "another stream", existing: storetest.NewHeader("okta_groups", "acme", storetest.Noon), refused: true},
		{name: "its own", existing: storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(-time.Hour))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.T = t
			key := fmt.Sprintf("fixed %s.json", tt.name)
			sink := s.sink(key)
			s.write(sink, storetest.Seal(t, tt.existing, one))
			before, _ := s.body(sink, key)
			sink.part = smallPart
			n := 1
			if tt.parts {
				n = 8000
			}
			err := sink.Write(t.Context(), storetest.SealNoise(t, mine, n))
			after, _ := s.body(sink, key)
			if !tt.refused {
				if err != nil || string(after) == string(before) {
					t.Errorf("err = %v, replaced: %v", err, string(after) != string(before))
				}
				return
			}
			of := "the object is of another tenancy,"
			if tt.existing.Tenancy == mine.Tenancy {
				of = fmt.Sprintf("the object is of stream %q,", tt.existing.Stream)
			}
			if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), of) ||
				strings.Contains(err.Error(), "globex") || !strings.Contains(err.Error(), "STORE_AWS_S3_KEY") {
				t.Errorf("err = %v", err)
			}
			if string(after) != string(before) || s.unfinished() != 0 {
				t.Error("something was written")
			}
		})
	}
}

// TestS3RuleOfTime has an object that is newer than the snapshot: it stays, and that
// is reported. One from the future is replaced.
func TestS3RuleOfTime(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	for _, tt := range []struct {
		name               string
		existing, incoming time.Time
		replaced           bool
	}{
		{name: "older object", existing: now.Add(-time.Hour), incoming: now, replaced: true},
		{name: "newer object", existing: now, incoming: now.Add(-time.Hour)},
		{name: "object from the future", existing: now.AddDate(1, 0, 0), incoming: now, replaced: true},
		{name: "snapshot from the future", existing: now, incoming: now.AddDate(1, 0, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTest(t)
			sink := s.sink("%TAG.json")
			s.write(sink, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", tt.existing), one))
			snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", tt.incoming), one)
			var report store.Report
			if err := sink.Write(store.WithReport(t.Context(), &report), snap); err != nil {
				t.Fatal(err)
			}
			o, err := sink.Stat(t.Context(), "okta_users.json")
			if err != nil || (o.UploadID == snap.UploadID) != tt.replaced || report.KeptOut() == tt.replaced {
				t.Errorf("replaced: %v, kept out: %v, %v", o.UploadID == snap.UploadID, report.KeptOut(), err)
			}
			if noted := s.logged.Len() > 0; noted == tt.replaced {
				t.Errorf("notes: %q", s.logged)
			}
		})
	}
}

// TestS3LookupCost counts the requests of each upload: keys that no other stream
// or tenancy can have are not looked up.
func TestS3LookupCost(t *testing.T) {
	for _, tt := range []struct {
		key           string
		heads, sweeps int // in three uploads
	}{
		{key: "data/%TAG/%TENANCY.json", heads: 3, sweeps: 1},
		{key: "data/%TAG.json", heads: 3, sweeps: 1},
		{key: "data/%UUID.json", heads: 0, sweeps: 0},
		{key: "data/%TAG/%TENANCY/%YYYY-%MM-%DD.json", heads: 0, sweeps: 0},
		{key: "data/%TAG/%YYYY-%MM-%DD.json", heads: 3, sweeps: 0},
	} {
		t.Run(tt.key, func(t *testing.T) {
			test := newDialectTest(t, s3dialects.AWS)
			opened, err := Definition.Open(&Settings{Bucket: "acme", Key: tt.key}, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			sink := opened.(*Sink)
			t.Cleanup(func() { sink.Close() })
			test.connect(sink)
			for range 3 {
				if err := sink.Write(t.Context(), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)); err != nil {
					t.Fatal(err)
				}
			}
			heads, sweeps := 0, 0
			for _, r := range test.server.Requests() {
				switch {
				case r.Method == http.MethodHead:
					heads++
				case r.URL.Query().Has("uploads"):
					sweeps++
				}
			}
			if heads != tt.heads || sweeps != tt.sweeps {
				t.Errorf("%d lookups and %d lists of uploads, want %d and %d", heads, sweeps, tt.heads, tt.sweeps)
			}
		})
	}
}

// TestS3LookupDenied has a role that may write and nothing else.
func TestS3LookupDenied(t *testing.T) {
	test := newDialectTest(t, s3dialects.AWS)
	test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
		}
		return r.Method == http.MethodHead
	})
	sink := test.sink(nil)
	for range 2 {
		snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
		if err := sink.Write(t.Context(), snap); err != nil {
			t.Fatal(err)
		}
		test.requireStored(sink, snap)
	}
	if len(test.notes) != 1 || !strings.Contains(test.notes[0], "s3:GetObject") {
		t.Errorf("notes %q, want one that names s3:GetObject", test.notes)
	}
}

// TestS3LookupUnavailable has a server that is busy: nothing is written before it is
// known whose object is there.
func TestS3LookupUnavailable(t *testing.T) {
	test := newDialectTest(t, s3dialects.AWS)
	test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return r.Method == http.MethodHead
	})
	err := test.sink(nil).Write(t.Context(), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	if err == nil || errors.Is(err, store.ErrRefused) || len(test.server.Requests()) != 1 {
		t.Errorf("err = %v after %d requests", err, len(test.server.Requests()))
	}
}

// TestS3Stat describes objects without reading them.
func TestS3Stat(t *testing.T) {
	s := newTest(t)
	sink := s.sink("%TAG.json")
	if _, err := sink.Stat(t.Context(), "okta_users.json"); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrRefused) {
		t.Errorf("no object: err = %v", err)
	}
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	s.write(sink, snap)
	o, err := sink.Stat(t.Context(), "okta_users.json")
	if err != nil || o.UploadID != snap.UploadID || o.Tenancy != "acme" || o.Records != 1 || !o.IsSnapshot() {
		t.Errorf("%+v, %v", o, err)
	}
	s.bucket = "b-nowhere"
	if _, err := s.sink("%TAG.json").Stat(t.Context(), "okta_users.json"); !errors.Is(err, store.ErrRefused) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no bucket: err = %v", err)
	}
}

// TestS3StatArchived describes an object that cannot be read.
func TestS3StatArchived(t *testing.T) {
	test := newDialectTest(t, s3dialects.AWS)
	test.server.PutObject("old.json", s3dialects.Object{Body: []byte("[]"), Archived: true})
	sink := test.sink(nil)
	if o, err := sink.Stat(t.Context(), "old.json"); err != nil || o.Size != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, _, err := sink.Get(t.Context(), "old.json"); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "archived") {
		t.Errorf("err = %v", err)
	}
}

// TestS3KeysAreForgotten checks that the memory of keys is bounded.
func TestS3KeysAreForgotten(t *testing.T) {
	var k keySet
	for i := range 3 * maxKeys {
		k.addKey(fmt.Sprint(i))
		if !k.has(fmt.Sprint(i)) {
			t.Fatalf("key %d is not known", i)
		}
	}
	if len(k.keys) > maxKeys {
		t.Errorf("%d keys are kept", len(k.keys))
	}
}
