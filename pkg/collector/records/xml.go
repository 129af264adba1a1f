package records

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
)

// An XML describes a document whose records are elements. Each becomes a JSON
// object by these rules:
//
//   - An element without attributes and child elements becomes a string with
//     its text, as it is.
//   - Any other element becomes an object. Its attributes are members whose
//     names begin with "@", its text, unless it is only white space, is the
//     member "#text", and its child elements are members with their names.
//   - Child elements with the same name become an array. Those of Lists always
//     do, also if there is only one.
//   - Where text stands beside child elements, the element has the single member
//     "#mixed" beside its attributes: an array of its texts and of objects with
//     one child element each, in order.
//   - Names have the prefix of their namespace as it is written. The paths of
//     Records and Lists have names without it.
//
// A record without attributes and child elements is an object with "#text".
// Comments, processing instructions, and the order of child elements with
// different names are not kept. Only the predefined entities are known.
type XML struct {
	// Records is the path of the records from the root element, which it
	// includes, such as "LIST.HOST".
	Records string
	// Lists are the paths, below a record, of elements that are always arrays,
	// such as "DETECTION_LIST.DETECTION".
	Lists []string
	// Optional means that the element that contains the records may be absent.
	Optional bool
}

const (
	// maxDepth bounds how deep elements are nested.
	maxDepth = 200
	// maxElements bounds the elements and attributes of one record: each needs
	// more memory than its bytes in the document.
	maxElements = 1 << 20
)

// Each calls each with a JSON object for each record, and returns their number.
func (x XML) Each(r io.Reader, each Func) (elements int64, err error) {
	bound := &recordBound{r: r}
	text, err := newTextReader(bound)
	if err != nil {
		return 0, err
	}
	d := xml.NewDecoder(text)
	d.CharsetReader = func(charset string, input io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return input, nil
		}
		return nil, formatErrorf("the document has the encoding %s, want UTF-8", excerpt(charset))
	}
	w := &xmlWalk{XML: x, decoder: d, bound: bound, each: each}
	if err := w.readDocument(); err != nil {
		return w.records, w.explain(err)
	}
	return w.records, nil
}

// An xmlWalk is one pass over a document.
type xmlWalk struct {
	XML
	decoder  *xml.Decoder
	bound    *recordBound
	each     Func
	records  int64
	open     []string // names of the open elements that are not part of a record
	hasRoot  bool
	found    bool // the element that contains the records
	elements int  // of the current record
	err      error
}

func (w *xmlWalk) readDocument() error {
	parent := w.Records[:max(0, strings.LastIndexByte(w.Records, '.'))]
	for {
		w.bound.beginRecord()
		t, err := w.nextToken()
		if err == io.EOF {
			return w.checkEnd(parent)
		}
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if err := w.startElement(t, parent); err != nil {
				return err
			}
		case xml.EndElement:
			last := len(w.open) - 1
			if last < 0 || w.open[last] != t.Name.Local {
				return formatErrorf("an element ends as %s, which is not open", excerpt(rawName(t.Name)))
			}
			w.open = w.open[:last]
		case xml.CharData:
			if len(w.open) == 0 && !isSpace(t) {
				return formatErrorf("there is text outside the root element: %s", excerpt(string(t)))
			}
		}
	}
}

// startElement handles the start of an element outside the records.
func (w *xmlWalk) startElement(t xml.StartElement, parent string) error {
	if len(w.open) == 0 {
		if root, _, _ := strings.Cut(w.Records, "."); t.Name.Local != root {
			return formatErrorf("the root element is %s, want %s", excerpt(t.Name.Local), root)
		}
		if w.hasRoot {
			return formatErrorf("there is more after the root element")
		}
		w.hasRoot = true
	}
	if len(w.open) >= maxDepth {
		return formatErrorf("elements are nested more than %d deep", maxDepth)
	}
	w.open = append(w.open, t.Name.Local)
	switch strings.Join(w.open, ".") {
	case parent:
		w.found = true
	case w.Records:
		w.found, w.elements = true, 0
		record, err := w.readElement(t, "", 0)
		if err != nil {
			return err
		}
		if record[0] != '{' {
			record = append(append([]byte(`{"#text":`), record...), '}')
		}
		if w.err = w.each(record); w.err != nil {
			return w.err
		}
		w.records++
		w.open = w.open[:len(w.open)-1]
	}
	return nil
}

// checkEnd checks the document at its end.
func (w *xmlWalk) checkEnd(parent string) error {
	switch {
	case !w.hasRoot:
		return formatErrorf("the document is empty, want XML")
	case len(w.open) > 0:
		return formatErrorf("the document ends within the element %s", excerpt(w.open[len(w.open)-1]))
	case !w.found && !w.Optional:
		return formatErrorf("the element %s is missing", parent)
	}
	return nil
}

// nextToken returns the next token. Names have their prefix in Space. The caller
// of RawToken must match the ends of elements with their starts.
func (w *xmlWalk) nextToken() (xml.Token, error) { return w.decoder.RawToken() }

