package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate makes one for 127.0.0.1 by an authority of a made-up name, which
// the pool knows.
func certificate(t *testing.T, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Acme Inspection"}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// visit makes one request and returns what the journey tells of it.
func visit(t *testing.T, address string, roots *x509.CertPool, timeout time.Duration) Finding {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	j := &Journey{}
	req, err := http.NewRequestWithContext(j.Watch(ctx), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	f, ok := j.Finding("vendor", "network", err, time.Now())
	if !ok {
		t.Fatal("nothing was watched")
	}
	return f
}

func TestJourney(t *testing.T) {
	secure := func(until time.Time) (string, *x509.CertPool) {
		own, pool := certificate(t, until)
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
		s.Config.ErrorLog = nil
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL, pool
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	good, known := secure(time.Now().Add(90 * 24 * time.Hour))
	soon, knownSoon := secure(time.Now().Add(48 * time.Hour))
	old, knownOld := secure(time.Now().Add(-time.Hour))
	const patience = 30 * time.Second
	for name, test := range map[string]struct {
		address string
		roots   *x509.CertPool
		timeout time.Duration
		result  Result
		says    []string
	}{
		"all is well":       {good, known, patience, OK, []string{"TLS 1.3, certificate by Acme Inspection until 20"}},
		"ends soon":         {soon, knownSoon, patience, Warning, []string{"ends soon"}},
		"expired":           {old, knownOld, patience, Failed, []string{"agree on TLS", "not valid now", "clock"}},
		"unknown authority": {good, x509.NewCertPool(), patience, Failed, []string{"agree on TLS", "Acme Inspection", "SSL_CERT_FILE"}},
		"nobody listens":    {"http://127.0.0.1:1/", nil, patience, Failed, []string{"failed to connect to 127.0.0.1:1", "firewall"}},
		"unknown name":      {"http://nowhere.invalid/", nil, patience, Failed, []string{"look up the name nowhere.invalid", "cannot be resolved"}},
		"nothing answers":   {"https://" + silent.Addr().String() + "/", nil, 300 * time.Millisecond, Failed, []string{"nothing answers"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := visit(t, test.address, test.roots, test.timeout)
			if f.Result != test.result {
				t.Errorf("it is %s: %+v", f.Result, f)
			}
			for _, text := range test.says {
				if !strings.Contains(f.Text+" "+f.Advice, text) {
					t.Errorf("it does not say %q: %+v", text, f)
				}
			}
		})
	}
}

func TestClock(t *testing.T) {
	for ahead, want := range map[time.Duration]Result{0: OK, 2 * time.Minute: Warning, -20 * time.Minute: Failed, 20 * time.Minute: Failed} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-ahead).UTC().Format(http.TimeFormat))
		}))
		f, ok := ClockAgainst(t.Context(), s.Client(), s.URL)
		s.Close()
		if !ok || f.Result != want || (want == OK) != (f.Advice == "") {
			t.Errorf("%v ahead: %+v, %t", ahead, f, ok)
		}
		if word := map[bool]string{true: "behind", false: "ahead"}[ahead < 0]; want != OK && !strings.Contains(f.Text, word) {
			t.Errorf("%v ahead: %s", ahead, f.Text)
		}
	}
	if f, ok := ClockAgainst(t.Context(), http.DefaultClient, "http://127.0.0.1:1/"); ok {
		t.Errorf("nobody answered, and still: %+v", f)
	}
}

func TestSpace(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		free, inodes uint64
		used, spool  int64
		want         Result
	}{
		{100 * gib, 1e6, gib, 10 * gib, OK},
		{11 * gib, 1e6, gib, 10 * gib, Warning},
		{gib, 1e6, gib, 10 * gib, Failed},
		{100 << 20, 1e6, 0, 0, Failed},
		{100 * gib, 10, 0, 0, Failed},
	} {
		if f := space("disk", test.free, test.inodes, test.used, test.spool); f.Result != test.want || (test.want == OK) != (f.Advice == "") {
			t.Errorf("%+v: %+v", test, f)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Result{dir: OK, filepath.Join(dir, "a", "b"): OK, file: Failed, filepath.Join(file, "below"): Failed} {
		if f := Folder("state", "STATE_DIR", path); f.Result != want || want == Failed && !strings.Contains(f.Advice, "STATE_DIR") {
			t.Errorf("%s: %+v", path, f)
		}
	}
	if n := Size(dir); n != 1000 {
		t.Errorf("the folder holds %d bytes", n)
	}
}
