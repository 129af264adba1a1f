package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// position is the place in a request for the position in a listing: a query
// parameter, or a member of the body.
type position struct{ param, member string }

func newPosition(param, member string) position { return position{param: param, member: member} }

func (p position) String() string {
	if p.member != "" {
		return "the member " + p.member + " of the body"
	}
	return "the parameter " + p.param
}

// checkRequest returns an error if r has no such place.
func (p position) checkRequest(r Request) error {
	switch {
	case p.param == "" && p.member == "":
		return errors.New("neither a parameter nor a member of the body is named for the position")
	case p.param != "" && p.member != "":
		return fmt.Errorf("both the parameter %s and the member %s of the body are named for the position", p.param, p.member)
	case p.member == "":
		return nil
	}
	_, err := r.WithMember(p.member, []byte("null"))
	return err
}

// set returns r with v at the position.
func (p position) set(r Request, v jsontext.Value) (Request, error) {
	if p.member != "" {
		return r.WithMember(p.member, v)
	}
	return r.WithParam(p.param, TextOf(v)), nil
}

// number returns the number at the position in r.
func (p position) number(r Request) (int64, error) {
	if err := p.checkRequest(r); err != nil {
		return 0, err
	}
	text := queryOf(r).Get(p.param)
	if p.member != "" {
		text = TextOf(Member(r.Body, p.member))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%v of the first request must be a number, it is %q", p, text)
	}
	return n, nil
}

// numberOrZero is number, and 0 if r has nothing at the position.
func (p position) numberOrZero(r Request) (int64, error) {
	if err := p.checkRequest(r); err != nil {
		return 0, err
	}
	if p.member == "" && !queryOf(r).Has(p.param) || p.member != "" && Member(r.Body, p.member) == nil {
		return 0, nil
	}
	return p.number(r)
}

// setNumber is set for a Pager.
func (p position) setNumber(r Request, n int64) (Request, bool, error) {
	next, err := p.set(r, jsontext.Value(strconv.FormatInt(n, 10)))
	return next, err == nil, err
}

// WithMember returns r with the member at the dotted path of its body, which is
// a JSON object, replaced by the raw value, or added. The objects that contain
// the member must exist. The rest of the body keeps its bytes.
func (r Request) WithMember(path string, value []byte) (Request, error) {
	if r.ContentType != "" && !strings.Contains(r.ContentType, "json") {
		return r, fmt.Errorf("the body is %s, a member needs a JSON object", r.ContentType)
	}
	body, err := replaceMember(r.Body, path, value)
	if err != nil {
		return r, fmt.Errorf("the member %s of the body: %w", path, err)
	}
	r.Body = body
	return r, nil
}

// replaceMember returns a copy of object with the member at the dotted path
// replaced or added.
func replaceMember(object []byte, path string, value []byte) ([]byte, error) {
	name, inner, nested := strings.Cut(path, ".")
	found, empty, end, err := findMember(object, name)
	switch {
	case err != nil:
		return nil, err
	case found != nil && nested:
		if value, err = replaceMember(found.bytes(object), inner, value); err != nil {
			return nil, err
		}
	case nested:
		return nil, fmt.Errorf("there is no object %s", name)
	case found == nil:
		text, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			return nil, err
		}
		if !empty {
			text = append([]byte(","), text...)
		}
		value = append(append(text, ':'), value...)
		found = &span{end, end}
	}
	return bytes.Join([][]byte{object[:found.start], value, object[found.end:]}, nil), nil
}

// span is a part of a document.
type span struct{ start, end int }

func (s span) bytes(document []byte) []byte { return document[s.start:s.end] }

// findMember returns where the value of a member is in a JSON object, nil if it
// is absent, whether the object is empty, and where its closing brace is.
func findMember(object []byte, name string) (found *span, empty bool, end int, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, false, 0, errors.New("it is not in a JSON object")
	}
	empty = true
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil, false, 0, err
		}
		is := t.String() == name
		v, err := d.ReadValue()
		if err != nil {
			return nil, false, 0, err
		}
		if at := int(d.InputOffset()); is {
			found = &span{at - len(v), at}
		}
		empty = false
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, false, 0, err
	}
	end = int(d.InputOffset()) - 1
	if _, err := d.ReadToken(); err != io.EOF {
		return nil, false, 0, errors.New("there is more data after the JSON object")
	}
	return found, empty, end, nil
}
