package doctor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// newCertificate returns a certificate for 127.0.0.1 that ends at a time, and a
// pool that contains its authority, "Acme Inspection".
func newCertificate(t *testing.T, until time.Time) (tls.Certificate, *x509.CertPool) {
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

// startTLSServer starts a server whose certificate ends at a time. It returns
// the server's address and a pool with the certificate's authority.
func startTLSServer(t *testing.T, until time.Time) (address string, roots *x509.CertPool) {
	t.Helper()
	certificate, pool := newCertificate(t, until)
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, pool
}

// startSilentServer starts a server that accepts connections and sends nothing.
func startSilentServer(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return "https://" + listener.Addr().String() + "/"
}

// requestWatched makes a request and returns the finding of the journey that
// watched it.
func requestWatched(t *testing.T, address string, roots *x509.CertPool, timeout time.Duration) Finding {
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
		t.Fatal("no request was watched")
	}
	return f
}

// assertContains fails the test unless the finding's text or advice contains
// each of the parts.
func assertContains(t *testing.T, f Finding, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(f.Text+" "+f.Advice, part) {
			t.Errorf("no %q in %+v", part, f)
		}
	}
}

func TestJourney(t *testing.T) {
	good, known := startTLSServer(t, time.Now().Add(90*24*time.Hour))
	soon, knownSoon := startTLSServer(t, time.Now().Add(48*time.Hour))
	old, knownOld := startTLSServer(t, time.Now().Add(-time.Hour))
	silent := startSilentServer(t)
	const longTimeout = 30 * time.Second
	for _, test := range []struct {
		name     string
		address  string
		roots    *x509.CertPool
		timeout  time.Duration
		result   Result
		contains []string
	}{
		{
			name: "valid certificate", address: good, roots: known, timeout: longTimeout,
			result: OK, contains: []string{"TLS 1.3, certificate by Acme Inspection until 20"},
		},
		{
			name: "certificate that ends soon", address: soon, roots: knownSoon, timeout: longTimeout,
			result: Warning, contains: []string{"ends soon"},
		},
		{
			name: "expired certificate", address: old, roots: knownOld, timeout: longTimeout,
			result: Failed, contains: []string{"agree on TLS", "not valid now", "clock"},
		},
		{
			name: "unknown authority", address: good, roots: x509.NewCertPool(), timeout: longTimeout,
			result: Failed, contains: []string{"agree on TLS", "Acme Inspection", "SSL_CERT_FILE"},
		},
		{
			name: "closed port", address: "http://127.0.0.1:1/", timeout: longTimeout,
			result: Failed, contains: []string{"failed to connect to 127.0.0.1:1", "firewall"},
		},
		{
			name: "unknown name", address: "http://nowhere.invalid/", timeout: longTimeout,
			result: Failed, contains: []string{"look up the name nowhere.invalid", "cannot be resolved"},
		},
		{
			name: "silent server", address: silent, timeout: 300 * time.Millisecond,
			result: Failed, contains: []string{"no response"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := requestWatched(t, test.address, test.roots, test.timeout)
			if f.Result != test.result {
				t.Errorf("the result is %s, want %s: %+v", f.Result, test.result, f)
			}
			assertContains(t, f, test.contains...)
		})
	}
}

func TestClockAgainst(t *testing.T) {
	const ntp = "set it by NTP: tokens and signatures contain the time, and S3 refuses those that are wrong by 15 minutes"
	for _, test := range []struct {
		name   string
		ahead  time.Duration
		result Result
		text   string
		advice string
	}{
		{name: "right", ahead: 0, result: OK, text: "agrees with that of"},
		{name: "two minutes fast", ahead: 2 * time.Minute, result: Warning, text: "ahead of that of", advice: ntp},
		{name: "twenty minutes fast", ahead: 20 * time.Minute, result: Failed, text: "ahead of that of", advice: ntp},
		{name: "twenty minutes slow", ahead: -20 * time.Minute, result: Failed, text: "behind that of", advice: ntp},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(-test.ahead).UTC().Format(http.TimeFormat))
			}))
			defer s.Close()
			f, ok := ClockAgainst(t.Context(), s.Client(), s.URL)
			if !ok || f.Result != test.result || f.Advice != test.advice {
				t.Errorf("%+v, %t", f, ok)
			}
			assertContains(t, f, test.text)
		})
	}
	t.Run("no server", func(t *testing.T) {
		if f, ok := ClockAgainst(t.Context(), http.DefaultClient, "http://127.0.0.1:1/"); ok {
			t.Errorf("a finding without a response: %+v", f)
		}
	})
}

