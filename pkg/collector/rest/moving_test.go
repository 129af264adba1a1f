package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/collector"
)

// movingServer serves the records 0 to total-1 in numbered pages of four.
// change is called before each request with its number, from 1, and returns the
// records from then on.
func movingServer(total int, change func(request int, records []int) []int) http.HandlerFunc {
	records := make([]int, total)
	for i := range records {
		records[i] = i
	}
	request := 0
	return func(w http.ResponseWriter, r *http.Request) {
		request++
		records = change(request, records)
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		from := min((page-1)*4, len(records))
		var texts []string
		for _, id := range records[from:min(from+4, len(records))] {
			texts = append(texts, recordsOf(id, id+1))
		}
		respond(200, "["+strings.Join(texts, ",")+"]")(w, r)
	}
}

// idOf returns the id of a test record.
func idOf(record []byte) (string, error) {
	if id := TextOf(Member(record, "id")); id != "" {
		return id, nil
	}
	return "", errors.New("a record has no id")
}

// TestPageNumbersThatMove: records that are removed while a listing is read by
// page number move others to pages that were already read. None of them is
// lost, and none is stored twice.
func TestPageNumbersThatMove(t *testing.T) {
	remove := func(at, from, to int) func(int, []int) []int {
		return func(request int, records []int) []int {
			if request == at {
				return slices.Delete(slices.Clone(records), from, to)
			}
			return records
		}
	}
	const ordinary = "1 2 1 3 2 4 3" // page 4 is empty
	for _, tc := range []struct {
		name   string
		total  int
		change func(request int, records []int) []int
		want   string // the records in the order in which they are stored
		pages  string // the pages in the order of the requests
	}{
		{name: "nothing moves", change: remove(0, 0, 0), want: recordsOf(0, 12), pages: ordinary},
		{name: "removed before page 2", change: remove(2, 1, 2), want: recordsOf(0, 4) + "," + recordsOf(5, 9) + "," + recordsOf(4, 5) + "," + recordsOf(9, 12), pages: ordinary},
		{
			name: "removed before page 1 is read again", change: remove(3, 1, 2),
			want: recordsOf(0, 8) + "," + recordsOf(9, 12) + "," + recordsOf(8, 9), pages: ordinary,
		},
		{name: "removed before the empty page", change: remove(6, 0, 3), want: recordsOf(0, 12), pages: ordinary},
		{
			name: "three removed before page 2", change: remove(2, 0, 3),
			want: recordsOf(0, 4) + "," + recordsOf(7, 11) + "," + recordsOf(4, 7) + "," + recordsOf(11, 12), pages: ordinary,
		},
		{
			name: "a page removed before page 2", change: remove(2, 0, 4),
			want: recordsOf(0, 4) + "," + recordsOf(8, 12) + "," + recordsOf(4, 8), pages: "1 2 1 3 2",
		},
		{
			name: "a page removed before page 3", total: 20, change: remove(4, 0, 5),
			want: recordsOf(0, 8) + "," + recordsOf(13, 17) + "," + recordsOf(9, 13) + "," + recordsOf(8, 9) + "," + recordsOf(17, 20), pages: "1 2 1 3 2 1 4 3 5 4",
		},
		{
			// Page 2 then begins with a record that was read, but on page 3.
			name: "removed before page 3 and before page 2 is read again", total: 20, change: func(request int, records []int) []int {
				switch request {
				case 4:
					return records[2:]
				case 5:
					return records[4:]
				}
				return records
			},
			want: recordsOf(0, 8) + "," + recordsOf(10, 14) + "," + recordsOf(8, 10) + "," + recordsOf(18, 20) + "," + recordsOf(14, 18), pages: "1 2 1 3 2 1 4 3 2 5 4",
		},
		{name: "the last page removed before the empty page", total: 9, change: remove(6, 8, 9), want: recordsOf(0, 9), pages: "1 2 1 3 2 4 3 2"},
		{
			name: "inserted at the front", change: func(request int, records []int) []int {
				if request == 2 {
					return append([]int{100}, records...)
				}
				return records
			},
			want: recordsOf(0, 7) + "," + recordsOf(100, 101) + "," + recordsOf(7, 12), pages: "1 2 1 3 2 4 3 5 4",
		},
		{
			name: "a page inserted at the front", change: func(request int, records []int) []int {
				if request == 3 {
					return append([]int{100, 101, 102, 103, 104}, records...)
				}
				return records
			},
			want: recordsOf(0, 8) + "," + recordsOf(100, 104) + "," + recordsOf(104, 105) + "," + recordsOf(8, 12), pages: "1 2 1 3 2 4 3 5 4 6 5",
		},
		{
			name: "one removed before each request", total: 24, change: func(request int, records []int) []int {
				return records[min(1, len(records)):]
			},
			want: recordsOf(1, 5) + "," + recordsOf(6, 10) + "," + recordsOf(5, 6) + "," + recordsOf(12, 16) + "," + recordsOf(10, 12) + "," +
				recordsOf(18, 22) + "," + recordsOf(16, 18) + "," + recordsOf(22, 24),
			pages: "1 2 1 3 2 4 3 5 4",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.total == 0 {
				tc.total = 12
			}
			got, n, requests, err := walkServer(t, movingServer(tc.total, tc.change), Listing{
				Request: Request{Path: "/list?page=1"}, Pager: PageNumber{Param: "page", Key: idOf},
			})
			var pages []string
			for _, r := range requests {
				pages = append(pages, strings.TrimPrefix(r, "/list?page="))
			}
			if joined := strings.Join(pages, " "); joined != tc.pages {
				t.Errorf("requested the pages %s, want %s", joined, tc.pages)
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(strings.Count(tc.want, "id")); got != tc.want || n != want {
				t.Errorf("%d records %s, want %d: %s", n, got, want, tc.want)
			}
		})
	}
}

