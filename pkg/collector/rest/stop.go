package rest

import (
	"errors"
	"fmt"
)

// Stop says what ends a listing, apart from the absence of a next page. It
// depends on the vendor: where rows are filtered after they were paged, an
// empty page is not the last one. A page with fewer records than requested
// never ends a listing, because servers may reduce the page size.
type Stop int

// The conditions that end a listing.
const (
	// AtEmpty ends at a page without records.
	AtEmpty Stop = 1 << iota
	// AtTotal ends when as many records were read as Listing.Total declares.
	AtTotal
)

// prepare checks the listing before its first request, and adds the rule that
// ends a listing without one.
func (l *Listing) prepare() error {
	if err := l.checkRules(); err != nil {
		return fmt.Errorf("%s: this listing cannot be read: %w", l.Step(), err)
	}
	if l.isEndless() && l.Stop == 0 && !l.saysMore() {
		l.Stop = AtEmpty
	}
	return nil
}

// checkRules returns an error if the fields of the listing contradict each other.
func (l *Listing) checkRules() error {
	switch {
	case l.Pager == nil:
		return errors.New("it has no Pager")
	case l.Stop&AtTotal != 0 && l.Total == "":
		return errors.New("it ends AtTotal, and its Total is not set")
	case l.Stop&^(AtEmpty|AtTotal) != 0:
		return fmt.Errorf("its Stop is %d, which is no combination of AtEmpty and AtTotal", l.Stop)
	case l.More != "" && l.Last != "":
		return errors.New("both More and Last are set")
	}
	if checker, ok := l.Pager.(ListingChecker); ok {
		return checker.CheckListing(l)
	}
	return nil
}

// saysMore reports whether each page says whether there is another one.
func (l *Listing) saysMore() bool { return l.More != "" || l.Last != "" }

// isEndless reports whether the pager has no end of its own.
func (l *Listing) isEndless() bool {
	p, ok := l.Pager.(EndlessPager)
	return ok && p.IsEndless()
}

// nextPage returns the request for the page after p, and false if the pager or a
// rule of the listing says that p is the last one.
func (l *Listing) nextPage(p Page) (next Request, more bool, err error) {
	next, more, err = l.Pager.NextPage(p)
	if err != nil {
		return Request{}, false, err
	}
	stop, err := l.stopsAfter(p, more)
	return next, more && !stop, err
}

// stopsAfter reports whether a rule ends the listing after p. more is what the
// pager says.
func (l *Listing) stopsAfter(p Page, more bool) (bool, error) {
	flagged, err := l.readFlag(p, more)
	if err != nil || flagged {
		return flagged, err
	}
	if l.Stop&AtTotal != 0 {
		total, ok := p.Envelope.Count(l.Total)
		if !ok {
			return false, fmt.Errorf("next page: the member %s is missing", l.Total)
		}
		if p.Before+int64(p.Envelope.Records) >= total {
			return true, nil
		}
	}
	if p.Envelope.Records > 0 {
		return false, nil
	}
	if l.Stop == AtTotal && l.isEndless() {
		return false, errors.New("next page: an empty page, although more records were declared")
	}
	return l.Stop&AtEmpty != 0, nil
}

// readFlag reports whether the member More or Last says that p is the last page.
// It is an error if it says that there is another page, and the pager has none.
func (l *Listing) readFlag(p Page, more bool) (last bool, err error) {
	path, lastWhen := l.More, "false"
	if l.Last != "" {
		path, lastWhen = l.Last, "true"
	}
	if path == "" {
		return false, nil
	}
	switch v := string(p.Envelope.Value(path)); {
	case v == "":
		return false, fmt.Errorf("next page: the member %s is missing", path)
	case v != "true" && v != "false":
		return false, fmt.Errorf("next page: the member %s is %s, want true or false", path, excerpt(v, 80))
	case v == lastWhen:
		return true, nil
	case !more:
		return false, fmt.Errorf("next page: the member %s is %s, but the response does not say where the next page is", path, v)
	}
	return false, nil
}
