package rest

import (
	"errors"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
)

// TestLinksWithAnotherHost: the path and the query of a link are followed on the
// client's own host, whatever host the link names, only if the pager says so.
func TestLinksWithAnotherHost(t *testing.T) {
	for _, ownHost := range []bool{true, false} {
		s := newScript(
			respond(200, `{"value":[{"id":1}],"@odata.nextLink":"https://older.test/api/x?pageSize=1&$skiptoken=a%2Bb"}`),
			respond(200, `{"value":[{"id":2}]}`),
		)
		c := startServer(t, s)
		var out MemoryOutput
		n, err := c.Walk(t.Context(), Listing{
			Request: Request{Path: "/api/x"}, Shape: Shape{Records: "value"}, Pager: NextURL{Path: "@odata.nextLink", OwnHost: ownHost},
		}, &out)
		if !ownHost {
			if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "older.test") || len(s.requests()) != 1 {
				t.Errorf("error %v after %d requests, want that the host is refused", err, len(s.requests()))
			}
			continue
		}
		if err != nil || n != 2 {
			t.Fatalf("%d records, error %v", n, err)
		}
		if second := s.requests()[1]; !strings.HasSuffix(second, "/api/x?pageSize=1&$skiptoken=a%2Bb") {
			t.Errorf("the second request is %s", second)
		}
	}
}

// TestEmptyPageLeadsToItself: it is the end of a listing, unless empty pages may be
// between others.
func TestEmptyPageLeadsToItself(t *testing.T) {
	for _, between := range []bool{false, true} {
		s := newScript(
			respond(200, `{"value":[{"id":1}],"next":"/x?at=2"}`),
			respond(200, `{"value":[],"next":"/x?at=2"}`),
		)
		c := startServer(t, s)
		var out MemoryOutput
		_, err := c.Walk(t.Context(), Listing{
			Request: Request{Path: "/x"}, Shape: Shape{Records: "value"}, Pager: NextURL{Path: "next"}, EmptyBetween: between,
		}, &out)
		if between != errors.Is(err, collector.ErrIncomplete) || !between && err != nil {
			t.Errorf("empty pages between others: %v, error %v", between, err)
		}
	}
}
