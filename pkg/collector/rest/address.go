package rest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
)

// resolve places path under the base and refuses other hosts.
func (c *Client) resolve(path string) (*url.URL, error) {
	ref, err := parseAddress(path)
	if err != nil {
		return nil, err
	}
	if ref.Host != "" {
		if ref.Scheme == "" {
			ref.Scheme = c.Base.Scheme
		}
		if !sameHost(ref, c.Base) {
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

// parseAddress parses a path or an address. Its errors show no query, which
// may hold keys.
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

// sameHost compares scheme, host and port; a port that the scheme implies
// may be spelt out.
func sameHost(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && hostPort(a) == hostPort(b)
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// follow makes the request for an address that the vendor gave, absolute or
// relative to the present one. The address's own query stays as it is, byte
// for byte; of keep those parameters are added that it lost.
func follow(r Request, target string, keep []string) (Request, bool, error) {
	to, err := parseAddress(target)
	if err != nil {
		return r, false, fmt.Errorf("next page: %w", err)
	}
	from, err := parseAddress(r.Path)
	if err != nil {
		return r, false, err
	}
	to = from.ResolveReference(to)
	have, query, lost := queryOf(r), to.Query(), url.Values{}
	for _, name := range keep {
		if !query.Has(name) && have.Has(name) {
			lost[name] = have[name]
		}
	}
	to.RawQuery = merge(to.RawQuery, lost)
	r.Path, r.Query = to.String(), nil
	return r, true, nil
}

// queryOf is all of a request's query.
func queryOf(r Request) url.Values {
	_, raw, _ := strings.Cut(r.Path, "?")
	q, _ := url.ParseQuery(raw) // what it can read is enough to know what is there
	for name, values := range r.Query {
		q[name] = values
	}
	return q
}

// merge sets the parameters add in the query raw and leaves the others as
// they are spelt: a vendor's cursor may hold what a decoder would drop.
func merge(raw string, add url.Values) string {
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

// with returns r with one query parameter set.
func with(r Request, name, value string) Request {
	q := make(url.Values, len(r.Query)+1)
	for n, v := range r.Query {
		q[n] = v
	}
	q.Set(name, value)
	r.Query = q
	return r
}