func TestSpaceFinding(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		name   string
		free   uint64
		inodes uint64
		used   int64
		spool  int64
		result Result
		advice string
	}{
		{name: "enough", free: 100 * gib, inodes: 1e6, used: gib, spool: 10 * gib, result: OK},
		{
			name: "too little for the spool", free: 11 * gib, inodes: 1e6, used: gib, spool: 10 * gib, result: Warning,
			advice: "undelivered snapshots may need 10 GiB (STORE_SPOOL_MAX) while a destination is unavailable, and a run 2.0 GiB: " +
				"free some space, or lower it",
		},
		{
			name: "too little for a run", free: gib, inodes: 1e6, used: gib, spool: 10 * gib, result: Failed,
			advice: "free some space: a run may need 2.0 GiB",
		},
		{
			name: "too little for the first run", free: 100 << 20, inodes: 1e6, result: Failed,
			advice: "free some space: a run may need 256 MiB",
		},
		{
			name: "too few inodes", free: 100 * gib, inodes: 10, result: Failed,
			advice: "the file system is full of small files: remove some",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := spaceFinding("disk", test.free, test.inodes, test.used, test.spool)
			if f.Result != test.result || f.Advice != test.advice {
				t.Errorf("%+v, want %s: %s", f, test.result, test.advice)
			}
		})
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		path     string
		result   Result
		contains string
	}{
		{name: "a directory", path: dir, result: OK, contains: dir},
		{name: "a new directory", path: filepath.Join(dir, "a", "b"), result: OK, contains: "can be created"},
		{name: "a file", path: file, result: Failed, contains: "STATE_DIR"},
		{name: "below a file", path: filepath.Join(file, "below"), result: Failed, contains: "STATE_DIR"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := Directory("state", "STATE_DIR", test.path)
			if f.Result != test.result {
				t.Errorf("the result is %s, want %s: %+v", f.Result, test.result, f)
			}
			assertContains(t, f, test.contains)
		})
	}
	if n := Size(dir); n != 1000 {
		t.Errorf("Size is %d, want 1000", n)
	}
}