// rawName returns a name as it is written.
func rawName(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// A child is a part of an element: a child element with its JSON value, or text,
// whose name is "".
type child struct {
	name  string
	value []byte
	text  string
}

// readElement reads the rest of an element of a record and returns its JSON value.
// path is that of the element below the record.
func (w *xmlWalk) readElement(start xml.StartElement, path string, depth int) ([]byte, error) {
	if w.elements += 1 + len(start.Attr); w.elements > maxElements {
		return nil, formatErrorf("%w: one record has more than %d elements and attributes", ErrTooLong, maxElements)
	}
	if depth >= maxDepth {
		return nil, formatErrorf("elements are nested more than %d deep", maxDepth)
	}
	var parts []child
	for {
		t, err := w.nextToken()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			value, err := w.readElement(t, strings.TrimPrefix(path+"."+t.Name.Local, "."), depth+1)
			if err != nil {
				return nil, err
			}
			parts = append(parts, child{name: rawName(t.Name), value: value})
		case xml.CharData:
			if last := len(parts) - 1; last >= 0 && parts[last].name == "" {
				parts[last].text += string(t) // text is split at comments and CDATA sections
			} else {
				parts = append(parts, child{text: string(t)})
			}
		case xml.EndElement:
			if t.Name != start.Name {
				return nil, formatErrorf("the element %s ends as %s", excerpt(rawName(start.Name)), excerpt(rawName(t.Name)))
			}
			return w.encodeElement(start, path, parts)
		}
	}
}

// encodeElement returns the JSON value of an element.
func (w *xmlWalk) encodeElement(start xml.StartElement, path string, parts []child) ([]byte, error) {
	isElement := func(c child) bool { return c.name != "" }
	hasElements := slices.ContainsFunc(parts, isElement)
	if !hasElements && len(start.Attr) == 0 {
		return AppendString(nil, joinText(parts)), nil
	}
	dst := []byte{'{'}
	names := map[string]bool{}
	for _, a := range start.Attr {
		name := "@" + rawName(a.Name)
		if names[name] {
			return nil, formatErrorf("the element %s has the attribute %s twice", excerpt(rawName(start.Name)), excerpt(name[1:]))
		}
		names[name] = true
		dst = AppendString(appendKey(dst, name), a.Value)
	}
	switch text := joinText(parts); {
	case hasElements && !isSpace([]byte(text)):
		dst = appendMixed(appendKey(dst, "#mixed"), parts)
	case hasElements:
		dst = w.appendChildren(dst, path, slices.DeleteFunc(parts, func(c child) bool { return !isElement(c) }))
	case !isSpace([]byte(text)):
		dst = AppendString(appendKey(dst, "#text"), text)
	}
	return append(dst, '}'), nil
}

// appendChildren appends child elements as members, in the order in which their
// names occur first.
func (w *xmlWalk) appendChildren(dst []byte, path string, children []child) []byte {
	byName := map[string][][]byte{}
	var names []string
	for _, c := range children {
		if byName[c.name] == nil {
			names = append(names, c.name)
		}
		byName[c.name] = append(byName[c.name], c.value)
	}
	for _, name := range names {
		dst = appendKey(dst, name)
		values := byName[name]
		if len(values) == 1 && !w.isList(path, name) {
			dst = append(dst, values[0]...)
			continue
		}
		for i, value := range values {
			dst = append(append(dst, "[,"[min(i, 1)]), value...)
		}
		dst = append(dst, ']')
	}
	return dst
}

// isList reports whether a child element of the element at path is always an
// array.
func (w *xmlWalk) isList(path, name string) bool {
	local := name[strings.IndexByte(name, ':')+1:]
	return slices.Contains(w.Lists, strings.TrimPrefix(path+"."+local, "."))
}

// appendMixed appends an array of texts and child elements in their order.
func appendMixed(dst []byte, parts []child) []byte {
	for i, c := range parts {
		dst = append(dst, "[,"[min(i, 1)])
		if c.name == "" {
			dst = AppendString(dst, c.text)
			continue
		}
		dst = append(append(append(AppendString(append(dst, '{'), c.name), ':'), c.value...), '}')
	}
	return append(dst, ']')
}

// appendKey appends the name of a member and what precedes it.
func appendKey(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(AppendString(dst, name), ':')
}

// joinText returns the text of an element.
func joinText(parts []child) string {
	if len(parts) == 1 {
		return parts[0].text
	}
	var b strings.Builder
	for _, c := range parts {
		b.WriteString(c.text)
	}
	return b.String()
}

func isSpace(text []byte) bool { return strings.Trim(string(text), " \t\r\n") == "" }

// explain returns a decoder's error as a FormatError, and any other error, which
// is that of the reader or of the caller's function, unchanged.
func (w *xmlWalk) explain(err error) error {
	var syntax *xml.SyntaxError
	switch {
	case w.err != nil:
		return w.err
	case asFormatError(err) != nil:
		return err
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return formatErrorf("the document ends early, after %d records: %w", w.records, io.ErrUnexpectedEOF)
	case errors.As(err, &syntax), errors.Is(err, ErrTooLong):
		return formatErrorf("after record %d: %w", w.records, err)
	}
	return err
}
