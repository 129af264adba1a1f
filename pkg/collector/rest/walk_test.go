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

	"github.com/collectord/collectord/pkg/collector"
)

// listing walks l against h and returns what came and was asked.
func listing(t *testing.T, h http.Handler, l Listing) (records string, n int64, requests []string, err error) {
	t.Helper()
	s := steps(h.ServeHTTP)
	c := loopback(t, s)
	c.Retry.Attempts = 1
	var out Gathered
	n, err = c.Walk(context.Background(), l, &out)
	return texts(&out), n, s.requests(), err
}

// book is a vendor with total records in pages. It clamps the page size.
type book struct {
	total, clamp int
	ignores      bool // the offset and the page number
	declares     func(seen int) string
}

func (b book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	size, _ := strconv.Atoi(q.Get("limit"))
	if b.clamp > 0 {
		size = min(size, b.clamp)
	}
	at, _ := strconv.Atoi(q.Get("offset"))
	if q.Has("page") {
		page, _ := strconv.Atoi(q.Get("page"))
		at = (page - 1) * size
	}
	if b.ignores {
		at = 0
	}
	end := min(at+size, b.total)
	declared := strconv.Itoa(b.total)
	if b.declares != nil {
		declared = b.declares(at)
	}
	says(200, fmt.Sprintf(`{"data":[%s],"meta":{"total":%s}}`, recordsOf(min(at, end), end), declared))(w, r)
}

