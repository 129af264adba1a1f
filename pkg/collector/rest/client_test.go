package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/collectord/collectord/pkg/collector"
)

const goodFirst = `{"data":[{"id":0},{"id":1}],"next":"c1"}`
const goodSecond = `{"data":[{"id":2},{"id":3}],"next":null}`

func packed(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

func cutGzip(text string, keep int) string { p := packed(text); return p[:min(keep, len(p))] }

func brokenSum(text string) string {
	p := []byte(packed(text))
	p[len(p)-6] ^= 1
	return string(p)
}

// passing are faults of one answer that may be gone the next time.
var passing = map[string]struct {
	fault http.HandlerFunc
	want  string // in the error when the fault stays
}{
	"500":                          {says(500, "oops"), "500 Internal Server Error: oops"},
	"502":                          {says(502, "<html>bad gateway</html>"), "502 Bad Gateway: (an HTML page)"},
	"503":                          {says(503, ""), "503 Service Unavailable"},
	"503 with retry-after":         {says(503, "", "Retry-After", "0"), "503 Service Unavailable"},
	"504":                          {says(504, ""), "504 Gateway Timeout"},
	"408":                          {says(408, ""), "408"},
	"425":                          {says(425, ""), "425"},
	"520":                          {says(520, ""), "520"},
	"529":                          {says(529, ""), "529"},
	"reset before an answer":       {wire("", true), "network: "},
	"closed before an answer":      {wire("", false), "network: "},
	"reset in the headers":         {wire("HTTP/1.1 200 OK\r\nContent-", true), "network: "},
	"no HTTP":                      {wire("SSH-2.0-OpenSSH_9.9\r\n", false), "network: "},
	"body cut by length":           {wire("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+goodSecond[:20], false), "unexpected EOF"},
	"body cut at a whole document": {wire("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+goodSecond, false), "unexpected EOF"},
	"reset in the body":            {wire("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+goodSecond[:20], true), "answer: "},
	"chunked, end missing":         {wire("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2c\r\n"+goodSecond+"\r\n", false), "unexpected EOF"},
	"chunked, cut in a chunk":      {wire("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n"+goodSecond[:30], false), "unexpected EOF"},
	"gzip cut":                     {says(200, cutGzip(goodSecond, 30), "Content-Encoding", "gzip"), "unexpected EOF"},
	"gzip cut in its header":       {says(200, cutGzip(goodSecond, 5), "Content-Encoding", "gzip"), "unexpected EOF"},
	"gzip without its end":         {says(200, cutGzip(goodSecond, len(packed(goodSecond))-4), "Content-Encoding", "gzip"), "unexpected EOF"},
	"gzip with a wrong sum":        {says(200, brokenSum(goodSecond), "Content-Encoding", "gzip"), "gzip: invalid checksum"},
	"gzip that is none":            {says(200, goodSecond, "Content-Encoding", "gzip"), "gzip: invalid header"},
	"HTML at 200":                  {says(200, " \n<!DOCTYPE html><title>Log in</title>"), "body is an HTML or XML page, want JSON: <!DOCTYPE html>"},
	"plain text at 200":            {says(200, "Service unavailable"), "invalid character 'S'"},
	"empty body":                   {says(200, ""), "body is empty, want JSON"},
	"white space":                  {says(200, " \r\n\t "), "body is empty, want JSON"},
	"empty gzip body":              {says(200, "", "Content-Encoding", "gzip"), "body is empty, want JSON"},
	"no content":                   {says(204, ""), "body is empty, want JSON"},
	"an array, not an object":      {says(200, `[{"id":2}]`), `want an object with the member data, got [{"id":2}]`},
	"records missing":              {says(200, `{"message":"internal"}`), "the member data is missing"},
	"records of another kind":      {says(200, `{"data":{"id":2}}`), `want the member data to be an array, got {"id":2}`},
	"records twice":                {says(200, `{"data":[{"id":2}],"data":[]}`), "the member data comes twice"},
	"errors beside records":        {says(200, `{"data":[{"id":2}],"errors":[{"code":500}]}`), `the answer carries errors: [{"code":500}]`},
	"trailing garbage":             {says(200, goodSecond+"x"), "invalid character 'x'"},
	"two documents":                {says(200, goodSecond+goodSecond), "something follows the JSON document"},
	"document cut":                 {says(200, goodSecond[:len(goodSecond)-1]), "unexpected EOF"},
	"record cut":                   {says(200, `{"data":[{"id":2},{"id":`), "record 2: "},
	"encoding not asked for":       {says(200, goodSecond, "Content-Encoding", "br"), `content encoding "br" was not asked for`},
}

func faulty(c *Client, once bool) (string, error) {
	var out Gathered
	_, err := c.Walk(context.Background(), Listing{
		Request: Request{Path: "/list", Query: url.Values{"size": {"2"}}, Once: once},
		Shape:   Shape{Records: "data", Errors: []string{"errors"}},
		Pager:   Cursor{Path: "next", Param: "cursor"},
	}, &out)
	return texts(&out), err
}

// A fault in the middle of a walk costs nothing: the same page is asked for
// again, and every record is there once, in order.
func TestFaultsThatPass(t *testing.T) {
	for name, f := range passing {
		t.Run(name, func(t *testing.T) {
			s := steps(says(200, goodFirst), f.fault, f.fault, says(200, goodSecond))
			got, err := faulty(loopback(t, s), false)
			if err != nil || got != recordsOf(0, 4) {
				t.Errorf("got %s, %v", got, err)
			}
			second := "/list?cursor=c1&size=2"
			if want := []string{"/list?size=2", second, second, second}; !slices.Equal(s.requests(), want) {
				t.Errorf("requests %q, want %q", s.requests(), want)
			}
		})
	}
}

func TestFaultsThatStay(t *testing.T) {
	for name, f := range passing {
		t.Run(name, func(t *testing.T) {
			s := steps(says(200, goodFirst), f.fault)
			got, err := faulty(loopback(t, s), false)
			mustHold(t, err, "GET /list (4 attempts): ", f.want)
			requests := len(s.requests())
			if strings.HasSuffix(name, "before an answer") {
				requests-- // the library itself repeats one on a connection that it used before
			}
			if got != recordsOf(0, 2) || requests != 1+quick.Attempts {
				t.Errorf("kept %s after %d requests", got, requests)
			}
			var status *StatusError
			if isBody := errors.Is(err, collector.ErrIncomplete); isBody != (strings.Contains(err.Error(), "answer: ")) {
				t.Errorf("ErrIncomplete is %v for %v", isBody, err)
			} else if errors.As(err, &status) && isBody {
				t.Errorf("two classes: %v", err)
			}
		})
	}
}

func TestOnceIsOnce(t *testing.T) {
	for name, f := range passing {
		t.Run(name, func(t *testing.T) {
			s := steps(f.fault)
			if _, err := faulty(loopback(t, s), true); err == nil {
				t.Error("no error")
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// What may have had an effect is not repeated by the library either, which
// repeats on a connection that it used before.
func TestOnceOnAUsedConnection(t *testing.T) {
	s := steps(says(200, "{}"), wire("", true))
	c := loopback(t, s)
	r := Request{Method: "POST", Path: "/start", Body: []byte("{}"), Once: true}
	if _, err := c.Get(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(context.Background(), r)
	mustHold(t, err, "POST /start: network: ")
	if n := len(s.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// Some answers will be the same for ever.
func TestFaultsThatAreFinal(t *testing.T) {
	for _, f := range []struct {
		name  string
		fault http.HandlerFunc
		class error
		want  string
	}{
		{"400", says(400, `{"error":"bad filter"}`), nil, `GET /list: 400 Bad Request: {"error":"bad filter"}`},
		{"401", says(401, ""), collector.ErrRefused, "GET /list: 401 Unauthorized: check VENDOR_TOKEN"},
		{"403", says(403, "scope missing"), collector.ErrForbidden, "GET /list: 403 Forbidden: scope missing"},
		{"404", says(404, ""), nil, "GET /list: 404 Not Found"},
		{"409", says(409, ""), nil, "409 Conflict"},
		{"redirect elsewhere", says(302, "", "Location", "http://elsewhere.test/login?token=1"), nil, "redirect refused: it leads to http://elsewhere.test: check the configured address"},
		{"redirect for ever", says(307, "", "Location", "/list"), nil, "redirect refused: more than 5 in a row"},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := steps(f.fault)
			c := loopback(t, s)
			c.Auth = Bearer("0123456789abcdef")
			c.Hints = map[int]string{401: "check VENDOR_TOKEN"}
			_, err := faulty(c, false)
			mustHold(t, err, f.want)
			if f.class != nil && !errors.Is(err, f.class) {
				t.Errorf("%v is not %v", err, f.class)
			}
			if n := len(s.requests()); n != 1 && f.name != "redirect for ever" || n > 6 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	var leaked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked.Add(1) }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/there", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Key") != "0123456789abcdef" || string(body) != `{"n":1}` {
			says(500, "credential or body lost")(w, r)
			return
		}
		says(200, `{"data":[{"id":7}]}`)(w, r)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	c := loopback(t, mux)
	c.Auth = StaticHeader{Name: "X-Key", Value: "0123456789abcdef"}
	var out Gathered
	r := Request{Method: "POST", Path: "/here", Body: []byte(`{"n":1}`)}
	if _, err := c.Fetch(context.Background(), r, Shape{Records: "data"}, &out, nil); err != nil || texts(&out) != `{"id":7}` {
		t.Errorf("redirect on the same host: %s, %v", texts(&out), err)
	}
	_, err := c.Get(context.Background(), Request{Path: "/away"})
	mustHold(t, err, "redirect refused: it leads to "+elsewhere.URL)
	if leaked.Load() != 0 {
		t.Error("the other host was asked")
	}
}

func TestRequestIsWhole(t *testing.T) {
	var got *http.Request
	var body []byte
	c := loopback(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		says(200, packed("{}"), "Content-Encoding", "GZIP")(w, r)
	}))
	c.Auth = StaticHeader{Name: "x-apikeys", Value: "accessKey=a;secretKey=b"}
	e, err := c.Get(context.Background(), Request{
		Method: "POST", Path: "/a/b%2Fc?cursor=x;y%20z&size=1&flag", Query: url.Values{"size": {"2"}, "sort": {"id|asc"}},
		Header: http.Header{"X-Extra": {"1"}}, Body: []byte("a=b"), ContentType: "application/x-www-form-urlencoded",
	})
	if err != nil || e.Header.Get("Content-Encoding") == "" {
		t.Fatal(e, err)
	}
	if want := "/a/b%2Fc?cursor=x;y%20z&flag&size=2&sort=id%7Casc"; got.RequestURI != want {
		t.Errorf("asked %s, want %s", got.RequestURI, want)
	}
	for name, want := range map[string]string{
		"X-Apikeys": "accessKey=a;secretKey=b", "X-Extra": "1", "User-Agent": "collectord/test",
		"Accept": "application/json", "Accept-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
	if string(body) != "a=b" {
		t.Errorf("body %q", body)
	}
}

func TestAddressesStayOnTheHost(t *testing.T) {
	c := clientOf(t, "https://api.vendor.test/base/")
	for path, want := range map[string]string{
		"/v1/users":                                 "https://api.vendor.test/base/v1/users",
		"v1/users?a=b":                              "https://api.vendor.test/base/v1/users?a=b",
		"/v1/a%2Fb":                                 "https://api.vendor.test/base/v1/a%2Fb",
		"https://api.vendor.test/other?q=1":         "https://api.vendor.test/other?q=1",
		"https://API.vendor.test:443/other":         "https://API.vendor.test:443/other",
		"//api.vendor.test/other":                   "https://api.vendor.test/other",
		"https://user:pw@api.vendor.test/x#top":     "https://api.vendor.test/x",
		"https://evil.test/v1":                      "",
		"http://api.vendor.test/v1":                 "",
		"https://api.vendor.test:8443/v1":           "",
		"//evil.test/v1":                            "",
		"https://api.vendor.test.evil.test/":        "",
		"https://api.vendor.test@evil.test/":        "",
		"file:///etc/passwd":                        "",
		"mailto:someone":                            "",
		"http://[::1":                               "",
		"https://evil.test/%zz?token=abcdefsecret":  "",
		"https://evil.test/\x00?token=abcdefsecret": "",
	} {
		u, err := c.resolve(path)
		switch {
		case want != "" && (err != nil || u.String() != want):
			t.Errorf("%s: %v, %v, want %s", path, u, err, want)
		case want == "" && !errors.Is(err, collector.ErrIncomplete):
			t.Errorf("%s: %v, %v, want a refusal", path, u, err)
		case err != nil && strings.Contains(err.Error(), "abcdefsecret"):
			t.Errorf("%s: the error shows the query: %v", path, err)
		}
	}
}

// nameless is a DNS server that knows no name.
func nameless(t *testing.T) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			b[2], b[3] = b[2]|0x80, 0x83 // an answer: no such name
			_, _ = conn.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// Failures that no retry mends say at once what to do.
func TestNetworkFailuresThatLast(t *testing.T) {
	quiet := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		return s
	}
	plain := quiet(http.NotFoundHandler())
	plain.Start()
	defer plain.Close()
	secure := quiet(http.NotFoundHandler())
	secure.StartTLS()
	defer secure.Close()
	trusting := secure.Client().Transport.(*http.Transport).TLSClientConfig

	for _, f := range []struct {
		name, base string
		prepare    func(*http.Transport)
		want       string
	}{
		{"unknown name", "http://vendor.invalid.", func(tr *http.Transport) {
			tr.DialContext = (&net.Dialer{Resolver: nameless(t)}).DialContext
		}, "check the host's name and DNS"},
		{"unknown authority", secure.URL, nil, "SSL_CERT_FILE"},
		{"certificate of another name", secure.URL, func(tr *http.Transport) {
			tr.TLSClientConfig = trusting.Clone()
			tr.TLSClientConfig.ServerName = "vendor.test"
		}, "the certificate is for another name"},
		{"certificate out of date", secure.URL, func(tr *http.Transport) {
			tr.TLSClientConfig = trusting.Clone()
			tr.TLSClientConfig.Time = func() time.Time { return time.Now().AddDate(200, 0, 0) }
		}, "check the dates of the server's certificate"},
		{"no TLS there", "https" + strings.TrimPrefix(plain.URL, "http"), nil, "does not speak TLS"},
	} {
		t.Run(f.name, func(t *testing.T) {
			c := clientOf(t, f.base)
			defer c.HTTP.CloseIdleConnections()
			if f.prepare != nil {
				f.prepare(c.HTTP.Transport.(*http.Transport))
			}
			stats := new(collector.Stats)
			_, err := c.Get(collector.WithStats(context.Background(), stats), Request{Path: "/x?token=0123456789"})
			mustHold(t, err, "GET /x: network: ", f.want)
			if n := stats.Read().Requests; n != 1 {
				t.Errorf("%d requests", n)
			}
			if strings.Contains(err.Error(), "0123456789") {
				t.Errorf("shows the query: %v", err)
			}
		})
	}
}

func TestRefusedConnectionIsRepeated(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := clientOf(t, "http://"+l.Addr().String())
	_, err = c.Get(context.Background(), Request{Path: "/x"})
	mustHold(t, err, "GET /x (4 attempts): network: ", "connection refused", "HTTPS_PROXY")
}

func TestHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		says(200, `{"proto":"`+r.Proto+`"}`)(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	c := clientOf(t, s.URL)
	defer c.HTTP.CloseIdleConnections()
	c.HTTP.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	e, err := c.Get(context.Background(), Request{Path: "/"})
	if err != nil || e.Text("proto") != "HTTP/2.0" {
		t.Errorf("%v, %v", e, err)
	}
}

func TestProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		says(200, `{"answer":"`+r.URL.String()+` by proxy"}`)(w, r)
	}))
	defer proxy.Close()
	for _, f := range []struct{ name, setting, want string }{
		{"used", proxy.URL, "http://vendor.test/x by proxy\n"},
		{"nobody there", "http://user:pa55word@127.0.0.1:1", "GET /x: network: proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused"},
	} {
		t.Run(f.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), asChild+"=http://vendor.test", "HTTP_PROXY="+f.setting, "http_proxy="+f.setting, "NO_PROXY=", "no_proxy=")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), f.want) || strings.Contains(string(out), "pa55word") {
				t.Errorf("%v: %s, want %s", err, out, f.want)
			}
		})
	}
}

// A body that stalls is given up and asked for again; one that trickles is
// not, until the run's own time ends.
func TestStalls(t *testing.T) {
	t.Run("body stalls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := steps(func(w http.ResponseWriter, r *http.Request) {
				says(200, goodSecond[:20])(w, r)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}, says(200, goodSecond))
			c, stop := inMemory(t, s)
			defer stop()
			start := time.Now()
			got, err := faulty(c, false)
			if took := time.Since(start); err != nil || got != recordsOf(2, 4) || took < bodyIdle || took > bodyIdle+2*time.Second {
				t.Errorf("%s, %v after %v", got, err, took)
			}
		})
	})
	t.Run("body stalls for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, stop := inMemory(t, steps(func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}))
			defer stop()
			_, err := faulty(c, false)
			mustHold(t, err, "GET /list (6 attempts): answer: nothing arrived for 2m0s")
		})
	})
	t.Run("no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
			s := steps(hang, says(200, goodSecond))
			c, stop := inMemory(t, s)
			defer stop()
			if got, err := faulty(c, false); err != nil || got != recordsOf(2, 4) {
				t.Errorf("%s, %v", got, err)
			}
			s.mu.Lock()
			s.steps = []http.HandlerFunc{hang}
			s.mu.Unlock()
			_, err := faulty(c, false)
			mustHold(t, err, "(6 attempts): network: ", "timeout awaiting response headers", "HTTPS_PROXY")
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("passes for the end of the run: %v", err)
			}
		})
	})
	t.Run("slow reader is no stall", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := steps(says(200, goodSecond))
			c, stop := inMemory(t, s)
			defer stop()
			err := c.Do(context.Background(), Request{Path: "/"}, func(r *Response) error {
				for {
					if _, err := r.Body.Read(make([]byte, 1)); err != nil {
						return nil
					}
					time.Sleep(2 * bodyIdle) // the disk is behind
				}
			})
			if err != nil || len(s.requests()) != 1 {
				t.Errorf("%v after %d requests", err, len(s.requests()))
			}
		})
	})
	t.Run("trickle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, stop := inMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					_, _ = io.WriteString(w, " ")
					w.(http.Flusher).Flush()
					select {
					case <-r.Context().Done():
					case <-time.After(time.Minute):
					}
				}
			}))
			defer stop()
			start := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Hour)
			defer cancel()
			_, err := c.Get(ctx, Request{Path: "/x"})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Hour {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
}

