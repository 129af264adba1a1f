package rest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
)

// spool is an Output that writes to a snapshot.
type spool struct{ *snapshot.Writer }

func (s spool) NewBatch() collector.Batch { return s.Writer.NewBatch() }

// TestBrokenPagesLeaveNoRecord: a page that breaks off after many of its records
// were written leaves no record in the snapshot.
func TestBrokenPagesLeaveNoRecord(t *testing.T) {
	const pages, perPage = 12, 3000
	var asked atomic.Int64
	page := func(n int) string {
		var b strings.Builder
		for i := range perPage {
			fmt.Fprintf(&b, `,{"id":%d,"text":"%0500d"}`, n*perPage+i, i*7919)
		}
		next := "null"
		if n < pages-1 {
			next = fmt.Sprintf(`"%d"`, n+1)
		}
		return `{"data":[` + b.String()[1:] + `],"next":` + next + `}`
	}
	c := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("after"))
		text := page(n)
		if asked.Add(1)%2 == 1 { // each page breaks off once, at another position
			w.Header().Set("Content-Length", strconv.Itoa(len(text)))
			_, _ = io.WriteString(w, text[:len(text)*(n+1)/(pages+1)])
			panic(http.ErrAbortHandler)
		}
		respond(200, gzipped(text), "Content-Encoding", "gzip")(w, r)
	}))
	dir := t.TempDir()
	w, err := snapshot.Create(filepath.Join(dir, "spool"), snapshot.Header{Tenancy: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	l := Listing{Request: Request{Path: "/list"}, Shape: Shape{Records: "data"}, Pager: Cursor{Path: "next", Param: "after"}}
	if n, err := c.Walk(context.Background(), l, spool{w}); err != nil || n != pages*perPage {
		t.Fatal(n, err)
	}
	s, err := w.Seal(filepath.Join(dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Reader(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := 0; ; n++ {
		record, err := r.Next()
		if err == io.EOF {
			if n != pages*perPage || asked.Load() != 2*pages {
				t.Errorf("%d records, %d requests", n, asked.Load())
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"id":%d,`, n); !strings.HasPrefix(string(record), want) {
			t.Fatalf("record %d is %.40s", n, record)
		}
	}
}
