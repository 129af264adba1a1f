package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/collectord/collectord/internal/netadvice"
)

// certificateWarning is the time before a certificate's end from which its
// finding is a warning.
const certificateWarning = 14 * 24 * time.Hour

// A Journey watches the HTTP requests that are made with its context: name
// resolution, connection, TLS. The real requests are watched, with their proxies
// and certificates.
type Journey struct {
	mu        sync.Mutex
	hop       string   // host and port of the first hop, which may be a proxy
	addresses []string // of the hop
	tls       *tls.ConnectionState
	step      string // the last step that began, as a verb: "connect"
}

// stepRequest is the step after the connection was made: later errors are not
// errors of the network.
const stepRequest = "request"

// Watch returns a context with which j watches HTTP requests.
func (j *Journey) Watch(ctx context.Context) context.Context {
	set := func(change func()) {
		j.mu.Lock()
		defer j.mu.Unlock()
		change()
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(hostPort string) { set(func() { j.hop, j.step = hostPort, "connect" }) },
		DNSStart:     func(i httptrace.DNSStartInfo) { set(func() { j.step = "look up the name " + i.Host }) },
		ConnectStart: func(_, addr string) { set(func() { j.step = "connect to " + addr }) },
		ConnectDone: func(_, _ string, err error) {
			set(func() {
				if err == nil && proxyAt(j.hop) != "" {
					j.step = "get through the proxy"
				}
			})
		},
		DNSDone: func(i httptrace.DNSDoneInfo) {
			set(func() {
				j.addresses = nil
				for _, a := range i.Addrs {
					j.addresses = append(j.addresses, a.String())
				}
			})
		},
		TLSHandshakeStart: func() { set(func() { j.step = "agree on TLS" }) },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			set(func() {
				if err == nil {
					j.tls = &s
				}
			})
		},
		GotConn: func(httptrace.GotConnInfo) { set(func() { j.step = stepRequest }) },
	})
}

// Address returns the URL of the server that was reached, for further requests;
// "" when there was none, or when its name is not known.
func (j *Journey) Address() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, port, err := net.SplitHostPort(j.hop)
	switch {
	case j.step != stepRequest || err != nil:
		return ""
	case proxyAt(j.hop) != "" && j.tls != nil && j.tls.ServerName != "":
		return "https://" + j.tls.ServerName + "/"
	case proxyAt(j.hop) != "":
		return ""
	case j.tls != nil && j.tls.ServerName != "":
		return "https://" + net.JoinHostPort(j.tls.ServerName, port) + "/"
	case j.tls != nil:
		return "https://" + j.hop + "/"
	}
	return "http://" + j.hop + "/"
}

// Finding returns the finding about the network; err is the error of the
// requests. It is no failure if the error occurred after the connection was made.
// ok is false when no request was made.
func (j *Journey) Finding(group, check string, err error, now time.Time) (f Finding, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.hop == "" {
		return Finding{}, false
	}
	f = Finding{Group: group, Check: check, Result: OK, Text: j.describeServer()}
	if err != nil && j.step != stepRequest {
		f.Result = Failed
		f.Text += ": failed to " + j.step
		f.Advice = netadvice.For(err)
		return f, true
	}
	if j.tls != nil && len(j.tls.PeerCertificates) > 0 {
		leaf := j.tls.PeerCertificates[0]
		f.Text += fmt.Sprintf(", %s, certificate by %s until %s",
			tls.VersionName(j.tls.Version), netadvice.IssuerName(leaf), leaf.NotAfter.UTC().Format("2006-01-02"))
		if leaf.NotAfter.Sub(now) < certificateWarning {
			f.Result = Warning
			f.Advice = "the server's certificate ends soon: the operator of the server, or of the proxy that opens TLS, must renew it"
		}
	}
	return f, true
}

// describeServer names the server, its addresses and the proxy.
func (j *Journey) describeServer() string {
	text := j.hop
	if proxy := proxyAt(j.hop); proxy != "" {
		text = "through the proxy " + proxy
		if j.tls != nil {
			text = j.tls.ServerName + " " + text
		}
	}
	if len(j.addresses) > 0 {
		text += " (" + strings.Join(j.addresses, ", ") + ")"
	}
	return text
}

// proxyAt returns the URL, without its password, of the proxy in the environment
// whose host and port are those of a first hop; "" if there is none.
func proxyAt(hop string) string {
	settings := httpproxy.FromEnvironment()
	for _, text := range []string{settings.HTTPSProxy, settings.HTTPProxy} {
		u, err := url.Parse(text)
		if err == nil && u.Host == "" {
			u, err = url.Parse("http://" + text)
		}
		if err != nil || u.Host == "" {
			continue
		}
		port := cmp.Or(u.Port(), map[string]string{"https": "443", "socks5": "1080"}[u.Scheme], "80")
		if net.JoinHostPort(u.Hostname(), port) == hop {
			return u.Redacted()
		}
	}
	return ""
}
