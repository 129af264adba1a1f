package rest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// An Extension adds members at the end of a JSON object. It does not change the
// object's own bytes, and does not add a member that the object already has.
type Extension struct {
	// Copies are members that are repeated under another name, in order. The
	// copy of an absent member is null.
	Copies []Copy
	// Values are members with a raw JSON value, in order.
	Values []Value
	// Inside extends members that are objects. Members that are absent or of
	// another kind are not changed.
	Inside map[string]*Extension
}

// A Copy repeats the member From under the name To.
type Copy struct{ From, To string }

// A Value is a member with a raw JSON value.
type Value struct {
	Name string
	Raw  []byte
}

// Append appends record to dst with the members added. A record that is not an
// object is appended unchanged.
func (e *Extension) Append(dst, record []byte) ([]byte, error) {
	adds, err := e.findAdditions(record, 0, nil)
	if err != nil {
		return dst, err
	}
	slices.SortFunc(adds, func(a, b addition) int { return a.at - b.at })
	copied := 0
	for _, add := range adds {
		dst = append(dst, record[copied:add.at]...)
		dst = append(dst, add.text...)
		copied = add.at
	}
	return append(dst, record[copied:]...), nil
}

// addition is text to insert before the byte at.
type addition struct {
	at   int
	text []byte
}

// findAdditions appends to adds what must be added to object, which starts at
// the byte base of the record.
func (e *Extension) findAdditions(object []byte, base int, adds []addition) ([]addition, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object), lenient...)
	if d.PeekKind() != '{' {
		return adds, nil
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	members := map[string]jsontext.Value{}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("record: %w", err)
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("record: %w", err)
		}
		end := int(d.InputOffset())
		members[key] = object[end-len(value) : end]
		if inner := e.Inside[key]; inner != nil {
			if adds, err = inner.findAdditions(members[key], base+end-len(value), adds); err != nil {
				return nil, err
			}
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if text := e.newMembers(members); len(text) > 0 {
		adds = append(adds, addition{base + int(d.InputOffset()) - 1, text})
	}
	return adds, nil
}

// newMembers returns the text to insert before the closing brace of an object
// with the given members.
func (e *Extension) newMembers(members map[string]jsontext.Value) []byte {
	var text []byte
	add := func(name string, raw []byte) {
		if _, exists := members[name]; exists {
			return
		}
		if len(members) > 0 || len(text) > 0 {
			text = append(text, ',')
		}
		text, _ = jsontext.AppendQuote(text, name)
		text = append(text, ':')
		text = append(text, raw...)
	}
	for _, c := range e.Copies {
		if v, ok := members[c.From]; ok {
			add(c.To, v)
		} else {
			add(c.To, []byte("null"))
		}
	}
	for _, v := range e.Values {
		add(v.Name, v.Raw)
	}
	return text
}
