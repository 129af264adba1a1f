package rest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
)

// A Keyset requests the records whose key is greater than that of the last
// record read. Each key must be greater than the one before it, otherwise the
// listing fails: the vendor does not sort as requested, and records would be
// missing. The first request asks for the order, and for the first page. The
// listing ends at an empty page, or by the flags of Listing. A total is not the
// end of it, because the totals of such listings count the records that follow.
type Keyset struct {
	// Param is the query parameter for the last key, or Member is the dotted
	// path of its member in the JSON body of the request. A member gets a number
	// if Numeric is set, and a string otherwise.
	Param, Member string
	// Key returns the key of a record, as it arrives from the vendor.
	Key func(record []byte) (string, error)
	// Numeric compares keys as whole numbers, such as "9" and "10"; otherwise
	// they are compared byte by byte.
	Numeric bool
	// Condition returns what is sent for the last key, such as "id > 17"; nil
	// sends the key itself.
	Condition func(last string) string
}

// CheckListing implements ListingChecker.
func (k Keyset) CheckListing(l *Listing) error {
	switch {
	case k.Key == nil:
		return errors.New("a Keyset needs a Key")
	case l.Stop&AtTotal != 0:
		return errors.New("a Keyset cannot end AtTotal: its totals count the records that follow")
	}
	return newPosition(k.Param, k.Member).checkRequest(l.Request)
}

// IsEndless implements EndlessPager.
func (Keyset) IsEndless() bool { return true }

// NextPage implements Pager.
func (k Keyset) NextPage(p Page) (Request, bool, error) {
	if p.Envelope.Records == 0 { // the same request would follow
		return p.Request, false, nil
	}
	text := p.lastKey
	if k.Condition != nil {
		text = k.Condition(text)
	}
	value := quoteText(text)
	if k.Numeric && k.Condition == nil {
		value = []byte(text)
	}
	next, err := newPosition(k.Param, k.Member).set(p.Request, value)
	return next, err == nil, err
}

// isAfter reports whether the key is greater than the one before it.
func (k Keyset) isAfter(key, before string) bool {
	if !k.Numeric {
		return key > before
	}
	if len(key) != len(before) {
		return len(key) > len(before)
	}
	return key > before
}

// parseKey returns the key of a record in the form in which it is compared.
func (k Keyset) parseKey(raw []byte) (string, error) {
	key, err := k.Key(raw)
	if err != nil || !k.Numeric {
		return key, err
	}
	if key == "" || strings.Trim(key, "0123456789") != "" {
		return "", fmt.Errorf("%w: the key %.80q is not a whole number", collector.ErrIncomplete, key)
	}
	if key = strings.TrimLeft(key, "0"); key == "" {
		key = "0"
	}
	return key, nil
}

// keyOrder checks that the keys of a listing increase.
type keyOrder struct {
	Keyset
	committed, last string // the last key of the pages before, and of the page that is read
	known, begun    bool   // they exist
}

// beginPage is called before each attempt to read a page.
func (k *keyOrder) beginPage() { k.last, k.begun = k.committed, k.known }

// endPage is called when the page was stored.
func (k *keyOrder) endPage() { k.committed, k.known = k.last, k.begun }

// checkKey checks the key of the next record.
func (k *keyOrder) checkKey(raw []byte) error {
	key, err := k.parseKey(raw)
	if err != nil {
		return err
	}
	if k.begun && !k.isAfter(key, k.last) {
		return fmt.Errorf("%w: the key %.80q follows %.80q: the records are not in the order of their keys", collector.ErrIncomplete, key, k.last)
	}
	k.last, k.begun = key, true
	return nil
}
