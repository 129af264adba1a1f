package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/collectord/collectord/pkg/collector"
)

// ErrNotModified means that the resource of a conditional request still has the version
// that Request.Unless names.
var ErrNotModified = errors.New("not modified")

// A Validator names a version of a resource by the headers that the vendor sent with it
// (RFC 9110, section 8.8). Its zero value names none.
type Validator struct {
	// ETag is the header ETag, weak or strong.
	ETag string `json:"etag,omitempty"`
	// LastModified is the header Last-Modified, in the vendor's own form.
	LastModified string `json:"last_modified,omitempty"`
}

// ValidatorOf returns the validator of a response with the given headers.
func ValidatorOf(h http.Header) Validator {
	return Validator{ETag: h.Get("ETag"), LastModified: h.Get("Last-Modified")}
}

// ParseValidator returns the validator whose String is text; the zero Validator for any
// other text.
func ParseValidator(text string) (v Validator) {
	if json.Unmarshal([]byte(text), &v) != nil {
		return Validator{}
	}
	return v
}

// String returns the validator as JSON, for notes; "" for the zero Validator.
func (v Validator) String() string {
	if v == (Validator{}) {
		return ""
	}
	text, err := json.Marshal(v)
	if err != nil { // cannot happen for strings
		return ""
	}
	return string(text)
}

// addTo adds the condition to the headers of a request. A server that knows ETags
// ignores the time.
func (v Validator) addTo(h http.Header) {
	if v.ETag != "" {
		h.Set("If-None-Match", v.ETag)
	}
	if v.LastModified != "" {
		h.Set("If-Modified-Since", v.LastModified)
	}
}

// isNotModified reports whether a status is the response to the request's condition.
func (r Request) isNotModified(status int) bool {
	return status == http.StatusNotModified && r.Unless != (Validator{})
}

// FetchIfChanged reads a feed, a resource that is all records of a stream, unless it has
// not changed since the last-known snapshot: then it returns an error that wraps
// collector.ErrUnchanged. It calls fetch with r, made conditional on the validator in
// the note of the snapshot. fetch makes the request, writes the records to out, and
// returns the headers of the response, whose validator becomes the note of the new
// snapshot. See collector.PreviousOutput for selection.
func FetchIfChanged(ctx context.Context, r Request, selection string, out collector.Output, fetch func(r Request) (http.Header, error)) error {
	previous := collector.PreviousOf(out)
	r.Unless = ParseValidator(previous.PreviousNote(ctx, selection))
	header, err := fetch(r)
	switch {
	case errors.Is(err, ErrNotModified):
		return collector.ErrUnchanged
	case err != nil:
		return err
	}
	previous.SetNote(selection, ValidatorOf(header).String())
	return nil
}
