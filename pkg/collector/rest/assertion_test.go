package rest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var rsaTestKey = sync.OnceValue(func() *rsa.PrivateKey { return mustKey(rsa.GenerateKey(rand.Reader, 2048)) })

func mustKey[K any](key K, err error) K {
	if err != nil {
		panic(err)
	}
	return key
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestSigningKeys(t *testing.T) {
	ec := mustKey(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384 := mustKey(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	pkcs1 := encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaTestKey()))
	public := mustKey(x509.MarshalPKIXPublicKey(rsaTestKey().Public()))
	for _, tc := range []struct {
		name      string
		text      string
		verify    crypto.PublicKey
		wantAlg   string
		wantError string
	}{
		{name: "PKCS#1", text: pkcs1, verify: rsaTestKey().Public(), wantAlg: "RS256"},
		{name: "in one line", text: strings.ReplaceAll(pkcs1, "\n", `\n`), verify: rsaTestKey().Public(), wantAlg: "RS256"},
		{name: "spaces around", text: "\n " + pkcs1 + "\n\n", verify: rsaTestKey().Public(), wantAlg: "RS256"},
		{name: "PKCS#8", text: encodePEM("PRIVATE KEY", mustKey(x509.MarshalPKCS8PrivateKey(rsaTestKey()))), verify: rsaTestKey().Public(), wantAlg: "RS256"},
		{name: "SEC 1", text: encodePEM("EC PRIVATE KEY", mustKey(x509.MarshalECPrivateKey(ec))), verify: ec.Public(), wantAlg: "ES256"},
		{name: "PKCS#8 with EC", text: encodePEM("PRIVATE KEY", mustKey(x509.MarshalPKCS8PrivateKey(ec))), verify: ec.Public(), wantAlg: "ES256"},
		{name: "P-384", text: encodePEM("EC PRIVATE KEY", mustKey(x509.MarshalECPrivateKey(p384))), wantError: "P-384: want P-256"},
		{name: "no PEM", text: "s3cret-key", wantError: "not in PEM"},
		{name: "empty", text: "", wantError: "not in PEM"},
		{name: "a public key", text: encodePEM("PUBLIC KEY", public), wantError: "want a private key"},
		{name: "an encrypted key", text: encodePEM("ENCRYPTED PRIVATE KEY", []byte("s3cret-key")), wantError: "without a passphrase"},
		{name: "a damaged key", text: encodePEM("RSA PRIVATE KEY", []byte("s3cret-key")), wantError: "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key, err := ParseSigningKey(tc.text)
			if tc.wantError != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantError) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("error %v, want %q", err, tc.wantError)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := key.Sign(jwt.RegisteredClaims{Issuer: "42"}, "kid-1")
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return tc.verify, nil }, jwt.WithIssuer("42"))
			if err != nil || parsed.Header["alg"] != tc.wantAlg || parsed.Header["kid"] != "kid-1" {
				t.Errorf("token %v, %v, want %s", parsed, err, tc.wantAlg)
			}
		})
	}
}

// TestShortKeyIsRefused: RS256 is not safe with a short key.
func TestShortKeyIsRefused(t *testing.T) {
	if _, err := newRSAKey(&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: rsaTestKey().Primes[0], E: 65537}}); err == nil || !strings.Contains(err.Error(), "at least 2048") {
		t.Errorf("error %v", err)
	}
}

// assertionServer accepts tokens by its own clock, and none that is valid for longer
// than ten minutes from now.
type assertionServer struct {
	offset time.Duration
	tokens []string
}

func (s *assertionServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now().Add(s.offset)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.tokens = append(s.tokens, text)
	t, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return rsaTestKey().Public(), nil },
		jwt.WithTimeFunc(func() time.Time { return now }), jwt.WithIssuedAt(), jwt.WithExpirationRequired(), jwt.WithIssuer("42"))
	if err == nil {
		if expires, _ := t.Claims.GetExpirationTime(); expires.After(now.Add(10 * time.Minute)) {
			err = jwt.ErrTokenInvalidClaims
		}
	}
	if err != nil {
		http.Error(w, `{"message":"`+err.Error()+text+`"}`, http.StatusUnauthorized)
		return
	}
	_, _ = w.Write([]byte("{}"))
}

// TestAssertionsAndClocks: an assertion is valid at a server whose clock differs, also
// if it differs more than the server allows, because a refusal has the server's time.
func TestAssertionsAndClocks(t *testing.T) {
	for _, tc := range []struct {
		name         string
		offset       time.Duration
		wantRequests int // for the first of two
	}{
		{name: "equal", wantRequests: 1},
		{name: "server behind within the age of a token", offset: -50 * time.Second, wantRequests: 1},
		{name: "server ahead within the life of a token", offset: 5 * time.Minute, wantRequests: 1},
		{name: "server behind by an hour", offset: -time.Hour, wantRequests: 2},
		{name: "server ahead by an hour", offset: time.Hour, wantRequests: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &assertionServer{offset: tc.offset}
				c, stop := startInMemory(t, s)
				defer stop()
				a := &Assertion{Key: mustKey(newRSAKey(rsaTestKey())), Claims: jwt.RegisteredClaims{Issuer: "42"}, Life: 9 * time.Minute}
				c.Auth, c.OnResponse = a, a.ObserveDate
				for run, want := range []int{tc.wantRequests, 1} {
					s.tokens = nil
					if _, err := c.Get(t.Context(), Request{Path: "/app"}); err != nil {
						t.Fatal(err)
					}
					if len(s.tokens) != want {
						t.Errorf("request %d: %d attempts, want %d", run, len(s.tokens), want)
					}
					time.Sleep(time.Hour) // no token is used again
				}
			})
		})
	}
}

// TestRefusedAssertion: a refusal at the same time is final, and its error does not
// show the token that the server repeats.
func TestRefusedAssertion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &assertionServer{}
		c, stop := startInMemory(t, s)
		defer stop()
		c.Auth = &Assertion{Key: mustKey(newRSAKey(rsaTestKey())), Claims: jwt.RegisteredClaims{Issuer: "43"}, Life: 9 * time.Minute}
		_, err := c.Get(t.Context(), Request{Path: "/app"})
		if !HasStatus(err, http.StatusUnauthorized) || len(s.tokens) != 1 || strings.Contains(err.Error(), s.tokens[0]) {
			t.Errorf("%d attempts, error %v", len(s.tokens), err)
		}
	})
}
