package rest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A SigningKey is a private key that signs assertions: an RSA key with RS256, or an
// elliptic curve key on P-256 with ES256.
type SigningKey struct {
	key    any
	method jwt.SigningMethod
}

// ParseSigningKey parses a private key in PEM: PKCS#1, PKCS#8 or SEC 1. The two
// characters \n stand for a line break, as in variables of one line. Errors show
// nothing of the key.
func ParseSigningKey(text string) (*SigningKey, error) {
	if !strings.Contains(text, "\n") {
		text = strings.ReplaceAll(text, `\n`, "\n")
	}
	data := []byte(strings.TrimSpace(text))
	block, _ := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("it is not in PEM: want a private key that begins with -----BEGIN")
	case strings.Contains(block.Type, "ENCRYPTED") || block.Headers["Proc-Type"] != "":
		return nil, errors.New("the key is encrypted: want one without a passphrase")
	case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf("the PEM block is a %.40s: want a private key", block.Type)
	}
	if key, err := jwt.ParseRSAPrivateKeyFromPEM(data); err == nil {
		return newRSAKey(key)
	}
	key, err := jwt.ParseECPrivateKeyFromPEM(data)
	if err != nil {
		return nil, errors.New("the key cannot be read: want an RSA key or an elliptic curve key in PKCS#1, PKCS#8 or SEC 1")
	}
	return newECKey(key)
}

// minRSABits is the least size of an RSA key for RS256 (RFC 7518, section 3.3).
const minRSABits = 2048

func newRSAKey(key *rsa.PrivateKey) (*SigningKey, error) {
	if bits := key.N.BitLen(); bits < minRSABits {
		return nil, fmt.Errorf("the RSA key has %d bits: want at least %d", bits, minRSABits)
	}
	return &SigningKey{key: key, method: jwt.SigningMethodRS256}, nil
}

func newECKey(key *ecdsa.PrivateKey) (*SigningKey, error) {
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the key is on the curve %s: want P-256", key.Curve.Params().Name)
	}
	return &SigningKey{key: key, method: jwt.SigningMethodES256}, nil
}

// Sign returns a JSON Web Token with the claims. keyID is its header kid; "" for
// none.
func (s *SigningKey) Sign(claims jwt.RegisteredClaims, keyID string) (string, error) {
	t := jwt.NewWithClaims(s.method, claims)
	if keyID != "" {
		t.Header["kid"] = keyID
	}
	return t.SignedString(s.key)
}

// An Assertion is an Auth that proves with a signed JSON Web Token who sends a
// request (RFC 7523). Each request has a token of its own, so that none expires.
type Assertion struct {
	Key *SigningKey
	// Claims are the claims apart from the times, such as Issuer.
	Claims jwt.RegisteredClaims
	// KeyID is the header kid of the token; "" for none.
	KeyID string
	// Life is the time between issue and expiry. Tokens are issued a minute in the
	// past, for servers whose clock is behind.
	Life time.Duration

	mu     sync.Mutex
	offset time.Duration // of the server's clock to this one
	used   time.Duration // the offset of the last token
	last   string        // the last token, which errors must not show
}

const (
	// assertionAge is how long ago an assertion is issued.
	assertionAge = time.Minute
	// smallOffset is a difference of the clocks that does not matter.
	smallOffset = 30 * time.Second
)

// Apply implements Auth.
func (a *Assertion) Apply(_ context.Context, req *http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	issued := time.Now().Add(a.offset - assertionAge)
	claims := a.Claims
	claims.IssuedAt, claims.ExpiresAt = jwt.NewNumericDate(issued), jwt.NewNumericDate(issued.Add(a.Life))
	text, err := a.Key.Sign(claims, a.KeyID)
	if err != nil {
		return fmt.Errorf("assertion: %w", err)
	}
	a.last, a.used = text, a.offset
	req.Header.Set("Authorization", "Bearer "+text)
	return nil
}

// Renew implements Auth. A new token differs if the clock of the server does, which
// ObserveDate has learned from the response.
func (a *Assertion) Renew(context.Context, *http.Request) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.offset != a.used, nil
}

// ObserveDate learns the difference of the clocks from the headers of a response.
// It is an OnResponse of the client that uses the assertion.
func (a *Assertion) ObserveDate(h http.Header) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if offset := time.Until(date); (offset - a.offset).Abs() > smallOffset {
		a.offset = offset
	}
}

func (a *Assertion) secrets() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []string{a.last}
}
