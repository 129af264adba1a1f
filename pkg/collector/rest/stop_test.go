package rest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"
)

// bodyKey is the key of a record that is {"id":…}.
func bodyKey(raw []byte) (string, error) { return TextOf(Member(raw, "id")), nil }

// TestRefusedListings: what a listing cannot do is an error before its first
// request.
func TestRefusedListings(t *testing.T) {
	plain := Request{Path: "/list"}
	post := Request{Path: "/list", Method: "POST", Body: []byte(`{"page":{"number":1},"text":"x"}`)}
	for _, tc := range []struct {
		name string
		l    Listing
		want string
	}{
		{name: "no pager", l: Listing{Request: plain}, want: "it has no Pager"},
		{name: "total not named", l: Listing{Request: plain, Pager: Link{}, Stop: AtTotal}, want: "it ends AtTotal, and its Total is not set"},
		{name: "unknown rule", l: Listing{Request: plain, Pager: Link{}, Stop: 8}, want: "its Stop is 8"},
		{name: "two flags", l: Listing{Request: plain, Pager: Link{}, More: "more", Last: "last"}, want: "both More and Last are set"},
		{name: "cursor without a token", l: Listing{Request: plain, Pager: Cursor{Param: "after"}}, want: "a Cursor needs the Path of the token"},
		{name: "cursor without a place", l: Listing{Request: plain, Pager: Cursor{Path: "next"}}, want: "neither a parameter nor a member"},
		{
			name: "cursor with two places", l: Listing{Request: post, Pager: Cursor{Path: "next", Param: "after", Member: "after"}},
			want: "both the parameter after and the member after",
		},
		{name: "cursor into no body", l: Listing{Request: plain, Pager: Cursor{Path: "next", Member: "after"}}, want: "it is not in a JSON object"},
		{
			name: "cursor into an object that does not exist", l: Listing{Request: post, Pager: Cursor{Path: "next", Member: "variables.after"}},
			want: "the member variables.after of the body: there is no object variables",
		},
		{
			name: "cursor into a form",
			l:    Listing{Request: Request{Path: "/list", Body: []byte("a=b"), ContentType: "application/x-www-form-urlencoded"}, Pager: Cursor{Path: "next", Member: "after"}},
			want: "a member needs a JSON object",
		},
		{name: "next address without a path", l: Listing{Request: plain, Pager: NextURL{}}, want: "a NextURL needs the Path of the address"},
		{name: "page without a first", l: Listing{Request: plain, Pager: PageNumber{Param: "page"}}, want: `the parameter page of the first request must be a number, it is ""`},
		{
			name: "page in the body, without a first", l: Listing{Request: post, Pager: PageNumber{Member: "text"}},
			want: `the member text of the body of the first request must be a number, it is "x"`,
		},
		{
			name: "moving pages to the total",
			l:    Listing{Request: post, Pager: PageNumber{Member: "page.number", Key: bodyKey}, Stop: AtTotal, Total: "total"},
			want: "a PageNumber with Key cannot end AtTotal",
		},
		{name: "offset that is no number", l: Listing{Request: post, Pager: Offset{Member: "text"}}, want: "must be a number"},
		{name: "range without an end", l: Listing{Request: post, Pager: Offset{Member: "page.number", End: "page.end"}}, want: "the member page.end of the body of the first request must be a number"},
		{name: "keyset without a key", l: Listing{Request: plain, Pager: Keyset{Param: "after"}}, want: "a Keyset needs a Key"},
		{name: "keyset without a place", l: Listing{Request: plain, Pager: Keyset{Key: bodyKey}}, want: "neither a parameter nor a member"},
		{name: "keyset to the total", l: Listing{Request: plain, Pager: Keyset{Param: "after", Key: bodyKey}, Stop: AtTotal, Total: "total"}, want: "a Keyset cannot end AtTotal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.l.Shape = Shape{Records: "data"}
			_, n, requests, err := walkServer(t, newScript(respond(200, `{"data":[{"id":1}]}`)), tc.l)
			assertError(t, err, "/list: this listing cannot be read: ", tc.want)
			if n != 0 || len(requests) != 0 {
				t.Errorf("%d records, requests %q", n, requests)
			}
		})
	}
}