func TestCountingPagers(t *testing.T) {
	offset := func(stop Stop) Pager { return Offset{Param: "offset", Total: "meta.total", Stop: stop} }
	page := func(stop Stop) Pager { return PageNumber{Param: "page", Size: 2, Stop: stop} }
	grows := func(seen int) string { return strconv.Itoa(5 + seen) }
	settles := func(seen int) string { return strconv.Itoa(min(9, 5+seen)) }
	for _, f := range []struct {
		name     string
		book     book
		pager    Pager
		records  int
		requests int
		want     string // in the error
	}{
		{"offset to empty", book{total: 5}, offset(AtEmpty), 5, 4, ""},
		{"offset to empty, the last page full", book{total: 4}, offset(AtEmpty), 4, 3, ""},
		{"offset, default", book{total: 5}, offset(0), 5, 4, ""},
		{"offset to total", book{total: 5}, offset(AtTotal), 5, 3, ""},
		{"offset to total, the last page full", book{total: 4}, offset(AtTotal), 4, 2, ""},
		{"offset to total, nothing", book{}, offset(AtTotal), 0, 1, ""},
		{"offset to total or empty, nothing", book{}, offset(AtTotal | AtEmpty), 0, 1, ""},
		{"offset to empty, nothing", book{}, offset(AtEmpty), 0, 1, ""},
		{"offset, size clamped", book{total: 5, clamp: 1}, offset(AtTotal), 5, 5, ""},
		{"offset, total too high", book{total: 5, declares: func(int) string { return "7" }}, offset(AtTotal), 5, 4, "an empty page, though more was declared"},
		{"offset, total too high, empty ends", book{total: 5, declares: func(int) string { return "7" }}, offset(AtTotal | AtEmpty), 5, 4, "5 records came, 7 were declared"},
		{"offset, total shrinks", book{total: 5, declares: func(seen int) string { return strconv.Itoa(6 - seen/2) }}, offset(AtTotal), 5, 3, ""},
		{"offset, total grows to the truth", book{total: 9, declares: settles}, offset(AtTotal), 9, 5, ""},
		{"offset, total grows", book{total: 9, declares: grows}, offset(AtTotal | AtEmpty), 9, 6, "9 records came, 14 were declared"},
		{"offset, total missing", book{total: 5, declares: func(int) string { return "null" }}, offset(AtTotal), 0, 1, "the member meta.total is missing"},
		{"offset, total negative", book{total: 5, declares: func(int) string { return "-1" }}, offset(AtTotal), 0, 1, "the member meta.total is missing"},
		{"offset, ignored", book{total: 5, ignores: true}, offset(AtEmpty), 2, 2, "page 2 begins as the one before it"},
		{"page to empty", book{total: 5}, page(AtEmpty), 5, 4, ""},
		{"page, default", book{total: 5}, page(0), 5, 4, ""},
		{"page to short", book{total: 5}, page(AtShort), 5, 3, ""},
		{"page to short, the last page full", book{total: 4}, page(AtShort), 4, 3, ""},
		{"page to short, nothing", book{}, page(AtShort), 0, 1, ""},
		{"page to short or empty", book{total: 4}, page(AtShort | AtEmpty), 4, 3, ""},
		{"page to short, size clamped", book{total: 5, clamp: 1}, page(AtShort), 1, 1, "1 records came, 5 were declared"},
		{"page to empty, size clamped", book{total: 5, clamp: 1}, page(AtEmpty), 5, 6, ""},
		{"page, ignored", book{total: 5, ignores: true}, page(AtEmpty), 2, 2, "page 2 begins as the one before it"},
		{"page to short, size unknown", book{total: 5}, PageNumber{Param: "page", Stop: AtShort}, 0, 1, "a short page cannot be told"},
		{"page without a first", book{total: 5}, PageNumber{Param: "seite"}, 0, 1, "seite is no number"},
		{"single", book{total: 2}, Single{}, 2, 1, ""},
		{"single, more declared", book{total: 5}, Single{}, 2, 1, "2 records came, 5 were declared"},
	} {
		t.Run(f.name, func(t *testing.T) {
			first := Request{Path: "/list?limit=2", Query: url.Values{"sort": {"id"}}}
			if _, counts := f.pager.(PageNumber); counts {
				first.Query.Set("page", "1")
			}
			got, n, requests, err := listing(t, f.book, Listing{
				Request: first, Shape: Shape{Records: "data"}, Pager: f.pager, Total: "meta.total",
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
				mustHold(t, err, "GET /list: incomplete: ", f.want)
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
	}{{100, true}, {101, true}, {105, true}, {106, false}, {1000, false}, {1, true}} {
		b := book{total: 100, declares: func(int) string { return strconv.Itoa(f.declared) }}
		_, _, _, err := listing(t, b, Listing{
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
		return says(200, fmt.Sprintf(`{"meta":{"next":%s},"data":[%s]}`, next, recordsOf(n, m)))
	}
	for _, f := range []struct {
		name     string
		answers  *script
		stop     Stop
		records  int
		requests []string
		want     string
	}{
		{"to null", steps(page(0, 2, `"a"`), page(2, 4, "null")), 0, 4, []string{"/list", "/list?after=a"}, ""},
		{"to absent", steps(page(0, 2, `"a"`), says(200, `{"data":[{"id":2}]}`)), 0, 3, []string{"/list", "/list?after=a"}, ""},
		{"to empty text", steps(page(0, 2, `"a"`), page(2, 4, `""`)), 0, 4, []string{"/list", "/list?after=a"}, ""},
		{"to false", steps(page(0, 2, `"a"`), page(2, 4, `false`)), 0, 4, []string{"/list", "/list?after=a"}, ""},
		{"number", steps(page(0, 2, `12345678901234567890`), page(2, 4, "null")), 0, 4, []string{"/list", "/list?after=12345678901234567890"}, ""},
		{"needs escapes", steps(page(0, 2, `"a+/=&\u00e9;"`), page(2, 4, "null")), 0, 4, []string{"/list", "/list?after=a%2B%2F%3D%26%C3%A9%3B"}, ""},
		{"empty page with a token", steps(page(0, 2, `"a"`), page(2, 2, `"b"`), page(2, 4, "null")), 0, 4, []string{"/list", "/list?after=a", "/list?after=b"}, ""},
		{"empty page ends", steps(page(0, 2, `"a"`), page(2, 2, `"b"`)), AtEmpty, 2, []string{"/list", "/list?after=a"}, ""},
		{"repeated at once", steps(page(0, 2, `"a"`), page(2, 4, `"a"`)), 0, 4, []string{"/list", "/list?after=a"}, "page 2 leads back to a page that was read already"},
		{"repeated later", steps(page(0, 2, `"a"`), page(2, 4, `"b"`), page(4, 6, `"a"`)), 0, 6, []string{"/list", "/list?after=a", "/list?after=b"}, "page 3 leads back to a page that was read already"},
		{"ignored", steps(page(0, 2, `"a"`), page(0, 2, `"b"`)), 0, 2, []string{"/list", "/list?after=a"}, "page 2 begins as the one before it"},
		{"ignored behind an empty page", steps(page(0, 2, `"a"`), page(0, 0, `"b"`), page(0, 2, `"c"`)), 0, 2, []string{"/list", "/list?after=a", "/list?after=b"}, "page 3 begins as the one before it"},
		{"of no known kind", steps(page(0, 2, `["a"]`)), 0, 0, []string{"/list"}, `the member meta.next is ["a"]`},
		{"true", steps(page(0, 2, `true`)), 0, 0, []string{"/list"}, `the member meta.next is true`},
	} {
		t.Run(f.name, func(t *testing.T) {
			got, _, requests, err := listing(t, f.answers, Listing{
				Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "meta.next", Param: "after", Stop: f.stop},
			})
			if got != recordsOf(0, f.records) || !slices.Equal(requests, f.requests) {
				t.Errorf("%s, requests %q, want %q", got, requests, f.requests)
			}
			if f.want == "" && err != nil {
				t.Error(err)
			} else if f.want != "" {
				mustHold(t, err, "incomplete: ", f.want)
			}
		})
	}
}

func TestPageCap(t *testing.T) {
	forever := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("after"))
		says(200, fmt.Sprintf(`{"data":[{"id":%d}],"next":"%d"}`, n, n+1))(w, r)
	})
	l := Listing{Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"}, MaxPages: 25}
	_, n, requests, err := listing(t, forever, l)
	mustHold(t, err, "GET /list: incomplete: it goes on after 25 pages")
	if n != 25 || len(requests) != 25 {
		t.Errorf("%d records, %d requests", n, len(requests))
	}
	l.Pager, l.MaxPages, l.Request.Path = Offset{Param: "offset"}, 3, "/list?limit=2"
	if _, _, _, err := listing(t, book{total: 4}, l); err != nil {
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
			answer := func(next string) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(next, "%s") || strings.Contains(next, "%%") {
						next = strings.ReplaceAll(strings.Replace(next, "%s", address, 1), "%%", "%")
					}
					says(200, `{"data":[],"links":{"next":`+next+`}}`)(w, r)
				}
			}
			s := steps(answer(f.next), answer("null"))
			c := loopback(t, s)
			address = c.Base.String()
			f.pager.Path = "links.next"
			path := strings.Replace(f.path, "%s", address, 1)
			if path == "" {
				path = "/list"
			}
			var out Gathered
			_, err := c.Walk(context.Background(), Listing{
				Request: Request{Path: path, Query: url.Values{"limit": {"2"}}}, Shape: Shape{Records: "data"}, Pager: f.pager,
			}, &out)
			requests := s.requests()[1:]
			if f.want == "" && len(requests) > 0 || f.want != "" && !slices.Equal(requests, []string{f.want}) {
				t.Errorf("then asked %q, want %q", requests, f.want)
			}
			if f.fails == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			mustHold(t, err, f.fails)
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
		{"several lines", []string{`<https://x/1>; rel="self"`, `<https://x/2>; rel="next"`}, "https://x/2", false},
		{"joined by commas", []string{`<https://x/1>; rel="self", <https://x/2>; rel="next",<https://x/9>; rel="last"`}, "https://x/2", false},
		{"comma and semicolon in the address", []string{`<https://x/1?a=b,c;d>; rel="self", <https://x/2?a=b,c;d>; rel="next"`}, "https://x/2?a=b,c;d", false},
		{"comma and semicolon in a parameter", []string{`<https://x/2>; title="a, b; \"c\", <d>"; rel="next"`}, "https://x/2", false},
		{"no quotes, other case", []string{`<https://x/2>;REL=Next`}, "https://x/2", false},
		{"several relations", []string{`<https://x/2>; rel="last next"`}, "https://x/2", false},
		{"spaces", []string{` < https://x/2 > ; rel = "next" `}, "https://x/2", false},
		{"a word that contains it", []string{`<https://x/2>; rel="nextish"`}, "", true},
		{"in another parameter", []string{`<https://x/2>; title="next"; rel="prev"`}, "", true},
		{"none", nil, "", true},
		{"broken", []string{`<https://x/2; rel="next"`, `x`, `>`, `<`, ``, `"`}, "", true},
		{"empty address", []string{`<>; rel="next"`}, "", false},
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
	s := steps(
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Link", `<`+c.Base.String()+`/list?limit=2>; rel="self"`)
			w.Header().Add("Link", `<`+c.Base.String()+`/list?after=a,b&limit=2>; rel="next"`)
			says(200, "["+recordsOf(0, 2)+"]")(w, r)
		},
		says(200, "["+recordsOf(2, 3)+"]", "Link", `</list?limit=2>; rel="self"`),
	)
	c = loopback(t, s)
	var out Gathered
	l := Listing{Request: Request{Path: "/list?limit=2"}, Pager: Link{}}
	if n, err := c.Walk(context.Background(), l, &out); err != nil || n != 3 || texts(&out) != recordsOf(0, 3) {
		t.Errorf("%d %s %v", n, texts(&out), err)
	}
	if want := []string{"/list?limit=2", "/list?after=a,b&limit=2"}; !slices.Equal(s.requests(), want) {
		t.Errorf("asked %q", s.requests())
	}
	c = loopback(t, steps(says(200, "[]", "Link", `<>; rel="next"`)))
	_, err := c.Walk(context.Background(), l, &out)
	mustHold(t, err, "incomplete: next page: the Link header has an empty address")
}

// A vendor that forgets the place in a listing makes it start over, a few
// times, and nothing of the first pass is left.
func TestExpiredListing(t *testing.T) {
	expired := func(err error) bool {
		var s *StatusError
		return errors.As(err, &s) && s.Status == 404
	}
	page := func(n int, next string) http.HandlerFunc {
		return says(200, fmt.Sprintf(`{"data":[%s],"next":%s}`, recordsOf(n, n+2), next))
	}
	gone := says(404, "cursor expired")
	l := Listing{
		Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"},
		Expired: expired,
	}
	got, n, _, err := listing(t, steps(page(0, `"a"`), gone, page(0, `"b"`), gone, page(0, `"c"`), page(2, "null")), l)
	if err != nil || n != 4 || got != recordsOf(0, 4) {
		t.Errorf("%d %s %v", n, got, err)
	}
	_, _, requests, err := listing(t, steps(page(0, `"a"`), gone, page(0, `"a"`), gone, page(0, `"a"`), gone, page(0, `"a"`)), l)
	if mustHold(t, err, "404 Not Found: cursor expired"); len(requests) != 6 {
		t.Errorf("%d requests", len(requests))
	}
	l.Expired = nil
	if _, _, requests, err = listing(t, steps(page(0, `"a"`), gone), l); err == nil || len(requests) != 2 {
		t.Errorf("%v after %d requests", err, len(requests))
	}
}

// What Each does is part of the page: its failure drops the page, and a page
// that is read again is passed to it again.
func TestEach(t *testing.T) {
	l := Listing{
		Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"},
		Each: func(p collector.Page, e *Envelope, raw []byte) error {
			if id := Text(Member(raw, "id")); id == "3" {
				return fmt.Errorf("record %d is wrong", e.Records)
			}
			return p.Append([]byte(`{"of":` + e.Text("kind") + `,"it":` + string(raw) + `}`))
		},
	}
	first := says(200, `{"kind":7,"data":[{"id":0},{"id":1}],"next":"a"}`)
	cut := says(200, `{"kind":7,"data":[{"id":2},`)
	s := steps(first, cut, says(200, `{"kind":8,"data":[{"id":2}]}`))
	c := loopback(t, s)
	var out Gathered
	if _, err := c.Walk(context.Background(), l, &out); err != nil || texts(&out) != `{"of":7,"it":{"id":0}},{"of":7,"it":{"id":1}},{"of":8,"it":{"id":2}}` {
		t.Errorf("%s %v", texts(&out), err)
	}
	got, _, requests, err := listing(t, steps(first, says(200, `{"kind":8,"data":[{"id":2},{"id":3}]}`)), l)
	mustHold(t, err, "GET /list: record 1 is wrong")
	if strings.Contains(got, `"id":2`) || len(requests) != 2 {
		t.Errorf("kept %s after %d requests", got, len(requests))
	}
}

func TestFetchThen(t *testing.T) {
	c := loopback(t, steps(says(200, `{"data":[{"id":0}],"n":2}`)))
	var out Gathered
	grow := func(p collector.Page, e *Envelope) error { return p.Append([]byte(e.Text("n"))) }
	if e, err := c.FetchThen(context.Background(), Request{Path: "/x"}, Shape{Records: "data"}, &out, nil, grow); err != nil || e.Records != 1 || texts(&out) != `{"id":0},2` {
		t.Errorf("%s %v", texts(&out), err)
	}
	refused := errors.New("count is wrong")
	refuse := func(collector.Page, *Envelope) error { return refused }
	if _, err := c.FetchThen(context.Background(), Request{Path: "/x"}, Shape{Records: "data"}, &out, nil, refuse); !errors.Is(err, refused) || texts(&out) != `{"id":0},2` {
		t.Errorf("%s %v", texts(&out), err)
	}
	if err := out.Reset(); err != nil || texts(&out) != "" {
		t.Errorf("%s %v", texts(&out), err)
	}
}
