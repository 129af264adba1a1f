package rest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// minSecret is the length from which a value is hidden: shorter ones are
// found in any text.
const minSecret = 4

// secretive is an Auth that knows which values no error may show.
type secretive interface{ secrets() []string }

// secrets are all values that no error of this client may show.
func (c *Client) secrets() []string {
	s := slices.Clone(c.Redact)
	if a, ok := c.Auth.(secretive); ok {
		s = append(s, a.secrets()...)
	}
	return s
}

// hideIn returns text without secrets, in whichever spelling a vendor may
// have echoed them: plain, as part of an address, or of a JSON string. A
// secret that an excerpt cut is hidden, too.
func hideIn(text string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		for _, spelt := range spellings(secret) {
			text = strings.ReplaceAll(text, spelt, hidden)
			text = hideCut(text, spelt)
		}
	}
	return text
}

const (
	hidden  = "[redacted]"
	cutMark = "…"
)

// hideCut hides the start of a secret before the mark of a cut.
func hideCut(text, secret string) string {
	before, after, cut := strings.Cut(text, cutMark)
	if !cut {
		return text
	}
	for n := min(len(secret), len(before)); n >= minSecret; n-- {
		if strings.HasSuffix(before, secret[:n]) {
			before = before[:len(before)-n] + hidden
			break
		}
	}
	return before + cutMark + hideCut(after, secret)
}

func spellings(secret string) []string {
	quoted, _ := jsontext.AppendQuote(nil, secret) // what is no UTF-8 is quoted all the same
	asText := string(quoted[1 : len(quoted)-1])
	all := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret),
		asText, strings.ReplaceAll(asText, "/", `\/`),
	}
	if escaped, err := json.Marshal(secret); err == nil { // with <, > and & escaped
		all = append(all, string(escaped[1:len(escaped)-1]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inHeader are the secrets within the value of an authorization header: the
// value, what follows a scheme, the values of parameters, and the password
// of the scheme Basic.
func inHeader(value string) []string {
	all := []string{value}
	scheme, rest, found := strings.Cut(value, " ")
	if found {
		all = append(all, rest)
	}
	if strings.EqualFold(scheme, "Basic") {
		if pair, err := base64.StdEncoding.DecodeString(rest); err == nil {
			_, password, _ := strings.Cut(string(pair), ":")
			all = append(all, password)
		}
	}
	for _, param := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" ;,", r) }) {
		_, v, _ := strings.Cut(param, "=")
		all = append(all, strings.Trim(v, `"=`)) // "=" at the end is the padding of base64
	}
	return all
}

// hide returns err with a text that shows no secret; its chain is the same.
func hide(err error, secrets []string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := hideIn(text, secrets); clean != text {
		return &redacted{text: clean, err: err}
	}
	return err
}

// redacted is an error with a clean text.
type redacted struct {
	text string
	err  error
}

func (e *redacted) Error() string { return e.text }

// Is and As reach into the chain. There is no Unwrap, since whoever walks the
// chain would print the texts that are hidden here.
func (e *redacted) Is(target error) bool { return errors.Is(e.err, target) }
func (e *redacted) As(target any) bool   { return errors.As(e.err, target) }
