package redact_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/collectord/collectord/internal/redact"
)

// TestWriterHidesEverySpelling: a secret may be written as JSON, URLs and
// headers write it.
func TestWriterHidesEverySpelling(t *testing.T) {
	const secret = `p"w\\ /+&=ä<>`
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := redact.NewSet(6, secret, "short").Writer(&out)
	jsonText := strings.Trim(string(quoted), `"`)
	encoded := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret),
		base64.StdEncoding.EncodeToString([]byte(secret)), jsonText,
		strings.ReplaceAll(jsonText, "/", `\/`),
		strings.Trim(strconv.Quote(secret), `"`),
		base64.URLEncoding.EncodeToString([]byte(secret)),
		base64.RawStdEncoding.EncodeToString([]byte(secret)),
	}
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

// TestEscapedCharacters: any character of a secret may be escaped, in either case of its
// digits, several times, and by a program that leaves others as they are.
func TestEscapedCharacters(t *testing.T) {
	const key = "Zm9v/YmFy+cXV4="
	for _, test := range []struct{ name, secret, form string }{
		{"quote of Python", key, "Zm9v/YmFy%2BcXV4%3D"},
		{"lower case", key, "Zm9v%2fYmFy%2bcXV4%3d"},
		{"either case", key, "Zm9v%2fYmFy%2BcXV4%3d"},
		{"twice", key, "Zm9v%252FYmFy%252BcXV4%253D"},
		{"twice in lower case", key, "Zm9v%252fYmFy%252bcXV4%253d"},
		{"three times", key, "Zm9v%25252FYmFy%25252BcXV4%25253D"},
		{"every character", "key/1", "%6B%65%79%2F%31"},
		{"letters", "key/1", "%6be%79/1"},
		{"spaces of a query", "a b+c", "a+b%2Bc"},
		{"escaped plus of a query", "a b+c", "a%2Bb%252Bc"},
		{"HTML", `a&b"c'd<e>`, "a&amp;b&#34;c&#39;d&lt;e&gt;"},
		{"HTML of Python", `a&b"c'd<e>`, "a&amp;b&quot;c&#x27;d&lt;e&gt;"},
		{"HTML twice", `a&b"c`, "a&amp;amp;b&amp;#34;c"},
		{"HTML in JSON of Go", `a&b"c`, `a\u0026amp;b\u0026#34;c`},
		{"HTML in a URL", `a&b"c`, `a%26amp;b%26#34;c`},
		{"repr of Python", `a\b'c"d`, `a\\b\'c"d`},
		{"repr of Python in JSON", `a\b'c"d`, `a\\\\b\\'c\"d`},
		{"JSON twice", "a\"b\nc\\d", `a\\\"b\\nc\\\\d`},
		{"JSON three times", "a\"b\nc", `a\\\\\\\"b\\\\nc`},
		{"JSON of Python", "wörd😀", `w\u00f6rd\ud83d\ude00`},
		{"JSON of Python twice", "wörd😀", `w\\u00f6rd\\ud83d\\ude00`},
		{"ASCII of Go", "wörd😀", `w\u00f6rd\U0001f600`},
		{"repr of bytes", "wörd", `w\xc3\xb6rd`},
		{"ascii of Python", "wörd", `w\xf6rd`},
		{"shell", "a b$c;d", `a\ b\$c\;d`},
		{"base64 in a URL", "p?~>?~>x", url.QueryEscape(base64.StdEncoding.EncodeToString([]byte("p?~>?~>x")))},
		{"percent signs", "%2F%25%", "%2F%25%25"},
		{"percent signs escaped", "%2F%25%", "%252F%2525%25"},
		{"no UTF-8", "key\xff1", `key\ufffd1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := redact.NewSet(4, test.secret).Redact("<" + test.form + ">"); got != "<[redacted]>" {
				t.Errorf("Redact(<%s>) = %s", test.form, got)
			}
		})
	}
}

// TestTextsThatAreKept: a text that begins as a secret or has other escapes is shown.
func TestTextsThatAreKept(t *testing.T) {
	set := redact.NewSet(4, "key/12", `a\b"c`)
	for _, text := range []string{
		"", "%", "%2", "&", "&;", `\`, `\\\`, "key/1", "key%2F1", "key%252f1", `key\/1`, "key%2G12", "key/%12", `a\bc`, `a\\b`, "key&sol;1", `key\u002`, `key\ud83d\u`,
	} {
		if got := set.Redact(text); got != text {
			t.Errorf("Redact(%s) = %s", text, got)
		}
	}
}

// TestManyWaysToRead: a text that can be read as a secret in many ways takes no longer than
// another.
func TestManyWaysToRead(t *testing.T) {
	for _, c := range []string{`\`, "%25", "&amp;", " +"} {
		secret, text := strings.Repeat(c, 30)+"x", strings.Repeat(c, 60)
		redact.NewSet(4, secret).Redact(text + "…")
	}
}

// TestRestIsValidJSON: no half of an escape is left before a secret.
func TestRestIsValidJSON(t *testing.T) {
	for _, secret := range []string{"n3cret", "/secret", `"secret`, `\secret`, "'secret"} {
		set := redact.NewSet(4, secret)
		for n := range 12 {
			for _, mark := range []string{"", "\n", `"`, "x"} {
				line, err := json.Marshal(strings.Repeat(`\`, n) + mark + secret + mark)
				if err != nil {
					t.Fatal(err)
				}
				if got := set.Redact(string(line)); !json.Valid([]byte(got)) || !strings.Contains(got, redact.Hidden) {
					t.Errorf("%s becomes %s", line, got)
				}
			}
		}
	}
	if got := redact.NewSet(4, "n3cret").Redact(`"a\n3cret"`); got != `"a[redacted]"` {
		t.Error(got)
	}
}

func TestRedact(t *testing.T) {
	for _, test := range []struct {
		name    string
		secrets []string
		text    string
		want    string
	}{
		{name: "no secrets", text: "a text…", want: "a text…"},
		{name: "no secret in the text", secrets: []string{"s3cr3t"}, text: "a text…", want: "a text…"},
		{name: "a secret twice", secrets: []string{"s3cr3t"}, text: "s3cr3t, s3cr3t", want: "[redacted], [redacted]"},
		{name: "adjacent secrets", secrets: []string{"abcd", "efgh"}, text: "abcdefgh", want: "[redacted][redacted]"},
		{name: "a secret within a secret", secrets: []string{"word", "password1"}, text: "<password1> <word>", want: "<[redacted]> <[redacted]>"},
		{name: "overlapping secrets", secrets: []string{"abcdef", "defghi"}, text: "<abcdefghi>", want: "<[redacted]>"},
		{name: "a secret that overlaps itself", secrets: []string{"abab"}, text: "<ababab>", want: "<[redacted]>"},
		{name: "secrets that are too short", secrets: []string{"", "abc"}, text: "abc", want: "abc"},
		{name: "a cut secret", secrets: []string{"s3cr3t"}, text: "key s3cr… and more", want: "key [redacted]… and more"},
		{name: "a start that is too short", secrets: []string{"s3cr3t"}, text: "key s3c…", want: "key s3c…"},
		{name: "a whole secret before the mark", secrets: []string{"s3cr3t"}, text: "key s3cr3t…", want: "key [redacted]…"},
		{name: "several marks", secrets: []string{"s3cr3t"}, text: "s3cr…s3cr3…s…", want: "[redacted]…[redacted]…s…"},
		{name: "the longest start of several secrets", secrets: []string{"abcdefgh", "efghij"}, text: "<abcdefgh…", want: "<[redacted]…"},
		{
			name:    "a cut secret with escapes",
			secrets: []string{"pa55/wörd"},
			text:    "pa55%2Fw%C3…",
			want:    "[redacted]…",
		},
		{name: "a cut escape", secrets: []string{"pa55/word"}, text: "<pa55%2…", want: "<[redacted]…"},
		{name: "a cut escape of an escape", secrets: []string{"pa55/word"}, text: "<pa55%25…", want: "<[redacted]…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := redact.NewSet(4, test.secrets...).Redact(test.text); got != test.want {
				t.Errorf("Redact(%q) = %q, want %q", test.text, got, test.want)
			}
		})
	}
}

// TestBasicAuthentication: the password follows the user name in base64, so that
// no group of its characters encodes the password alone.
func TestBasicAuthentication(t *testing.T) {
	const password = "correct-horse-battery"
	set := redact.NewSet(6, password)
	for _, user := range []string{"", "a", "ab", "abc", "someone@example.com"} {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
			text := set.Redact("Basic " + encoding.EncodeToString([]byte(user+":"+password)))
			if !strings.Contains(text, redact.Hidden) || len(text) > len("Basic ")+len(user)*2+len(redact.Hidden)+8 {
				t.Errorf("user %q: %s", user, text)
			}
		}
	}
}

func TestSecretOfOneByte(t *testing.T) {
	if got := redact.NewSet(1, "#").Redact("a#b %23 #"); got != "a[redacted]b [redacted] [redacted]" {
		t.Errorf("%q", got)
	}
}

func TestLearnKeepsEarlierSecrets(t *testing.T) {
	set := redact.NewSet(4, "first")
	set.Learn("second", "third")
	set.Learn()
	if got := set.Redact("first second third"); got != "[redacted] [redacted] [redacted]" {
		t.Errorf("%q", got)
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	set := redact.NewSet(4, "secret-0")
	w := set.Writer(io.Discard)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				set.Learn(fmt.Sprintf("secret-%d-%d", i, n))
				if text := set.Redact("secret-0"); text != redact.Hidden {
					t.Errorf("%q", text)
				}
				fmt.Fprintln(w, "secret-0")
			}
		})
	}
	all.Wait()
}

type codeError int

func (e codeError) Error() string { return "code " + strconv.Itoa(int(e)) }

func TestErrorKeepsItsChain(t *testing.T) {
	set := redact.NewSet(4, "s3cr3t")
	cause := errors.New("the cause")
	original := fmt.Errorf("key s3cr3t: %w: %w", cause, codeError(7))
	err := set.Error(original)
	if err.Error() != "key [redacted]: the cause: code 7" {
		t.Errorf("the text is %q", err)
	}
	var code codeError
	if !errors.Is(err, cause) || !errors.As(err, &code) || code != 7 {
		t.Error("the chain is lost")
	}
	if errors.Unwrap(err) != nil {
		t.Error("Unwrap returns an error whose text shows the secret")
	}
	if plain := errors.New("plain"); set.Error(plain) != plain || set.Error(nil) != nil {
		t.Error("an error without a secret is changed")
	}
}

func TestWriterReportsErrors(t *testing.T) {
	failing, end := io.Pipe()
	_ = end.CloseWithError(io.ErrShortWrite)
	_ = failing.CloseWithError(io.ErrShortWrite)
	w := redact.NewSet(4, "s3cr3t").Writer(end)
	if n, err := w.Write([]byte("s3cr3t")); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
	var out bytes.Buffer
	w = redact.NewSet(4, "s3cr3t").Writer(&out)
	if n, err := w.Write([]byte("s3cr3t")); n != len("s3cr3t") || err != nil || out.String() != "[redacted]" {
		t.Errorf("%d, %v, %q", n, err, out.String())
	}
}

func TestFromHeader(t *testing.T) {
	for _, test := range []struct {
		name   string
		value  string
		within []string
	}{
		{name: "raw value", value: "k3y", within: []string{"k3y"}},
		{name: "scheme", value: "SSWS t0ken", within: []string{"SSWS t0ken", "t0ken"}},
		{name: "basic", value: "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass")), within: []string{"pass"}},
		{name: "parameters", value: `accessKey=acc;secretKey="sec"`, within: []string{"acc", "sec"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := redact.FromHeader(test.value)
			for _, secret := range test.within {
				if !slices.Contains(got, secret) {
					t.Errorf("FromHeader(%q) = %q lacks %q", test.value, got, secret)
				}
			}
		})
	}
}

func TestFromURL(t *testing.T) {
	for _, test := range []struct {
		address string
		want    []string
	}{
		{address: "postgres://user:p%40ss@db.example.com/x", want: []string{"p%40ss", "p@ss"}},
		{address: "https://user:pass@example.com", want: []string{"pass"}},
		{address: "https://user:pa@ss@example.com", want: []string{"pa@ss"}},
		{address: "https://user:100%@example.com", want: []string{"100%"}},
		{address: "https://user@example.com"},
		{address: "https://example.com"},
		{address: "no URL"},
	} {
		if got := redact.FromURL(test.address); !slices.Equal(got, test.want) {
			t.Errorf("FromURL(%q) = %q, want %q", test.address, got, test.want)
		}
	}
}

// FuzzText: no secret is left in a text, whatever stands around it.
func FuzzRedact(f *testing.F) {
	f.Add("before ", "s3cr3t", " after")
	f.Add("ab", "abab", "ab…")
	f.Add(`{"a":"`, `p"w\/ö`, `"}`)
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		if len(secret) < 4 || strings.Contains("["+redact.Hidden+"]", secret) {
			t.Skip()
		}
		clean := redact.NewSet(4, secret).Redact(before + secret + after)
		if strings.Contains(strings.ReplaceAll(clean, redact.Hidden, "\x00\x00\x00\x00"), secret) && !strings.Contains(secret, "\x00") {
			t.Errorf("%q shows %q", clean, secret)
		}
	})
}
