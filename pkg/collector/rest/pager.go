package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A Pager describes how the next page of a listing is requested. The package of
// a vendor may have its own. Walk adds what all listings need: the rules of
// Listing that end it, the retries, the declared total, and that a listing that
// repeats a request or has too many pages fails.
type Pager interface {
	// NextPage returns the request for the page after p, and false after the
	// last page. Request.WithParam, WithMember and Follow make it from
	// p.Request. An error fails the listing.
	NextPage(p Page) (next Request, more bool, err error)
}

// A ListingChecker is a Pager that cannot read every listing. Walk fails with
// the error of CheckListing before the first request.
type ListingChecker interface {
	Pager
	CheckListing(l *Listing) error
}

// An EndlessPager is a Pager whose NextPage always returns a request, such as
// that of the next page number. A listing by it needs a rule that ends it, and
// ends at an empty page if it has none.
type EndlessPager interface {
	Pager
	IsEndless() bool
}

// A Page is a page of a listing that was read.
type Page struct {
	// Request is the request for this page.
	Request Request
	// Envelope is the document of the response without its records.
	Envelope *Envelope
	// Number is the number of this page, from 1.
	Number int
	// Before is the number of records on the pages before this one.
	Before int64

	lastKey string // the key of the last record that was read by a Keyset
}

// Link follows the header Link with rel="next" (RFC 8288).
type Link struct{}

// NextPage implements Pager.
func (Link) NextPage(p Page) (Request, bool, error) {
	target, found := nextLink(p.Envelope.Header)
	if !found {
		return Request{}, false, nil
	}
	if target == "" {
		return Request{}, false, errors.New("next page: the Link header has an empty address")
	}
	return p.Request.followTo(target)
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
	// OwnHost means that only the path and the query of an address are used: the
	// request goes to the client's own host, whatever host the address names. It is
	// for vendors whose addresses have another name of the same host.
	OwnHost bool
}

// CheckListing implements ListingChecker.
func (n NextURL) CheckListing(*Listing) error {
	if n.Path == "" {
		return errors.New("a NextURL needs the Path of the address")
	}
	return nil
}

// NextPage implements Pager.
func (n NextURL) NextPage(p Page) (Request, bool, error) {
	v := p.Envelope.Value(n.Path)
	if v != nil && v.Kind() == '{' {
		v = Member(v, "href")
	}
	target, err := nextToken(n.Path, v)
	if target == "" || err != nil {
		return Request{}, false, err
	}
	if n.OwnHost {
		if target, err = withoutHost(target); err != nil {
			return Request{}, false, err
		}
	}
	if n.Under != "" && strings.HasPrefix(target, "/") && !isUnder(target, n.Under) {
		target = n.Under + target
	}
	return p.Request.followTo(target, n.Keep...)
}

// withoutHost returns the path and the query of an address.
func withoutHost(target string) (string, error) {
	u, err := parseAddress(target)
	if err != nil {
		return "", fmt.Errorf("next page: %w", err)
	}
	u.Scheme, u.Host = "", ""
	return u.String(), nil
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

// A Cursor passes an opaque token from the response on to the next request.
type Cursor struct {
	// Path is the path of the token in the response, see Envelope.Value. The
	// listing ends when the token is absent, null or empty.
	Path string
	// Param is the query parameter for the token, or Member is the dotted path
	// of its member in the body of the request, which is a JSON object. A member
	// gets the token as the vendor wrote it, as text or as a number.
	Param, Member string
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

// CheckListing implements ListingChecker.
func (c Cursor) CheckListing(l *Listing) error {
	if c.Path == "" {
		return errors.New("a Cursor needs the Path of the token")
	}
	return newPosition(c.Param, c.Member).checkRequest(l.Request)
}

// NextPage implements Pager.
func (c Cursor) NextPage(p Page) (Request, bool, error) {
	if p.Envelope.IsArray() && !isHeaderPath(c.Path) {
		return Request{}, false, ErrBareArray
	}
	v := p.Envelope.Value(c.Path)
	token, err := nextToken(c.Path, v)
	if token == "" || err != nil {
		return Request{}, false, err
	}
	next, err := newPosition(c.Param, c.Member).set(p.Request, v)
	if err != nil {
		return Request{}, false, err
	}
	if c.Life > 0 {
		next.expires = p.Envelope.received.Add(c.Life)
	}
	return next, true, nil
}

// PageNumber increments a page number.
type PageNumber struct {
	// Param is the query parameter for the number, or Member is the dotted path
	// of its member in the JSON body of the request. The first request sets it.
	Param, Member string
	// Pages is the path of the declared number of pages in the response, see
	// Envelope.Value. If it is set, the listing ends with the last one.
	// Otherwise it needs one of the rules of Listing.
	Pages string
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

// CheckListing implements ListingChecker.
func (p PageNumber) CheckListing(l *Listing) error {
	if p.Key != nil && l.Stop&AtTotal != 0 {
		return errors.New("a PageNumber with Key cannot end AtTotal: records move while it is read")
	}
	_, err := newPosition(p.Param, p.Member).number(l.Request)
	return err
}

// IsEndless implements EndlessPager.
func (p PageNumber) IsEndless() bool { return p.Pages == "" && !p.Linked }

// NextPage implements Pager.
func (p PageNumber) NextPage(page Page) (Request, bool, error) {
	if _, found := nextLink(page.Envelope.Header); p.Linked && !found {
		return Request{}, false, nil
	}
	if p.Pages != "" {
		pages, ok := page.Envelope.Count(p.Pages)
		if !ok {
			return Request{}, false, fmt.Errorf("next page: the member %s is missing", p.Pages)
		}
		if int64(page.Number) >= pages {
			return Request{}, false, nil
		}
	}
	number, err := newPosition(p.Param, p.Member).number(page.Request)
	if err != nil {
		return Request{}, false, fmt.Errorf("next page: %w", err)
	}
	return newPosition(p.Param, p.Member).setNumber(page.Request, number+1)
}

// An Offset increments a record offset by the number of records received,
// which can be less than the number requested. It needs one of the rules of
// Listing.
type Offset struct {
	// Param is the query parameter for the offset, or Member is the dotted path
	// of its member in the JSON body of the request. If the first request does
	// not set it, it starts at 0.
	Param, Member string
	// End is the parameter or member, as the offset is, with the end of a range
	// that begins at the offset; "" for none. The range of each page is as long
	// as that of the first request.
	End string
}

func (o Offset) end() position {
	if o.Member != "" {
		return position{member: o.End}
	}
	return position{param: o.End}
}

// CheckListing implements ListingChecker.
func (o Offset) CheckListing(l *Listing) error {
	_, err := newPosition(o.Param, o.Member).numberOrZero(l.Request)
	if err == nil && o.End != "" {
		_, err = o.end().number(l.Request)
	}
	return err
}

// IsEndless implements EndlessPager.
func (Offset) IsEndless() bool { return true }

// NextPage implements Pager.
func (o Offset) NextPage(p Page) (Request, bool, error) {
	offset, err := newPosition(o.Param, o.Member).numberOrZero(p.Request)
	if err != nil {
		return Request{}, false, fmt.Errorf("next page: %w", err)
	}
	received := int64(p.Envelope.Records)
	next, _, err := newPosition(o.Param, o.Member).setNumber(p.Request, offset+received)
	if err != nil || o.End == "" {
		return next, err == nil, err
	}
	end, err := o.end().number(p.Request)
	if err != nil {
		return Request{}, false, fmt.Errorf("next page: %w", err)
	}
	return o.end().setNumber(next, end+received)
}
