package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
)

// rackServer is a vendor with racks that have books.
type rackServer struct {
	mu       sync.Mutex
	racks    []string
	books    map[string]http.HandlerFunc // of a rack; two books when missing
	single   map[string]int              // status of the request for one rack
	requests map[string]int
}

func (s *rackServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests[r.URL.Path]++
	racks := slices.Clone(s.racks)
	s.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) == 1:
		var all []string
		for _, id := range racks {
			all = append(all, fmt.Sprintf(`{"id":%q,"name":"rack %s","floor":{"n": 1.50}}`, id, id))
		}
		respond(200, "["+strings.Join(all, ",")+"]")(w, r)
	case len(parts) == 2:
		status := 200
		if !slices.Contains(racks, parts[1]) {
			status = 404
		}
		if s.single[parts[1]] != 0 {
			status = s.single[parts[1]]
		}
		respond(status, "{}")(w, r)
	case s.books[parts[1]] != nil:
		s.books[parts[1]](w, r)
	default:
		respond(200, fmt.Sprintf(`[{"book":"%s-1"},{"book":"%s-2", "_rack":"own"}]`, parts[1], parts[1]))(w, r)
	}
}

// remove removes a rack.
func (s *rackServer) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.racks = slices.DeleteFunc(s.racks, func(rack string) bool { return rack == id })
}

// notFoundTimes responds with 404 to the first n requests, and then with one book.
func notFoundTimes(n int) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n--
		found := n < 0
		mu.Unlock()
		if found {
			respond(200, `[{"book":"late"}]`)(w, r)
			return
		}
		respond(404, "{}")(w, r)
	}
}

// newBooks returns the children of the server's racks.
func newBooks(c *Client, change func(*ParentList, *Children)) Children {
	list := &ParentList{
		Noun: "a rack", LogField: "rack", Parallel: 3, SkipSetting: "RACK_SKIP", Log: zap.NewNop(),
		List: func(ctx context.Context, out collector.Output) error {
			_, err := c.Fetch(ctx, Request{Path: "/racks"}, Shape{}, out, nil)
			return err
		},
		Find: func(ctx context.Context, p Parent) error {
			_, err := c.Get(ctx, Request{Path: "/racks/" + p.ID})
			return err
		},
		Parse: func(record []byte) (Parent, error) {
			return Parent{ID: TextOf(Member(record, "id")), Name: TextOf(Member(record, "name")), Record: slices.Clone(record)}, nil
		},
	}
	books := Children{
		Parents: list, Stream: "books",
		Members: []ParentMember{{Name: "_rack"}, {Name: "_floor", From: "floor"}, {Name: "_none", From: "absent"}},
		Read: func(ctx context.Context, p Parent, out collector.Output) (int64, error) {
			e, err := c.Fetch(ctx, Request{Path: "/racks/" + p.ID + "/books"}, Shape{}, out, nil)
			if err != nil {
				return 0, err
			}
			return int64(e.Records), nil
		},
	}
	if change != nil {
		change(list, &books)
	}
	return books
}

// booksOf returns the records of the two books of a rack.
func booksOf(rack string) []string {
	return []string{
		`{"book":"` + rack + `-1","_rack":"` + rack + `","_floor":{"n": 1.50},"_none":null}`,
		`{"book":"` + rack + `-2", "_rack":"own","_floor":{"n": 1.50},"_none":null}`,
	}
}

