package records

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// lenient accepts what vendors send in practice. A duplicate name or a lone
// surrogate in one record is no reason to lose the others.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

// EachObject reads JSON objects that follow each other, such as NDJSON with one on
// each line, and calls each with them. It returns their number. White space
// between the objects is ignored, also a byte order mark.
func EachObject(r io.Reader, each Func) (objects int64, err error) {
	bound := &recordBound{in: r}
	text, err := newTextReader(bound)
	if err != nil {
		return 0, err
	}
	d := jsontext.NewDecoder(text, lenient...)
	for {
		bound.beginRecord()
		kind := d.PeekKind()
		raw, err := d.ReadValue()
		switch {
		case err == io.EOF:
			return objects, nil
		case err != nil:
			return objects, explainJSON(err, objects+1)
		case kind != '{':
			return objects, formatErrorf("record %d: want a JSON object, got %s", objects+1, excerpt(string(raw)))
		}
		if err := each(raw); err != nil {
			return objects, err
		}
		objects++
	}
}

// readObject returns the one JSON object that r contains, in buffer.
func readObject(r io.Reader, buffer *bytes.Buffer) ([]byte, error) {
	buffer.Reset()
	if _, err := buffer.ReadFrom(r); err != nil {
		return nil, err
	}
	value := jsontext.Value(bytes.TrimPrefix(buffer.Bytes(), []byte("\xef\xbb\xbf")))
	if !value.IsValid(lenient...) {
		return nil, formatErrorf("it is not one JSON object: %s", excerpt(string(value[:min(len(value), 200)])))
	}
	if value.Kind() != '{' {
		return nil, formatErrorf("want a JSON object, got %s", excerpt(string(value[:min(len(value), 200)])))
	}
	return bytes.TrimSpace(value), nil
}

// explainJSON returns a decoder's error as a FormatError, and any other error,
// which is that of the reader, unchanged.
func explainJSON(err error, record int64) error {
	var syntax *jsontext.SyntacticError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &syntax) || errors.Is(err, ErrTooLong) {
		return formatErrorf("record %d: %w", record, err)
	}
	return err
}
