package rest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// onDay returns a time on day n of a period.
func onDay(n int, more time.Duration) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n).Add(more)
}

const day = 24 * time.Hour

func TestWindowsSplit(t *testing.T) {
	for _, tc := range []struct {
		name    string
		windows Windows
		want    []Window
		wantErr string
	}{
		{name: "empty period", windows: Windows{From: onDay(3, 0), To: onDay(3, 0), Longest: day}},
		{name: "reversed period", windows: Windows{From: onDay(3, 0), To: onDay(2, 0), Longest: day}},
		{
			name: "one window", windows: Windows{From: onDay(0, 0), To: onDay(1, 0), Longest: day},
			want: []Window{{onDay(0, 0), onDay(1, 0)}},
		},
		{
			name: "short last window", windows: Windows{From: onDay(0, 0), To: onDay(5, 0), Longest: 2 * day},
			want: []Window{{onDay(0, 0), onDay(2, 0)}, {onDay(2, 0), onDay(4, 0)}, {onDay(4, 0), onDay(5, 0)}},
		},
		{
			name:    "inclusive ends",
			windows: Windows{From: onDay(0, 0), To: onDay(4, time.Second), Longest: 2 * day, Inclusive: true, Resolution: time.Second},
			want: []Window{
				{onDay(0, 0), onDay(2, 0)}, {onDay(2, time.Second), onDay(4, time.Second)},
			},
		},
		{
			name:    "one instant that both ends include",
			windows: Windows{From: onDay(0, 0), To: onDay(2, time.Second), Longest: 2 * day, Inclusive: true, Resolution: time.Second},
			want:    []Window{{onDay(0, 0), onDay(2, 0)}, {onDay(2, time.Second), onDay(2, time.Second)}},
		},
		{
			name:    "overlap",
			windows: Windows{From: onDay(10, 0), To: onDay(13, 0), Longest: 2 * day, Overlap: day},
			want:    []Window{{onDay(9, 0), onDay(11, 0)}, {onDay(10, 0), onDay(12, 0)}, {onDay(11, 0), onDay(13, 0)}},
		},
		{
			name:    "cut to the resolution",
			windows: Windows{From: onDay(0, 1500*time.Microsecond), To: onDay(1, 1999*time.Microsecond), Longest: 2 * day, Resolution: time.Millisecond},
			want:    []Window{{onDay(0, time.Millisecond), onDay(1, time.Millisecond)}},
		},
		{name: "overlap of a whole window", windows: Windows{From: onDay(0, 0), To: onDay(9, 0), Longest: day, Overlap: day}, wantErr: "cannot overlap"},
	} {
		got, err := tc.windows.Split()
		if tc.wantErr != "" {
			assertError(t, err, tc.wantErr)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s: error %v, windows (-want +got):\n%s", tc.name, err, diff)
		}
	}
}

// TestWalkWindows checks that each window is read to its end, with its own pages.
func TestWalkWindows(t *testing.T) {
	s := newScript(
		respond(200, `{"total":3,"data":[{"id":1},{"id":2}]}`), respond(200, `{"total":3,"data":[{"id":3}]}`),
		respond(200, `{"total":0,"data":[]}`),
	)
	c := startServer(t, http.HandlerFunc(s.ServeHTTP))
	var out MemoryOutput
	l := WindowedListing{
		Windows: Windows{From: onDay(0, 0), To: onDay(3, 0), Longest: 2 * day},
		Listing: func(w Window) Listing {
			return Listing{
				Request: Request{Path: "/list", Query: url.Values{
					"from": {w.From.Format(time.DateOnly)}, "to": {w.To.Format(time.DateOnly)}, "start": {"0"},
				}},
				Shape: Shape{Records: "data"}, Total: "total", Pager: Offset{Param: "start"}, Stop: AtTotal,
			}
		},
	}
	records, err := c.WalkWindows(t.Context(), l, &out)
	if err != nil || records != 3 || recordTexts(&out) != recordsOf(1, 4) {
		t.Errorf("%d records, %s, error %v", records, recordTexts(&out), err)
	}
	want := []string{
		"/list?from=2026-01-01&start=0&to=2026-01-03", "/list?from=2026-01-01&start=2&to=2026-01-03",
		"/list?from=2026-01-03&start=0&to=2026-01-04",
	}
	if diff := cmp.Diff(want, s.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestWalkWindowsFails checks that the error of a window names it, and that a period that
// cannot be read is an error.
func TestWalkWindowsFails(t *testing.T) {
	c := startServer(t, respond(404, `{}`))
	l := WindowedListing{
		Windows: Windows{From: onDay(0, 0), To: onDay(1, 0), Longest: day},
		Listing: func(Window) Listing {
			return Listing{Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Link{}}
		},
	}
	_, err := c.WalkWindows(t.Context(), l, &MemoryOutput{})
	assertError(t, err, "2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z", "404")
	l.Windows.To = l.Windows.From
	_, err = c.WalkWindows(t.Context(), l, &MemoryOutput{})
	assertError(t, err, "the period of the windows is empty")
	l.Windows.To = onDay(1, 0)
	inner := l.Listing
	l.Listing = func(w Window) Listing {
		one := inner(w)
		one.Expired = func(error) bool { return strings.Contains(w.To.String(), "2026") }
		return one
	}
	_, err = c.WalkWindows(t.Context(), l, &MemoryOutput{})
	assertError(t, err, "cannot start over")
}