func TestChildren(t *testing.T) {
	const goneDoubt, skipDoubt = "a rack was deleted while it was read, and was skipped", "a rack that the token may not read was skipped"
	allBooks := slices.Concat(booksOf("a"), booksOf("b"), booksOf("c"))
	late := `{"book":"late","_rack":"b","_floor":{"n": 1.50},"_none":null}`
	forbidden := respond(403, "{}")
	for _, tc := range []struct {
		name       string
		books      func(s *rackServer) map[string]http.HandlerFunc
		single     map[string]int
		change     func(*ParentList, *Children)
		want       []string
		wantDoubts []collector.Doubt
		wantClass  error
		wantTexts  []string
		requests   map[string]int
	}{
		{
			name: "all", want: allBooks,
			requests: map[string]int{"/racks": 1, "/racks/a/books": 1, "/racks/b/books": 1, "/racks/c/books": 1},
		},
		{
			name: "gone",
			books: func(s *rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"b": func(w http.ResponseWriter, r *http.Request) {
					s.remove("b")
					respond(404, "{}")(w, r)
				}}
			},
			want: slices.Concat(booksOf("a"), booksOf("c")), wantDoubts: []collector.Doubt{{Text: goneDoubt, Count: 1}},
			requests: map[string]int{"/racks": 2, "/racks/a/books": 1, "/racks/b": 1, "/racks/b/books": 1, "/racks/c/books": 1},
		},
		{
			name: "not found, but listed",
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"b": notFoundTimes(1)}
			},
			single:   map[string]int{"b": 404},
			want:     slices.Concat(booksOf("a"), []string{late}, booksOf("c")),
			requests: map[string]int{"/racks": 2, "/racks/a/books": 1, "/racks/b": 1, "/racks/b/books": 2, "/racks/c/books": 1},
		},
		{
			name: "not found, and no request for one rack",
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"b": notFoundTimes(1)}
			},
			change:   func(l *ParentList, _ *Children) { l.Find = nil },
			want:     slices.Concat(booksOf("a"), []string{late}, booksOf("c")),
			requests: map[string]int{"/racks": 2, "/racks/a/books": 1, "/racks/b/books": 2, "/racks/c/books": 1},
		},
		{
			name: "twice not found, although it exists",
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"b": notFoundTimes(9)}
			},
			wantClass: collector.ErrForbidden, wantTexts: []string{`1 of 3 racks ("rack b")`, "not found, although the rack exists", "RACK_SKIP=true"},
		},
		{
			name: "not found, and named by a setting",
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"b": notFoundTimes(9)}
			},
			single:    map[string]int{"b": 404},
			change:    func(l *ParentList, _ *Children) { l.Setting = "RACKS" },
			wantClass: collector.ErrForbidden,
			wantTexts: []string{`1 of 3 racks ("rack b")`, "404 Not Found: {}: check RACKS: the rack does not exist, or the credentials may not see it"},
		},
		{
			name: "not found, named by a setting, and exists",
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"b": notFoundTimes(9)}
			},
			change:    func(l *ParentList, _ *Children) { l.Setting = "RACKS" },
			wantClass: collector.ErrForbidden, wantTexts: []string{"not found, although the rack exists"},
		},
		{
			name: "forbidden", wantClass: collector.ErrForbidden, wantTexts: []string{`2 of 3 racks ("rack a", "rack c")`, "RACK_SKIP=true"},
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"a": forbidden, "c": forbidden}
			},
		},
		{
			name: "forbidden and skipped",
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"a": forbidden, "c": notFoundTimes(9)}
			},
			change: func(l *ParentList, _ *Children) { l.SkipForbidden = true },
			want:   booksOf("b"), wantDoubts: []collector.Doubt{{Text: skipDoubt, Count: 2}},
		},
		{
			name: "all are forbidden", wantClass: collector.ErrForbidden, wantTexts: []string{"all 3 racks"},
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"a": forbidden, "b": forbidden, "c": forbidden}
			},
			change: func(l *ParentList, _ *Children) { l.SkipForbidden = true },
		},
		{
			name: "absent by the vendor's words",
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"a": respond(403, `{"message":"books are disabled"}`)}
			},
			change: func(_ *ParentList, c *Children) {
				c.Absent = func(err error) string {
					if HasStatus(err, 403) && strings.Contains(err.Error(), "books are disabled") {
						return "a rack without books"
					}
					return ""
				}
			},
			want: slices.Concat(booksOf("b"), booksOf("c")), wantDoubts: []collector.Doubt{{Text: "a rack without books", Count: 1}},
		},
		{
			name: "another error", wantTexts: []string{`rack "rack a"`, "400"},
			books: func(*rackServer) map[string]http.HandlerFunc {
				return map[string]http.HandlerFunc{"a": respond(400, "{}")}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &rackServer{racks: []string{"a", "b", "c", "a"}, single: tc.single, requests: map[string]int{}}
				if tc.books != nil {
					s.books = tc.books(s)
				}
				c, stop := startInMemory(t, s)
				defer stop()
				books := newBooks(c, tc.change)
				stats := &collector.Stats{}
				var out MemoryOutput
				err := books.ExtractChildren(collector.WithStats(t.Context(), stats), &out)
				if len(tc.wantTexts) > 0 {
					for _, text := range tc.wantTexts {
						if err == nil || !strings.Contains(err.Error(), text) {
							t.Errorf("error %v, want %q", err, text)
						}
					}
					if tc.wantClass != nil && !errors.Is(err, tc.wantClass) {
						t.Errorf("error %v, want %v", err, tc.wantClass)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, record := range out.Records() {
					got = append(got, string(record))
				}
				slices.Sort(got)
				want := slices.Sorted(slices.Values(tc.want))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tc.wantDoubts, stats.Doubts()); diff != "" {
					t.Errorf("doubts (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tc.requests, s.requests); tc.requests != nil && diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestChildrenAreWholeOrAbsent: an error after the first page leaves nothing of the
// parent, and is no reason to do without it.
func TestChildrenAreWholeOrAbsent(t *testing.T) {
	for status, want := range map[int]string{403: "a page is refused", 404: "a page is not found, although the rack is"} {
		synctest.Test(t, func(t *testing.T) {
			s := &rackServer{racks: []string{"a", "b"}, requests: map[string]int{}}
			c, stop := startInMemory(t, s)
			defer stop()
			books := newBooks(c, func(l *ParentList, b *Children) {
				l.SkipForbidden, l.Parallel = true, 1
				b.Absent = func(error) string { return "accepted" }
				first := b.Read
				b.Read = func(ctx context.Context, p Parent, out collector.Output) (int64, error) {
					records, err := first(ctx, p, out)
					if err != nil || p.ID != "b" {
						return records, err
					}
					return records, c.Do(ctx, Request{Path: "/racks/b/more"}, nil)
				}
			})
			s.books = map[string]http.HandlerFunc{"b": func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/more") {
					respond(status, "{}")(w, r)
					return
				}
				respond(200, `[{"book":"b-1"}]`)(w, r)
			}}
			var out MemoryOutput
			err := books.ExtractChildren(t.Context(), &out)
			if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
			if n := len(out.Records()); n != 2 {
				t.Errorf("%d records, want those of the first rack alone", n)
			}
		})
	}
}

// TestParentsAreShared: streams that run at the same time read the list once, later
// ones read it again, and all of them have the doubts about it.
func TestParentsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &rackServer{racks: []string{"a", "b"}, requests: map[string]int{}, books: map[string]http.HandlerFunc{}}
		c, stop := startInMemory(t, s)
		defer stop()
		s.books["b"] = respond(403, "{}")
		books := newBooks(c, func(l *ParentList, _ *Children) { l.SkipForbidden = true })
		books.Members = nil
		pages := Children{
			Stream: "pages",
			Parents: &ParentList{
				Noun: "a book", LogField: "book", Parallel: 2, Log: zap.NewNop(), List: books.ExtractChildren,
				Parse: func(record []byte) (Parent, error) {
					id := TextOf(Member(record, "book"))
					return Parent{ID: id, Name: id}, nil
				},
			},
			Read: func(_ context.Context, p Parent, out collector.Output) (int64, error) {
				batch := out.NewBatch()
				time.Sleep(time.Second)
				if err := batch.Append([]byte(`{"page":"` + p.ID + `"}`)); err != nil {
					return 0, err
				}
				return 1, batch.Commit()
			},
		}
		for run := 1; run <= 2; run++ {
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					stats, out := &collector.Stats{}, &MemoryOutput{}
					if err := pages.ExtractChildren(collector.WithStats(t.Context(), stats), out); err != nil {
						t.Error(err)
					}
					want := []collector.Doubt{{Text: "a rack that the token may not read was skipped", Count: 1}}
					if diff := cmp.Diff(want, stats.Doubts()); diff != "" || len(out.Records()) != 2 {
						t.Errorf("%d records, doubts (-want +got):\n%s", len(out.Records()), diff)
					}
				})
			}
			all.Wait()
			if n := s.requests["/racks"]; n != run {
				t.Errorf("run %d: the list was requested %d times", run, n)
			}
		}
	})
}

