package config

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// TestDotenvValues reads one value in every notation.
func TestDotenvValues(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{name: "plain", text: "A=b", want: "b"},
		{name: "newline at the end", text: "A=b\n", want: "b"},
		{name: "CRLF", text: "A=b\r\n", want: "b"},
		{name: "CR alone", text: "A=b\rB=c\r", want: "b"},
		{name: "byte order mark", text: "\ufeffA=b\n", want: "b"},
		{name: "byte order mark and CRLF", text: "\ufeff\r\n# c\r\nA=b\r\n", want: "b"},
		{name: "export", text: "export A=b", want: "b"},
		{name: "export and a tab", text: "export\tA=b", want: "b"},
		{name: "indented", text: "  \t A=b", want: "b"},
		{name: "spaces around the sign", text: "A = b", want: "b"},
		{name: "colon", text: "A: b", want: "b"},
		{name: "whitespace at the end", text: "A=b \t ", want: "b"},
		{name: "no-break space at the end", text: "A=b\u00a0", want: "b"},
		{name: "empty", text: "A="},
		{name: "empty and a line", text: "A=\nB=c"},
		{name: "only spaces", text: "A=  \nB=c"},
		{name: "only a comment", text: "A= # c"},
		{name: "only a comment after a tab", text: "A=\t#c"},
		{name: "begins with #", text: "A=#b", want: "#b"},
		{name: "comment", text: "A=b # c", want: "b"},
		{name: "comment with a second #", text: "A=b # c # d", want: "b"},
		{name: "comment with quotes", text: `A=b # it's "so`, want: "b"},
		{name: "# within", text: "A=b#c", want: "b#c"},
		{name: "= within", text: "A=b=c==", want: "b=c=="},
		{name: "quotes within", text: `A=b"c d"'e'`, want: `b"c d"'e'`},
		{name: "umlauts", text: "A=Zürich ☃", want: "Zürich ☃"},
		{name: "backslashes", text: `A=C:\new\table`, want: `C:\new\table`},

		{name: "older spelling of variables", text: "A=../data/$TAG/$TENANCY.json", want: "../data/$TAG/$TENANCY.json"},
		{name: "braces", text: "A=${TAG}/${TAG:-x}/$(id)/`id`", want: "${TAG}/${TAG:-x}/$(id)/`id`"},
		{name: "percent", text: "A=%TAG/%TENANCY", want: "%TAG/%TENANCY"},
		{name: "dollars", text: "A=$$TAG$ $1 $", want: "$$TAG$ $1 $"},
		{name: "backslash before a dollar", text: `A=\$TAG`, want: `\$TAG`},
		{name: "name set before", text: "TAG=t\nA=$TAG", want: "$TAG"},
		{name: "double quotes, variable", text: `A="$TAG/${TAG}"`, want: "$TAG/${TAG}"},
		{name: "double quotes, escaped dollar", text: `A="\$TAG"`, want: "$TAG"},
		{name: "double quotes, backslash and dollar", text: `A="\\$TAG \\\$TAG"`, want: `\$TAG \$TAG`},
		{name: "single quotes, variable", text: `A='$TAG \$TAG'`, want: `$TAG \$TAG`},

		{name: "double quotes", text: `A="b c"`, want: "b c"},
		{name: "double quotes, empty", text: `A=""`},
		{name: "double quotes, spaces", text: `A="  b  "`, want: "  b  "},
		{name: "double quotes, #", text: `A="b # c"`, want: "b # c"},
		{name: "double quotes, comment", text: `A="b" # c "d"`, want: "b"},
		{name: "double quotes, escapes", text: `A="a\nb\rc\td\"e\'f\\g"`, want: "a\nb\rc\td\"e'f\\g"},
		{name: "double quotes, other backslashes", text: `A="\d \x \a C:\Users"`, want: `\d \x \a C:\Users`},
		{name: "double quotes, escaped at both ends", text: `A="\"b\""`, want: `"b"`},
		{name: "double quotes, only escaped ones", text: `A="\"\"\""`, want: `"""`},
		{name: "double quotes, backslash at the end", text: `A="b\\"`, want: `b\`},
		{name: "double quotes, backslashes and n", text: `A="\\n \\\n \\\\n"`, want: "\\n \\\n \\\\n"},
		{name: "double quotes, backslash before a line end", text: "A=\"b\\\nc\"", want: "b\\\nc"},
		{name: "double quotes, lines", text: "A=\"b\n# c\nD=e\"\n", want: "b\n# c\nD=e"},
		{name: "double quotes, CRLF lines", text: "A=\"b\r\nc\"\r\n", want: "b\nc"},
		{name: "double quotes, single ones within", text: `A="it's"`, want: "it's"},
		{name: "single quotes", text: `A='b c'`, want: "b c"},
		{name: "single quotes, empty", text: `A=''`},
		{name: "single quotes, backslashes", text: `A='b\n\\'`, want: `b\n\`},
		{name: "single quotes, escaped one", text: `A='it\'s' # c`, want: "it's"},
		{name: "single quotes, backslash at the end", text: `A='C:\'`, want: `C:\`},
		{name: "name in quotes", text: `'A'=b`, want: "b"},
		{name: "dash in another name", text: "my-key=1\n1B=2\nA=b", want: "b"},
		{name: "# right after the quote", text: `A="x"#c`, want: "x"},
		{name: "single quotes, double ones", text: `A='"b"'`, want: `"b"`},
		{name: "single quotes, lines", text: "A='b\nc' # d", want: "b\nc"},
		{name: "later of two", text: "A=b\nA=c", want: "c"},
		{name: "later of two is empty", text: "A=b\nA="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			statements, ignored, err := parseDotenv(".env", tt.text)
			if len(ignored) > 0 || err != nil {
				t.Fatalf("problems: %v, %v", ignored, err)
			}
			values := map[string]string{}
			for _, a := range statements {
				values[a.name] = a.value
			}
			if got, found := values["A"]; got != tt.want || !found {
				t.Errorf("%q gives %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func TestDotenvStatements(t *testing.T) {
	const text = "\n# A=no\n  # B=no\nexport=1\nA=\"x\ny\"\n\nC.d_1=2 # c\n\t\n_E=3"
	want := []assignment{{"export", "1", 4}, {"A", "x\ny", 5}, {"C.d_1", "2", 8}, {"_E", "3", 10}}
	got, ignored, err := parseDotenv(".env", text)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(assignment{})); diff != "" || len(ignored) > 0 || err != nil {
		t.Errorf("problems %v, %v, statements (-want +got):\n%s", ignored, err, diff)
	}
}

func TestDotenvProblems(t *testing.T) {
	const notOne = "is not a setting and is ignored: want NAME=value"
	tests := []struct {
		name, text string
		want       []string
	}{
		{name: "no sign", text: "A=1\nhush-hush\nB=2", want: []string{".env:2: " + notOne}},
		{name: "no sign at the end", text: "hush", want: []string{".env:1: " + notOne}},
		{name: "export alone", text: "export A", want: []string{".env:1: " + notOne}},
		{name: "no name", text: "=hush", want: []string{".env:1: " + notOne}},
		{name: "space in the name", text: "A B=hush", want: []string{".env:1: " + notOne}},
		{name: "name over two lines", text: "A\n=hush", want: []string{".env:1: " + notOne, ".env:2: " + notOne}},
		{name: "no closing quote", text: "A=1\nB=\"hush\nC=3\n", want: []string{`.env:2: the value of B has no closing ", and the line is ignored: add it`}},
		{name: "no closing single quote", text: "A='hush", want: []string{".env:1: the value of A has no closing ', and the line is ignored: add it"}},
		{name: "escaped closing quote", text: `A="hush\"`, want: []string{`.env:1: the value of A has no closing ", and the line is ignored: add it`}},
		{
			name: "text after the quote",
			text: "A=\"x\" hush\nB=2\nhush",
			want: []string{`.env:1: the value of A continues after its closing ", and the line is ignored: put the whole value in quotes`, ".env:3: " + notOne},
		},
		{name: "all of them", text: "x\n\ny\nA=1\nz", want: []string{".env:1: " + notOne, ".env:3: " + notOne, ".env:5: " + notOne}},
		{name: "after lines in quotes", text: "A='1\n2\n3'\nhush", want: []string{".env:4: " + notOne}},
		{name: "not UTF-8", text: "A=1\nB=hush\xff\n", want: []string{"line 2 is not text: want UTF-8, not UTF-16, and no NUL bytes"}},
		{name: "UTF-16", text: "\xff\xfeA\x00", want: []string{"line 1 is not text: want UTF-8, not UTF-16, and no NUL bytes"}},
		{name: "NUL", text: "A=1\nB=2\nC=\x00hush", want: []string{"line 3 is not text: want UTF-8, not UTF-16, and no NUL bytes"}},
		{name: "the replacement character is text", text: "A=\ufffd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, ignored, err := parseDotenv(".env", tt.text)
			var got []string
			for _, p := range ignored {
				got = append(got, p.Error())
			}
			if err != nil {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if strings.Contains(strings.Join(got, ""), "hush") {
				t.Error("the text of the file is in a problem")
			}
		})
	}
}

// quoteForDotenv returns a value in the notation of a file.
func quoteForDotenv(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "\n", `\n`, "\r", `\r`).Replace(value) + `"`
}

// FuzzDotenvQuoted writes a value in quotes, among other lines, and reads it back.
func FuzzDotenvQuoted(f *testing.F) {
	for _, seed := range []string{
		"", "b", "../data/$TAG/$TENANCY.json", `"`, `\`, `\\`, `\"`, `""`, "'", "a\nb", "a\r\nb", "\r", "#", " # x", "$", `\$`, "${A}",
		"$(A)", `\n`, "\t", " a ", "\u00a0", "\ufeff", "\u2028", "{{", "=", "A=b", "\v\f", `\\$A\"`, "\ufffd",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return
		}
		text := "export A=" + quoteForDotenv(value) + " # comment\nB=after\n"
		got, ignored, err := parseDotenv(".env", text)
		want := []assignment{{"A", value, 1}, {"B", "after", 2}}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(assignment{})); diff != "" || len(ignored) > 0 || err != nil {
			t.Errorf("%q: problems %v, %v, statements (-want +got):\n%s", text, ignored, err, diff)
		}
		if strings.ContainsRune(value, '\r') {
			return
		}
		text = "A='" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(value) + "'"
		got, ignored, err = parseDotenv(".env", text)
		if len(ignored) > 0 || len(got) != 1 || got[0].value != value || err != nil {
			t.Errorf("%s gives %v, %v, %v", text, got, ignored, err)
		}
	})
}

// FuzzDotenvFile parses any file. Whatever it contains, there is no panic, and each
// line that is not empty is either parsed or reported as a problem.
func FuzzDotenvFile(f *testing.F) {
	for _, seed := range []string{
		"A=b", "export A='b\nc' # d\r\nB=\"$C\\\"", "\ufeffA: b", "A=\"", "A='", "=\n=", "A=b # c # d", "A", "#", "\x00", "\xff", "A= \u0085#",
		"A=\"\\", "export export=export", "A=\u00a0#", "A=\\$\\\\$", "\u00a0A=b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		statements, problems, _ := parseDotenv("file", text)
		lines := strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n") + 1
		last := 0
		for _, a := range statements {
			if a.name == "" || a.line <= last || a.line > lines || strings.ContainsRune(a.value, 0) {
				t.Errorf("%q gives %+v after line %d of %d", text, a, last, lines)
			}
			last = a.line
		}
		for _, p := range problems {
			if !strings.HasPrefix(p.Name, "file:") || p.Message == "" {
				t.Errorf("%q gives the problem %q", text, p.Error())
			}
		}
	})
}
