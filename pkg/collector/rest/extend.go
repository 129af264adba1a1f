package rest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// An Extension adds members at the end of a JSON object. The object's own
// bytes stay as they are, and a name that it has already is left to it.
type Extension struct {
	// Copies are members that are repeated under another name, in order. A
	// member that is absent is repeated as null.
	Copies []Copy
	// Values are members with a raw JSON value, in order.
	Values []Value
	// Inside extends members that are objects themselves; members that are
	// absent or of another kind stay as they are.
	Inside map[string]*Extension
}

// A Copy is a member's second name.
type Copy struct{ From, To string }

// A Value is a member with its raw JSON value.
type Value struct {
	Name string
	Raw  []byte
}

// Append appends record to dst with the members added. A record that is no
// object is appended as it is.
func (x *Extension) Append(dst, record []byte) ([]byte, error) {
	adds, err := x.additions(record, 0, nil)
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

// addition is text that belongs before the byte at.
type addition struct {
	at   int
	text []byte
}

// additions finds what to add to object, which begins at the byte base of the
// record.
func (x *Extension) additions(object []byte, base int, adds []addition) ([]addition, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object), lenient...)
	if d.PeekKind() != '{' {
		return adds, nil
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	have := map[string]jsontext.Value{}
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
		have[key] = object[end-len(value) : end]
		if inner := x.Inside[key]; inner != nil {
			if adds, err = inner.additions(have[key], base+end-len(value), adds); err != nil {
				return nil, err
			}
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if text := x.text(have); len(text) > 0 {
		adds = append(adds, addition{base + int(d.InputOffset()) - 1, text})
	}
	return adds, nil
}

// text is what stands before an object's closing brace.
func (x *Extension) text(have map[string]jsontext.Value) []byte {
	var text []byte
	add := func(name string, raw []byte) {
		if _, taken := have[name]; taken {
			return
		}
		if len(have) > 0 || len(text) > 0 {
			text = append(text, ',')
		}
		text, _ = jsontext.AppendQuote(text, name)
		text = append(text, ':')
		text = append(text, raw...)
	}
	for _, c := range x.Copies {
		if v, ok := have[c.From]; ok {
			add(c.To, v)
		} else {
			add(c.To, []byte("null"))
		}
	}
	for _, v := range x.Values {
		add(v.Name, v.Raw)
	}
	return text
}
