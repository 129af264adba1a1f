package rest

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
)

// TestPageThatSaysNotFound: a page is not the vendor's word that something does
// not exist. It may pass if the address has worked before.
func TestPageThatSaysNotFound(t *testing.T) {
	const page = "<html><head><title>\n Site&nbsp;not found </title></head></html>"
	for _, status := range []int{404, 410} {
		s := newScript(respond(200, "{}"), respond(status, page), respond(status, page), respond(200, `{"ok":true}`))
		c := startServer(t, s)
		ctx := collector.WithStats(t.Context(), new(collector.Stats))
		for range 2 {
			if _, err := c.Get(ctx, Request{Path: "/x"}); err != nil {
				t.Errorf("%d: %v", status, err)
			}
		}
		if n := len(s.requests()); n != 4 {
			t.Errorf("%d: %d requests, want 4", status, n)
		}
		s = newScript(respond(status, page))
		c = startServer(t, s)
		c.Hints = map[int]string{status: "check SNYK_ENDPOINT"}
		_, err := c.Get(t.Context(), Request{Path: "/x"})
		assertError(t, err, `(an HTML page with the title "Site not found"): the page is not of the vendor's API, it may be from a proxy or firewall: check HTTPS_PROXY and the address; check SNYK_ENDPOINT`)
		if n := len(s.requests()); n != 1 || HasStatus(err, status) {
			t.Errorf("%d: %v after %d requests, want 1, and no status of the vendor", status, err, n)
		}
	}
}

// TestErrorsNameTheAddress: what is not found or is something else may be at a wrong address,
// whose setting and value the error names.
func TestErrorsNameTheAddress(t *testing.T) {
	const address = "OSV_URL, which is https://mirror.test/osv"
	for name, tc := range map[string]struct {
		respond http.HandlerFunc
		want    string
	}{
		"not found":  {respond(404, "{}"), "GET /x: 404 Not Found: {}: check " + address},
		"gone":       {respond(410, "{}"), "GET /x: 410 Gone: {}: check " + address},
		"page":       {respond(404, "<html>"), "(an HTML page): the page is not of the vendor's API, it may be from a proxy or firewall: check HTTPS_PROXY and " + address},
		"login page": {respond(200, "<html>"), "body is an HTML page, want JSON: it may be from a proxy or firewall: check HTTPS_PROXY and " + address},
		"empty":      {respond(200, ""), "body is empty, want JSON: check " + address},
		"other":      {respond(200, `{"data":1}`), `want the member data to be an array, got 1: check ` + address},
	} {
		t.Run(name, func(t *testing.T) {
			c := startServer(t, tc.respond)
			c.Address, c.Retry.attempts = address, 1
			_, err := c.Fetch(t.Context(), Request{Path: "/x"}, Shape{Records: "data"}, &MemoryOutput{}, nil)
			assertError(t, err, tc.want)
		})
	}
	c := startServer(t, respond(404, "{}"))
	c.Address, c.Hints = address, map[int]string{404: "check the name"}
	_, err := c.Get(t.Context(), Request{Path: "/x"})
	assertError(t, err, "404 Not Found: {}: check the name")
	c = newTestClient(t, "http://127.0.0.1:1")
	c.Address, c.Retry.attempts = address, 1
	_, err = c.Get(t.Context(), Request{Path: "/x"})
	assertError(t, err, "connection refused: check the address, ", "; the address is that of OSV_URL")
	c = startServer(t, respond(404, "{}"))
	_, err = c.Get(t.Context(), Request{})
	assertError(t, err, "GET /: 404 Not Found")
}

// TestIsRedirect: also a redirect of the token request is found.
func TestIsRedirect(t *testing.T) {
	redirect := &StatusError{Status: http.StatusPermanentRedirect}
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{err: redirect, want: true},
		{err: &authError{errors.Join(redirect)}, want: true},
		{err: &StatusError{Status: 404, Body: []byte("see : 308 Permanent Redirect")}},
		{err: errors.New("other: 302 Found")},
	} {
		if got := IsRedirect(tc.err); got != tc.want {
			t.Errorf("%v: IsRedirect returned %v, want %v", tc.err, got, tc.want)
		}
	}
	if HasStatus(&authError{redirect}, http.StatusPermanentRedirect) {
		t.Error("a status of the token request counts as one of the request")
	}
	if text := describePage([]byte("<html><title>" + strings.Repeat("x", 500) + "</title>")); len(text) > 150 {
		t.Errorf("a long title is not cut: %s", text)
	}
}