// TestKeysOfFailedAttempts: a page that fails in the middle leaves no keys
// behind, or its records would be missing after the next attempt.
func TestKeysOfFailedAttempts(t *testing.T) {
	cut := func(text string) http.HandlerFunc { return respond(200, text) }
	s := newScript(
		cut(`[{"id":0},{"id":1},`), respond(200, `[{"id":0},{"id":1}]`),
		cut(`[{"id":2},{"id":3},`), respond(503, ""), respond(200, `[{"id":3},{"id":2},{"id":3}]`),
		cut(`[{"id":0},{"id":4},`), respond(200, `[{"id":1},{"id":4}]`),
		respond(200, `[]`),
		respond(200, `[{"id":3}]`),
	)
	c := startServer(t, s)
	var out MemoryOutput
	var handled []string
	n, err := c.Walk(context.Background(), Listing{
		Request: Request{Path: "/list?page=1"}, Pager: PageNumber{Param: "page", Key: idOf},
		OnRecord: func(batch collector.Batch, _ *Envelope, raw []byte) error {
			handled = append(handled, TextOf(Member(raw, "id")))
			return batch.Append(raw)
		},
	}, &out)
	want := recordsOf(0, 2) + "," + recordsOf(3, 4) + "," + recordsOf(2, 3) + "," + recordsOf(4, 5)
	if err != nil || n != 5 || recordTexts(&out) != want {
		t.Errorf("%d records %s, %v, want 5: %s", n, recordTexts(&out), err, want)
	}
	if got := strings.Join(handled, " "); got != "0 1 0 1 2 3 3 2 4 4" {
		t.Errorf("handled %s", got)
	}
	s = newScript(respond(200, `[{"id":0},{"name":"x"}]`))
	_, err = startServer(t, s).Walk(context.Background(), Listing{
		Request: Request{Path: "/list?page=1"}, Pager: PageNumber{Param: "page", Key: idOf},
	}, new(MemoryOutput))
	if assertError(t, err, "GET /list: a record has no id"); len(s.requests()) != 1 {
		t.Errorf("%d requests, want 1", len(s.requests()))
	}
}