func TestCheckChildren(t *testing.T) {
	for _, tc := range []struct {
		name     string
		skip     bool
		books    map[string]http.HandlerFunc
		wantText string // "" for success
		wantLast string // the last rack that is requested
	}{
		{name: "the first", wantLast: "a"},
		{name: "the first is forbidden", books: map[string]http.HandlerFunc{"a": respond(403, "{}")}, wantText: `rack "rack a"`, wantLast: "a"},
		{name: "the first is skipped", skip: true, books: map[string]http.HandlerFunc{"a": respond(403, "{}")}, wantLast: "b"},
		{name: "the first is not found", books: map[string]http.HandlerFunc{"a": notFoundTimes(9)}, wantText: "permission missing", wantLast: "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &rackServer{racks: []string{"a", "b"}, requests: map[string]int{}, books: tc.books}
				c, stop := startInMemory(t, s)
				defer stop()
				err := newBooks(c, func(l *ParentList, _ *Children) { l.SkipForbidden = tc.skip }).CheckChildren(t.Context())
				if (err == nil) != (tc.wantText == "") || err != nil && !strings.Contains(err.Error(), tc.wantText) {
					t.Errorf("error %v, want %q", err, tc.wantText)
				}
				if requested := s.requests["/racks/b/books"] > 0; requested != (tc.wantLast == "b") {
					t.Errorf("requests %v, want the last one for %s", s.requests, tc.wantLast)
				}
			})
		})
	}
}
