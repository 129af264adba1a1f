package s3

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/s3dialects"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// serve points the AWS variables at a server with that handler.
func (s *s3Test) serve(handler http.HandlerFunc) {
	s.Helper()
	server := httptest.NewServer(handler)
	s.Cleanup(server.Close)
	s.Setenv("AWS_ENDPOINT_URL_S3", server.URL)
	s.Setenv("AWS_MAX_ATTEMPTS", "1")
}

// respondError responds with an error in the format of S3.
func respondError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message><RequestId>r-1</RequestId></Error>`, code, message)
	}
}

// TestS3Errors checks the classification of S3's errors, including those that the
// test server does not return.
func TestS3Errors(t *testing.T) {
	s := newTest(t)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	for _, test := range []struct {
		status  int
		code    string
		refused bool
		hint    string
	}{
		{status: 403, code: "AccessDenied", refused: true, hint: "s3:PutObject"},
		{status: 403, code: "AllAccessDisabled", refused: true, hint: "s3:PutObject"},
		{status: 403, code: "InvalidAccessKeyId", refused: true, hint: "AWS_ACCESS_KEY_ID"},
		{status: 403, code: "SignatureDoesNotMatch", refused: true, hint: "AWS_SECRET_ACCESS_KEY"},
		{status: 404, code: "NoSuchBucket", refused: true, hint: "STORE_AWS_S3_BUCKET"},
		{status: 301, code: "PermanentRedirect", refused: true, hint: "AWS_REGION"},
		{status: 400, code: "AuthorizationHeaderMalformed", refused: true, hint: "AWS_REGION"},
		{status: 400, code: "IllegalLocationConstraintException", refused: true, hint: "AWS_REGION"},
		{status: 400, code: "KMS.NotFoundException", refused: true, hint: "STORE_AWS_S3_KMS_KEY_ID"},
		{status: 400, code: "InvalidToken", refused: true, hint: "AWS_SESSION_TOKEN"},
		{status: 400, code: "ExpiredToken", refused: false, hint: "AWS_SESSION_TOKEN"},
		{status: 403, code: "RequestTimeTooSkewed", refused: false, hint: "clock"},
		{status: 400, code: "RequestTimeout", refused: false, hint: ""},
		{status: 409, code: "OperationAborted", refused: false, hint: ""},
		{status: 503, code: "SlowDown", refused: false, hint: ""},
		{status: 500, code: "InternalError", refused: false, hint: ""},
		{status: 503, code: "ServiceUnavailable", refused: false, hint: ""},
		{status: 507, code: "XMinioStorageFull", refused: false, hint: ""},
		{status: 502, code: "", refused: false, hint: ""},
	} {
		t.Run(test.code, func(t *testing.T) {
			s := *s
			s.T = t
			s.serve(func(w http.ResponseWriter, r *http.Request) { respondError(w, r, test.status, test.code, "no") })
			err := s.sink("%TAG.json").Write(t.Context(), snap)
			if err == nil || errors.Is(err, store.ErrRefused) != test.refused || !strings.Contains(err.Error(), test.hint) ||
				!strings.HasPrefix(err.Error(), "s3: upload to s3://"+s.bucket+"/okta_users.json: ") || strings.Contains(err.Error(), testserver.S3Secret) {
				t.Errorf("err = %v", err)
			}
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("err is fs.ErrNotExist: %v", err)
			}
		})
	}
}

// TestS3HintOfMessage checks the hints for codes that say little: they follow from
// what the message names.
func TestS3HintOfMessage(t *testing.T) {
	for _, tt := range []struct{ code, message, hint string }{
		{code: "InvalidArgument", message: "Unsupported value for canned acl 'x'", hint: "STORE_AWS_S3_ACL"},
		{code: "InvalidArgument", message: "Requests specifying Server Side Encryption with AWS KMS managed keys require a key", hint: "STORE_AWS_S3_SSE"},
		{code: "InvalidRequest", message: "Content-MD5 HTTP header is required for Put Object requests with Object Lock parameters", hint: "STORE_AWS_S3_CHECKSUM"},
		{code: "InvalidArgument", message: "the part number is wrong", hint: ""},
	} {
		t.Run(tt.message, func(t *testing.T) {
			test := newDialectTest(t, s3dialects.AWS)
			test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut {
					(&s3dialects.Refusal{Status: http.StatusBadRequest, Code: tt.code, Message: tt.message}).WriteTo(w, r)
				}
				return r.Method == http.MethodPut
			})
			err := test.sink(nil).Write(t.Context(), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
			if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.hint) || tt.hint == "" && strings.Contains(err.Error(), "STORE_AWS") {
				t.Errorf("err = %v, want the hint %q", err, tt.hint)
			}
		})
	}
}

// TestS3Unreachable has an endpoint where nothing listens: the error names the
// variable that says where S3 is.
func TestS3Unreachable(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{name: "endpoint of S3", env: map[string]string{"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, want: "connection refused: check AWS_ENDPOINT_URL_S3: "},
		{name: "endpoint of all services", env: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, want: "connection refused: check AWS_ENDPOINT_URL: "},
		{name: "name", env: map[string]string{"AWS_ENDPOINT_URL_S3": "http://s3.invalid"}, want: "check AWS_ENDPOINT_URL_S3: the name cannot be resolved"},
		{name: "no endpoint", env: map[string]string{"AWS_REGION": "xx-nowhere-1"}, want: "check AWS_REGION: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			test := newDialectTest(t, s3dialects.AWS)
			t.Setenv("AWS_ENDPOINT_URL_S3", "")
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			sink, err := New(Options{Bucket: "acme", Key: func(snapshot.Header) string { return "x.json" }})
			if err != nil {
				t.Fatal(err)
			}
			defer sink.Close()
			if tt.name == "no endpoint" {
				test.addr = "127.0.0.1:1" // no request leaves this machine
				test.connect(sink)
			}
			snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
			for what, err := range map[string]error{"Write": sink.Write(t.Context(), snap), "Check": sink.Check(t.Context())} {
				if err == nil || errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: err = %v, want %q", what, err, tt.want)
				}
			}
		})
	}
}

// TestS3Refused checks errors of a real server.
func TestS3Refused(t *testing.T) {
	s := newTest(t)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	for name, test := range map[string]struct {
		env  map[string]string
		hint string
	}{
		"unknown key":    {env: map[string]string{"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, hint: "InvalidAccessKeyId"},
		"wrong secret":   {env: map[string]string{"AWS_SECRET_ACCESS_KEY": testserver.S3Secret + "x"}, hint: "SignatureDoesNotMatch"},
		"no key":         {env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, hint: "no credentials"},
		"no profile":     {env: map[string]string{"AWS_PROFILE": "missing"}, hint: "AWS_PROFILE"},
		"no CA":          {env: map[string]string{"AWS_CA_BUNDLE": "/nowhere/ca.pem"}, hint: "AWS_CA_BUNDLE"},
		"another's role": {env: s.user(), hint: "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.T = t
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			sink := s.sink("%TAG.json")
			for what, err := range map[string]error{"Write": sink.Write(t.Context(), snap), "Check": sink.Check(t.Context())} {
				if !errors.Is(err, store.ErrRefused) || what == "Write" && !strings.Contains(err.Error(), test.hint) || strings.Contains(err.Error(), testserver.S3Secret) {
					t.Errorf("%s: err = %v", what, err)
				}
			}
		})
	}
	if len(s.keys()) > 0 {
		t.Errorf("objects: %v", s.keys())
	}
}

// user creates a user without permissions on the server, and returns the variables
// with their credentials.
func (s *s3Test) user() map[string]string {
	s.Helper()
	access := "AKIA" + strings.ToUpper(uuid.NewString()[:8])
	cmd := exec.Command(s.server.Cmd.Path, "admin", "--access", testserver.S3Key, "--secret", testserver.S3Secret, "--endpoint-url", "http://"+s.server.Addr(),
		"create-user", "--access", access, "--secret", "secret-of-user", "--role", "user")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("create-user: %v: %s", err, out)
	}
	return map[string]string{"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": "secret-of-user"}
}

// TestS3RenewedCredentials replaces the credentials in a file while the process
// runs.
func TestS3RenewedCredentials(t *testing.T) {
	s := newTest(t)
	file := filepath.Join(t.TempDir(), "credentials")
	put := func(secret string) {
		t.Helper()
		text := "[default]\naws_access_key_id = " + testserver.S3Key + "\naws_secret_access_key = " + secret + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("an-older-secret")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	sink := s.sink("%TAG.json")
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	if err := sink.Write(t.Context(), snap); !errors.Is(err, store.ErrRefused) {
		t.Fatalf("err = %v", err)
	}
	put(testserver.S3Secret)
	s.write(sink, snap)
}

// TestS3FindsTheRegion has a bucket in another region than the configured one. S3
// names the region.
func TestS3FindsTheRegion(t *testing.T) {
	s := newTest(t)
	var stored []string
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "/eu-west-3/s3/") {
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-3")
			respondError(w, r, http.StatusMovedPermanently, "PermanentRedirect", "elsewhere")
			return
		}
		if r.Method != http.MethodPut {
			return // a request for unfinished uploads
		}
		b, _ := io.ReadAll(r.Body)
		stored = append(stored, string(b))
	})
	sink := s.sink("%TAG.jsonl")
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	for range 2 {
		s.write(sink, snap)
	}
	if len(stored) != 2 || stored[1] != storetest.EncodedRecords(t, snap)[0]+"\n" {
		t.Errorf("stored %q", stored)
	}
}

// TestS3WithoutACL has a server that does not support ACLs.
func TestS3WithoutACL(t *testing.T) {
	s := newTest(t)
	refusals, stored := 0, 0
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Acl") != "" {
			refusals++
			respondError(w, r, http.StatusNotImplemented, "NotImplemented", "Header 'x-amz-acl' is not implemented")
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut {
			stored++
		}
	})
	sink := s.sink("%TAG.json")
	for range 3 {
		s.write(sink, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	}
	if refusals != 1 || stored != 3 || strings.Count(s.logged.String(), "no ACL") != 1 {
		t.Errorf("%d refusals, %d stored, logged: %s", refusals, stored, s.logged)
	}
}

// TestS3SweepDenied has a role that may not list unfinished uploads.
func TestS3SweepDenied(t *testing.T) {
	s := newTest(t)
	onward := s.reverse()
	lists := 0
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Query().Has("uploads") {
			lists++
			respondError(w, r, http.StatusForbidden, "AccessDenied", "no")
			return
		}
		onward.ServeHTTP(w, r)
	})
	sink := s.sink("%TAG.json")
	sink.part = smallPart
	for range 2 {
		s.write(sink, storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 6000))
	}
	if lists != 1 || !strings.Contains(s.logged.String(), "AbortIncompleteMultipartUpload") {
		t.Errorf("asked %d times, logged: %s", lists, s.logged)
	}
}

// TestS3Authority has a server whose certificate a private authority signed.
func TestS3Authority(t *testing.T) {
	s := newTest(t)
	onward := s.reverse()
	server := httptest.NewTLSServer(onward)
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL_S3", server.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	err := s.sink("%TAG.json").Write(t.Context(), snap)
	if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
		t.Errorf("err = %v", err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", ca)
	s.write(s.sink("%TAG.json"), snap)

	// In parts with checksums, as with AWS: with TLS the body is not signed.
	t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
	sink := s.sink("%TAG.json")
	sink.part = 5 << 20
	snap = storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 8000)
	s.write(sink, snap)
	if got, _ := s.body(sink, "okta_users.json"); !bytes.Equal(got, encoded(t, snap, snapshot.JSON)) {
		t.Error("the object is not the snapshot")
	}
}
