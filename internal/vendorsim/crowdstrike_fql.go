package vendorsim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// fqlTerm is one comparison of a filter in the Falcon Query Language:
// field:>='value', field:['a','b'], field:![”]. A plain comparison asks for
// equality with one of the values.
type fqlTerm struct {
	field  string
	op     string // "", ">", ">=", "<" or "<="
	not    bool
	values []string
}

// fqlExpr is a filter: terms or parts, of which all ("+") or one (",") must
// hold.
type fqlExpr struct {
	term  *fqlTerm
	any   bool
	parts []*fqlExpr
}

// holds evaluates e for one record.
func (e *fqlExpr) holds(value func(field string) string) bool {
	if e.term != nil {
		return e.term.holds(value(e.term.field))
	}
	for _, p := range e.parts {
		if p.holds(value) == e.any {
			return e.any
		}
	}
	return !e.any
}

func (t *fqlTerm) holds(have string) bool {
	match := slices.ContainsFunc(t.values, func(want string) bool { return t.compare(have, want) })
	return match != t.not
}

func (t *fqlTerm) compare(have, want string) bool {
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
	switch t.op {
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

// parseFQL reads a filter whose fields must be among the known ones.
func parseFQL(text string, known func(field string) bool) (*fqlExpr, error) {
	p := fqlParser{text: text, known: known}
	e, err := p.expr()
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

// expr reads alternatives of conjunctions.
func (p *fqlParser) expr() (*fqlExpr, error) {
	return p.list(',', true, func() (*fqlExpr, error) { return p.list('+', false, p.part) })
}

func (p *fqlParser) list(sep byte, any bool, part func() (*fqlExpr, error)) (*fqlExpr, error) {
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

func (p *fqlParser) part() (*fqlExpr, error) {
	if rest, ok := strings.CutPrefix(p.text, "("); ok {
		p.text = rest
		e, err := p.expr()
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
	t.values, err = p.values()
	return &fqlExpr{term: t}, err
}

// values reads 'a', ['a','b'], or a bare word.
func (p *fqlParser) values() ([]string, error) {
	rest, list := strings.CutPrefix(p.text, "[")
	if !list {
		v, err := p.value()
		return []string{v}, err
	}
	p.text = rest
	var values []string
	for {
		v, err := p.value()
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

func (p *fqlParser) value() (string, error) {
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

// conjuncts returns the parts that must all hold.
func (e *fqlExpr) conjuncts() []*fqlExpr {
	if e.term != nil || e.any {
		return []*fqlExpr{e}
	}
	var all []*fqlExpr
	for _, p := range e.parts {
		all = append(all, p.conjuncts()...)
	}
	return all
}

// String renders e in one form for each meaning that matters here: as a key.
func (e *fqlExpr) String() string {
	if e.term != nil {
		return fmt.Sprintf("%s:%t%s%q", e.term.field, e.term.not, e.term.op, e.term.values)
	}
	parts := make([]string, len(e.parts))
	for i, p := range e.parts {
		parts[i] = p.String()
	}
	sep := "+"
	if e.any {
		sep = ","
	}
	return "(" + strings.Join(parts, sep) + ")"
}
