package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A Pager describes how the next page of a listing is requested.
type Pager interface {
	// nextPage returns the request for the page after p, and false after the
	// last page.
	nextPage(p pageResult) (Request, bool, error)
}

// pageResult is a page that was read.
type pageResult struct {
	request       Request // the request for this page
	envelope      *Envelope
	recordsBefore int64 // records on the pages before this one
}

// Stop says what ends a listing, apart from the absence of a next page. It
// depends on the vendor: where rows are filtered after they were paged, an
// empty page is not the last one. A page with fewer records than requested
// never ends a listing, because servers may reduce the page size.
type Stop int

// The conditions that end a listing.
const (
	// AtEmpty ends at a page without records.
	AtEmpty Stop = 1 << iota
	// AtTotal ends when as many records were read as the vendor declared.
	AtTotal
)

// Link follows the header Link with rel="next" (RFC 8288).
type Link struct{}

func (Link) nextPage(p pageResult) (Request, bool, error) {
	target, found := nextLink(p.envelope.Header)
	if !found {
		return Request{}, false, nil
	}
	if target == "" {
		return Request{}, false, errors.New("next page: the Link header has an empty address")
	}
	return followAddress(p.request, target, nil)
}

// nextLink returns the target with rel="next" of the Link headers, and whether
// there is one.
func nextLink(h http.Header) (target string, found bool) {
	for _, line := range h.Values("Link") {
		for _, link := range splitUnquoted(line, ',') {
			parts := splitUnquoted(link, ';')
			address := strings.TrimSpace(parts[0])
			if !strings.HasPrefix(address, "<") || !strings.HasSuffix(address, ">") {
				continue
			}
			for _, param := range parts[1:] {
				name, value, _ := strings.Cut(param, "=")
				if strings.EqualFold(strings.TrimSpace(name), "rel") && isNext(value) {
					return strings.TrimSpace(address[1 : len(address)-1]), true
				}
			}
		}
	}
	return "", false
}

