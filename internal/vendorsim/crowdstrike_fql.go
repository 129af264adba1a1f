package vendorsim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// fqlTerm is one comparison of a filter in the Falcon Query Language:
// field:>='value', field:['a','b'], field:![”]. Without an operator the field
// must equal one of the values.
type fqlTerm struct {
	field  string
	op     string // "", ">", ">=", "<" or "<="
	not    bool
	values []string
}

// fqlExpr is a filter: one term, or parts of which all ("+") or at least one
// (",") must match.
type fqlExpr struct {
	term  *fqlTerm
	any   bool
	parts []*fqlExpr
}

// evaluate reports whether a record matches the filter. value returns the
// record's value of a field.
func (f *fqlExpr) evaluate(value func(field string) string) bool {
	if f.term != nil {
		return f.term.matchesValue(value(f.term.field))
	}
	for _, p := range f.parts {
		if p.evaluate(value) == f.any {
			return f.any
		}
	}
	return !f.any
}

func (f *fqlTerm) matchesValue(have string) bool {
	match := slices.ContainsFunc(f.values, func(want string) bool { return f.compareValue(have, want) })
	return match != f.not
}

func (f *fqlTerm) compareValue(have, want string) bool {
	order := strings.Compare(have, want)
	if a, err := strconv.ParseFloat(have, 64); err == nil {
		if b, err := strconv.ParseFloat(want, 64); err == nil {
			order = 0
			if a < b {
				order = -1
			} else if a > b {
				order = 1
			}
		}
	}
	switch f.op {
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	}
	return order == 0
}

// parseFQL parses a filter. Fields for which known returns false are an error.
func parseFQL(text string, known func(field string) bool) (*fqlExpr, error) {
	p := fqlParser{text: text, known: known}
	e, err := p.parseExpr()
	if err == nil && p.text != "" {
		err = fmt.Errorf("unexpected %.20q", p.text)
	}
	if err != nil {
		return nil, fmt.Errorf("invalid filter expression supplied: %w", err)
	}
	return e, nil
}

type fqlParser struct {
	text  string
	known func(string) bool
}

// parseExpr parses a list of alternatives, each of which is a list of terms
// that must all match.
func (p *fqlParser) parseExpr() (*fqlExpr, error) {
	return p.parseList(',', true, func() (*fqlExpr, error) { return p.parseList('+', false, p.parsePart) })
}

func (p *fqlParser) parseList(sep byte, any bool, part func() (*fqlExpr, error)) (*fqlExpr, error) {
	e := &fqlExpr{any: any}
	for {
		sub, err := part()
		if err != nil {
			return nil, err
		}
		e.parts = append(e.parts, sub)
		if p.text == "" || p.text[0] != sep {
			break
		}
		p.text = p.text[1:]
	}
	if len(e.parts) == 1 {
		return e.parts[0], nil
	}
	return e, nil
}

func (p *fqlParser) parsePart() (*fqlExpr, error) {
	if rest, ok := strings.CutPrefix(p.text, "("); ok {
		p.text = rest
		e, err := p.parseExpr()
		if err != nil {
			return nil, err
		}
		if p.text, ok = strings.CutPrefix(p.text, ")"); !ok {
			return nil, errors.New("missing )")
		}
		return e, nil
	}
	field, rest, ok := strings.Cut(p.text, ":")
	if !ok || !p.known(field) {
		return nil, fmt.Errorf("unknown property %.40q", field)
	}
	t := &fqlTerm{field: field}
	if rest, t.not = strings.CutPrefix(rest, "!"); !t.not {
		for _, op := range []string{">=", "<=", ">", "<"} {
			if strings.HasPrefix(rest, op) {
				t.op, rest = op, rest[len(op):]
				break
			}
		}
	}
	p.text = rest
	var err error
	t.values, err = p.parseValues()
	return &fqlExpr{term: t}, err
}

// parseValues parses 'a', ['a','b'] or a value without quotes.
func (p *fqlParser) parseValues() ([]string, error) {
	rest, list := strings.CutPrefix(p.text, "[")
	if !list {
		v, err := p.parseValue()
		return []string{v}, err
	}
	p.text = rest
	var values []string
	for {
		v, err := p.parseValue()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		switch {
		case strings.HasPrefix(p.text, ","):
			p.text = p.text[1:]
		case strings.HasPrefix(p.text, "]"):
			p.text = p.text[1:]
			return values, nil
		default:
			return nil, errors.New("missing ]")
		}
	}
}

func (p *fqlParser) parseValue() (string, error) {
	if rest, ok := strings.CutPrefix(p.text, "'"); ok {
		v, after, closed := strings.Cut(rest, "'")
		if !closed {
			return "", errors.New("missing quote")
		}
		p.text = after
		return v, nil
	}
	end := strings.IndexAny(p.text, "+,)]")
	if end < 0 {
		end = len(p.text)
	}
	v := p.text[:end]
	if v == "" {
		return "", errors.New("value is missing")
	}
	p.text = p.text[end:]
	return v, nil
}

// conjuncts returns the parts of the filter that must all match.
func (f *fqlExpr) conjuncts() []*fqlExpr {
	if f.term != nil || f.any {
		return []*fqlExpr{f}
	}
	var all []*fqlExpr
	for _, p := range f.parts {
		all = append(all, p.conjuncts()...)
	}
	return all
}

// String returns a canonical form of the filter, which serves as a map key.
func (f *fqlExpr) String() string {
	if f.term != nil {
		return fmt.Sprintf("%s:%t%s%q", f.term.field, f.term.not, f.term.op, f.term.values)
	}
	parts := make([]string, len(f.parts))
	for i, p := range f.parts {
		parts[i] = p.String()
	}
	sep := "+"
	if f.any {
		sep = ","
	}
	return "(" + strings.Join(parts, sep) + ")"
}
