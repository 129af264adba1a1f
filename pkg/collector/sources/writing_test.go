package sources

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
)

// TestDocumentedExample holds docs/writing-a-collector.md against the example
// that is compiled here, and runs it.
func TestDocumentedExample(t *testing.T) {
	code, err := os.ReadFile("acme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "writing-a-collector.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```go\n")
	if block, _, _ := strings.Cut(rest, "```"); block != string(code) {
		t.Error("the example in docs/writing-a-collector.md is not acme_test.go")
	}

	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer acme-secret-token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Query().Get("after") == "":
			fmt.Fprint(w, `{"data":[{"id":1},{"id":2}],"meta":{"next":"c2","total":3}}`)
		default:
			fmt.Fprint(w, `{"data":[{"id":3}],"meta":{"next":null,"total":3}}`)
		}
	}))
	defer vendor.Close()
	base, err := url.Parse(vendor.URL)
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]string{"acme-secret-token": "", "wrong-token": "check ACME_TOKEN"} {
		settings := acmeSource.Settings().(*acmeSettings)
		settings.URL = *base
		if err := settings.Token.UnmarshalText([]byte(token)); err != nil {
			t.Fatal(err)
		}
		c, err := acmeSource.Open(settings, collector.Options{Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		out := newSpool(t)
		err = stream(t, c, "acme_devices").Extract(t.Context(), out)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one that says %q", err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := out.records(); !slices.Equal(got, []string{`{"id":1}`, `{"id":2}`, `{"id":3}`}) {
			t.Errorf("records %q", got)
		}
	}
}
