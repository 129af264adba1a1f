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
		{"plain", "A=b", "b"},
		{"newline at the end", "A=b\n", "b"},
		{"CRLF", "A=b\r\n", "b"},
		{"CR alone", "A=b\rB=c\r", "b"},
		{"byte order mark", "\ufeffA=b\n", "b"},
		{"byte order mark and CRLF", "\ufeff\r\n# c\r\nA=b\r\n", "b"},
		{"export", "export A=b", "b"},
		{"export and a tab", "export\tA=b", "b"},
		{"indented", "  \t A=b", "b"},
		{"blanks around the sign", "A = b", "b"},
		{"colon", "A: b", "b"},
		{"blanks at the end", "A=b \t ", "b"},
		{"no-break space at the end", "A=b\u00a0", "b"},
		{"empty", "A=", ""},
		{"empty and a line", "A=\nB=c", ""},
		{"only blanks", "A=  \nB=c", ""},
		{"only a comment", "A= # c", ""},
		{"only a comment after a tab", "A=\t#c", ""},
		{"begins with #", "A=#b", "#b"},
		{"comment", "A=b # c", "b"},
		{"comment with a second #", "A=b # c # d", "b"},
		{"comment with quotes", `A=b # it's "so`, "b"},
		{"# within", "A=b#c", "b#c"},
		{"= within", "A=b=c==", "b=c=="},
		{"quotes within", `A=b"c d"'e'`, `b"c d"'e'`},
		{"umlauts", "A=Zürich ☃", "Zürich ☃"},
		{"backslashes", `A=C:\new\table`, `C:\new\table`},

		{"older spelling of variables", "A=../data/$TAG/$TENANCY.json", "../data/$TAG/$TENANCY.json"},
		{"braces", "A=${TAG}/${TAG:-x}/$(id)/`id`", "${TAG}/${TAG:-x}/$(id)/`id`"},
		{"percent", "A=%TAG/%TENANCY", "%TAG/%TENANCY"},
		{"dollars", "A=$$TAG$ $1 $", "$$TAG$ $1 $"},
		{"escaped dollar", `A=\$TAG`, "$TAG"},
		{"name set before", "TAG=t\nA=$TAG", "$TAG"},
		{"double quotes, variable", `A="$TAG/${TAG}"`, "$TAG/${TAG}"},
		{"double quotes, escaped dollar", `A="\$TAG"`, "$TAG"},
		{"double quotes, backslash and dollar", `A="\\$TAG \\\$TAG"`, `\$TAG \$TAG`},
		{"single quotes, variable", `A='$TAG \$TAG'`, `$TAG \$TAG`},

		{"double quotes", `A="b c"`, "b c"},
		{"double quotes, empty", `A=""`, ""},
		{"double quotes, blanks", `A="  b  "`, "  b  "},
		{"double quotes, #", `A="b # c"`, "b # c"},
		{"double quotes, comment", `A="b" # c "d"`, "b"},
		{"double quotes, escapes", `A="a\nb\rc\td\"e\'f\\g"`, "a\nb\rc\td\"e'f\\g"},
		{"double quotes, other backslashes", `A="\d \x \a C:\Users"`, `\d \x \a C:\Users`},
		{"double quotes, escaped at both ends", `A="\"b\""`, `"b"`},
		{"double quotes, only escaped ones", `A="\"\"\""`, `"""`},
		{"double quotes, backslash at the end", `A="b\\"`, `b\`},
		{"double quotes, backslashes and n", `A="\\n \\\n \\\\n"`, "\\n \\\n \\\\n"},
		{"double quotes, backslash before a line end", "A=\"b\\\nc\"", "b\\\nc"},
		{"double quotes, lines", "A=\"b\n# c\nD=e\"\n", "b\n# c\nD=e"},
		{"double quotes, CRLF lines", "A=\"b\r\nc\"\r\n", "b\nc"},
		{"double quotes, single ones within", `A="it's"`, "it's"},
		{"single quotes", `A='b c'`, "b c"},
		{"single quotes, empty", `A=''`, ""},
		{"single quotes, backslashes", `A='b\n\\'`, `b\n\\`},
		{"single quotes, double ones", `A='"b"'`, `"b"`},
		{"single quotes, lines", "A='b\nc' # d", "b\nc"},
		{"later of two", "A=b\nA=c", "c"},
		{"later of two is empty", "A=b\nA=", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			statements, problems := parseDotenv(".env", tt.text)
			if len(problems) > 0 {
				t.Fatalf("problem: %v", problems[0])
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
	got, problems := parseDotenv(".env", text)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(assignment{})); diff != "" || len(problems) > 0 {
		t.Errorf("problems %v, statements (-want +got):\n%s", problems, diff)
	}
}

func TestDotenvProblems(t *testing.T) {
	const notOne = "is not a setting: want NAME=value"
	tests := []struct {
		name, text string
		want       []string
	}{
		{"no sign", "A=1\nhush-hush\nB=2", []string{".env:2: " + notOne}},
		{"no sign at the end", "hush", []string{".env:1: " + notOne}},
		{"export alone", "export A", []string{".env:1: " + notOne}},
		{"no name", "=hush", []string{".env:1: " + notOne}},
		{"blank in the name", "A B=hush", []string{".env:1: " + notOne}},
		{"dash in the name", "A-B=hush", []string{".env:1: " + notOne}},
		{"digit first", "1A=hush", []string{".env:1: " + notOne}},
		{"name over two lines", "A\n=hush", []string{".env:1: " + notOne, ".env:2: " + notOne}},
		{"no closing quote", "A=1\nB=\"hush\nC=3\n", []string{`.env:2: the value of B has no closing "`}},
		{"no closing single quote", "A='hush", []string{".env:1: the value of A has no closing '"}},
		{"escaped closing quote", `A="hush\"`, []string{`.env:1: the value of A has no closing "`}},
		{"text after the quote", "A=\"x\" hush\nB=2\nhush", []string{`.env:1: the value of A goes on after its closing "`, ".env:3: " + notOne}},
		{"# right after the quote", `A="x"#hush`, []string{`.env:1: the value of A goes on after its closing "`}},
		{"escaped single quote", `A='it\'s'`, []string{`.env:1: the value of A goes on after its closing '`}},
		{"all of them", "x\n\ny\nA=1\nz", []string{".env:1: " + notOne, ".env:3: " + notOne, ".env:5: " + notOne}},
		{"after lines in quotes", "A='1\n2\n3'\nhush", []string{".env:4: " + notOne}},
		{"not UTF-8", "A=1\nB=hush\xff\n", []string{".env:2: is not text: want UTF-8 without NUL bytes"}},
		{"UTF-16", "\xff\xfeA\x00", []string{".env:1: is not text: want UTF-8 without NUL bytes"}},
		{"NUL", "A=1\nB=2\nC=\x00hush", []string{".env:3: is not text: want UTF-8 without NUL bytes"}},
		{"the replacement character is text", "A=\ufffd", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := parseDotenv(".env", tt.text)
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
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

// quote writes a value so that a file gives it back.
func quote(value string) string {
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
		text := "export A=" + quote(value) + " # comment\nB=after\n"
		got, problems := parseDotenv(".env", text)
		want := []assignment{{"A", value, 1}, {"B", "after", 2}}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(assignment{})); diff != "" || len(problems) > 0 {
			t.Errorf("%q: problems %v, statements (-want +got):\n%s", text, problems, diff)
		}
		if strings.ContainsAny(value, "'\r") {
			return
		}
		got, problems = parseDotenv(".env", "A='"+value+"'")
		if len(problems) > 0 || len(got) != 1 || got[0].value != value {
			t.Errorf("'%s' gives %v, %v", value, got, problems)
		}
	})
}

// FuzzDotenvFile reads any file. Whatever is in it, there is no panic, and each
// line that is not empty is either understood or complained of.
func FuzzDotenvFile(f *testing.F) {
	for _, seed := range []string{
		"A=b", "export A='b\nc' # d\r\nB=\"$C\\\"", "\ufeffA: b", "A=\"", "A='", "=\n=", "A=b # c # d", "A", "#", "\x00", "\xff", "A= \u0085#",
		"A=\"\\", "export export=export", "A=\u00a0#", "A=\\$\\\\$", "\u00a0A=b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		statements, problems := parseDotenv("file", text)
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
