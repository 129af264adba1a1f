package domains

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
)

// maxRedirects is how many redirects are followed.
const maxRedirects = 10

// redirect is a response that leads to another address.
type redirect struct {
	URL      string `json:"url"`
	Status   int    `json:"status"`
	Location string `json:"location"`
}

// cookie is a cookie without its value, which differs in each response.
type cookie struct {
	Name     string `json:"name"`
	Secure   bool   `json:"secure"`
	HTTPOnly bool   `json:"http_only"`
	SameSite string `json:"same_site"`
}

// page is the last response of a web server.
type page struct {
	URL       string            `json:"url"`
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Cookies   []cookie          `json:"cookies"`
	Redirects []redirect        `json:"redirects"`
}

// headersRecord is a record of domains_headers.
type headersRecord struct {
	Domain  string    `json:"domain"`
	Unicode string    `json:"unicode"`
	HTTPS   *page     `json:"https"`
	HTTP    *page     `json:"http"`
	Errors  []failure `json:"errors"`
}

// examineHeaders returns the record of domains_headers.
func (a *account) examineHeaders(ctx context.Context, d domainName, failed *failures) any {
	r := &headersRecord{Domain: d.ascii, Unicode: d.unicode}
	for scheme, into := range map[string]**page{"https": &r.HTTPS, "http": &r.HTTP} {
		read, unread := a.readHeaders(ctx, d, scheme)
		*into = read
		failed.addFailure(unread)
	}
	r.Errors = failed.list()
	return r
}

// readHeaders requests the first page of the domain and follows its redirects as
// long as they lead to the domain or to names below it.
func (a *account) readHeaders(ctx context.Context, d domainName, scheme string) (*page, *failure) {
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: a.tlsConfig(""), MaxResponseHeaderBytes: 256 << 10,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			conn, failed := a.connect(ctx, scheme, host, port)
			if failed != nil {
				return nil, &failureError{failed}
			}
			return conn, nil
		},
	}
	defer transport.CloseIdleConnections()
	p := &page{Redirects: []redirect{}}
	at := &url.URL{Scheme: scheme, Host: a.hostOf(d.ascii, scheme), Path: "/"}
	for {
		resp, failed := a.requestHead(ctx, transport, at, scheme)
		if failed != nil {
			return nil, failed
		}
		p.setResponse(at, resp)
		next := a.nextRedirect(d, at, resp)
		if next == nil {
			return p, nil
		}
		if len(p.Redirects) == maxRedirects {
			return nil, &failure{Lookup: scheme, Name: d.ascii, Reason: "too_many_redirects", Detail: "more than 10 redirects"}
		}
		p.Redirects = append(p.Redirects, redirect{URL: at.String(), Status: resp.StatusCode, Location: resp.Header.Get("Location")})
		at = next
	}
}

// failureError carries a failure through net/http.
type failureError struct{ failure *failure }

func (f *failureError) Error() string { return f.failure.Detail }

// hostOf returns the host of an address, with the port unless it is the default.
func (a *account) hostOf(name, scheme string) string {
	if port := a.ports[scheme]; port != map[string]string{"https": "443", "http": "80"}[scheme] {
		return net.JoinHostPort(name, port)
	}
	return name
}

// requestHead requests an address and returns its response without the body.
func (a *account) requestHead(ctx context.Context, transport http.RoundTripper, at *url.URL, lookup string) (*http.Response, *failure) {
	ctx, cancel := context.WithTimeout(ctx, 3*a.timeout) // for the look-ups, the connection and the response
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, &failure{Lookup: lookup, Name: at.Hostname(), Reason: "network", Detail: "the address is not valid"}
	}
	req.Header.Set("User-Agent", a.userAgent)
	stats := collector.StatsFrom(ctx)
	stats.CountRequest("GET "+at.Scheme, 1)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		stats.CountResponse(0)
		var known *failureError
		if errors.As(err, &known) {
			return nil, known.failure
		}
		reason, detail := describeNetworkError(err)
		return nil, &failure{Lookup: lookup, Name: at.Hostname(), Reason: reason, Detail: detail}
	}
	stats.CountResponse(resp.StatusCode)
	stats.CountReceived(1)
	_ = resp.Body.Close()
	return resp, nil
}

// setResponse sets what the response says.
func (p *page) setResponse(at *url.URL, resp *http.Response) {
	p.URL, p.Status, p.Headers, p.Cookies = at.String(), resp.StatusCode, map[string]string{}, []cookie{}
	for name, values := range resp.Header {
		if name != "Set-Cookie" && name != "Date" { // which differ in each response
			p.Headers[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\ufffd")
		}
	}
	for _, c := range resp.Cookies() {
		same := map[http.SameSite]string{http.SameSiteLaxMode: "Lax", http.SameSiteStrictMode: "Strict", http.SameSiteNoneMode: "None"}[c.SameSite]
		p.Cookies = append(p.Cookies, cookie{Name: c.Name, Secure: c.Secure, HTTPOnly: c.HttpOnly, SameSite: same})
	}
}

// nextRedirect returns the address to follow; nil if there is none or it leads
// elsewhere.
func (a *account) nextRedirect(d domainName, at *url.URL, resp *http.Response) *url.URL {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil
	}
	next, err := at.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" || a.ports[next.Scheme] == "" {
		return nil
	}
	host := strings.ToLower(next.Hostname())
	if host != d.ascii && !strings.HasSuffix(host, "."+d.ascii) || next.Host != a.hostOf(next.Hostname(), next.Scheme) && next.Port() != a.ports[next.Scheme] {
		return nil
	}
	next.User, next.Fragment = nil, ""
	return next
}
