package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// TestSecretsAreHiddenInEveryForm: a secret may be written as JSON, URLs and
// headers write it.
func TestSecretsAreHiddenInEveryForm(t *testing.T) {
	const secret = `p"w\\ /+&=ä<>`
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := newRedactor([]string{secret, "short"}).writer(&out)
	encoded := []string{secret, url.QueryEscape(secret), url.PathEscape(secret),
		base64.StdEncoding.EncodeToString([]byte(secret)), strings.Trim(string(quoted), `"`)}
	for _, form := range encoded {
		fmt.Fprintf(w, "before %s after\n", form)
	}
	for _, form := range encoded {
		if strings.Contains(out.String(), form) {
			t.Errorf("%s is shown:\n%s", form, out.String())
		}
	}
	if n := strings.Count(out.String(), "before [redacted] after"); n != len(encoded) {
		t.Errorf("%d of %d lines are as they should be:\n%s", n, len(encoded), out.String())
	}
}
