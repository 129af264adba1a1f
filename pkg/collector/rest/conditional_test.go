package rest

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
)

// noteOutput is a PreviousOutput in memory, whose last-known snapshot has a note.
type noteOutput struct {
	MemoryOutput
	notes map[string]string // by selection
}

func (n *noteOutput) PreviousNote(_ context.Context, selection string) string {
	return n.notes[selection]
}

func (n *noteOutput) SetNote(selection, text string) { n.notes = map[string]string{selection: text} }

func (n *noteOutput) EachPrevious(context.Context, func([]byte) error) error { return nil }

// fetchTestFeed reads the feed of a server of handler once.
func fetchTestFeed(t *testing.T, handler http.HandlerFunc, out collector.Output) error {
	t.Helper()
	c := startServer(t, handler)
	return FetchIfChanged(t.Context(), Request{Path: "/feed"}, "all", out, func(r Request) (http.Header, error) {
		e, err := c.Fetch(t.Context(), r, Shape{Records: "data"}, out, nil)
		if err != nil {
			return nil, err
		}
		return e.Header, nil
	})
}

// TestFetchIfChanged checks the condition of each request, and what is kept of each
// response.
func TestFetchIfChanged(t *testing.T) {
	const weak, date = `W/"1-gzip"`, "Sun, 01 Mar 2026 10:00:00 GMT"
	for _, tc := range []struct {
		name        string
		note        string // of the last-known snapshot
		respond     http.HandlerFunc
		wantHeaders [2]string // If-None-Match and If-Modified-Since
		wantNote    string
		wantRecords string
		wantErr     error
		wantText    string
	}{
		{
			name: "first run", respond: respond(200, `{"data":[{"id":1}]}`, "ETag", weak, "Last-Modified", date),
			wantNote: `{"etag":"W/\"1-gzip\"","last_modified":"` + date + `"}`, wantRecords: `{"id":1}`,
		},
		{
			name: "not modified", note: Validator{ETag: weak, LastModified: date}.String(), respond: respond(304, ""),
			wantHeaders: [2]string{weak, date}, wantNote: Validator{ETag: weak, LastModified: date}.String(), wantErr: collector.ErrUnchanged,
		},
		{
			name: "not modified by date", note: Validator{LastModified: date}.String(), respond: respond(304, ""),
			wantHeaders: [2]string{"", date}, wantNote: Validator{LastModified: date}.String(), wantErr: collector.ErrUnchanged,
		},
		{
			name: "modified", note: Validator{ETag: `"1"`}.String(), respond: respond(200, `{"data":[{"id":2}]}`, "ETag", `"2"`),
			wantHeaders: [2]string{`"1"`, ""}, wantNote: `{"etag":"\"2\""}`, wantRecords: `{"id":2}`,
		},
		{
			name: "sent although not modified", note: Validator{ETag: `"1"`}.String(), respond: respond(200, `{"data":[{"id":1}]}`, "ETag", `"1"`),
			wantHeaders: [2]string{`"1"`, ""}, wantNote: `{"etag":"\"1\""}`, wantRecords: `{"id":1}`,
		},
		{
			name: "no validator any more", note: Validator{ETag: `"1"`}.String(), respond: respond(200, `{"data":[{"id":1}]}`),
			wantHeaders: [2]string{`"1"`, ""}, wantNote: "", wantRecords: `{"id":1}`,
		},
		{
			name: "not modified although not asked", respond: respond(304, ""),
			wantText: "304 Not Modified: the request had no condition",
		},
		{
			name: "note of another form", note: "2026-03-01", respond: respond(200, `{"data":[{"id":1}]}`, "ETag", `"1"`),
			wantNote: `{"etag":"\"1\""}`, wantRecords: `{"id":1}`,
		},
		{
			name: "failure", note: Validator{ETag: `"1"`}.String(), respond: respond(404, `{}`), wantHeaders: [2]string{`"1"`, ""},
			wantNote: Validator{ETag: `"1"`}.String(), wantText: "404",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := &noteOutput{notes: map[string]string{"all": tc.note}}
			var headers [2]string
			err := fetchTestFeed(t, func(w http.ResponseWriter, r *http.Request) {
				headers = [2]string{r.Header.Get("If-None-Match"), r.Header.Get("If-Modified-Since")}
				tc.respond(w, r)
			}, out)
			switch {
			case tc.wantText != "":
				assertError(t, err, tc.wantText)
			case !errors.Is(err, tc.wantErr):
				t.Errorf("error %v, want %v", err, tc.wantErr)
			}
			if errors.Is(err, collector.ErrUnchanged) != (tc.wantErr != nil) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(tc.wantHeaders, headers); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if out.notes["all"] != tc.wantNote || recordTexts(&out.MemoryOutput) != tc.wantRecords {
				t.Errorf("note %q and records %s, want %q and %s", out.notes["all"], recordTexts(&out.MemoryOutput), tc.wantNote, tc.wantRecords)
			}
		})
	}
}

// TestFetchIfChangedWithoutNotes checks that an Output that knows no last-known snapshot
// receives all records.
func TestFetchIfChangedWithoutNotes(t *testing.T) {
	var out MemoryOutput
	err := fetchTestFeed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			t.Error("the request is conditional")
		}
		respond(200, `{"data":[{"id":1}]}`, "ETag", `"1"`)(w, r)
	}, &out)
	if err != nil || recordTexts(&out) != `{"id":1}` {
		t.Errorf("records %s, error %v", recordTexts(&out), err)
	}
}

// TestConditionIsRepeated checks that a request that is repeated has its condition again.
func TestConditionIsRepeated(t *testing.T) {
	out := &noteOutput{notes: map[string]string{"all": Validator{ETag: `"1"`}.String()}}
	attempts := 0
	err := fetchTestFeed(t, func(w http.ResponseWriter, r *http.Request) {
		if attempts++; attempts == 1 {
			respond(503, "")(w, r)
			return
		}
		if r.Header.Get("If-None-Match") != `"1"` {
			t.Error("the second attempt has no condition")
		}
		respond(304, "")(w, r)
	}, out)
	if !errors.Is(err, collector.ErrUnchanged) || attempts != 2 {
		t.Errorf("error %v after %d attempts", err, attempts)
	}
}
