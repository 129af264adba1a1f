package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/collector"
)

// walkServer reads l from h and returns the records, their number, the requests
// and the error.
func walkServer(t *testing.T, h http.Handler, l Listing) (records string, n int64, requests []string, err error) {
	t.Helper()
	s := newScript(h.ServeHTTP)
	c := startServer(t, s)
	c.Retry.attempts = 1
	var out MemoryOutput
	n, err = c.Walk(context.Background(), l, &out)
	return recordTexts(&out), n, s.requests(), err
}

// pagedServer serves total records in pages of at most clamp records.
type pagedServer struct {
	total, clamp int
	ignores      bool // ignores the offset and the page number
	declares     func(seen int) string
}

func (s pagedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	size, _ := strconv.Atoi(q.Get("limit"))
	if s.clamp > 0 {
		size = min(size, s.clamp)
	}
	at, _ := strconv.Atoi(q.Get("offset"))
	if q.Has("page") {
		page, _ := strconv.Atoi(q.Get("page"))
		at = (page - 1) * size
	}
	if s.ignores {
		at = 0
	}
	end := min(at+size, s.total)
	declared := strconv.Itoa(s.total)
	if s.declares != nil {
		declared = s.declares(at)
	}
	respond(200, fmt.Sprintf(`{"data":[%s],"meta":{"total":%s}}`, recordsOf(min(at, end), end), declared))(w, r)
}

// singlePage is a Pager for a listing of one page.
type singlePage struct{}

func (singlePage) NextPage(Page) (Request, bool, error) { return Request{}, false, nil }