// TestStopRules: each rule ends a listing by each pager.
func TestStopRules(t *testing.T) {
	pagers := []struct {
		name  string
		pager Pager
	}{
		{name: "Link", pager: Link{}},
		{name: "NextURL", pager: NextURL{Path: "link"}},
		{name: "Cursor", pager: Cursor{Path: "token", Param: "page"}},
		{name: "PageNumber", pager: PageNumber{Param: "page"}},
		{name: "Offset", pager: Offset{Param: "page"}},
		{name: "Keyset", pager: Keyset{Param: "page", Key: bodyKey, Numeric: true}},
		{name: "a vendor's own", pager: ownPager{}},
	}
	// The server always names a next page. Its pages have the records 1 and 2, and
	// 3 and 4; those after them are empty. The flags say that the third page is the last one.
	server := func(w http.ResponseWriter, n int) {
		records := ""
		if n < 3 {
			records = recordsOf(2*n-1, 2*n+1)
		}
		w.Header().Set("Link", fmt.Sprintf(`</list?page=%d>; rel="next"`, 100+n))
		w.Header().Set("X-Total", "4")
		fmt.Fprintf(w, `{"data":[%s],"link":"/list?page=%d","token":"%d","total":4,"more":%v,"info":{"last":%v}}`, records, 100+n, 100+n, n < 3, n == 3)
	}
	for _, p := range pagers {
		for _, tc := range []struct {
			name        string
			stop        Stop
			total       string
			more, last  string
			wantPages   int
			notByKeyset bool
		}{
			{name: "at an empty page", stop: AtEmpty, wantPages: 3},
			{name: "at the total", stop: AtTotal, total: "total", wantPages: 2, notByKeyset: true},
			{name: "at the total of a header", stop: AtTotal, total: HeaderPath("X-Total"), wantPages: 2, notByKeyset: true},
			{name: "at the first of two", stop: AtTotal | AtEmpty, total: "total", wantPages: 2, notByKeyset: true},
			{name: "by a flag for more", more: "more", wantPages: 3},
			{name: "by a flag for the last", last: "info.last", wantPages: 3},
		} {
			if _, keyset := p.pager.(Keyset); keyset && tc.notByKeyset {
				continue // TestRefusedListings
			}
			t.Run(p.name+" "+tc.name, func(t *testing.T) {
				var pages int
				h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { pages++; server(w, pages) })
				got, n, _, err := walkServer(t, h, Listing{
					Request: Request{Path: "/list?page=1"}, Shape: Shape{Records: "data"}, Pager: p.pager,
					Stop: tc.stop, Total: tc.total, More: tc.more, Last: tc.last,
				})
				if err != nil || n != 4 || got != recordsOf(1, 5) || pages != tc.wantPages {
					t.Errorf("%d records %s in %d pages, want 4 in %d: %v", n, got, pages, tc.wantPages, err)
				}
			})
		}
	}
}

// ownPager is the Pager of a vendor's own package. It reads the next page from
// another member for every other page.
type ownPager struct{}

func (ownPager) NextPage(p Page) (Request, bool, error) {
	if p.Number%2 == 0 {
		next, err := p.Request.Follow(p.Envelope.Text("link"))
		return next, err == nil, err
	}
	return p.Request.WithParam("page", p.Envelope.Text("token")), true, nil
}

func TestFlagsThatContradict(t *testing.T) {
	for _, tc := range []struct {
		name, body, more, last, want string
	}{
		{name: "more without a cursor", body: `{"data":[{"id":1}],"more":true}`, more: "more", want: "the member more is true, but the response does not say where the next page is"},
		{name: "not the last, without a cursor", body: `{"data":[{"id":1}],"last":false}`, last: "last", want: "the member last is false, but the response does not say where"},
		{name: "missing", body: `{"data":[{"id":1}],"next":"a"}`, more: "more", want: "the member more is missing"},
		{name: "no flag", body: `{"data":[{"id":1}],"next":"a","more":"yes"}`, more: "more", want: `the member more is "yes", want true or false`},
		{name: "an empty page that leads to itself", body: `{"data":[],"next":"a","more":true}`, more: "more", want: "leads back to a page that was already read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, _, err := walkServer(t, newScript(respond(200, tc.body)), Listing{
				Request: Request{Path: "/list?after=a"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"}, More: tc.more, Last: tc.last,
			})
			assertError(t, err, "incomplete: ", tc.want)
		})
	}
}

