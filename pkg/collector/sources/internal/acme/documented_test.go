package acme

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

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/pkg/collector"
)

// TestDocumentedExample checks that the example in the document about writing a
// collector is acme_test.go, and runs it.
func TestDocumentedExample(t *testing.T) {
	code, err := os.ReadFile("acme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	document := filepath.Join("..", "..", "..", "..", "..", "docs", "internals", "writing-a-collector.md")
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```go\n")
	if block, _, _ := strings.Cut(rest, "```"); block != string(code) {
		t.Errorf("the example in %s is not acme_test.go", document)
	}

	vendor := httptest.NewServer(http.HandlerFunc(serveDevices))
	defer vendor.Close()
	base, err := url.Parse(vendor.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		token     string
		want      []string
		wantError string
	}{
		{token: "acme-secret-token", want: []string{`{"id":1}`, `{"id":2}`, `{"id":3}`}},
		{token: "wrong-token", wantError: "check ACME_TOKEN"},
	} {
		settings := Definition.Settings().(*Settings)
		settings.URL = *base
		if err := settings.Token.UnmarshalText([]byte(tc.token)); err != nil {
			t.Fatal(err)
		}
		c, err := Definition.Open(settings, collector.Options{Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		out := collectortest.NewSpool(t)
		err = collectortest.FindStream(t, c, "acme_devices").Extract(t.Context(), out)
		if tc.wantError != "" {
			if err == nil || !strings.Contains(err.Error(), tc.wantError) {
				t.Errorf("error %v, want one that says %q", err, tc.wantError)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := out.Records(); !slices.Equal(got, tc.want) {
			t.Errorf("records %q, want %q", got, tc.want)
		}
	}
}

// serveDevices responds with two pages of devices.
func serveDevices(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Authorization") != "Bearer acme-secret-token":
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Query().Get("after") == "":
		fmt.Fprint(w, `{"data":[{"id":1},{"id":2}],"meta":{"next":"c2","total":3}}`)
	default:
		fmt.Fprint(w, `{"data":[{"id":3}],"meta":{"next":null,"total":3}}`)
	}
}