func TestCountingPagers(t *testing.T) {
	offset := Offset{Param: "offset"}
	page := PageNumber{Param: "page"}
	grows := func(seen int) string { return strconv.Itoa(5 + seen) }
	settles := func(seen int) string { return strconv.Itoa(min(9, 5+seen)) }
	for _, f := range []struct {
		name     string
		book     pagedServer
		pager    Pager
		stop     Stop
		records  int
		requests int
		want     string // in the error
	}{
		{name: "offset to empty", book: pagedServer{total: 5}, pager: offset, stop: AtEmpty, records: 5, requests: 4},
		{name: "offset to empty, the last page full", book: pagedServer{total: 4}, pager: offset, stop: AtEmpty, records: 4, requests: 3},
		{name: "offset, default", book: pagedServer{total: 5}, pager: offset, records: 5, requests: 4},
		{name: "offset to total", book: pagedServer{total: 5}, pager: offset, stop: AtTotal, records: 5, requests: 3},
		{name: "offset to total, the last page full", book: pagedServer{total: 4}, pager: offset, stop: AtTotal, records: 4, requests: 2},
		{name: "offset to total, nothing", book: pagedServer{}, pager: offset, stop: AtTotal, requests: 1},
		{name: "offset to total or empty, nothing", book: pagedServer{}, pager: offset, stop: AtTotal | AtEmpty, requests: 1},
		{name: "offset to empty, nothing", book: pagedServer{}, pager: offset, stop: AtEmpty, requests: 1},
		{name: "offset, size clamped", book: pagedServer{total: 5, clamp: 1}, pager: offset, stop: AtTotal, records: 5, requests: 5},
		{
			name: "offset, total too high", book: pagedServer{total: 5, declares: func(int) string { return "7" }}, pager: offset, stop: AtTotal, records: 5,
			requests: 4, want: "an empty page, although more records were declared",
		},
		{
			name: "offset, total too high, empty ends", book: pagedServer{total: 5, declares: func(int) string { return "7" }},
			pager: offset, stop: AtTotal | AtEmpty, records: 5, requests: 4, want: "received 5 of 7 declared records",
		},
		{
			name: "offset, total shrinks", book: pagedServer{total: 5, declares: func(seen int) string { return strconv.Itoa(6 - seen/2) }},
			pager: offset, stop: AtTotal, records: 5, requests: 3,
		},
		{name: "offset, total grows to the truth", book: pagedServer{total: 9, declares: settles}, pager: offset, stop: AtTotal, records: 9, requests: 5},
		{
			name: "offset, total grows", book: pagedServer{total: 9, declares: grows}, pager: offset, stop: AtTotal | AtEmpty, records: 9, requests: 6,
		},
		{
			name: "offset, total missing", book: pagedServer{total: 5, declares: func(int) string { return "null" }}, pager: offset, stop: AtTotal,
			requests: 1, want: "the member meta.total is missing",
		},
		{
			name: "offset, total negative", book: pagedServer{total: 5, declares: func(int) string { return "-1" }}, pager: offset, stop: AtTotal,
			requests: 1, want: "the member meta.total is missing",
		},
		{
			name: "offset, ignored", book: pagedServer{total: 5, ignores: true}, pager: offset, stop: AtEmpty, records: 2, requests: 2,
			want: "page 2 begins with the same record as the page before it",
		},
		{name: "page", book: pagedServer{total: 5}, pager: page, records: 5, requests: 4},
		{name: "page, the last page full", book: pagedServer{total: 4}, pager: page, records: 4, requests: 3},
		{name: "page, nothing", book: pagedServer{}, pager: page, requests: 1},
		{name: "page, size clamped", book: pagedServer{total: 5, clamp: 1}, pager: page, records: 5, requests: 6},
		{
			name: "page, ignored", book: pagedServer{total: 5, ignores: true}, pager: page, records: 2, requests: 2,
			want: "page 2 begins with the same record as the page before it",
		},
		{name: "single", book: pagedServer{total: 2}, pager: singlePage{}, records: 2, requests: 1},
		{name: "single, more declared", book: pagedServer{total: 5}, pager: singlePage{}, records: 2, requests: 1, want: "received 2 of 5 declared records"},
	} {
		t.Run(f.name, func(t *testing.T) {
			first := Request{Path: "/list?limit=2", Query: url.Values{"sort": {"id"}}}
			if _, counts := f.pager.(PageNumber); counts {
				first.Query.Set("page", "1")
			}
			got, n, requests, err := walkServer(t, f.book, Listing{
				Request: first, Shape: Shape{Records: "data"}, Pager: f.pager, Stop: f.stop, Total: "meta.total",
			})
			if got != recordsOf(0, f.records) || n != int64(f.records) || len(requests) != f.requests {
				t.Errorf("%d records %s, requests %q", n, got, requests)
			}
			for _, uri := range requests {
				if !strings.Contains(uri, "limit=2") || !strings.Contains(uri, "sort=id") {
					t.Errorf("%s lost a parameter", uri)
				}
			}
			if first.Query.Get("offset") != "" {
				t.Error("the listing's own request was changed")
			}
			switch {
			case f.want == "" && err != nil:
				t.Error(err)
			case f.want != "":
				assertError(t, err, "GET /list: incomplete: ", f.want)
				if !errors.Is(err, collector.ErrIncomplete) {
					t.Errorf("%v is not ErrIncomplete", err)
				}
			}
		})
	}
}

func TestSlack(t *testing.T) {
	for _, f := range []struct {
		declared int
		good     bool
	}{{declared: 100, good: true}, {declared: 101, good: true}, {declared: 105, good: true}, {declared: 106}, {declared: 1000}, {declared: 1, good: true}} {
		b := pagedServer{total: 100, declares: func(int) string { return strconv.Itoa(f.declared) }}
		_, _, _, err := walkServer(t, b, Listing{
			Request: Request{Path: "/list?limit=50"}, Shape: Shape{Records: "data"},
			Pager: Offset{Param: "offset"}, Total: "meta.total", Slack: 0.05,
		})
		if (err == nil) != f.good {
			t.Errorf("declared %d: %v", f.declared, err)
		}
	}
}

