package store

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/collectord/collectord/pkg/snapshot"
)

var someHeader = snapshot.Header{
	Collector: "okta", Stream: "okta_users", Tenancy: "acme",
	UploadID:        "7f0c1d6e-5f0a-4a57-9d3e-0f5f8f1f2a3b",
	UploadTimestamp: time.Date(2026, 2, 3, 14, 5, 6, 0, time.UTC),
}

func TestPathRender(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{text: "../data/source/%TAG/%TENANCY.json", want: "../data/source/okta_users/acme.json"},
		{text: "../data/source/$TAG/$TENANCY.json", want: "../data/source/okta_users/acme.json"},
		{text: "%YYYY-%MM-%DDT%hh:%mm:%ss", want: "2026-02-03T14:05:06"},
		{text: "$YYYY$MM$DD$hh$mm$ss", want: "20260203140506"},
		{text: "%TAG_old/%TENANCYx", want: "okta_users_old/acmex"},
		{text: "100%%/$$HOME/%%TAG", want: "100%/$HOME/%TAG"},
		{text: "plain.json", want: "plain.json"},
	} {
		p, err := ParsePath("STORE_FILE", c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		} else if got := p.Render(someHeader); got != c.want {
			t.Errorf("%q gives %q, want %q", c.text, got, c.want)
		}
	}
}

func TestPathRendersInUTC(t *testing.T) {
	p, err := ParsePath("STORE_FILE", "%DD%hh")
	if err != nil {
		t.Fatal(err)
	}
	h := someHeader
	h.UploadTimestamp = h.UploadTimestamp.In(time.FixedZone("", 11*3600))
	if got := p.Render(h); got != "0314" {
		t.Errorf("got %q", got)
	}
}

func TestParsePathErrors(t *testing.T) {
	for _, text := range []string{"", "a/%TAGS%FOO.json", "%Tag", "$HOME/x", "100%", "%yyyy", "a\x00b"} {
		_, err := ParsePath("STORE_FILE", text)
		if err == nil {
			t.Errorf("%q is accepted", text)
			continue
		}
		if !strings.Contains(err.Error(), "STORE_FILE") {
			t.Errorf("%q: %v does not name the setting", text, err)
		}
		if strings.ContainsAny(text, "%$") && !strings.Contains(err.Error(), "%UUID %TAG %TENANCY %hh %mm %ss %YYYY %MM %DD") {
			t.Errorf("%q: %v does not list the variables", text, err)
		}
	}
}

func TestPathUUID(t *testing.T) {
	render := func(text string, change func(*snapshot.Header)) string {
		p, err := ParsePath("STORE_FILE", text)
		if err != nil {
			t.Fatal(err)
		}
		h := someHeader
		change(&h)
		return p.Render(h)
	}
	same := func(*snapshot.Header) {}
	first := render("%UUID", same)
	if _, err := uuid.Parse(first); err != nil {
		t.Fatal(err)
	}
	if again := render("%UUID", same); again != first {
		t.Errorf("a retry gives %s, the first attempt %s", again, first)
	}
	for what, other := range map[string]string{
		"run":     render("%UUID", func(h *snapshot.Header) { h.UploadID = "2" }),
		"stream":  render("%UUID", func(h *snapshot.Header) { h.Stream = "okta_apps" }),
		"tenancy": render("%UUID", func(h *snapshot.Header) { h.Tenancy = "b" }),
		"path":    render("$UUID", same),
	} {
		if other == first {
			t.Errorf("another %s gives the same UUID", what)
		}
	}
}

func TestPathDirectory(t *testing.T) {
	for text, want := range map[string]string{
		"../data/source/%TAG/%TENANCY.json": "../data/source",
		"/data/x-%TAG.json":                 "/data",
		"%TAG/x.json":                       ".",
		"x.duckdb":                          ".",
		"/x.duckdb":                         "/",
	} {
		p, err := ParsePath("STORE_FILE", text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Directory(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzPath(f *testing.F) {
	f.Add("../data/source/%TAG/%TENANCY.json", "okta_users", "default", "default2")
	f.Add("$YYYY/$MM/%UUID", "a", "../../etc/passwd", "..")
	f.Add(".%TENANCY/x", "", ".", "")
	f.Add("%TENANCY%TENANCY/%%", "..", "/", "%2F")
	f.Add("a$TENANCY", "\x00", "a\\b", "a%5Cb")
	f.Fuzz(func(t *testing.T, text, tag, tenancy, other string) {
		p, err := ParsePath("STORE_FILE", text)
		if err != nil {
			return
		}
		h := someHeader
		h.Stream, h.Tenancy = tag, tenancy
		got := p.Render(h)
		if p.Render(h) != got {
			t.Fatal("two renderings differ")
		}
		// With harmless names the path has the same directories.
		h.Stream, h.Tenancy = "t", "n"
		plain := p.Render(h)
		if strings.Count(got, "/") != strings.Count(plain, "/") || path.IsAbs(got) != path.IsAbs(plain) ||
			strings.Count(path.Clean(got), "..") > 0 && leaves(got) != leaves(plain) {
			t.Fatalf("%q with tag %q, tenancy %q gives %q", text, tag, tenancy, got)
		}
		if strings.ContainsRune(got, 0) {
			t.Fatalf("%q holds NUL", got)
		}
		if other != tenancy && other != "" && tenancy != "" && EscapeName(other) == EscapeName(tenancy) {
			t.Fatalf("tenancies %q and %q share the file %q", tenancy, other, got)
		}
	})
}

// leaves counts the elements of a path that lead upwards.
func leaves(p string) int {
	n := 0
	for _, step := range strings.Split(p, "/") {
		if step == ".." {
			n++
		}
	}
	return n
}
