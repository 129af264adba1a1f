package rest

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
)

var pageTitle = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title`)

// describePage describes an HTML page by its title, which says more than its
// first bytes, such as "an HTML page with the title \"Access denied\"".
func describePage(page []byte) string {
	if m := pageTitle.FindSubmatch(page); m != nil {
		if title := excerpt(html.UnescapeString(string(m[1])), 80); title != "" {
			return fmt.Sprintf("an HTML page with the title %q", title)
		}
	}
	return "an HTML page"
}

// looksLikeHTML reports whether a body begins like an HTML page.
func looksLikeHTML(body []byte) bool {
	text := bytes.ToLower(bytes.TrimSpace(body[:min(len(body), 512)]))
	return bytes.HasPrefix(text, []byte("<!doctype html")) || bytes.HasPrefix(text, []byte("<html"))
}

// isHTML reports whether the body is an HTML page.
func (e *StatusError) isHTML() bool { return isPage(e.Header, e.Body) }

// isPage reports whether the start of a body is that of an HTML page. Some begin with
// another element, and only their type shows it.
func isPage(h http.Header, start []byte) bool {
	return looksLikeHTML(start) || bytes.HasPrefix(bytes.TrimSpace(start), []byte("<")) && isPageType(h)
}

// isPageType reports whether a response says that its body is an HTML page.
func isPageType(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/html")
}

// isFromProxy reports whether a proxy or a firewall sent the response and not the
// vendor, whose API does not refuse requests with a page, and does not say with a
// page that something does not exist.
func (e *StatusError) isFromProxy() bool {
	switch e.Status {
	case http.StatusProxyAuthRequired:
		return true
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return e.isHTML()
	}
	return false
}

// proxyVerdict returns the verdict on a response from a proxy or a firewall. It
// may pass, unless nothing is found at an address that has not worked before.
func proxyVerdict(e *StatusError) Verdict {
	if (e.Status == http.StatusNotFound || e.Status == http.StatusGone) && !e.accepted {
		return Fatal
	}
	return Transient
}

// proxyHint returns what to do about a response from a proxy or a firewall.
func (c *Client) proxyHint(s *StatusError) string {
	by := "a proxy or firewall"
	if name := proxyOf(s.req); name != "" {
		by = "the proxy " + name
	}
	address := cmp.Or(c.Address, "the address")
	switch s.Status {
	case http.StatusProxyAuthRequired:
		return by + " refused the request: check HTTPS_PROXY, its user and password"
	case http.StatusNotFound, http.StatusGone: // which any web server says with a page
		return "the page is not of the vendor's API, it may be from " + by + ": check HTTPS_PROXY and " + address
	}
	return "the page is not a response of the vendor's API, it is from " + by + ": check HTTPS_PROXY and " + address
}
