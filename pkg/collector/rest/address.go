package rest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
)

// resolveURL returns the URL of path below the base. It refuses other hosts.
func (c *Client) resolveURL(path string) (*url.URL, error) {
	ref, err := parseAddress(path)
	if err != nil {
		return nil, err
	}
	if ref.Host != "" {
		if ref.Scheme == "" {
			ref.Scheme = c.Base.Scheme
		}
		if !c.isOwnAddress(ref) {
			return nil, fmt.Errorf("address on %s://%s: the credential is for %s and is sent nowhere else: %w",
				ref.Scheme, ref.Host, c.Base.Host, collector.ErrIncomplete)
		}
		return ref, nil
	}
	u := *c.Base
	u.RawPath = strings.TrimSuffix(c.Base.EscapedPath(), "/") + "/" + strings.TrimPrefix(ref.EscapedPath(), "/")
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return nil, fmt.Errorf("address %.100q: %w", u.RawPath, err)
	}
	u.RawQuery = ref.RawQuery
	return &u, nil
}

// parseAddress parses a path or an address. Its errors do not show the query,
// which may contain keys.
func parseAddress(text string) (*url.URL, error) {
	bare, _, _ := strings.Cut(text, "?")
	u, err := url.Parse(text)
	if err != nil {
		var wrong *url.Error
		if errors.As(err, &wrong) {
			err = wrong.Err
		}
		return nil, fmt.Errorf("address %.100q: %w: %w", bare, err, collector.ErrIncomplete)
	}
	if u.Opaque != "" || u.Scheme != "" && u.Host == "" {
		return nil, fmt.Errorf("address %.100q: it names no host: %w", bare, collector.ErrIncomplete)
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	return u, nil
}

// sameHost reports whether a and b have the same scheme, host and port. A
// missing port is the default port of the scheme.
func sameHost(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && hostPort(a) == hostPort(b)
}

// hostPort returns the host and the port of u in lower case.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// followAddress returns the request for an address from the vendor, absolute or
// relative to that of r. The query of the address is not changed. Those
// parameters of keep are added that it does not have.
func followAddress(r Request, target string, keep []string) (Request, bool, error) {
	to, err := parseAddress(target)
	if err != nil {
		return r, false, fmt.Errorf("next page: %w", err)
	}
	from, err := parseAddress(r.Path)
	if err != nil {
		return r, false, err
	}
	to = from.ResolveReference(to)
	current, query, lost := queryOf(r), to.Query(), url.Values{}
	for _, name := range keep {
		if !query.Has(name) && current.Has(name) {
			lost[name] = current[name]
		}
	}
	to.RawQuery = mergeQuery(to.RawQuery, lost)
	r.Path, r.Query = to.String(), nil
	return r, true, nil
}

// queryOf returns the whole query of a request.
func queryOf(r Request) url.Values {
	_, raw, _ := strings.Cut(r.Path, "?")
	q, _ := url.ParseQuery(raw) // the parameters that can be parsed are enough
	for name, values := range r.Query {
		q[name] = values
	}
	return q
}

// mergeQuery returns the query raw with the parameters of add set. The others
// keep their bytes, because a vendor's cursor may contain what a decoder would
// drop.
func mergeQuery(raw string, add url.Values) string {
	var pairs []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if pair != "" && !add.Has(name) {
			pairs = append(pairs, pair)
		}
	}
	if len(add) > 0 {
		pairs = append(pairs, add.Encode())
	}
	return strings.Join(pairs, "&")
}

// withParam returns r with one query parameter set.
func withParam(r Request, name, value string) Request {
	q := make(url.Values, len(r.Query)+1)
	for n, v := range r.Query {
		q[n] = v
	}
	q.Set(name, value)
	r.Query = q
	return r
}
