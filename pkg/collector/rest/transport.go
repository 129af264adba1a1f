package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
)

// errRedirect means that a redirect leads to another host.
var errRedirect = errors.New("redirect refused")

// NewHTTP returns the HTTP client for one vendor. It uses the proxies of
// HTTPS_PROXY and NO_PROXY, the authorities of SSL_CERT_FILE, HTTP/2, and
// timeouts for connections and responses. It follows redirects only on the same
// host, because another host must not get the credentials. Clients with the same Shared
// use connections together, so that the memory of idle ones does not grow with the number
// of collectors.
func NewHTTP(with *collector.Shared) *http.Client {
	return newHTTP(collector.Share(with, "transport", newTransport()))
}

// NewHTTPWithin is [NewHTTP] for a vendor whose responses must begin within a time. The clients
// with the same one use connections together.
func NewHTTPWithin(with *collector.Shared, wait time.Duration) *http.Client {
	transport := newTransport()
	transport.ResponseHeaderTimeout = wait
	return newHTTP(collector.Share(with, "transport "+wait.String(), transport))
}

func newHTTP(transport *http.Transport) *http.Client {
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if !sameHost(req.URL, via[0].URL) {
				return fmt.Errorf("%w: it leads to %s://%s: check the configured address", errRedirect, req.URL.Scheme, req.URL.Host)
			}
			if len(via) >= 5 {
				return fmt.Errorf("%w: more than 5 in a row", errRedirect)
			}
			return nil
		},
	}
}

// maxIdleConns bounds the idle connections of a transport, each of which has a read buffer.
const maxIdleConns = 64

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			return &proxyError{proxy: proxy.Host, status: resp.StatusCode}
		},
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          maxIdleConns,
		MaxIdleConnsPerHost:   maxIdleConns / 2,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 5 * time.Minute,
		ExpectContinueTimeout: time.Second,
		// The toolkit decodes bodies, limits their size and counts their bytes.
		DisableCompression: true,
		ReadBufferSize:     64 << 10,
		// Without pings every attempt would use the same dead HTTP/2 connection.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// proxyError means that a proxy refused the connection to the vendor.
type proxyError struct {
	proxy  string // host and port
	status int
}

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy %s refused the connection: %d %s", e.proxy, e.status, http.StatusText(e.status))
}

// proxyOf returns the host and port of the proxy that the environment sets for
// req; "" if there is none.
func proxyOf(req *http.Request) string {
	if req == nil {
		return ""
	}
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host
}

// onceTransport sends a request at most once. net/http itself repeats a GET
// request whose connection ends before the response, unless the request has a
// body that it cannot read again.
type onceTransport struct{ next http.RoundTripper }

func (o onceTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	clone := req.Clone(req.Context())
	if clone.Body == nil || clone.Body == http.NoBody {
		clone.Body = io.NopCloser(strings.NewReader(""))
	}
	clone.GetBody = nil
	return o.next.RoundTrip(clone)
}

// bodyIdle is how long one read of a body may wait for its next byte, unless the
// client says otherwise.
const bodyIdle = 2 * time.Minute

// maxBody bounds the bytes of a decoded body. No vendor sends as much; the limit
// is for compressed bodies that decode to endless data.
const maxBody = 16 << 30

var (
	// errStalled means that the next byte of a body did not arrive in time.
	errStalled = errors.New("nothing arrived")
	// errOversize means that a body or a value is longer than allowed.
	errOversize = records.ErrTooLong
)

// body counts the bytes of a response body and cancels an attempt whose body
// stalls. The time between reads, when the disk is slow, does not count.
type body struct {
	r        io.Reader
	stats    *collector.Stats
	ctx      context.Context
	cancel   context.CancelCauseFunc
	idle     time.Duration
	timer    *time.Timer
	received int64 // bytes so far, before decoding
	cut      bool  // reading failed
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, r io.Reader, idle time.Duration) *body {
	b := &body{r: r, stats: collector.StatsFrom(ctx), ctx: ctx, cancel: cancel, idle: idle}
	b.timer = time.AfterFunc(idle, func() { cancel(errStalled) })
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle)
	n, err := b.r.Read(p)
	b.timer.Stop()
	b.stats.CountReceived(n)
	b.received += int64(n)
	b.cut = b.cut || err != nil && err != io.EOF
	if err != nil && err != io.EOF && context.Cause(b.ctx) == errStalled {
		err = fmt.Errorf("%w for %v", errStalled, b.idle)
	}
	return n, err
}

// decodedBody is a decoded body of at most maxBytes bytes. It records the first
// error.
type decodedBody struct {
	r        io.Reader
	read     int64
	maxBytes int64
	failed   error // the first error other than io.EOF
}

func (d *decodedBody) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if d.read += int64(n); d.read > d.maxBytes {
		n, err = 0, fmt.Errorf("%w: the body has more than %d MiB", errOversize, d.maxBytes>>20)
	}
	if err != nil && err != io.EOF && d.failed == nil {
		d.failed = err
	}
	return n, err
}

// decodeBody returns a reader of the decoded body, of at most most bytes; of
// maxBody bytes when most is zero.
func decodeBody(r io.Reader, encoding string, most int64) (*decodedBody, error) {
	if most == 0 {
		most = maxBody
	}
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return &decodedBody{r: r, maxBytes: most}, nil
	case "gzip", "x-gzip":
		return &decodedBody{r: &gzipBody{compressed: r}, maxBytes: most}, nil
	}
	return nil, fmt.Errorf("content encoding %q was not requested", encoding)
}

// gzipBody reads the header of a gzip stream when the first byte is read,
// because a response without a body may also declare gzip.
type gzipBody struct {
	compressed io.Reader
	z          *gzip.Reader
	err        error
}

func (g *gzipBody) Read(p []byte) (int, error) {
	if g.z == nil && g.err == nil {
		g.z, g.err = gzip.NewReader(g.compressed)
	}
	if g.err != nil {
		return 0, g.err
	}
	return g.z.Read(p)
}
