package prompt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitStatements(t *testing.T) {
	for name, tc := range map[string]struct {
		text       string
		statements []string
		rest       string
	}{
		"one":                             {text: "SELECT 1;\n", statements: []string{"SELECT 1;"}},
		"none yet":                        {text: "SELECT 1\n", rest: "SELECT 1\n"},
		"two and a rest":                  {text: "SELECT 1; SELECT 2;\nSEL\n", statements: []string{"SELECT 1;", "SELECT 2;"}, rest: "\nSEL\n"},
		"nothing":                         {text: " ;; \n"},
		"a comment alone":                 {text: "-- only; this\n"},
		"a literal":                       {text: "SELECT 'a;b';\n", statements: []string{"SELECT 'a;b';"}},
		"a doubled quote":                 {text: "SELECT 'it''s;';\n", statements: []string{"SELECT 'it''s;';"}},
		"an open literal":                 {text: "SELECT 'a;\n", rest: "SELECT 'a;\n"},
		"a literal that ends in a quote":  {text: "SELECT 'a'';\n", rest: "SELECT 'a'';\n"},
		"a backslash is a character":      {text: `SELECT '\';` + "\n", statements: []string{`SELECT '\';`}},
		"a literal with escapes":          {text: `SELECT E'\';';` + "\n", statements: []string{`SELECT E'\';';`}},
		"escapes and a doubled quote":     {text: `SELECT e'a'';';` + "\n", statements: []string{`SELECT e'a'';';`}},
		"a name before a literal":         {text: `SELECT date'\';` + "\n", statements: []string{`SELECT date'\';`}},
		"a name in quotes":                {text: `SELECT "a;b", 'x';` + "\n", statements: []string{`SELECT "a;b", 'x';`}},
		"an apostrophe in a name":         {text: `SELECT "it's";` + "\n", statements: []string{`SELECT "it's";`}},
		"dollars":                         {text: "SELECT $$a;'b$$;\n", statements: []string{"SELECT $$a;'b$$;"}},
		"dollars with a tag":              {text: "SELECT $x$a;$$;$y$;$x$;\n", statements: []string{"SELECT $x$a;$$;$y$;$x$;"}},
		"open dollars":                    {text: "SELECT $x$a;$$\n", rest: "SELECT $x$a;$$\n"},
		"a parameter is no tag":           {text: "SELECT $1;$1;\n", statements: []string{"SELECT $1;", "$1;"}},
		"dollars in a name":               {text: "SELECT a$b;c$b;\n", statements: []string{"SELECT a$b;", "c$b;"}},
		"a comment":                       {text: "SELECT 1 -- a; 'b\n;\n", statements: []string{"SELECT 1 -- a; 'b\n;"}},
		"a comment that begins and ends":  {text: "SELECT /* ; ' */ 1;\n", statements: []string{"SELECT /* ; ' */ 1;"}},
		"comments in each other":          {text: "SELECT /* /* ; */ ; */ 1;\n", statements: []string{"SELECT /* /* ; */ ; */ 1;"}},
		"an open comment":                 {text: "SELECT 1 /* ;\n", rest: "SELECT 1 /* ;\n"},
		"an open comment alone":           {text: "/* ;\n", rest: "/* ;\n"},
		"a minus and a slash":             {text: "SELECT 4-2/1*3;\n", statements: []string{"SELECT 4-2/1*3;"}},
		"characters of several bytes":     {text: "SELECT 'ü;日' AS größe;\n", statements: []string{"SELECT 'ü;日' AS größe;"}},
		"a byte that is not UTF-8":        {text: "SELECT \xff;\n", statements: []string{"SELECT \xff;"}},
		"a comment before a statement":    {text: "-- why\nSELECT 1;\n", statements: []string{"-- why\nSELECT 1;"}},
		"a comment after a statement":     {text: "SELECT 1; -- done\n", statements: []string{"SELECT 1;"}},
		"a statement of several lines":    {text: "SELECT 1\n  , 2\n;\n", statements: []string{"SELECT 1\n  , 2\n;"}},
		"a literal of several lines":      {text: "SELECT 'a\n;b';\n", statements: []string{"SELECT 'a\n;b';"}},
		"a literal at the very beginning": {text: "'a;' ;\n", statements: []string{"'a;' ;"}},
	} {
		t.Run(name, func(t *testing.T) {
			statements, rest := splitStatements(tc.text)
			if diff := cmp.Diff(tc.statements, statements); diff != "" || rest != tc.rest {
				t.Errorf("the rest is %q, expected %q; statements (-expected +received):\n%s", rest, tc.rest, diff)
			}
		})
	}
}

// FuzzTokenize checks that tokens have every byte of the text, once.
func FuzzTokenize(f *testing.F) {
	for _, text := range []string{"SELECT 'a''b' FROM \"x\" -- c\n;", "$a$ /* /* */ E'\\", "\xff$\x00'"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b strings.Builder
		for _, token := range tokenize(text) {
			if token.text == "" || token.start != b.Len() {
				t.Fatalf("%q has the token %q at %d", text, token.text, token.start)
			}
			b.WriteString(token.text)
		}
		if b.String() != text {
			t.Errorf("the tokens of %q have %q", text, b.String())
		}
	})
}

func TestPromptsOfFurtherLines(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1\n": ".", "SELECT 'a\n": "'", "SELECT \"a\n": `"`, "SELECT $x$\n": "$", "/* a\n": "/", "SELECT 'a'\n": ".",
	} {
		if got := openQuote(text); got != want {
			t.Errorf("after %q the prompt has %q, expected %q", text, got, want)
		}
	}
}

func TestHistoryLines(t *testing.T) {
	for name, tc := range map[string]struct {
		statement string
		want      []string
	}{
		"one line":                {statement: "SELECT 1;", want: []string{"SELECT 1;"}},
		"several":                 {statement: "SELECT 1\n\t, 2\n;", want: []string{"SELECT 1 , 2 ;"}},
		"spaces within a line":    {statement: "SELECT  1\n;", want: []string{"SELECT  1 ;"}},
		"a comment":               {statement: "SELECT 1 -- the one\n, 2;", want: []string{"SELECT 1 /* the one */ , 2;"}},
		"a comment in a comment":  {statement: "SELECT 1 -- a */ b\n, 2;", want: []string{"SELECT 1 -- a */ b", ", 2;"}},
		"a comment of two lines":  {statement: "SELECT /* a\n b */ 1;", want: []string{"SELECT /* a b */ 1;"}},
		"a literal of two lines":  {statement: "SELECT 'a\nb';", want: []string{"SELECT 'a", "b';"}},
		"a literal like comments": {statement: "SELECT '-- a'\n;", want: []string{"SELECT '-- a' ;"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, historyLines(tc.statement)); diff != "" {
				t.Errorf("lines (-expected +received):\n%s", diff)
			}
		})
	}
}