// splitUnquoted splits text at each sep that is neither inside <> nor inside
// quotes.
func splitUnquoted(text string, sep byte) []string {
	var parts []string
	start, closing := 0, byte(0) // closing is the character that ends the quote
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case closing == '"' && c == '\\':
			i++
		case closing != 0:
			if c == closing {
				closing = 0
			}
		case c == '<':
			closing = '>'
		case c == '"':
			closing = '"'
		case c == sep:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// isNext reports whether the value of rel contains the relation "next".
func isNext(rel string) bool {
	for _, relation := range strings.Fields(strings.Trim(strings.TrimSpace(rel), `"`)) {
		if strings.EqualFold(relation, "next") {
			return true
		}
	}
	return false
}

// NextURL follows an address in the body, absolute or relative.
type NextURL struct {
	// Path is the dotted path of the member that contains the address, as text
	// or as an object with a member href.
	Path string
	// Keep names query parameters of the current request that are added if the
	// address does not have them.
	Keep []string
	// Under is prepended to the path of a relative address that does not start
	// with it, such as "/rest"; "" for nothing.
	Under string
}

func (n NextURL) nextPage(p pageResult) (Request, bool, error) {
	v := p.envelope.Value(n.Path)
	if v != nil && v.Kind() == '{' {
		v = Member(v, "href")
	}
	target, err := nextToken(n.Path, v)
	if target == "" || err != nil {
		return Request{}, false, err
	}
	if n.Under != "" && strings.HasPrefix(target, "/") && !isUnder(target, n.Under) {
		target = n.Under + target
	}
	return followAddress(p.request, target, n.Keep)
}

// isUnder reports whether the path of target is prefix or is below it.
func isUnder(target, prefix string) bool {
	rest, found := strings.CutPrefix(target, prefix)
	return found && (rest == "" || rest[0] == '/' || rest[0] == '?')
}

// nextToken returns what a member says about the next page: "" when it is
// absent, null, false or empty. Any other value that is neither text nor a
// number is an error, because it is unclear whether there is a next page.
func nextToken(path string, v jsontext.Value) (string, error) {
	if v == nil {
		return "", nil
	}
	switch v.Kind() {
	case 'n', 'f':
		return "", nil
	case '"', '0':
		return TextOf(v), nil
	}
	return "", fmt.Errorf("next page: the member %s is %s", path, excerpt(string(v), 80))
}

// A Cursor passes an opaque token from the body on as a query parameter.
type Cursor struct {
	// Path is the dotted path of the member that contains the token. The
	// listing ends when the member is absent, null or empty.
	Path string
	// Param is the query parameter for the token.
	Param string
	// Stop is AtEmpty or 0.
	Stop Stop
	// Life is how long the vendor knows a token after the response that
	// contained it; zero for no limit. A request whose token has expired is not
	// repeated: it fails with ErrCursorExpired.
	Life time.Duration
}

// ErrCursorExpired means that a request failed until the position in the listing
// that it contains had expired.
var ErrCursorExpired = errors.New("the cursor has expired")

// ErrBareArray means that the response to a listing by cursor is an array of
// records without the surrounding document that contains the cursor, so that
// the end of the listing is unknown.
var ErrBareArray = errors.New("the response is a bare array, which has no cursor")

func (c Cursor) nextPage(p pageResult) (Request, bool, error) {
	if p.envelope.IsArray() {
		return Request{}, false, ErrBareArray
	}
	token, err := nextToken(c.Path, p.envelope.Value(c.Path))
	if err != nil {
		return Request{}, false, err
	}
	if token == "" || c.Stop&AtEmpty != 0 && p.envelope.Records == 0 {
		return Request{}, false, nil
	}
	next := withParam(p.request, c.Param, token)
	if c.Life > 0 {
		next.expires = p.envelope.received.Add(c.Life)
	}
	return next, true, nil
}

// PageNumber increments a page number until a page is empty.
type PageNumber struct {
	// Param is the query parameter for the number. The first request sets it.
	Param string
	// Key returns the key of a record, as it arrives from the vendor. It must be
	// set if records may be removed while the listing is read: the records after
	// them then move to the page before, which was already read. With Key, Walk
	// reads each page again after the page that follows it, and also the pages
	// before it if no record of it was read before. It stores the records that
	// moved, and each key once. The vendor must not change the order of the
	// records. The keys take the memory that Distinct documents.
	Key func(record []byte) (string, error)
	// Linked means that a page has the header Link with rel="next" (RFC 8288) if
	// another one follows, so that no empty page is requested at the end.
	Linked bool
}

func (p PageNumber) nextPage(page pageResult) (Request, bool, error) {
	if page.envelope.Records == 0 {
		return Request{}, false, nil
	}
	if _, found := nextLink(page.envelope.Header); p.Linked && !found {
		return Request{}, false, nil
	}
	number, err := strconv.Atoi(queryOf(page.request).Get(p.Param))
	if err != nil {
		return Request{}, false, fmt.Errorf("next page: %s is not a number: %w", p.Param, err)
	}
	return withParam(page.request, p.Param, strconv.Itoa(number+1)), true, nil
}

// An Offset increments a record offset by the number of records received,
// which can be less than the number requested.
type Offset struct {
	// Param is the query parameter for the offset. The first request sets it.
	Param string
	// Total is the dotted path of the member with the declared total. AtTotal
	// needs it.
	Total string
	// Stop is AtEmpty, AtTotal or both; AtEmpty when zero.
	Stop Stop
}

func (o Offset) nextPage(p pageResult) (Request, bool, error) {
	received := p.recordsBefore + int64(p.envelope.Records)
	if o.Stop&AtTotal != 0 {
		total, ok := p.envelope.Count(o.Total)
		if !ok {
			return Request{}, false, fmt.Errorf("next page: the member %s is missing", o.Total)
		}
		if received >= total {
			return Request{}, false, nil
		}
	}
	if p.envelope.Records == 0 {
		if o.Stop == AtTotal {
			return Request{}, false, errors.New("next page: an empty page, although more records were declared")
		}
		return Request{}, false, nil
	}
	return withParam(p.request, o.Param, strconv.FormatInt(received, 10)), true, nil
}