// Whoever reads a body without Split gets the same care.
func TestBrokenBodyOfOwnReader(t *testing.T) {
	s := steps(wire("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false), says(200, "abcdefghi"))
	var got []byte
	err := loopback(t, s).Do(context.Background(), Request{Path: "/file"}, func(r *Response) (err error) {
		got, err = io.ReadAll(r.Body)
		return err
	})
	if err != nil || string(got) != "abcdefghi" {
		t.Errorf("%q, %v", got, err)
	}
	own := errors.New("disk full")
	s = steps(says(200, goodFirst))
	err = loopback(t, s).Do(context.Background(), Request{Path: "/file"}, func(*Response) error { return own })
	if !errors.Is(err, own) || len(s.requests()) != 1 {
		t.Errorf("%v after %d requests", err, len(s.requests()))
	}
}

func TestBodyBound(t *testing.T) {
	bomb := says(200, packed(`{"data":[`+recordsOf(0, 1000)+`]}`), "Content-Encoding", "gzip")
	s := steps(bomb)
	c := loopback(t, s)
	c.MaxBody = 1 << 10
	_, err := faulty(c, false)
	mustHold(t, err, "too long: the body has more than 0 MiB")
	if !errors.Is(err, collector.ErrIncomplete) || len(s.requests()) != 1 {
		t.Errorf("%v after %d requests", err, len(s.requests()))
	}
}

// A cancelled run ends at once, wherever it is, and leaves nothing behind.
func TestCancel(t *testing.T) {
	cause := errors.New("shutting down")
	started := make(chan struct{}, 10)
	hang := func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
	}
	for name, h := range map[string]http.HandlerFunc{
		"before the answer": hang,
		"in the body": func(w http.ResponseWriter, r *http.Request) {
			says(200, goodFirst[:20])(w, r)
			w.(http.Flusher).Flush()
			hang(w, r)
		},
		"in the wait": func(w http.ResponseWriter, r *http.Request) {
			says(429, "", "Retry-After", "600")(w, r)
			started <- struct{}{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := loopback(t, h)
			ctx, cancel := context.WithCancelCause(context.Background())
			go func() { <-started; cancel(cause) }()
			_, err := c.Get(ctx, Request{Path: "/x"})
			mustHold(t, err, "GET /x: shutting down")
			if !errors.Is(err, cause) {
				t.Errorf("%v is not the cause", err)
			}
		})
	}
}

func TestStatsOfRequests(t *testing.T) {
	s := steps(says(200, goodFirst), says(500, ""), wire("HTTP/1.1 200 OK\r\nContent-", true), says(200, goodSecond))
	c := loopback(t, s)
	stats := new(collector.Stats)
	ctx := collector.WithStats(context.Background(), stats)
	var out Gathered
	l := Listing{Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "cursor"}}
	if n, err := c.Walk(ctx, l, &out); err != nil || n != 4 {
		t.Fatal(n, err)
	}
	r := stats.Read()
	if r.Requests != 4 || r.Retries != 2 || r.Statuses != [6]int64{1, 0, 2, 0, 0, 1} || r.Received != int64(len(goodFirst)+len(goodSecond)) {
		t.Errorf("%+v", r)
	}
	if r.Step != "GET /list" || r.Active.IsZero() {
		t.Errorf("%+v", r)
	}
}