func TestSettings(t *testing.T) {
	for _, test := range []struct {
		name       string
		err        error
		warnings   []string
		collectors []string
		want       []Finding
	}{
		{
			name: "collectors that are on", warnings: []string{"a doubt"}, collectors: []string{"okta", "tenable"},
			want: []Finding{
				{Group: "settings", Check: "settings", Result: Warning, Text: "a doubt"},
				{Group: "settings", Check: "collectors", Result: OK, Text: "okta, tenable on"},
			},
		},
		{
			name: "no collector",
			want: []Finding{{
				Group: "settings", Check: "collectors", Result: Failed, Text: "none is switched on",
				Advice: "`collectord list` shows what switches each on",
			}},
		},
		{
			name: "errors", err: errors.New("A: wrong\nB: wrong"), warnings: []string{"a doubt"}, collectors: []string{"okta"},
			want: []Finding{
				{Group: "settings", Check: "settings", Result: Failed, Text: "A: wrong"},
				{Group: "settings", Check: "settings", Result: Failed, Text: "B: wrong"},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Settings(test.err, test.warnings, test.collectors)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestStreamFinding(t *testing.T) {
	taken := time.Now().Add(-3 * time.Hour)
	text := "7 records of " + taken.UTC().Format("2006-01-02 15:04:05Z") + " (3 hours ago)"
	for _, test := range []struct {
		name   string
		data   StreamData
		result Result
		text   string
		advice string
	}{
		{name: "no data", data: StreamData{Stream: "okta_users"}, result: OK, text: "no data yet"},
		{name: "fresh", data: StreamData{Stream: "okta_users", Records: 7, Known: taken}, result: OK, text: text},
		{
			name:   "collector that is off",
			data:   StreamData{Stream: "okta_users", Records: 7, Known: taken, WhyOff: "its collector is off", LastFailure: taken.Add(time.Hour), FailureErr: "broken"},
			result: OK, text: text + "; the stream is off: its collector is off",
		},
		{
			name:   "failure",
			data:   StreamData{Stream: "okta_users", Records: 7, Known: taken, LastFailure: taken.Add(time.Hour), FailureErr: "broken", Late: true},
			result: Warning, text: text + "; the last run failed: broken",
		},
		{
			name:   "failure before a success",
			data:   StreamData{Stream: "okta_users", Records: 7, Known: taken, LastFailure: taken.Add(-time.Hour), FailureErr: "broken"},
			result: OK, text: text,
		},
		{
			name:   "held",
			data:   StreamData{Stream: "okta_users", Records: 7, Known: taken, Held: true},
			result: Warning, text: text + "; a newer snapshot is held",
			advice: "it has far fewer records: find out why, or release it with `collectord accept okta_users`",
		},
		{
			name:   "late",
			data:   StreamData{Stream: "okta_users", Records: 7, Known: taken, Late: true},
			result: Warning, text: text + "; that is older than DATA_MAX_AGE or its schedule allows",
			advice: "see that the service runs, or run `collectord --once okta_users`",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := Finding{Group: "state", Check: "okta_users", Result: test.result, Text: test.text, Advice: test.advice}
			if diff := cmp.Diff(want, streamFinding(test.data)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestUndelivered(t *testing.T) {
	queue := []state.Delivery{
		{Sink: "postgres", Err: "connection refused"},
		{Sink: "duckdb", Err: "locked"},
		{Sink: "postgres"},
		{Sink: "postgres", Tenancy: "globex", Err: "not ours"},
	}
	other := Finding{Group: "state", Check: "undelivered", Result: Warning,
		Text:   "undelivered: 1 snapshot of the tenancy globex, which this one does not deliver",
		Advice: "use a STATE_DIR for each TENANCY; `collectord deliver` with that TENANCY delivers them"}
	waiting := func(sink, text, advice string) Finding {
		return Finding{Group: "state", Check: "undelivered", Result: Warning, Text: text, Advice: advice}
	}
	for _, test := range []struct {
		name   string
		checks DataChecks
		want   []Finding
	}{
		{
			name:   "destinations of the settings",
			checks: DataChecks{Sinks: []string{"duckdb", "postgres"}},
			want: []Finding{
				waiting("duckdb", "1 snapshot waits for duckdb: locked", ""),
				waiting("postgres", "2 snapshots wait for postgres: connection refused", ""),
				other,
			},
		},
		{
			name:   "a destination that was removed",
			checks: DataChecks{Sinks: []string{"duckdb"}},
			want: []Finding{
				waiting("duckdb", "1 snapshot waits for duckdb: locked", ""),
				waiting("postgres", "2 snapshots wait for postgres, which the settings do not have",
					"set it again, or drop them with `collectord drop postgres`"),
				other,
			},
		},
		{
			name:   "unknown destinations",
			checks: DataChecks{SinksUnknown: true},
			want: []Finding{
				waiting("duckdb", "1 snapshot waits for duckdb: locked", ""),
				waiting("postgres", "2 snapshots wait for postgres: connection refused", ""),
				other,
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, undelivered(queue, test.checks)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestServiceAt(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer s.Close()
	listen := strings.TrimPrefix(s.URL, "http://")
	for _, test := range []struct {
		name   string
		listen string
		status int
		ok     bool
		result Result
		text   string
	}{
		{name: "off", listen: ""},
		{name: "any port", listen: "127.0.0.1:0"},
		{name: "ready", listen: listen, status: http.StatusOK, ok: true, result: OK, text: "the service at " + listen + " is ready"},
		{
			name: "not ready", listen: listen, status: http.StatusServiceUnavailable, ok: true, result: Warning,
			text: "the server at " + listen + " is not ready: 503 Service Unavailable",
		},
		{name: "no service", listen: "127.0.0.1:1", ok: true, result: OK, text: "no service responds at 127.0.0.1:1 (HTTP_LISTEN)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status = test.status
			f, ok := serviceAt(t.Context(), test.listen, false)
			if ok != test.ok || f.Result != test.result || f.Text != test.text {
				t.Errorf("%+v, %t", f, ok)
			}
		})
	}
}

func TestStateOfNewDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	findings := State(t.Context(), StateChecks{Dir: dir, Open: func(ctx context.Context) (*state.State, error) { return local.Inspect(ctx, dir) }})
	want := []Finding{
		{Group: "state", Check: "folder", Result: OK, Text: dir + " does not exist yet and can be created"},
		{Group: "state", Check: "data", Result: OK, Text: "nothing has been collected yet"},
	}
	if diff := cmp.Diff(want, findings); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory was created")
	}
}

// inspectFailing returns one observation and an error.
func inspectFailing(context.Context) ([]Observation, error) {
	return []Observation{{Text: "old rows", Advice: "repair them"}}, errors.New("lost")
}

func TestNetwork(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	request := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			return err
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	succeed := func(context.Context) error { return nil }
	host := strings.TrimPrefix(s.URL, "http://")
	findings := Network(t.Context(), []*Probe{
		{Kind: KindCollector, Name: "okta", Check: request},
		{Kind: KindCollector, Name: "epss", IsPublic: true, Check: succeed, Streams: []*Probe{{Kind: KindStream, Name: "epss_scores", Check: succeed}}},
		{Kind: KindDestination, Name: "file", Check: func(context.Context) error { return nil }},
		{Kind: KindDestination, Name: "postgres", Check: func(context.Context) error { return errors.New("refused") }, Inspect: inspectFailing},
		{Kind: KindDestination, Name: "duckdb", Check: func(context.Context) error { return nil }, Inspect: inspectFailing},
	})
	want := []Finding{
		{Group: "collector okta", Check: "network", Result: OK, Text: host},
		{Group: "collector okta", Check: "access", Result: OK, Text: "it accepts the credentials"},
		{Group: "collector epss", Check: "access", Result: OK, Text: "the address responds"},
		{Group: "collector epss", Check: "epss_scores", Result: OK, Text: "it can be read"},
		{Group: "destination file", Check: "access", Result: OK, Text: "it can be written to"},
		{Group: "destination postgres", Check: "access", Result: Failed, Text: "refused"},
		{Group: "destination duckdb", Check: "access", Result: OK, Text: "it can be written to"},
		{Group: "destination duckdb", Check: "content", Result: Warning, Text: "old rows", Advice: "repair them"},
		{Group: "destination duckdb", Check: "content", Result: Warning, Text: "it was not examined completely: lost"},
	}
	if len(findings) != len(want)+1 {
		t.Fatalf("%+v", findings)
	}
	if diff := cmp.Diff(want, findings[:len(want)]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	clock := findings[len(want)]
	if clock.Group != "clock" || clock.Result != OK {
		t.Errorf("%+v", clock)
	}
	assertContains(t, clock, "agrees with that of "+host)
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	err := Print(&out, []Finding{
		{Group: "machine", Check: "memory", Result: OK, Text: "enough"},
		{Group: "machine", Check: "disk", Result: Failed, Text: "full", Advice: "free some space"},
		{Group: "clock", Check: "this machine's", Result: Warning, Text: "wrong"},
	})
	want := "machine\n" +
		"  ok      memory  enough\n" +
		"  FAILED  disk    full\n" +
		"                  -> free some space\n" +
		"clock\n" +
		"  warning  this machine's  wrong\n"
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, cmp.Diff(want, out.String()))
	}
}
