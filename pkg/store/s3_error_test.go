package store

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

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
)

// answering points the AWS variables at a server of the test's own.
func (s *s3Test) answering(answer http.HandlerFunc) {
	s.Helper()
	server := httptest.NewServer(answer)
	s.Cleanup(server.Close)
	s.Setenv("AWS_ENDPOINT_URL_S3", server.URL)
	s.Setenv("AWS_MAX_ATTEMPTS", "1")
}

// say answers with an error as S3 writes it.
func say(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message><RequestId>r-1</RequestId></Error>`, code, message)
	}
}

// TestS3Errors sorts S3's answers, those that no server here gives included.
func TestS3Errors(t *testing.T) {
	s := newS3Test(t)
	snap := seal(t, headerOf("okta_users", "acme", noon), one)
	for _, test := range []struct {
		status  int
		code    string
		refused bool
		hint    string
	}{
		{403, "AccessDenied", true, "s3:PutObject"},
		{403, "AllAccessDisabled", true, "s3:PutObject"},
		{403, "InvalidAccessKeyId", true, "AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", true, "AWS_SECRET_ACCESS_KEY"},
		{404, "NoSuchBucket", true, "STORE_AWS_S3_BUCKET"},
		{301, "PermanentRedirect", true, "AWS_REGION"},
		{400, "AuthorizationHeaderMalformed", true, "AWS_REGION"},
		{400, "IllegalLocationConstraintException", true, "AWS_REGION"},
		{400, "KMS.NotFoundException", true, "STORE_AWS_S3_KMS_KEY_ID"},
		{400, "InvalidToken", true, "AWS_SESSION_TOKEN"},
		{400, "ExpiredToken", false, "AWS_SESSION_TOKEN"},
		{403, "RequestTimeTooSkewed", false, "clock"},
		{400, "RequestTimeout", false, ""},
		{409, "OperationAborted", false, ""},
		{503, "SlowDown", false, ""},
		{500, "InternalError", false, ""},
		{503, "ServiceUnavailable", false, ""},
		{507, "XMinioStorageFull", false, ""},
		{502, "", false, ""},
	} {
		t.Run(test.code, func(t *testing.T) {
			s := *s
			s.T = t
			s.answering(func(w http.ResponseWriter, r *http.Request) { say(w, r, test.status, test.code, "no") })
			err := s.sink("%TAG.json").Write(t.Context(), snap)
			if err == nil || errors.Is(err, ErrRefused) != test.refused || !strings.Contains(err.Error(), test.hint) ||
				!strings.HasPrefix(err.Error(), "s3: upload to s3://"+s.bucket+"/okta_users.json: ") || strings.Contains(err.Error(), testserver.S3Secret) {
				t.Errorf("err = %v", err)
			}
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("err is fs.ErrNotExist: %v", err)
			}
		})
	}
}

// TestS3Refused has the refusals of a real server.
func TestS3Refused(t *testing.T) {
	s := newS3Test(t)
	snap := seal(t, headerOf("okta_users", "acme", noon), one)
	for name, test := range map[string]struct {
		env  map[string]string
		hint string
	}{
		"unknown key":    {map[string]string{"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, "InvalidAccessKeyId"},
		"wrong secret":   {map[string]string{"AWS_SECRET_ACCESS_KEY": testserver.S3Secret + "x"}, "SignatureDoesNotMatch"},
		"no key":         {map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials"},
		"no profile":     {map[string]string{"AWS_PROFILE": "nobody"}, "AWS_PROFILE"},
		"no CA":          {map[string]string{"AWS_CA_BUNDLE": "/nowhere/ca.pem"}, "AWS_CA_BUNDLE"},
		"another's role": {s.user(), "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.T = t
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			sink := s.sink("%TAG.json")
			for what, err := range map[string]error{"Write": sink.Write(t.Context(), snap), "Check": sink.Check(t.Context())} {
				if !errors.Is(err, ErrRefused) || what == "Write" && !strings.Contains(err.Error(), test.hint) || strings.Contains(err.Error(), testserver.S3Secret) {
					t.Errorf("%s: err = %v", what, err)
				}
			}
		})
	}
	if len(s.keys()) > 0 {
		t.Errorf("objects: %v", s.keys())
	}
}

// user makes the server a user who may do nothing, and returns the variables
// of their credentials.
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

// TestS3RenewedCredentials has credentials in a file that are replaced while
// the process runs.
func TestS3RenewedCredentials(t *testing.T) {
	s := newS3Test(t)
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
	snap := seal(t, headerOf("okta_users", "acme", noon), one)
	if err := sink.Write(t.Context(), snap); !errors.Is(err, ErrRefused) {
		t.Fatalf("err = %v", err)
	}
	put(testserver.S3Secret)
	s.write(sink, snap)
}

// TestS3FindsTheRegion has a bucket in another region than is set, which S3
// names.
func TestS3FindsTheRegion(t *testing.T) {
	s := newS3Test(t)
	var stored []string
	s.answering(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "/eu-west-3/s3/") {
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-3")
			say(w, r, http.StatusMovedPermanently, "PermanentRedirect", "elsewhere")
			return
		}
		if r.Method != http.MethodPut {
			return // it is asked for unfinished uploads
		}
		b, _ := io.ReadAll(r.Body)
		stored = append(stored, string(b))
	})
	sink := s.sink("%TAG.jsonl")
	snap := seal(t, headerOf("okta_users", "acme", noon), one)
	for range 2 {
		s.write(sink, snap)
	}
	if len(stored) != 2 || stored[1] != recordsOf(t, snap)[0]+"\n" {
		t.Errorf("stored %q", stored)
	}
}

// TestS3WithoutACL has a server that knows no ACL.
func TestS3WithoutACL(t *testing.T) {
	s := newS3Test(t)
	refusals, stored := 0, 0
	s.answering(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Acl") != "" {
			refusals++
			say(w, r, http.StatusNotImplemented, "NotImplemented", "Header 'x-amz-acl' is not implemented")
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut {
			stored++
		}
	})
	sink := s.sink("%TAG.json")
	for range 3 {
		s.write(sink, seal(t, headerOf("okta_users", "acme", noon), one))
	}
	if refusals != 1 || stored != 3 || strings.Count(s.logged.String(), "no ACL") != 1 {
		t.Errorf("%d refusals, %d stored, logged: %s", refusals, stored, s.logged)
	}
}

// TestS3SweepDenied has a role that may not list unfinished uploads.
func TestS3SweepDenied(t *testing.T) {
	s := newS3Test(t)
	onward := s.reverse()
	lists := 0
	s.answering(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Query().Has("uploads") {
			lists++
			say(w, r, http.StatusForbidden, "AccessDenied", "no")
			return
		}
		onward.ServeHTTP(w, r)
	})
	sink := s.sink("%TAG.json")
	sink.part = smallPart
	for range 2 {
		s.write(sink, noise(t, headerOf("okta_users", "acme", noon), 6000))
	}
	if lists != 1 || !strings.Contains(s.logged.String(), "AbortIncompleteMultipartUpload") {
		t.Errorf("asked %d times, logged: %s", lists, s.logged)
	}
}

// TestS3CutBody has an object whose body ends early.
func TestS3CutBody(t *testing.T) {
	s := newS3Test(t)
	key := "okta_users.json"
	if _, err := s.direct.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: strings.NewReader(strings.Repeat("x", 1<<20))}); err != nil {
		t.Fatal(err)
	}
	proxy := s.throughProxy()
	proxy.Set(faultproxy.Fault{CutDown: 500_000})
	r, o, err := s.sink("%TAG.json").Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err == nil || o.Size != 1<<20 {
		t.Errorf("%d of %d bytes without an error", len(b), o.Size)
	}
}

// TestS3Authority has a server whose certificate a private authority signed.
func TestS3Authority(t *testing.T) {
	s := newS3Test(t)
	onward := s.reverse()
	server := httptest.NewTLSServer(onward)
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL_S3", server.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	snap := seal(t, headerOf("okta_users", "acme", noon), one)
	err := s.sink("%TAG.json").Write(t.Context(), snap)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
		t.Errorf("err = %v", err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", ca)
	s.write(s.sink("%TAG.json"), snap)

	// In parts with checksums, as to AWS: TLS takes the place of the body's
	// signature.
	t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
	sink := s.sink("%TAG.json")
	sink.part = 5 << 20
	snap = noise(t, headerOf("okta_users", "acme", noon), 8000)
	s.write(sink, snap)
	if got, _ := s.body(sink, "okta_users.json"); !bytes.Equal(got, encoded(t, snap, snapshot.JSON)) {
		t.Error("the object is not the snapshot")
	}
}