// TestDeclaredPages: the number of pages that a vendor declares ends a listing
// by page number, from whichever number it starts.
func TestDeclaredPages(t *testing.T) {
	for _, first := range []int{0, 1} {
		var pages int
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if at := r.URL.Query().Get("page"); at != strconv.Itoa(first+pages) {
				t.Errorf("page %s was requested, want %d", at, first+pages)
			}
			pages++
			fmt.Fprintf(w, `{"data":[{"id":%d}],"pages":3}`, pages)
		})
		_, n, _, err := walkServer(t, h, Listing{
			Request: Request{Path: "/list?page=" + strconv.Itoa(first)}, Shape: Shape{Records: "data"}, Pager: PageNumber{Param: "page", Pages: "pages"},
		})
		if err != nil || n != 3 || pages != 3 {
			t.Errorf("from page %d: %d records, %d pages, %v", first, n, pages, err)
		}
	}
	_, _, _, err := walkServer(t, newScript(respond(200, `{"data":[]}`)), Listing{
		Request: Request{Path: "/list?page=1"}, Shape: Shape{Records: "data"}, Pager: PageNumber{Param: "page", Pages: "pages"},
	})
	assertError(t, err, "incomplete: next page: the member pages is missing")
}

// TestTotalInHeader: a total in a header is checked like one in the body.
func TestTotalInHeader(t *testing.T) {
	page := respond(200, `[{"id":1},{"id":2}]`, "X-Total-Count", "3")
	_, _, _, err := walkServer(t, page, Listing{Request: Request{Path: "/list"}, Pager: Link{}, Total: HeaderPath("X-Total-Count")})
	assertError(t, err, "incomplete: received 2 of 3 declared records")
}

// TestCursorInHeader: a cursor in a header also continues a bare array.
func TestCursorInHeader(t *testing.T) {
	got, _, requests, err := walkServer(t, newScript(respond(200, `[{"id":1}]`, "X-Next-Page", "2"), respond(200, `[{"id":2}]`, "X-Next-Page", "")), Listing{
		Request: Request{Path: "/list"}, Pager: Cursor{Path: HeaderPath("X-Next-Page"), Param: "page"},
	})
	if err != nil || got != recordsOf(1, 3) || !slices.Equal(requests, []string{"/list", "/list?page=2"}) {
		t.Errorf("%s, requests %q: %v", got, requests, err)
	}
}

// readBodies returns a handler that responds with the steps, and the bodies of its requests.
func readBodies(steps ...string) (http.Handler, *[]string) {
	bodies := new([]string)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		step := steps[min(len(*bodies), len(steps)-1)]
		*bodies = append(*bodies, string(body))
		_, _ = io.WriteString(w, step)
	}), bodies
}

