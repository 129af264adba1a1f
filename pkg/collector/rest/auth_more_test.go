package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/collectord/collectord/pkg/collector"
)

// TestStaticHeaders: all headers are sent, and no error shows them.
func TestStaticHeaders(t *testing.T) {
	c := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "not allowed: "+r.Header.Get("X-Key")+" of "+r.Header.Get("X-Key-Id"))
	}))
	c.Auth = StaticHeaders{{Name: "x-key", Value: "s3cret-key"}, {Name: "x-key-id", Value: "id-17-x"}}
	_, err := c.Get(context.Background(), Request{Path: "/x"})
	assertError(t, err, "403 Forbidden: not allowed: ")
	if !errors.Is(err, collector.ErrForbidden) || strings.Contains(err.Error(), "s3cret-key") || strings.Contains(err.Error(), "id-17-x") {
		t.Errorf("the error is %v", err)
	}
}

// TestSigV4: the service accepts the signature of each attempt, and credentials
// that it refuses are renewed.
func TestSigV4(t *testing.T) {
	provided := new(atomic.Int32)
	cache := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		id := "AKIDOLD"
		if provided.Add(1) > 1 {
			id = "AKIDNEW"
		}
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: "very-secret", SessionToken: "session-token", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
	}))
	var attempts int
	c := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attempts++
		switch authorization := r.Header.Get("Authorization"); {
		case strings.Contains(authorization, "AKIDOLD"):
			w.WriteHeader(http.StatusUnauthorized)
		case attempts == 2: // signed again
			w.WriteHeader(http.StatusServiceUnavailable)
		case !isSigned(t, r):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "very-secret session-token")
		default:
			_, _ = io.WriteString(w, `{"ok":true}`)
		}
	}))
	c.Auth = NewSigV4(cache, "securityhub", "eu-central-1")
	if _, err := c.Get(context.Background(), Request{Method: "POST", Path: "/findings?a=b%2Fc", Body: []byte(`{"x":1}`)}); err != nil {
		t.Error(err)
	}
	if attempts != 3 || provided.Load() != 2 {
		t.Errorf("%d attempts, credentials provided %d times", attempts, provided.Load())
	}
	c.Auth = NewSigV4(credentials.NewStaticCredentialsProvider("AKIDNEW", "other-secret", ""), "securityhub", "eu-central-1")
	attempts = 3
	_, err := c.Get(context.Background(), Request{Path: "/findings"})
	assertError(t, err, "403 Forbidden")
	c.Auth = NewSigV4(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no role")
	}), "securityhub", "eu-central-1")
	_, err = c.Get(context.Background(), Request{Path: "/findings"})
	assertError(t, err, "AWS credentials: no role")
}

// isSigned reports whether r has the signature that the secret very-secret makes.
func isSigned(t *testing.T, r *http.Request) bool {
	t.Helper()
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Error(err)
		return false
	}
	body, _ := io.ReadAll(r.Body)
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), strings.NewReader(string(body)))
	if err != nil {
		t.Error(err)
		return false
	}
	for _, name := range []string{"Content-Type", "X-Amz-Security-Token"} {
		if value := r.Header.Get(name); value != "" {
			again.Header.Set(name, value)
		}
	}
	_, after, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	signed, _, _ := strings.Cut(after, ",")
	for name := range strings.SplitSeq(signed, ";") {
		if value := r.Header.Get(name); value != "" && name != "x-amz-date" {
			again.Header.Set(name, value)
		}
	}
	sum, err := hashBody(again)
	if err != nil {
		t.Error(err)
		return false
	}
	secret := aws.Credentials{AccessKeyID: "AKIDNEW", SecretAccessKey: "very-secret", SessionToken: "session-token"}
	if err := v4.NewSigner().SignHTTP(t.Context(), secret, again, sum, "securityhub", "eu-central-1", at); err != nil {
		t.Error(err)
	}
	return again.Header.Get("Authorization") == r.Header.Get("Authorization")
}
