package redact

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
)

// spellingsOf returns the texts that show a secret: the secret, and its base64 on its own or
// after the user name of basic authentication. The matcher finds them however their
// characters are escaped.
func spellingsOf(secret string) []string {
	// Programs write U+FFFD for bytes that are no UTF-8.
	all := append(base64Spellings(secret), secret, string([]rune(secret)))
	slices.Sort(all)
	return slices.Compact(all)
}

// base64Spellings returns a secret in base64, padded or not. A secret that
// follows another text, such as "user:", starts at one of three offsets within a
// group of three bytes; for these it returns the characters that depend on the
// secret alone.
func base64Spellings(secret string) []string {
	const leastPart = 8 // characters; shorter parts occur in any base64
	var all []string
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		all = append(all, encoding.EncodeToString([]byte(secret)))
		for offset := range 3 {
			encoded := encoding.EncodeToString([]byte("\x00\x00\x00"[:offset] + secret))
			from, to := (offset*8+5)/6, (offset+len(secret))*8/6
			if to-from >= leastPart {
				all = append(all, encoded[from:to])
			}
		}
	}
	return append(all, base64.StdEncoding.EncodeToString([]byte(secret)), base64.URLEncoding.EncodeToString([]byte(secret)))
}

// FromHeader returns the values within an authorization header that may be
// secret: the whole value, the part after a scheme, the values of parameters,
// and the password of the scheme Basic.
func FromHeader(value string) []string {
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
	for _, parameter := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" ;,", r) }) {
		_, v, _ := strings.Cut(parameter, "=")
		all = append(all, strings.Trim(v, `"=`)) // "=" at the end is the padding of base64
	}
	return all
}

// FromURL returns the password of a URL as it is written there and without its
// escapes. It needs no valid URL, and returns nothing for one without a password.
func FromURL(address string) []string {
	_, rest, _ := strings.Cut(address, "://")
	userinfo := rest[:max(0, strings.LastIndexByte(rest, '@'))]
	_, password, _ := strings.Cut(userinfo, ":")
	if password == "" {
		return nil
	}
	if plain, err := url.PathUnescape(password); err == nil && plain != password {
		return []string{password, plain}
	}
	return []string{password}
}