// TestPositionInBody: only the position in the body changes from page to page.
func TestPositionInBody(t *testing.T) {
	const template = `{ "query" : {"text": "a.b \u00e9", "from":0,"to":2}, "page":7,"other":[1, 2] }`
	for _, tc := range []struct {
		name   string
		pager  Pager
		steps  []string
		bodies []string
	}{
		{
			name: "cursor, text, a new member", pager: Cursor{Path: "next", Member: "query.after"},
			steps:  []string{`{"data":[{"id":1}],"next":"x\"\u00e9/"}`, `{"data":[{"id":2}]}`},
			bodies: []string{template, `{ "query" : {"text": "a.b \u00e9", "from":0,"to":2,"after":"x\"\u00e9/"}, "page":7,"other":[1, 2] }`},
		},
		{
			name: "cursor, a number", pager: Cursor{Path: "next", Member: "page"},
			steps:  []string{`{"data":[{"id":1}],"next":12345678901234567890}`, `{"data":[{"id":2}],"next":null}`},
			bodies: []string{template, `{ "query" : {"text": "a.b \u00e9", "from":0,"to":2}, "page":12345678901234567890,"other":[1, 2] }`},
		},
		{
			name: "offset", pager: Offset{Member: "query.from"},
			steps:  []string{`{"data":[{"id":1},{"id":2}]}`, `{"data":[]}`},
			bodies: []string{template, `{ "query" : {"text": "a.b \u00e9", "from":2,"to":2}, "page":7,"other":[1, 2] }`},
		},
		{
			name: "range", pager: Offset{Member: "query.from", End: "query.to"},
			steps:  []string{`{"data":[{"id":1},{"id":2}]}`, `{"data":[]}`},
			bodies: []string{template, `{ "query" : {"text": "a.b \u00e9", "from":2,"to":4}, "page":7,"other":[1, 2] }`},
		},
		{
			name: "page number", pager: PageNumber{Member: "page"},
			steps:  []string{`{"data":[{"id":1},{"id":2}]}`, `{"data":[]}`},
			bodies: []string{template, `{ "query" : {"text": "a.b \u00e9", "from":0,"to":2}, "page":8,"other":[1, 2] }`},
		},
		{
			name: "keyset", pager: Keyset{Member: "query.above", Key: bodyKey},
			steps:  []string{`{"data":[{"id":"a"},{"id":"b"}]}`, `{"data":[]}`},
			bodies: []string{template, `{ "query" : {"text": "a.b \u00e9", "from":0,"to":2,"above":"b"}, "page":7,"other":[1, 2] }`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, bodies := readBodies(tc.steps...)
			request := Request{Method: "POST", Path: "/search", Body: []byte(template)}
			if _, _, _, err := walkServer(t, h, Listing{Request: request, Shape: Shape{Records: "data"}, Pager: tc.pager}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(*bodies, tc.bodies) {
				t.Errorf("bodies %q\nwant   %q", *bodies, tc.bodies)
			}
			if string(request.Body) != template {
				t.Error("the listing's own body was changed")
			}
		})
	}
}

func TestSizeInBody(t *testing.T) {
	h, bodies := readBodies(`{"data":[]}`)
	c := startServer(t, h)
	size := &Size{Member: "page.size", First: 250, Least: 1, Most: 500}
	_, err := c.Fetch(context.Background(), Request{Method: "POST", Path: "/search", Body: []byte(`{"page":{}}`), Size: size}, Shape{Records: "data"}, &MemoryOutput{}, nil)
	if err != nil || !slices.Equal(*bodies, []string{`{"page":{"size":250}}`}) {
		t.Errorf("bodies %q: %v", *bodies, err)
	}
	_, err = c.Fetch(context.Background(), Request{Method: "POST", Path: "/search", Size: size}, Shape{Records: "data"}, &MemoryOutput{}, nil)
	assertError(t, err, "the member page.size of the body: it is not in a JSON object")
}

func TestKeyset(t *testing.T) {
	page := func(ids ...string) string {
		text := ""
		for i, id := range ids {
			if i > 0 {
				text += ","
			}
			text += `{"id":` + id + `}`
		}
		return `{"data":[` + text + `]}`
	}
	condition := func(last string) string { return "id>" + last }
	for _, tc := range []struct {
		name     string
		keyset   Keyset
		steps    []string
		requests []string
		want     string
	}{
		{
			name: "text", steps: []string{page(`"a"`, `"b"`), page(`"ba"`), page()},
			requests: []string{"/list", "/list?above=b", "/list?above=ba"},
		},
		{
			name: "numbers", keyset: Keyset{Numeric: true}, steps: []string{page("8", "9"), page(`"010"`), page()},
			requests: []string{"/list", "/list?above=9", "/list?above=10"},
		},
		{
			name: "condition", keyset: Keyset{Numeric: true, Condition: condition}, steps: []string{page("8"), page()},
			requests: []string{"/list", "/list?above=id%3E8"},
		},
		{
			name: "numbers compared as text", steps: []string{page("9", "10")}, requests: []string{"/list"},
			want: `the key "10" follows "9": the records are not in the order of their keys`,
		},
		{
			name: "not in order on a page", keyset: Keyset{Numeric: true}, steps: []string{page("9", "8")}, requests: []string{"/list"},
			want: `the key "8" follows "9"`,
		},
		{
			name: "not in order over pages", keyset: Keyset{Numeric: true}, steps: []string{page("5", "9"), page("7", "10")},
			requests: []string{"/list", "/list?above=9"}, want: `the key "7" follows "9"`,
		},
		{
			name: "includes the last", keyset: Keyset{Numeric: true}, steps: []string{page("5", "9"), page("9", "10")},
			requests: []string{"/list", "/list?above=9"}, want: `the key "9" follows "9"`,
		},
		{name: "no number", keyset: Keyset{Numeric: true}, steps: []string{page(`"x"`)}, requests: []string{"/list"}, want: `the key "x" is not a whole number`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var steps []http.HandlerFunc
			for _, body := range tc.steps {
				steps = append(steps, respond(200, body))
			}
			tc.keyset.Param, tc.keyset.Key = "above", bodyKey
			_, _, requests, err := walkServer(t, newScript(steps...), Listing{Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: tc.keyset})
			if !slices.Equal(requests, tc.requests) {
				t.Errorf("requests %q, want %q", requests, tc.requests)
			}
			if tc.want != "" {
				assertError(t, err, "incomplete: ", tc.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKeysetAfterCut: a page whose first attempt ended early is read again in
// the same order.
func TestKeysetAfterCut(t *testing.T) {
	cut := "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + `{"data":[{"id":3},{"id":4}`
	s := newScript(respond(200, `{"data":[{"id":1},{"id":2}]}`), respondRaw(cut, false), respond(200, `{"data":[{"id":3},{"id":4}]}`), respond(200, `{"data":[]}`))
	c := startServer(t, s)
	var out MemoryOutput
	n, err := c.Walk(context.Background(), Listing{
		Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Keyset{Param: "above", Key: bodyKey, Numeric: true},
	}, &out)
	if err != nil || n != 4 || recordTexts(&out) != recordsOf(1, 5) {
		t.Errorf("%d records %s: %v", n, recordTexts(&out), err)
	}
}

func TestGraphQL(t *testing.T) {
	const query = `query($after: String) { org { repos(first: 2, after: $after) { edges { node { id } } pageInfo { hasNextPage endCursor } total } } }`
	edges := func(records, info string) string {
		return `{"data":{"org":{"repos":{"edges":[` + records + `],"pageInfo":` + info + `,"total":3}}}}`
	}
	node := func(id int) string { return fmt.Sprintf(`{"cursor":"c%d","node":{"id":%d}}`, id, id) }
	for _, tc := range []struct {
		name    string
		steps   []string
		nodes   bool
		records int
		bodies  int
		want    string
	}{
		{
			name: "edges", records: 3, bodies: 2,
			steps: []string{edges(node(0)+","+node(1), `{"hasNextPage":true,"endCursor":"c1"}`), edges(node(2), `{"hasNextPage":false,"endCursor":"c2"}`)},
		},
		{
			name: "nodes, the flag before the records", nodes: true, records: 3, bodies: 2,
			steps: []string{
				`{"data":{"org":{"repos":{"pageInfo":{"endCursor":"c1","hasNextPage":true},"nodes":[{"id":0},{"id":1}]}}}}`,
				`{"data":{"org":{"repos":{"pageInfo":{"endCursor":null,"hasNextPage":false},"nodes":[{"id":2}]}}},"errors":[]}`,
			},
		},
		{
			name: "empty page in the middle", records: 3, bodies: 3,
			steps: []string{
				edges(node(0)+","+node(1), `{"hasNextPage":true,"endCursor":"c1"}`), edges("", `{"hasNextPage":true,"endCursor":"x"}`),
				edges(node(2), `{"hasNextPage":false,"endCursor":"c2"}`),
			},
		},
		{
			name: "errors beside data", bodies: 1, want: `the member errors is not empty: [{"message":"no access to one of them"}]`,
			steps: []string{`{"errors":[{"message":"no access to one of them"}],"data":{"org":{"repos":{"edges":[` + node(0) + `],"pageInfo":{"hasNextPage":false}}}}}`},
		},
		{name: "errors without data", bodies: 1, want: `the member errors is not empty`, steps: []string{`{"data":null,"errors":[{"message":"x"}]}`}},
		{name: "null without an error", bodies: 1, want: `the member data.org.repos.edges is missing`, steps: []string{`{"data":{"org":null}}`}},
		{name: "null node", bodies: 1, want: "record 1: the member node is missing", steps: []string{edges(`{"cursor":"c"}`, `{"hasNextPage":false}`)}},
		{
			name: "repeated cursor", records: 2, bodies: 2, want: "leads back to a page that was already read",
			steps: []string{edges(node(0), `{"hasNextPage":true,"endCursor":"c1"}`), edges(node(1), `{"hasNextPage":true,"endCursor":"c1"}`)},
		},
		{
			name: "repeated cursor of empty pages", records: 1, bodies: 2, want: "leads back to a page that was already read",
			steps: []string{edges(node(0), `{"hasNextPage":true,"endCursor":"c1"}`), edges("", `{"hasNextPage":true,"endCursor":"c1"}`)},
		},
		{name: "more without a cursor", bodies: 1, want: "does not say where the next page is", steps: []string{edges(node(0), `{"hasNextPage":true,"endCursor":null}`)}},
		{name: "no flag", bodies: 1, want: "the member data.org.repos.pageInfo.hasNextPage is missing", steps: []string{edges(node(0), `{"endCursor":"c"}`)}},
		{name: "fewer than the total", records: 1, bodies: 1, want: "received 1 of 3 declared records", steps: []string{edges(node(0), `{"hasNextPage":false}`)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := GraphQL{Path: "/graphql", Query: query, Variables: map[string]any{"n": 2}, Connection: "org.repos", Nodes: tc.nodes, Total: "total"}
			l, err := g.Listing()
			if err != nil {
				t.Fatal(err)
			}
			h, bodies := readBodies(tc.steps...)
			got, _, _, err := walkServer(t, h, l)
			if tc.want != "" {
				assertError(t, err, "POST /graphql", tc.want)
			} else if err != nil {
				t.Error(err)
			}
			if got != recordsOf(0, tc.records) || len(*bodies) != tc.bodies {
				t.Errorf("records %s, %d requests", got, len(*bodies))
			}
			for i, body := range *bodies {
				if after := TextOf(Member([]byte(body), "variables.after")); i > 0 && after == "" || TextOf(Member([]byte(body), "variables.n")) != "2" {
					t.Errorf("body %d is %s", i, body)
				}
			}
		})
	}
	for name, g := range map[string]GraphQL{
		"does not contain $cursor":  {Query: query, Connection: "x", After: "cursor"},
		"does not contain pageInfo": {Query: "query($after: String) { x }", Connection: "x"},
		"has no Connection":         {Query: query},
		"unsupported type":          {Query: query, Connection: "x", Variables: map[string]any{"a": make(chan int)}},
	} {
		_, err := g.Listing()
		assertError(t, err, "GraphQL query", name)
	}
}

func TestRequiredFlags(t *testing.T) {
	shape := Shape{Records: "data", Errors: []string{"errors"}, Require: map[string]string{"success": "true", "info.code": "0"}, Message: "message"}
	for _, tc := range []struct{ name, body, want string }{
		{name: "as required", body: `{"success":true,"info":{"code":0},"data":[]}`},
		{name: "after the records", body: `{"data":[],"info":{"code":0},"success": true }`},
		{name: "false", body: `{"success":false,"info":{"code":0},"data":[],"message":"no such\nzone"}`, want: "the member success is false, want true: no such zone"},
		{name: "missing", body: `{"success":true,"data":[]}`, want: "the member info.code is missing, want 0"},
		{name: "text", body: `{"success":"true","info":{"code":0},"data":[]}`, want: `the member success is "true", want true`},
		{name: "another number", body: `{"success":true,"info":{"code":146},"data":[]}`, want: "the member info.code is 146, want 0"},
		{name: "errors first", body: `{"success":false,"errors":[7],"message":"x"}`, want: "the member errors is not empty: [7]: x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, _, err := walkServer(t, respond(200, tc.body), Listing{Request: Request{Path: "/list"}, Shape: shape, Pager: Link{}})
			if tc.want != "" {
				assertError(t, err, tc.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStandardRateLimit: the headers in the forms of all versions of the draft.
func TestStandardRateLimit(t *testing.T) {
	second := time.Second
	for _, tc := range []struct {
		name    string
		headers map[string][]string
		reserve float64
		pause   time.Duration
		want    time.Duration // of Quota; 0 for none
		retry   time.Duration // of Retry; 0 for none
	}{
		{name: "none", headers: map[string][]string{}},
		{name: "left", headers: map[string][]string{"Ratelimit": {`"default";r=50;t=30`}, "Ratelimit-Policy": {`"default";q=100;w=60`}}},
		{name: "used up", headers: map[string][]string{"Ratelimit": {`"default";r=0;t=30`}}, want: 30 * second, retry: 30 * second},
		{
			name: "below the reserve", headers: map[string][]string{"Ratelimit": {`"default";r=5;t=30`}, "Ratelimit-Policy": {`"other";q=10;w=1, "default";q=100;w=60`}},
			reserve: 0.1, want: 30 * second,
		},
		{name: "below the reserve of an unknown limit", headers: map[string][]string{"Ratelimit": {`"default";r=5;t=30`}}, reserve: 0.1},
		{
			name: "the longest of several", headers: map[string][]string{"Ratelimit": {`"burst";r=0;t=3,"daily";r=0;t=50`, `"third";r=9;t=55`}},
			want: 50 * second, retry: 50 * second,
		},
		{
			name: "bounded", headers: map[string][]string{"Ratelimit": {`"daily";r=0;t=50000`}}, want: time.Minute, retry: 50000 * second,
		},
		{name: "no reset", headers: map[string][]string{"Ratelimit": {`"default";r=0`}}, pause: 4 * second, want: 4 * second},
		{
			name: "bytes", headers: map[string][]string{"Ratelimit": {`"size";r=0;t=30`}, "Ratelimit-Policy": {`"size";q=100;qu="content-bytes";w=60`}},
		},
		{
			name: "requests by name", headers: map[string][]string{"Ratelimit": {`"n";r=0;t=30`}, "Ratelimit-Policy": {`"n";q=100;qu="requests";w=60`}},
			want: 30 * second, retry: 30 * second,
		},
		{name: "version 7", headers: map[string][]string{"Ratelimit": {"limit=100, remaining=0, reset=7"}}, want: 7 * second, retry: 7 * second},
		{name: "version 7, left", headers: map[string][]string{"Ratelimit": {"limit=100, remaining=50, reset=7"}}},
		{
			name:    "three headers",
			headers: map[string][]string{"Ratelimit-Limit": {"100, 100;w=10"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"9"}}, want: 9 * second, retry: 9 * second,
		},
		{name: "three headers, left", headers: map[string][]string{"Ratelimit-Limit": {"100"}, "Ratelimit-Remaining": {"50"}, "Ratelimit-Reset": {"9"}}},
		{name: "three headers, limit of zero", headers: map[string][]string{"Ratelimit-Limit": {"0"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"9"}}},
		{name: "nonsense", headers: map[string][]string{"Ratelimit": {"\x7f?;;"}}},
		{name: "nonsense policy", headers: map[string][]string{"Ratelimit": {`"a";r=0;t=2`}, "Ratelimit-Policy": {"?!"}}, want: 2 * second, retry: 2 * second},
		{name: "negative", headers: map[string][]string{"Ratelimit": {`"a";r=-1;t=-5`}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := Quota{Standard: true, Reserve: tc.reserve, Pause: tc.pause}
			if got, ok := q.quotaWait(tc.headers, time.Now()); got != tc.want && ok || ok != (tc.want > 0) {
				t.Errorf("quota: %v %v, want %v", got, ok, tc.want)
			}
			r := Retry{WaitHeaders: []string{"Retry-After", "RateLimit"}}
			if got, ok := r.requestedWait(tc.headers, time.Now()); got != tc.retry || ok != (tc.retry > 0) {
				t.Errorf("retry: %v %v, want %v", got, ok, tc.retry)
			}
		})
	}
	both := http.Header{"Retry-After": {"1"}, "Ratelimit": {`"default";r=0;t=30`}}
	if got, _ := (Retry{WaitHeaders: []string{"Retry-After", "RateLimit"}}).requestedWait(both, time.Now()); got != second {
		t.Errorf("Retry-After has precedence: %v", got)
	}
}
