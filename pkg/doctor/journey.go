package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// certificateWarning is how long before a certificate's end a warning comes.
const certificateWarning = 14 * 24 * time.Hour

// A Journey watches the way of the HTTP requests made with its context: name,
// connection, TLS. So what is reported is what the real request met, proxies
// and certificates included.
type Journey struct {
	mu    sync.Mutex
	hop   string // host and port of the first hop, which may be a proxy
	found []string
	tls   *tls.ConnectionState
	step  string // the last one that was begun
}

// arrived is the step at which the network has done its part.
const arrived = "request"

// Watch returns a context whose HTTP requests j watches.
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
				j.found = nil
				for _, a := range i.Addrs {
					j.found = append(j.found, a.String())
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
		GotConn: func(httptrace.GotConnInfo) { set(func() { j.step = arrived }) },
	})
}

// Address is that of the server, to ask it more; "" when none was reached
// that is known by name.
func (j *Journey) Address() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, port, err := net.SplitHostPort(j.hop)
	switch {
	case j.step != arrived || err != nil:
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

// Finding tells of the network as the requests found it; err is how they
// ended. It says nothing of an error that came after the network had done its
// part. ok is false when no request was made.
func (j *Journey) Finding(group, check string, err error, now time.Time) (f Finding, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.hop == "" {
		return Finding{}, false
	}
	f = Finding{Group: group, Check: check, Result: OK, Text: j.way()}
	if err != nil && j.step != arrived {
		f.Result = Failed
		f.Text += ": failed to " + j.step
		f.Advice = networkAdvice(err)
		return f, true
	}
	if j.tls != nil && len(j.tls.PeerCertificates) > 0 {
		leaf := j.tls.PeerCertificates[0]
		f.Text += fmt.Sprintf(", %s, certificate by %s until %s", tls.VersionName(j.tls.Version), issuer(leaf), leaf.NotAfter.UTC().Format("2006-01-02"))
		if leaf.NotAfter.Sub(now) < certificateWarning {
			f.Result = Warning
			f.Advice = "the server's certificate ends soon: whoever runs the server, or the proxy that opens TLS, must renew it"
		}
	}
	return f, true
}

// way names the server, its addresses and the proxy.
func (j *Journey) way() string {
	text := j.hop
	if proxy := proxyAt(j.hop); proxy != "" {
		text = "by the proxy " + proxy
		if j.tls != nil {
			text = j.tls.ServerName + " " + text
		}
	}
	if len(j.found) > 0 {
		text += " (" + strings.Join(j.found, ", ") + ")"
	}
	return text
}

// proxyAt names the proxy of the environment that a first hop is, without its
// password; "" when it is none.
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

func issuer(c *x509.Certificate) string {
	switch {
	case len(c.Issuer.Organization) > 0:
		return c.Issuer.Organization[0]
	case c.Issuer.CommonName != "":
		return c.Issuer.CommonName
	}
	return "an unnamed authority"
}

// networkAdvice says what to do about a failure on the way.
func networkAdvice(err error) string {
	var name *net.DNSError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var wrongHost x509.HostnameError
	switch {
	case errors.As(err, &name):
		return "the name cannot be resolved: check its spelling in the settings, /etc/resolv.conf, and the DNS server that it names"
	case errors.As(err, &unknown):
		who := "an authority that this machine does not know"
		if unknown.Cert != nil {
			who = issuer(unknown.Cert) + ", which this machine does not know"
		}
		return "the certificate is by " + who + ": if a proxy opens TLS on the way, put its authority into a file and name that by SSL_CERT_FILE (for S3 by AWS_CA_BUNDLE)"
	case errors.As(err, &invalid):
		return "the certificate is not valid now: check this machine's clock first, then tell whoever runs the server"
	case errors.As(err, &wrongHost):
		return "the certificate is for another name: check the address in the settings, and whether a proxy answers in its place"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "nothing answers: a firewall drops what is sent, or a proxy is needed (HTTPS_PROXY)"
	}
	return "check the firewall, HTTPS_PROXY and NO_PROXY, and whether the address in the settings is right"
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