func TestCursors(t *testing.T) {
	page := func(n, m int, next string) http.HandlerFunc {
		return respond(200, fmt.Sprintf(`{"meta":{"next":%s},"data":[%s]}`, next, recordsOf(n, m)))
	}
	for _, f := range []struct {
		name     string
		script   *scriptedServer
		stop     Stop
		records  int
		requests []string
		want     string
	}{
		{name: "to null", script: newScript(page(0, 2, `"a"`), page(2, 4, "null")), records: 4, requests: []string{"/list", "/list?after=a"}},
		{name: "to absent", script: newScript(page(0, 2, `"a"`), respond(200, `{"data":[{"id":2}]}`)), records: 3, requests: []string{"/list", "/list?after=a"}},
		{name: "to empty text", script: newScript(page(0, 2, `"a"`), page(2, 4, `""`)), records: 4, requests: []string{"/list", "/list?after=a"}},
		{name: "to false", script: newScript(page(0, 2, `"a"`), page(2, 4, `false`)), records: 4, requests: []string{"/list", "/list?after=a"}},
		{
			name: "number", script: newScript(page(0, 2, `12345678901234567890`), page(2, 4, "null")), records: 4,
			requests: []string{"/list", "/list?after=12345678901234567890"},
		},
		{
			name: "needs escapes", script: newScript(page(0, 2, `"a+/=&\u00e9;"`), page(2, 4, "null")), records: 4,
			requests: []string{"/list", "/list?after=a%2B%2F%3D%26%C3%A9%3B"},
		},
		{
			name: "empty page with a token", script: newScript(page(0, 2, `"a"`), page(2, 2, `"b"`), page(2, 4, "null")), records: 4,
			requests: []string{"/list", "/list?after=a", "/list?after=b"},
		},
		{
			name: "empty page ends", script: newScript(page(0, 2, `"a"`), page(2, 2, `"b"`)), stop: AtEmpty, records: 2,
			requests: []string{"/list", "/list?after=a"},
		},
		{
			name: "repeated at once", script: newScript(page(0, 2, `"a"`), page(2, 4, `"a"`)), records: 4,
			requests: []string{"/list", "/list?after=a"}, want: "page 2 leads back to a page that was already read",
		},
		{
			name: "repeated later", script: newScript(page(0, 2, `"a"`), page(2, 4, `"b"`), page(4, 6, `"a"`)), records: 6,
			requests: []string{"/list", "/list?after=a", "/list?after=b"}, want: "page 3 leads back to a page that was already read",
		},
		{
			name: "ignored", script: newScript(page(0, 2, `"a"`), page(0, 2, `"b"`)), records: 2, requests: []string{"/list", "/list?after=a"},
			want: "page 2 begins with the same record as the page before it",
		},
		{
			name: "ignored behind an empty page", script: newScript(page(0, 2, `"a"`), page(0, 0, `"b"`), page(0, 2, `"c"`)), records: 2,
			requests: []string{"/list", "/list?after=a", "/list?after=b"}, want: "page 3 begins with the same record as the page before it",
		},
		{name: "of no known kind", script: newScript(page(0, 2, `["a"]`)), requests: []string{"/list"}, want: `the member meta.next is ["a"]`},
		{name: "true", script: newScript(page(0, 2, `true`)), requests: []string{"/list"}, want: `the member meta.next is true`},
	} {
		t.Run(f.name, func(t *testing.T) {
			got, _, requests, err := walkServer(t, f.script, Listing{
				Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "meta.next", Param: "after"}, Stop: f.stop,
			})
			if got != recordsOf(0, f.records) || !slices.Equal(requests, f.requests) {
				t.Errorf("%s, requests %q, want %q", got, requests, f.requests)
			}
			if f.want == "" && err != nil {
				t.Error(err)
			} else if f.want != "" {
				assertError(t, err, "incomplete: ", f.want)
			}
		})
	}
}

func TestPageCap(t *testing.T) {
	forever := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("after"))
		respond(200, fmt.Sprintf(`{"data":[{"id":%d}],"next":"%d"}`, n, n+1))(w, r)
	})
	l := Listing{Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"}, maxPages: 25}
	_, n, requests, err := walkServer(t, forever, l)
	assertError(t, err, "GET /list: incomplete: no last page after 25 pages")
	if n != 25 || len(requests) != 25 {
		t.Errorf("%d records, %d requests", n, len(requests))
	}
	l.Pager, l.maxPages, l.Request.Path = Offset{Param: "offset"}, 3, "/list?limit=2"
	if _, _, _, err := walkServer(t, pagedServer{total: 4}, l); err != nil {
		t.Errorf("a listing of just the bound: %v", err)
	}
}

