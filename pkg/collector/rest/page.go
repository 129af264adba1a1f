package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A Pager says, as data, how a listing goes on from page to page.
type Pager interface {
	// next returns the request for the page after p, and false after the last.
	next(p pageSeen) (Request, bool, error)
}

// pageSeen is a page that was read.
type pageSeen struct {
	request  Request // the request of this page
	envelope *Envelope
	before   int64 // records on the pages before
}

// Stop names what ends a listing besides the absence of a next page. Which
// are safe is a fact of the vendor's: a short page ends nothing where the
// server clamps the page size or drops rows late, and an empty one ends
// nothing where rows are filtered after they were paged.
type Stop int

// The ends.
const (
	// AtEmpty ends at a page without records.
	AtEmpty Stop = 1 << iota
	// AtShort ends at a page with fewer records than were asked for.
	AtShort
	// AtTotal ends when as many records were seen as the vendor declared.
	AtTotal
)

// Single is a listing of one page.
type Single struct{}

func (Single) next(pageSeen) (Request, bool, error) { return Request{}, false, nil }

// Link follows the header Link with rel="next" (RFC 8288).
type Link struct{}

func (Link) next(p pageSeen) (Request, bool, error) {
	target, found := nextLink(p.envelope.Header)
	if !found {
		return Request{}, false, nil
	}
	if target == "" {
		return Request{}, false, errors.New("next page: the Link header has an empty address")
	}
	return follow(p.request, target, nil)
}

// nextLink finds the target with rel="next" among the Link headers.
func nextLink(h http.Header) (target string, found bool) {
	for _, line := range h.Values("Link") {
		for _, link := range cutOutside(line, ',') {
			parts := cutOutside(link, ';')
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

// cutOutside cuts text at each sep that stands neither within <> nor within
// quotes.
func cutOutside(text string, sep byte) []string {
	var parts []string
	start, within := 0, byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case within == '"' && c == '\\':
			i++
		case within != 0:
			if c == within {
				within = 0
			}
		case c == '<':
			within = '>'
		case c == '"':
			within = '"'
		case c == sep:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

func isNext(rel string) bool {
	for _, word := range strings.Fields(strings.Trim(strings.TrimSpace(rel), `"`)) {
		if strings.EqualFold(word, "next") {
			return true
		}
	}
	return false
}

// NextURL follows an address in the body, absolute or relative.
type NextURL struct {
	// Path is the dotted member that holds the address, as text or as an
	// object with a member href.
	Path string
	// Keep names query parameters of the present request that are added when
	// the address lost them.
	Keep []string
	// Under is put before the path of a relative address that does not start
	// with it, such as "/rest"; "" for nothing.
	Under string
}

func (n NextURL) next(p pageSeen) (Request, bool, error) {
	v := p.envelope.Value(n.Path)
	if v != nil && v.Kind() == '{' {
		v = Member(v, "href")
	}
	target, err := continuation(n.Path, v)
	if target == "" || err != nil {
		return Request{}, false, err
	}
	if n.Under != "" && strings.HasPrefix(target, "/") && !isUnder(target, n.Under) {
		target = n.Under + target
	}
	return follow(p.request, target, n.Keep)
}

func isUnder(target, prefix string) bool {
	rest, found := strings.CutPrefix(target, prefix)
	return found && (rest == "" || rest[0] == '/' || rest[0] == '?')
}

// continuation is what a member says of the next page: "" when it is absent,
// null, false or empty. Of anything that is neither text nor a number nobody
// can tell whether there is a next page, so it is an error.
func continuation(path string, v jsontext.Value) (string, error) {
	if v == nil {
		return "", nil
	}
	switch v.Kind() {
	case 'n', 'f':
		return "", nil
	case '"', '0':
		return Text(v), nil
	}
	return "", fmt.Errorf("next page: the member %s is %s", path, excerpt(string(v), 80))
}

// Cursor passes an opaque token from the body on as a query parameter.
type Cursor struct {
	// Path is the dotted member that holds the token; a listing ends when it
	// is absent, null or empty.
	Path string
	// Param is the query parameter that takes it.
	Param string
	// Stop is AtEmpty or 0.
	Stop Stop
}

// ErrBareArray means that a listing by cursor got an array of records without
// the document around it that holds the cursor, so that its end is not known.
var ErrBareArray = errors.New("the answer is a bare array, which has no cursor")

func (c Cursor) next(p pageSeen) (Request, bool, error) {
	if p.envelope.IsArray() {
		return Request{}, false, ErrBareArray
	}
	token, err := continuation(c.Path, p.envelope.Value(c.Path))
	if err != nil {
		return Request{}, false, err
	}
	if token == "" || c.Stop&AtEmpty != 0 && p.envelope.Records == 0 {
		return Request{}, false, nil
	}
	return with(p.request, c.Param, token), true, nil
}

// PageNumber counts pages up.
type PageNumber struct {
	// Param is the query parameter; the first request sets it.
	Param string
	// Size is how many records were asked for; AtShort needs it.
	Size int
	// Stop is AtEmpty, AtShort or both; AtEmpty when zero.
	Stop Stop
}

func (n PageNumber) next(p pageSeen) (Request, bool, error) {
	if n.Stop == 0 {
		n.Stop = AtEmpty
	}
	if n.Stop&AtShort != 0 && n.Size <= 0 {
		return Request{}, false, errors.New("next page: a short page cannot be told without the page size")
	}
	if n.Stop&AtEmpty != 0 && p.envelope.Records == 0 || n.Stop&AtShort != 0 && p.envelope.Records < n.Size {
		return Request{}, false, nil
	}
	page, err := strconv.Atoi(queryOf(p.request).Get(n.Param))
	if err != nil {
		return Request{}, false, fmt.Errorf("next page: %s is no number: %w", n.Param, err)
	}
	return with(p.request, n.Param, strconv.Itoa(page+1)), true, nil
}

// Offset counts records up. It advances by the records that came, not by
// those that were asked for.
type Offset struct {
	// Param is the query parameter; the first request sets it.
	Param string
	// Total is the dotted member with the declared total; AtTotal needs it.
	Total string
	// Stop is any of AtEmpty and AtTotal; AtEmpty when zero.
	Stop Stop
}

func (o Offset) next(p pageSeen) (Request, bool, error) {
	seen := p.before + int64(p.envelope.Records)
	if o.Stop&AtTotal != 0 {
		total, ok := p.envelope.Count(o.Total)
		if !ok {
			return Request{}, false, fmt.Errorf("next page: the member %s is missing", o.Total)
		}
		if seen >= total {
			return Request{}, false, nil
		}
	}
	if p.envelope.Records == 0 {
		if o.Stop == AtTotal {
			return Request{}, false, errors.New("next page: an empty page, though more was declared")
		}
		return Request{}, false, nil
	}
	return with(p.request, o.Param, strconv.FormatInt(seen, 10)), true, nil
}
