package backup

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/s3dialects"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/s3"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// newFakeBucket points the AWS variables at a server without real objects.
func newFakeBucket(t *testing.T) *s3dialects.Server {
	t.Helper()
	server := s3dialects.New(s3dialects.AWS, "acme")
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_REGION": "us-east-1",
		"AWS_ENDPOINT_URL_S3": listener.URL, "AWS_PROFILE": "", "AWS_MAX_ATTEMPTS": "1",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return server
}

// TestUnreadableBackupIsReplaced has an old backup that cannot be read, for one
// reason or another: new ones are written all the same.
func TestUnreadableBackupIsReplaced(t *testing.T) {
	old := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"n":0}`)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), `{"n":1}`)
	for _, tt := range []struct {
		name     string
		archived bool
		get      int // status of GET of the old backup, 0 for success
		head     int // of HEAD
		kept     bool
	}{
		{name: "archived", archived: true},
		{name: "GET is forbidden", get: http.StatusForbidden},
		{name: "the KMS key is disabled", get: http.StatusBadRequest, head: http.StatusBadRequest},
		{name: "forbidden", get: http.StatusForbidden, head: http.StatusForbidden},
		{name: "the server fails", get: http.StatusInternalServerError, head: http.StatusInternalServerError},
		{name: "the server is busy", get: http.StatusServiceUnavailable, head: http.StatusServiceUnavailable, kept: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newFakeBucket(t)
			s, err := openBackup("acme", template, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			storetest.Write(t, s, old)
			before := server.Object(key)
			archived := *before
			archived.Archived = tt.archived
			server.PutObject(key, archived)
			server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				status := map[string]int{http.MethodGet: tt.get, http.MethodHead: tt.head}[r.Method]
				if status == 0 || !strings.HasSuffix(r.URL.Path, key) {
					return false
				}
				(&s3dialects.Refusal{Status: status, Code: "SomeException", Message: "no"}).WriteTo(w, r)
				return true
			})
			err = s.Write(t.Context(), snap)
			replaced := string(server.Object(key).Body) != string(before.Body)
			if tt.kept {
				if err == nil || errors.Is(err, store.ErrRefused) || replaced {
					t.Errorf("err = %v, replaced: %v", err, replaced)
				}
				return
			}
			if err != nil || !replaced {
				t.Errorf("err = %v, replaced: %v", err, replaced)
			}
		})
	}
}

// TestBackupOfAnotherIsKept has a backup of another tenancy or stream under the same
// key: it is not replaced.
func TestBackupOfAnotherIsKept(t *testing.T) {
	for _, existing := range []snapshot.Header{
		storetest.NewHeader("okta_users", "globex", storetest.Noon), storetest.NewHeader("okta_groups", "acme", storetest.Noon),
	} {
		b := newBucket(t)
		s := b.open(t, template, nil)
		// A sink with one key for all writes their snapshot there.
		anyone, err := s3.New(s3.Options{Bucket: b.name, Key: func(snapshot.Header) string { return key }})
		if err != nil {
			t.Fatal(err)
		}
		defer anyone.Close()
		storetest.Write(t, anyone, storetest.Seal(t, existing, `{"n":0}`))
		mine := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), `{"n":1}`)
		err = s.Write(t.Context(), mine)
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), Setting) || !strings.Contains(err.Error(), "the object is of ") {
			t.Errorf("err = %v", err)
		}
		o, err := s.Stat(t.Context(), key)
		if err != nil || o.Tenancy != existing.Tenancy || o.Stream != existing.Stream {
			t.Errorf("the object is of %s, %s; %v", o.Tenancy, o.Stream, err)
		}
	}
}