// TestDeclaredAndReceived: the smaller one of the first and the last declared
// number is required, and a difference that is accepted is a doubt.
func TestDeclaredAndReceived(t *testing.T) {
	const fewer, more = "received fewer records than declared", "received more records than declared"
	for _, tc := range []struct {
		name        string
		first, last int
		slack       float64
		received    int
		wantErr     string
		wantDoubts  []collector.Doubt
	}{
		{name: "as declared", first: 100, last: 100, received: 100},
		{name: "not declared", received: 100},
		{name: "grows, added records not received", first: 100, last: 120, received: 100},
		{name: "grows, some of them received", first: 100, last: 120, received: 110},
		{name: "grows, all of them received", first: 100, last: 120, received: 120},
		{name: "shrinks", first: 120, last: 100, received: 100},
		{name: "shrinks after all were received", first: 120, last: 100, received: 120},
		{name: "grows, one is missing", first: 100, last: 120, received: 99, wantErr: "received 99 of 100 declared records"},
		{name: "shrinks, one is missing", first: 120, last: 100, received: 99, wantErr: "received 99 of 100 declared records"},
		{name: "grows, within the slack", first: 100, last: 120, slack: 0.02, received: 98, wantDoubts: []collector.Doubt{{Text: fewer, Count: 2}}},
		{name: "grows, below the slack", first: 100, last: 120, slack: 0.02, received: 97, wantErr: "received 97 of 100 declared records"},
		{name: "more than declared", first: 100, last: 100, received: 104, wantDoubts: []collector.Doubt{{Text: more, Count: 4}}},
		{name: "more than declared last", first: 100, last: 102, slack: 0.02, received: 104, wantDoubts: []collector.Doubt{{Text: more, Count: 2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			page := func(n, m, total int, next string) http.HandlerFunc {
				return respond(200, fmt.Sprintf(`{"total":%d,"next":%s,"data":[%s]}`, total, next, recordsOf(n, m)))
			}
			c := startServer(t, newScript(page(0, 50, tc.first, `"a"`), page(50, 60, 0, `"b"`), page(60, tc.received, tc.last, "null")))
			stats := new(collector.Stats)
			core, logs := observer.New(zap.WarnLevel)
			ctx := collector.WithLog(collector.WithStats(context.Background(), stats), zap.New(core))
			_, err := c.Walk(ctx, Listing{
				Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"},
				Total: "total", Slack: tc.slack,
			}, new(MemoryOutput))
			if tc.wantErr != "" {
				assertError(t, err, "GET /list: incomplete: "+tc.wantErr)
			} else if err != nil {
				t.Error(err)
			}
			if !slices.Equal(stats.Doubts(), tc.wantDoubts) {
				t.Errorf("doubts %v, want %v", stats.Doubts(), tc.wantDoubts)
			}
			if logs.Len() != len(tc.wantDoubts) {
				t.Errorf("%d warnings, want %d", logs.Len(), len(tc.wantDoubts))
			}
			for i, entry := range logs.All() {
				fields := entry.ContextMap()
				if entry.Message != tc.wantDoubts[i].Text || fields["received"] != int64(tc.received) || fields["first_declared"] != int64(tc.first) ||
					fields["last_declared"] != int64(tc.last) || fields["request"] != "GET /list" {
					t.Errorf("logged %q %v", entry.Message, fields)
				}
			}
		})
	}
}

// TestShortListingIsReadAgain: if fewer records arrive than declared, the listing
// is read up to three times. Records of all reads count, each once.
func TestShortListingIsReadAgain(t *testing.T) {
	page := func(first, end, total int) http.HandlerFunc {
		return respond(200, fmt.Sprintf(`{"total":%d,"data":[%s]}`, total, recordsOf(first, end)))
	}
	two := func(int64) int64 { return 2 }
	for _, tc := range []struct {
		name           string
		script         *scriptedServer
		agreed         func(int64) int64
		wantRequests   int
		wantRecords    int64
		wantDifference int64
		wantErr        string
	}{
		{name: "complete", script: newScript(page(0, 3, 3)), wantRequests: 1, wantRecords: 3},
		{name: "passes", script: newScript(page(0, 2, 3), page(0, 3, 3)), wantRequests: 2, wantRecords: 3},
		{name: "each read has others", script: newScript(page(0, 2, 3), page(1, 3, 3)), wantRequests: 2, wantRecords: 3},
		{name: "total is corrected", script: newScript(page(0, 2, 3), page(0, 2, 2)), wantRequests: 2, wantRecords: 2},
		{name: "stays", script: newScript(page(0, 2, 3)), wantRequests: 3, wantRecords: 2, wantDifference: -1, wantErr: "GET /list: incomplete: received 2 of 3 declared records"},
		{name: "two reads agree", script: newScript(page(0, 2, 3)), agreed: two, wantRequests: 2, wantRecords: 2, wantDifference: -1},
		{name: "two reads agree on too few", script: newScript(page(0, 2, 5)), agreed: two, wantRequests: 3, wantRecords: 2, wantDifference: -3, wantErr: "received 2 of 5"},
		{name: "too many", script: newScript(page(0, 4, 3)), wantRequests: 1, wantRecords: 4, wantDifference: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stop := startInMemory(t, tc.script)
				defer stop()
				stats := new(collector.Stats)
				ctx := collector.WithStats(t.Context(), stats)
				var out MemoryOutput
				read, err := c.WalkComplete(ctx, Listing{
					Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: singlePage{}, Total: "total",
				}, Reread{Key: func(record []byte) (string, error) { return string(record), nil }, Agreed: tc.agreed}, &out)
				if tc.wantErr != "" {
					assertError(t, err, tc.wantErr)
				} else if err != nil {
					t.Error(err)
				}
				if n := len(tc.script.requests()); n != tc.wantRequests {
					t.Errorf("%d requests, want %d", n, tc.wantRequests)
				}
				if want := (CompleteRead{Records: tc.wantRecords, Difference: tc.wantDifference}); read != want || int64(len(out.Records())) != tc.wantRecords {
					t.Errorf("%+v and %d records, want %+v", read, len(out.Records()), want)
				}
				read.ReportDifference(ctx, "things")
				if n := int64(len(stats.Doubts())); n != min(1, max(tc.wantDifference, -tc.wantDifference)) {
					t.Errorf("doubts %v for a difference of %d", stats.Doubts(), tc.wantDifference)
				}
			})
		})
	}
}
