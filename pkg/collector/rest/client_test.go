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

const firstPage = `{"data":[{"id":0},{"id":1}],"next":"c1"}`
const secondPage = `{"data":[{"id":2},{"id":3}],"next":null}`

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

func cutGzip(text string, keep int) string { p := gzipped(text); return p[:min(keep, len(p))] }

func gzipWithWrongChecksum(text string) string {
	p := []byte(gzipped(text))
	p[len(p)-6] ^= 1
	return string(p)
}

// passingFaults are faults of one response that may pass.
var passingFaults = map[string]struct {
	fault http.HandlerFunc
	want  string // in the error if the fault does not pass
}{
	"500":                          {fault: respond(500, "oops"), want: "500 Internal Server Error: oops"},
	"502":                          {fault: respond(502, "<html>bad gateway</html>"), want: "502 Bad Gateway: (an HTML page)"},
	"503":                          {fault: respond(503, ""), want: "503 Service Unavailable"},
	"503 with retry-after":         {fault: respond(503, "", "Retry-After", "0"), want: "503 Service Unavailable"},
	"504":                          {fault: respond(504, ""), want: "504 Gateway Timeout"},
	"408":                          {fault: respond(408, ""), want: "408"},
	"425":                          {fault: respond(425, ""), want: "425"},
	"520":                          {fault: respond(520, ""), want: "520"},
	"529":                          {fault: respond(529, ""), want: "529"},
	"reset before the response":    {fault: respondRaw("", true), want: "network: "},
	"closed before the response":   {fault: respondRaw("", false), want: "network: "},
	"reset in the headers":         {fault: respondRaw("HTTP/1.1 200 OK\r\nContent-", true), want: "network: "},
	"no HTTP":                      {fault: respondRaw("SSH-2.0-OpenSSH_9.9\r\n", false), want: "network: "},
	"body cut by length":           {fault: respondRaw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+secondPage[:20], false), want: "unexpected EOF"},
	"body cut at a whole document": {fault: respondRaw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+secondPage, false), want: "unexpected EOF"},
	"reset in the body":            {fault: respondRaw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+secondPage[:20], true), want: "response: "},
	"chunked, end missing":         {fault: respondRaw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2c\r\n"+secondPage+"\r\n", false), want: "unexpected EOF"},
	"chunked, cut in a chunk":      {fault: respondRaw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n"+secondPage[:30], false), want: "unexpected EOF"},
	"gzip cut":                     {fault: respond(200, cutGzip(secondPage, 30), "Content-Encoding", "gzip"), want: "unexpected EOF"},
	"gzip cut in its header":       {fault: respond(200, cutGzip(secondPage, 5), "Content-Encoding", "gzip"), want: "unexpected EOF"},
	"gzip without its end":         {fault: respond(200, cutGzip(secondPage, len(gzipped(secondPage))-4), "Content-Encoding", "gzip"), want: "unexpected EOF"},
	"gzip with a wrong sum":        {fault: respond(200, gzipWithWrongChecksum(secondPage), "Content-Encoding", "gzip"), want: "gzip: invalid checksum"},
	"gzip that is none":            {fault: respond(200, secondPage, "Content-Encoding", "gzip"), want: "gzip: invalid header"},
	"HTML at 200":                  {fault: respond(200, " \n<!DOCTYPE html><title>Log in</title>"), want: `body is an HTML page with the title "Log in", want JSON: it may be from a proxy or firewall`},
	"plain text at 200":            {fault: respond(200, "Service unavailable"), want: "invalid character 'S'"},
	"empty body":                   {fault: respond(200, ""), want: "body is empty, want JSON"},
	"white space":                  {fault: respond(200, " \r\n\t "), want: "body is empty, want JSON"},
	"empty gzip body":              {fault: respond(200, "", "Content-Encoding", "gzip"), want: "body is empty, want JSON"},
	"no content":                   {fault: respond(204, ""), want: "body is empty, want JSON"},
	"an array, not an object":      {fault: respond(200, `[{"id":2}]`), want: `want an object with the member data, got [{"id":2}]`},
	"records missing":              {fault: respond(200, `{"message":"internal"}`), want: "the member data is missing"},
	"records of another kind":      {fault: respond(200, `{"data":{"id":2}}`), want: `want the member data to be an array, got {"id":2}`},
	"records twice":                {fault: respond(200, `{"data":[{"id":2}],"data":[]}`), want: "the member data appears twice"},
	"errors beside records":        {fault: respond(200, `{"data":[{"id":2}],"errors":[{"code":500}]}`), want: `the member errors is not empty: [{"code":500}]`},
	"trailing garbage":             {fault: respond(200, secondPage+"x"), want: "invalid character 'x'"},
	"two documents":                {fault: respond(200, secondPage+secondPage), want: "there is more data after the JSON document"},
	"document cut":                 {fault: respond(200, secondPage[:len(secondPage)-1]), want: "unexpected EOF"},
	"record cut":                   {fault: respond(200, `{"data":[{"id":2},{"id":`), want: "record 2: "},
	"encoding not requested":       {fault: respond(200, secondPage, "Content-Encoding", "br"), want: `content encoding "br" was not requested`},
}

func walkTestListing(c *Client, once bool) (string, error) {
	var out MemoryOutput
	_, err := c.Walk(context.Background(), Listing{
		Request: Request{Path: "/list", Query: url.Values{"size": {"2"}}, Once: once},
		Shape:   Shape{Records: "data", Errors: []string{"errors"}},
		Pager:   Cursor{Path: "next", Param: "cursor"},
	}, &out)
	return recordTexts(&out), err
}

// TestFaultsThatPass: after a fault in the middle of a listing the same page is
// requested again, and every record is received once, in order.
func TestFaultsThatPass(t *testing.T) {
	for name, f := range passingFaults {
		t.Run(name, func(t *testing.T) {
			s := newScript(respond(200, firstPage), f.fault, f.fault, respond(200, secondPage))
			got, err := walkTestListing(startServer(t, s), false)
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
	for name, f := range passingFaults {
		t.Run(name, func(t *testing.T) {
			s := newScript(respond(200, firstPage), f.fault)
			got, err := walkTestListing(startServer(t, s), false)
			assertError(t, err, "GET /list (4 attempts): ", f.want)
			requests := len(s.requests())
			if strings.HasSuffix(name, "before the response") {
				requests-- // net/http itself repeats a request on a reused connection
			}
			if got != recordsOf(0, 2) || requests != 1+testRetry.attempts {
				t.Errorf("kept %s after %d requests", got, requests)
			}
			var status *StatusError
			if isBody := errors.Is(err, collector.ErrIncomplete); isBody != (strings.Contains(err.Error(), "response: ")) {
				t.Errorf("ErrIncomplete is %v for %v", isBody, err)
			} else if errors.As(err, &status) && isBody {
				t.Errorf("two classes: %v", err)
			}
		})
	}
}

func TestOnceIsOnce(t *testing.T) {
	for name, f := range passingFaults {
		t.Run(name, func(t *testing.T) {
			s := newScript(f.fault)
			if _, err := walkTestListing(startServer(t, s), true); err == nil {
				t.Error("no error")
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestOnceOnAUsedConnection: net/http does not repeat the request either, as it
// does with other requests on a reused connection.
func TestOnceOnAUsedConnection(t *testing.T) {
	s := newScript(respond(200, "{}"), respondRaw("", true))
	c := startServer(t, s)
	r := Request{Method: "POST", Path: "/start", Body: []byte("{}"), Once: true}
	if _, err := c.Get(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(context.Background(), r)
	assertError(t, err, "POST /start: network: ")
	if n := len(s.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestFaultsThatAreFinal: some responses are not worth a retry.
func TestFaultsThatAreFinal(t *testing.T) {
	for _, f := range []struct {
		name  string
		fault http.HandlerFunc
		class error
		want  string
	}{
		{name: "400", fault: respond(400, `{"error":"bad filter"}`), want: `GET /list: 400 Bad Request: {"error":"bad filter"}`},
		{name: "401", fault: respond(401, ""), class: collector.ErrRefused, want: "GET /list: 401 Unauthorized: check VENDOR_TOKEN"},
		{name: "403", fault: respond(403, "scope missing"), class: collector.ErrForbidden, want: "GET /list: 403 Forbidden: scope missing"},
		{name: "404", fault: respond(404, ""), want: "GET /list: 404 Not Found"},
		{name: "409", fault: respond(409, ""), want: "409 Conflict"},
		{
			name: "redirect elsewhere", fault: respond(302, "", "Location", "http://elsewhere.test/login?token=1"),
			want: "redirect refused: it leads to http://elsewhere.test: check the configured address",
		},
		{name: "endless redirect", fault: respond(307, "", "Location", "/list"), want: "redirect refused: more than 5 in a row"},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := newScript(f.fault)
			c := startServer(t, s)
			c.Auth = Bearer("0123456789abcdef")
			c.Hints = map[int]string{401: "check VENDOR_TOKEN"}
			_, err := walkTestListing(c, false)
			assertError(t, err, f.want)
			if f.class != nil && !errors.Is(err, f.class) {
				t.Errorf("%v is not %v", err, f.class)
			}
			if n := len(s.requests()); n != 1 && f.name != "endless redirect" || n > 6 {
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
			respond(500, "credential or body lost")(w, r)
			return
		}
		respond(200, `{"data":[{"id":7}]}`)(w, r)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	c := startServer(t, mux)
	c.Auth = StaticHeader{Name: "X-Key", Value: "0123456789abcdef"}
	var out MemoryOutput
	r := Request{Method: "POST", Path: "/here", Body: []byte(`{"n":1}`)}
	if _, err := c.Fetch(context.Background(), r, Shape{Records: "data"}, &out, nil); err != nil || recordTexts(&out) != `{"id":7}` {
		t.Errorf("redirect on the same host: %s, %v", recordTexts(&out), err)
	}
	_, err := c.Get(context.Background(), Request{Path: "/away"})
	assertError(t, err, "redirect refused: it leads to "+elsewhere.URL)
	if leaked.Load() != 0 {
		t.Error("the other host got a request")
	}
}

func TestRequestIsWhole(t *testing.T) {
	var got *http.Request
	var body []byte
	c := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		respond(200, gzipped("{}"), "Content-Encoding", "GZIP")(w, r)
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
		t.Errorf("requested %s, want %s", got.RequestURI, want)
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
	c := newTestClient(t, "https://api.vendor.test/base/")
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
		u, err := c.resolveURL(path)
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

// startEmptyDNS returns a resolver whose server knows no names.
func startEmptyDNS(t *testing.T) *net.Resolver {
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
			b[2], b[3] = b[2]|0x80, 0x83 // a response: no such name
			_, _ = conn.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// TestNetworkFailuresThatLast: failures that cannot pass are not retried, and the
// error says what to do.
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
			tr.DialContext = (&net.Dialer{Resolver: startEmptyDNS(t)}).DialContext
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
		{"no TLS", "https" + strings.TrimPrefix(plain.URL, "http"), nil, "does not speak TLS"},
	} {
		t.Run(f.name, func(t *testing.T) {
			c := newTestClient(t, f.base)
			defer c.HTTP.CloseIdleConnections()
			if f.prepare != nil {
				f.prepare(c.HTTP.Transport.(*http.Transport))
			}
			stats := new(collector.Stats)
			_, err := c.Get(collector.WithStats(context.Background(), stats), Request{Path: "/x?token=0123456789"})
			assertError(t, err, "GET /x: network: ", f.want)
			if n := stats.Progress().Requests; n != 1 {
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
	c := newTestClient(t, "http://"+l.Addr().String())
	_, err = c.Get(context.Background(), Request{Path: "/x"})
	assertError(t, err, "GET /x (4 attempts): network: ", "connection refused", "HTTPS_PROXY")
}

func TestHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond(200, `{"proto":"`+r.Proto+`"}`)(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	c := newTestClient(t, s.URL)
	defer c.HTTP.CloseIdleConnections()
	c.HTTP.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	e, err := c.Get(context.Background(), Request{Path: "/"})
	if err != nil || e.Text("proto") != "HTTP/2.0" {
		t.Errorf("%v, %v", e, err)
	}
}

func TestProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond(200, `{"text":"`+r.URL.String()+` by proxy"}`)(w, r)
	}))
	defer proxy.Close()
	for _, f := range []struct{ name, setting, want string }{
		{name: "used", setting: proxy.URL, want: "http://vendor.test/x by proxy\n"},
		{
			name: "not running", setting: "http://user:pa55word@127.0.0.1:1",
			want: "GET /x: network: vendor.test: proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused",
		},
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

// TestStalls: if a body stalls, the request is repeated. A slow body is read
// until the run's deadline.
func TestStalls(t *testing.T) {
	t.Run("body stalls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(func(w http.ResponseWriter, r *http.Request) {
				respond(200, secondPage[:20])(w, r)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}, respond(200, secondPage))
			c, stop := startInMemory(t, s)
			defer stop()
			start := time.Now()
			got, err := walkTestListing(c, false)
			if took := time.Since(start); err != nil || got != recordsOf(2, 4) || took < bodyIdle || took > bodyIdle+2*time.Second {
				t.Errorf("%s, %v after %v", got, err, took)
			}
		})
	})
	t.Run("body stalls in all attempts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, stop := startInMemory(t, newScript(func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}))
			defer stop()
			_, err := walkTestListing(c, false)
			assertError(t, err, "GET /list (2 attempts in 2m1s): response: nothing arrived for 2m0s")
		})
	})
	t.Run("no response", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
			s := newScript(hang, respond(200, secondPage))
			c, stop := startInMemory(t, s)
			defer stop()
			if got, err := walkTestListing(c, false); err != nil || got != recordsOf(2, 4) {
				t.Errorf("%s, %v", got, err)
			}
			s.mu.Lock()
			s.steps = []http.HandlerFunc{hang}
			s.mu.Unlock()
			_, err := walkTestListing(c, false)
			assertError(t, err, "(2 attempts in 5m1s): network: ", "timeout awaiting response headers", "HTTPS_PROXY")
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the error matches the end of the run: %v", err)
			}
		})
	})
	t.Run("slow reader is no stall", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(respond(200, secondPage))
			c, stop := startInMemory(t, s)
			defer stop()
			err := c.Do(context.Background(), Request{Path: "/"}, func(r *Response) error {
				for {
					if _, err := r.Body.Read(make([]byte, 1)); err != nil {
						return nil
					}
					time.Sleep(2 * bodyIdle) // as if the disk were slow
				}
			})
			if err != nil || len(s.requests()) != 1 {
				t.Errorf("%v after %d requests", err, len(s.requests()))
			}
		})
	})
	t.Run("trickle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

// TestBrokenBodyOfOwnReader: a body that is read without Split is handled in the
// same way.
func TestBrokenBodyOfOwnReader(t *testing.T) {
	s := newScript(respondRaw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false), respond(200, "abcdefghi"))
	var got []byte
	err := startServer(t, s).Do(context.Background(), Request{Path: "/file"}, func(r *Response) (err error) {
		got, err = io.ReadAll(r.Body)
		return err
	})
	if err != nil || string(got) != "abcdefghi" {
		t.Errorf("%q, %v", got, err)
	}
	own := errors.New("disk full")
	s = newScript(respond(200, firstPage))
	err = startServer(t, s).Do(context.Background(), Request{Path: "/file"}, func(*Response) error { return own })
	if !errors.Is(err, own) || len(s.requests()) != 1 {
		t.Errorf("%v after %d requests", err, len(s.requests()))
	}
}

func TestBodyBound(t *testing.T) {
	bomb := respond(200, gzipped(`{"data":[`+recordsOf(0, 1000)+`]}`), "Content-Encoding", "gzip")
	s := newScript(bomb)
	c := startServer(t, s)
	c.maxBody = 1 << 10
	_, err := walkTestListing(c, false)
	assertError(t, err, "too long: the body has more than 0 MiB")
	if !errors.Is(err, collector.ErrIncomplete) || len(s.requests()) != 1 {
		t.Errorf("%v after %d requests", err, len(s.requests()))
	}
}

// TestCancel: a canceled request ends at once, whatever it does.
func TestCancel(t *testing.T) {
	cause := errors.New("shutting down")
	started := make(chan struct{}, 10)
	hang := func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
	}
	for name, h := range map[string]http.HandlerFunc{
		"before the response": hang,
		"in the body": func(w http.ResponseWriter, r *http.Request) {
			respond(200, firstPage[:20])(w, r)
			w.(http.Flusher).Flush()
			hang(w, r)
		},
		"in the wait": func(w http.ResponseWriter, r *http.Request) {
			respond(429, "", "Retry-After", "600")(w, r)
			started <- struct{}{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startServer(t, h)
			ctx, cancel := context.WithCancelCause(context.Background())
			go func() { <-started; cancel(cause) }()
			_, err := c.Get(ctx, Request{Path: "/x"})
			assertError(t, err, "GET /x: shutting down")
			if !errors.Is(err, cause) {
				t.Errorf("%v is not the cause", err)
			}
		})
	}
}

func TestStatsOfRequests(t *testing.T) {
	s := newScript(respond(200, firstPage), respond(500, ""), respondRaw("HTTP/1.1 200 OK\r\nContent-", true), respond(200, secondPage))
	c := startServer(t, s)
	stats := new(collector.Stats)
	ctx := collector.WithStats(context.Background(), stats)
	var out MemoryOutput
	l := Listing{Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "cursor"}}
	if n, err := c.Walk(ctx, l, &out); err != nil || n != 4 {
		t.Fatal(n, err)
	}
	r := stats.Progress()
	if r.Requests != 4 || r.Retries != 2 || r.Statuses != [6]int64{1, 0, 2, 0, 0, 1} || r.Received != int64(len(firstPage)+len(secondPage)) {
		t.Errorf("%+v", r)
	}
	if r.Step != "GET /list" || r.Active.IsZero() {
		t.Errorf("%+v", r)
	}
}
