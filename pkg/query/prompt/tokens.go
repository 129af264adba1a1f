package prompt

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A tokenKind is the kind of a token.
type tokenKind int

const (
	spaceToken     tokenKind = iota
	commentToken             // -- to the end of the line, or /* to */, which nest
	literalToken             // '…', E'…' with backslashes, or $tag$…$tag$
	quotedToken              // "…"
	wordToken                // a keyword, a name or a number
	semicolonToken           // ;
	symbolToken              // any other character
)

// A token is a part of SQL.
type token struct {
	kind tokenKind
	text string
	// start is the offset of the token.
	start int
	// open reports whether the text ended before the token, such as in a literal.
	open bool
}

// end returns the offset after the token.
func (t token) end() int { return t.start + len(t.text) }

// hasContent reports whether the token is more than what separates others.
func (t token) hasContent() bool { return t.kind != spaceToken && t.kind != commentToken }

// tokenize splits SQL into tokens. They have every byte of it.
func tokenize(text string) (tokens []token) {
	for start := 0; start < len(text); {
		kind, length, open := scanToken(text[start:])
		tokens = append(tokens, token{kind: kind, text: text[start : start+length], start: start, open: open})
		start += length
	}
	return tokens
}

// scanToken returns the first token of a text that is not empty.
func scanToken(text string) (kind tokenKind, length int, open bool) {
	switch {
	case strings.HasPrefix(text, "--"):
		length, _ = endAfter(text, 2, "\n")
		return commentToken, length, false
	case strings.HasPrefix(text, "/*"):
		length, open = endOfComment(text)
		return commentToken, length, open
	case text[0] == '\'':
		length, open = endAfter(text, 1, "'")
		return literalToken, length, open
	case text[0] == '"':
		length, open = endAfter(text, 1, `"`)
		return quotedToken, length, open
	case text[0] == ';':
		return semicolonToken, 1, false
	}
	if tag := dollarTag(text); tag != "" {
		length, open = endAfter(text, len(tag), tag)
		return literalToken, length, open
	}
	if length = prefixLength(text, unicode.IsSpace); length > 0 {
		return spaceToken, length, false
	}
	if first, _ := utf8.DecodeRuneInString(text); isWordRune(first) && first != '$' {
		length = prefixLength(text, isWordRune)
		if strings.EqualFold(text[:length], "E") && strings.HasPrefix(text[length:], "'") {
			length, open = endOfEscaped(text, length+1)
			return literalToken, length, open
		}
		return wordToken, length, false
	}
	_, length = utf8.DecodeRuneInString(text)
	return symbolToken, length, false
}

// endAfter returns the offset after the first mark in text[from:]. Without one it returns
// the end of the text, and open is true. A quote that is doubled begins another literal at
// once, which has the same effect as one literal.
func endAfter(text string, from int, mark string) (end int, open bool) {
	if i := strings.Index(text[from:], mark); i >= 0 {
		return from + i + len(mark), false
	}
	return len(text), true
}

// endOfComment returns the offset after a comment that begins with /*.
func endOfComment(text string) (end int, open bool) {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1, false
			}
		}
	}
	return len(text), true
}

// endOfEscaped returns the offset after a literal with backslashes, whose content begins
// at from.
func endOfEscaped(text string, from int) (end int, open bool) {
	for i := from; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '\'':
			if !strings.HasPrefix(text[i+1:], "'") {
				return i + 1, false
			}
			i++
		}
	}
	return len(text), true
}

// dollarTag returns the tag with which a literal such as $$…$$ or $name$…$name$ begins, or
// "". A digit after the dollar sign is a parameter.
func dollarTag(text string) string {
	if text[0] != '$' {
		return ""
	}
	length := prefixLength(text[1:], func(r rune) bool { return isWordRune(r) && r != '$' })
	if !strings.HasPrefix(text[1+length:], "$") || length > 0 && unicode.IsDigit(rune(text[1])) {
		return ""
	}
	return text[:length+2]
}

// isWordRune reports whether a word may contain r. It may not begin with a dollar sign.
func isWordRune(r rune) bool {
	return r == '_' || r == '$' || unicode.IsLetter(r) || unicode.IsDigit(r)
}

// prefixLength returns the length of the longest prefix whose characters all match.
func prefixLength(text string, match func(rune) bool) int {
	if i := strings.IndexFunc(text, func(r rune) bool { return !match(r) }); i >= 0 {
		return i
	}
	return len(text)
}