func TestNextURLs(t *testing.T) {
	for _, f := range []struct {
		name  string
		pager NextURL
		path  string
		next  string // the member, %s is the server's address
		want  string // the second request; "" for none
		fails string
	}{
		{name: "absolute", next: `"%s/list?page=2"`, want: "/list?page=2"},
		{name: "absolute, other path", next: `"%s/v2/more?a=1;b=2&c=%%7C|"`, want: "/v2/more?a=1;b=2&c=%7C|"},
		{name: "path", next: `"/list?page=2"`, want: "/list?page=2"},
		{name: "relative", path: "/v1/users", next: `"users?page=2"`, want: "/v1/users?page=2"},
		{name: "only a query", path: "/v1/users?limit=2", next: `"?page=2"`, want: "/v1/users?page=2"},
		{name: "only a query, from an absolute address", path: "%s/v1/users?limit=2", next: `"?page=2"`, want: "/v1/users?page=2"},
		{name: "escapes stay", next: `"/a%%2Fb?c=%%20d+e"`, want: "/a%2Fb?c=%20d+e"},
		{name: "object with href", next: `{"href":"/list?page=2"}`, want: "/list?page=2"},
		{name: "object with null", next: `{"href":null}`},
		{name: "object without href", next: `{}`},
		{name: "null", next: `null`},
		{name: "empty", next: `""`},
		{name: "false", next: `false`},
		{name: "under", pager: NextURL{Under: "/rest"}, next: `"/orgs?page=2"`, want: "/rest/orgs?page=2"},
		{name: "under already", pager: NextURL{Under: "/rest"}, next: `"/rest/orgs?page=2"`, want: "/rest/orgs?page=2"},
		{name: "under itself", pager: NextURL{Under: "/rest"}, next: `"/rest?page=2"`, want: "/rest?page=2"},
		{name: "under, of a like name", pager: NextURL{Under: "/rest"}, next: `"/restaurants?page=2"`, want: "/rest/restaurants?page=2"},
		{name: "keep what was lost", pager: NextURL{Keep: []string{"version", "limit", "none"}}, path: "/list?version=3", next: `"/list?page=2&limit=9"`, want: "/list?page=2&limit=9&version=3"},
		{name: "another host", next: `"https://evil.test/list?page=2&token=0123456789"`, fails: "address on https://evil.test: the credential is for "},
		{name: "another host, no scheme", next: `"//evil.test/list"`, fails: "evil.test: the credential is for "},
		{name: "no address", next: `"http://[::1?token=0123456789"`, fails: "next page: address"},
		{name: "a list", next: `["/list"]`, fails: `the member links.next is ["/list"]`},
	} {
		t.Run(f.name, func(t *testing.T) {
			var address string
			respondNext := func(next string) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(next, "%s") || strings.Contains(next, "%%") {
						next = strings.ReplaceAll(strings.Replace(next, "%s", address, 1), "%%", "%")
					}
					respond(200, `{"data":[],"links":{"next":`+next+`}}`)(w, r)
				}
			}
			s := newScript(respondNext(f.next), respondNext("null"))
			c := startServer(t, s)
			address = c.Base.String()
			f.pager.Path = "links.next"
			path := strings.Replace(f.path, "%s", address, 1)
			if path == "" {
				path = "/list"
			}
			var out MemoryOutput
			_, err := c.Walk(context.Background(), Listing{
				Request: Request{Path: path, Query: url.Values{"limit": {"2"}}}, Shape: Shape{Records: "data"}, Pager: f.pager,
			}, &out)
			requests := s.requests()[1:]
			if f.want == "" && len(requests) > 0 || f.want != "" && !slices.Equal(requests, []string{f.want}) {
				t.Errorf("then requested %q, want %q", requests, f.want)
			}
			if f.fails == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			assertError(t, err, f.fails)
			if !errors.Is(err, collector.ErrIncomplete) || strings.Contains(err.Error(), "0123456789") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLinkHeaders(t *testing.T) {
	for _, f := range []struct {
		name  string
		lines []string
		want  string
		none  bool
	}{
		{name: "several lines", lines: []string{`<https://x/1>; rel="self"`, `<https://x/2>; rel="next"`}, want: "https://x/2"},
		{name: "joined by commas", lines: []string{`<https://x/1>; rel="self", <https://x/2>; rel="next",<https://x/9>; rel="last"`}, want: "https://x/2"},
		{
			name: "comma and semicolon in the address", lines: []string{`<https://x/1?a=b,c;d>; rel="self", <https://x/2?a=b,c;d>; rel="next"`},
			want: "https://x/2?a=b,c;d",
		},
		{name: "comma and semicolon in a parameter", lines: []string{`<https://x/2>; title="a, b; \"c\", <d>"; rel="next"`}, want: "https://x/2"},
		{name: "no quotes, other case", lines: []string{`<https://x/2>;REL=Next`}, want: "https://x/2"},
		{name: "several relations", lines: []string{`<https://x/2>; rel="last next"`}, want: "https://x/2"},
		{name: "spaces", lines: []string{` < https://x/2 > ; rel = "next" `}, want: "https://x/2"},
		{name: "a longer relation", lines: []string{`<https://x/2>; rel="nextish"`}, none: true},
		{name: "in another parameter", lines: []string{`<https://x/2>; title="next"; rel="prev"`}, none: true},
		{name: "none", none: true},
		{name: "broken", lines: []string{`<https://x/2; rel="next"`, `x`, `>`, `<`, ``, `"`}, none: true},
		{name: "empty address", lines: []string{`<>; rel="next"`}},
	} {
		t.Run(f.name, func(t *testing.T) {
			got, found := nextLink(http.Header{"Link": f.lines})
			if got != f.want || found == f.none {
				t.Errorf("%q %v, want %q", got, found, f.want)
			}
		})
	}
}

func TestLinkWalk(t *testing.T) {
	var c *Client
	s := newScript(
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Link", `<`+c.Base.String()+`/list?limit=2>; rel="self"`)
			w.Header().Add("Link", `<`+c.Base.String()+`/list?after=a,b&limit=2>; rel="next"`)
			respond(200, "["+recordsOf(0, 2)+"]")(w, r)
		},
		respond(200, "["+recordsOf(2, 3)+"]", "Link", `</list?limit=2>; rel="self"`),
	)
	c = startServer(t, s)
	var out MemoryOutput
	l := Listing{Request: Request{Path: "/list?limit=2"}, Pager: Link{}}
	if n, err := c.Walk(context.Background(), l, &out); err != nil || n != 3 || recordTexts(&out) != recordsOf(0, 3) {
		t.Errorf("%d %s %v", n, recordTexts(&out), err)
	}
	if want := []string{"/list?limit=2", "/list?after=a,b&limit=2"}; !slices.Equal(s.requests(), want) {
		t.Errorf("requested %q", s.requests())
	}
	c = startServer(t, newScript(respond(200, "[]", "Link", `<>; rel="next"`)))
	_, err := c.Walk(context.Background(), l, &out)
	assertError(t, err, "incomplete: next page: the Link header has an empty address")
}

// TestEmptyPageThatLeadsToItself: an empty page whose next page is itself ends
// a listing, with a doubt and a warning.
func TestEmptyPageThatLeadsToItself(t *testing.T) {
	page := func(records, next string) http.HandlerFunc {
		return respond(200, `{"data":[`+records+`],"meta":{"total":2},"links":{"next":"`+next+`"}}`)
	}
	linked := func(records, next string) http.HandlerFunc {
		return respond(200, "["+records+"]", "Link", "<"+next+`>; rel="next"`)
	}
	const doubt = "an empty page led to itself and was taken as the end of a listing"
	byURL, byLink, byCursor := NextURL{Path: "links.next", Keep: []string{"limit"}}, Link{}, Cursor{Path: "links.next", Param: "after"}
	for _, f := range []struct {
		name     string
		pager    Pager
		script   *scriptedServer
		records  int
		requests int
		doubts   int64
		want     string // in the error
	}{
		{name: "next URL, first page", pager: byURL, script: newScript(page("", "/list?limit=2&a=1")), requests: 1, doubts: 1},
		{name: "next URL, first page, order changed", pager: byURL, script: newScript(page("", "/list?a=1&limit=2")), requests: 1, doubts: 1},
		{name: "next URL, first page, limit lost", pager: byURL, script: newScript(page("", "/list?a=1")), requests: 1, doubts: 1},
		{
			name: "next URL, last page", pager: byURL, script: newScript(page(recordsOf(0, 2), "/list?a=2"), page("", "/list?a=2")),
			records: 2, requests: 2, doubts: 1,
		},
		{
			name: "next URL, empty pages before", pager: byURL,
			script:  newScript(page("", "/list?a=2"), page(recordsOf(0, 2), "/list?a=3"), page("", "/list?a=4"), page("", "/list?a=4")),
			records: 2, requests: 4, doubts: 1,
		},
		{name: "link", pager: byLink, script: newScript(linked(recordsOf(0, 2), "/list?a=2"), linked("", "/list?a=2")), records: 2, requests: 2, doubts: 1},
		{name: "cursor", pager: byCursor, script: newScript(page(recordsOf(0, 2), "x"), page("", "x")), records: 2, requests: 2, doubts: 1},
		{
			name: "next URL, a page with records", pager: byURL, script: newScript(page(recordsOf(0, 2), "/list?a=1")), records: 2, requests: 1,
			want: "page 1 leads back to a page that was already read",
		},
		{
			name: "link, a page with records", pager: byLink, script: newScript(linked(recordsOf(0, 2), "/list?a=1&limit=2")), records: 2, requests: 1,
			want: "page 1 leads back to a page that was already read",
		},
		{
			name: "next URL, an empty page that leads to an earlier one", pager: byURL,
			script:  newScript(page(recordsOf(0, 2), "/list?a=2"), page("", "/list?a=1")),
			records: 2, requests: 2, want: "page 2 leads back to a page that was already read",
		},
		{
			name: "next URL, fewer records than declared", pager: byURL, script: newScript(page(recordsOf(0, 1), "/list?a=2"), page("", "/list?a=2")),
			records: 1, requests: 2, doubts: 1, want: "received 1 of 2 declared records",
		},
	} {
		t.Run(f.name, func(t *testing.T) {
			l := Listing{Request: Request{Path: "/list?a=1", Query: url.Values{"limit": {"2"}}}, Shape: Shape{Records: "data"}, Pager: f.pager}
			if strings.Contains(f.want, "declared") {
				l.Total = "meta.total"
			}
			if _, bare := f.pager.(Link); bare {
				l.Shape = Shape{}
			}
			core, logs := observer.New(zap.WarnLevel)
			stats := &collector.Stats{}
			c := startServer(t, f.script)
			var out MemoryOutput
			n, err := c.Walk(collector.WithLog(collector.WithStats(t.Context(), stats), zap.New(core)), l, &out)
			if recordTexts(&out) != recordsOf(0, f.records) || n != int64(f.records) || len(f.script.requests()) != f.requests {
				t.Errorf("%d records %s, requests %q", n, recordTexts(&out), f.script.requests())
			}
			var want []collector.Doubt
			if f.doubts > 0 {
				want = []collector.Doubt{{Text: doubt, Count: f.doubts}}
			}
			if !slices.Equal(stats.Doubts(), want) || logs.FilterField(zap.String("request", "GET /list")).Len() != len(want) {
				t.Errorf("doubts %v, want %v; logged %v", stats.Doubts(), want, logs.All())
			}
			if f.want == "" && err != nil {
				t.Error(err)
			} else if f.want != "" {
				assertError(t, err, "GET /list: incomplete: ", f.want)
			}
		})
	}
}

// TestExpiredListing: if the vendor no longer knows the position, the listing
// starts over, a few times, without the records of the first pass.
func TestExpiredListing(t *testing.T) {
	expired := func(err error) bool {
		var s *StatusError
		return errors.As(err, &s) && s.Status == 404
	}
	page := func(n int, next string) http.HandlerFunc {
		return respond(200, fmt.Sprintf(`{"data":[%s],"next":%s}`, recordsOf(n, n+2), next))
	}
	gone := respond(404, "cursor expired")
	l := Listing{
		Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"},
		Expired: expired,
	}
	got, n, _, err := walkServer(t, newScript(page(0, `"a"`), gone, page(0, `"b"`), gone, page(0, `"c"`), page(2, "null")), l)
	if err != nil || n != 4 || got != recordsOf(0, 4) {
		t.Errorf("%d %s %v", n, got, err)
	}
	_, _, requests, err := walkServer(t, newScript(page(0, `"a"`), gone, page(0, `"a"`), gone, page(0, `"a"`), gone, page(0, `"a"`)), l)
	if assertError(t, err, "404 Not Found: cursor expired"); len(requests) != 6 {
		t.Errorf("%d requests", len(requests))
	}
	l.Expired = nil
	if _, _, requests, err = walkServer(t, newScript(page(0, `"a"`), gone), l); err == nil || len(requests) != 2 {
		t.Errorf("%v after %d requests", err, len(requests))
	}
}

// TestOnRecord: an error of OnRecord discards the page, and OnRecord is called
// again for a page that is read again.
func TestOnRecord(t *testing.T) {
	l := Listing{
		Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"},
		OnRecord: func(p collector.Batch, e *Envelope, raw []byte) error {
			if id := TextOf(Member(raw, "id")); id == "3" {
				return fmt.Errorf("record %d is wrong", e.Records)
			}
			return p.Append([]byte(`{"of":` + e.Text("kind") + `,"it":` + string(raw) + `}`))
		},
	}
	first := respond(200, `{"kind":7,"data":[{"id":0},{"id":1}],"next":"a"}`)
	cut := respond(200, `{"kind":7,"data":[{"id":2},`)
	s := newScript(first, cut, respond(200, `{"kind":8,"data":[{"id":2}]}`))
	c := startServer(t, s)
	var out MemoryOutput
	if _, err := c.Walk(context.Background(), l, &out); err != nil || recordTexts(&out) != `{"of":7,"it":{"id":0}},{"of":7,"it":{"id":1}},{"of":8,"it":{"id":2}}` {
		t.Errorf("%s %v", recordTexts(&out), err)
	}
	got, _, requests, err := walkServer(t, newScript(first, respond(200, `{"kind":8,"data":[{"id":2},{"id":3}]}`)), l)
	assertError(t, err, "GET /list: record 1 is wrong")
	if strings.Contains(got, `"id":2`) || len(requests) != 2 {
		t.Errorf("kept %s after %d requests", got, len(requests))
	}
}

func TestFetchThen(t *testing.T) {
	c := startServer(t, newScript(respond(200, `{"data":[{"id":0}],"n":2}`)))
	var out MemoryOutput
	grow := func(p collector.Batch, e *Envelope) error { return p.Append([]byte(e.Text("n"))) }
	if e, err := c.FetchThen(context.Background(), Request{Path: "/x"}, Shape{Records: "data"}, &out, nil, grow); err != nil || e.Records != 1 || recordTexts(&out) != `{"id":0},2` {
		t.Errorf("%s %v", recordTexts(&out), err)
	}
	refused := errors.New("count is wrong")
	refuse := func(collector.Batch, *Envelope) error { return refused }
	if _, err := c.FetchThen(context.Background(), Request{Path: "/x"}, Shape{Records: "data"}, &out, nil, refuse); !errors.Is(err, refused) || recordTexts(&out) != `{"id":0},2` {
		t.Errorf("%s %v", recordTexts(&out), err)
	}
	if err := out.Reset(); err != nil || recordTexts(&out) != "" {
		t.Errorf("%s %v", recordTexts(&out), err)
	}
}
