package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/collectord/collectord/pkg/collector"
)

// errRedirect marks an answer that sends us to another host.
var errRedirect = errors.New("redirect refused")

// NewHTTP makes the HTTP client of one vendor: proxies by HTTPS_PROXY and
// NO_PROXY, authorities by SSL_CERT_FILE, HTTP/2, and bounds on connecting and
// on waiting for an answer. It follows redirects only on the same host: an
// answer that leads elsewhere would take the credential along.
func NewHTTP() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           dialer.DialContext,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   32,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   15 * time.Second,
			ResponseHeaderTimeout: 5 * time.Minute,
			ExpectContinueTimeout: time.Second,
			// Bodies are decoded by the toolkit, which bounds and counts them.
			DisableCompression: true,
			ReadBufferSize:     64 << 10,
			// A dead HTTP/2 connection would be used again by every attempt.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		},
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

// bodyIdle is how long one read of a body may wait for its next byte.
const bodyIdle = 2 * time.Minute

// maxBody bounds a decoded body: no answer of any vendor is this long, and a
// compressed one that unpacks without end must end somewhere.
const maxBody = 16 << 30

var (
	errStalled = fmt.Errorf("nothing arrived for %v", bodyIdle)
	// errOversize marks what is longer than its bound.
	errOversize = errors.New("too long")
)

// body counts what arrives and ends an attempt whose body stalls. Time in
// which nobody reads, because the disk is behind, does not count.
type body struct {
	r        io.Reader
	stats    *collector.Stats
	ctx      context.Context
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	received int64 // bytes so far, as they were sent
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, r io.Reader) *body {
	b := &body{r: r, stats: collector.StatsFrom(ctx), ctx: ctx, cancel: cancel}
	b.timer = time.AfterFunc(bodyIdle, func() { cancel(errStalled) })
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(bodyIdle)
	n, err := b.r.Read(p)
	b.timer.Stop()
	b.stats.Receive(n)
	b.received += int64(n)
	if err != nil && err != io.EOF && context.Cause(b.ctx) == errStalled {
		err = errStalled
	}
	return n, err
}

// plainBody is a decoded body: it fails a read beyond its bound, and
// remembers that it failed.
type plainBody struct {
	r      io.Reader
	read   int64
	most   int64
	failed error // the first error that is not the end
}

func (b *plainBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.read += int64(n); b.read > b.most {
		n, err = 0, fmt.Errorf("%w: the body has more than %d MiB", errOversize, b.most>>20)
	}
	if err != nil && err != io.EOF && b.failed == nil {
		b.failed = err
	}
	return n, err
}

// decode undoes the body's content encoding and bounds what comes out; most
// is maxBody when zero.
func decode(r io.Reader, encoding string, most int64) (*plainBody, error) {
	if most == 0 {
		most = maxBody
	}
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return &plainBody{r: r, most: most}, nil
	case "gzip", "x-gzip":
		return &plainBody{r: &gzipBody{packed: r}, most: most}, nil
	}
	return nil, fmt.Errorf("content encoding %q was not asked for", encoding)
}

// gzipBody reads the header of a gzip stream when the first byte is wanted:
// an answer without a body may say gzip, too.
type gzipBody struct {
	packed io.Reader
	z      *gzip.Reader
	err    error
}

func (g *gzipBody) Read(p []byte) (int, error) {
	if g.z == nil && g.err == nil {
		g.z, g.err = gzip.NewReader(g.packed)
	}
	if g.err != nil {
		return 0, g.err
	}
	return g.z.Read(p)
}
