package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEnvironmentFileValues reads one value in every notation as systemd does.
func TestEnvironmentFileValues(t *testing.T) {
	tests := []struct {
		name, text, want string
		unset            bool
	}{
		{name: "plain", text: "A=b", want: "b"},
		{name: "whitespace", text: " A = b c \t\n", want: "b c"},
		{name: "comment", text: "# A=x\n; A=y\nA=b", want: "b"},
		{name: "# after whitespace", text: "A=b #c", want: "b #c"},
		{name: "single quotes", text: `A='b # "c" \n'`, want: `b # "c" \n`},
		{name: "double quotes", text: `A="b c"`, want: "b c"},
		{name: "escapes in double quotes", text: `A="a\"b\\c\$d\te"`, want: `a"b\c$d\te`},
		{name: "text after quotes", text: `A="a" # b`, want: "a# b"},
		{name: "backslash", text: `A=back\slash`, want: "backslash"},
		{name: "two backslashes", text: `A=back\\slash`, want: `back\slash`},
		{name: "line continues", text: "A=end\\\nB=c", want: "endB=c"},
		{name: "lines in quotes", text: "A='b\nc'", want: "b\nc"},
		{name: "export", text: "export A=b", unset: true},
		{name: "colon", text: "A: b", unset: true},
		{name: "empty", text: "A=\nB=c", want: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, found := parseEnvironmentFile(tt.text)["A"]
			if got != tt.want || found == tt.unset {
				t.Errorf("%q gives %q, %v, want %q", tt.text, got, found, tt.want)
			}
		})
	}
}

// TestSystemdDifferences: only lines that systemd reads differently are named, those
// of .env never.
func TestSystemdDifferences(t *testing.T) {
	const text = "TENANCY='acme'\nSTORE_FILE=/data/a #b\nexport LOG_LEVEL=debug\nOTHER=a\\b\nAWS_PROFILE=\"x\" # y\nRUN_TIMEOUT=1h # long\n"
	difference := func(name, line, what string) string {
		return name + " (prod.env:" + line + "): systemd's EnvironmentFile= " + what + ": want NAME='value' without export, backslashes and a comment on the line"
	}
	for _, origin := range []string{fromEnvFile, fromDotenv} {
		statements, _, err := parseDotenv("prod.env", text)
		if err != nil {
			t.Fatal(err)
		}
		e := &Environment{
			file:  &file{origin: origin, label: "prod.env", text: text, values: map[string]assignment{}},
			known: map[string]bool{"TENANCY": true, "STORE_FILE": true, "LOG_LEVEL": true, "RUN_TIMEOUT": true},
		}
		for _, a := range statements {
			e.file.values[a.name] = a
		}
		var want []string
		if origin == fromEnvFile {
			want = []string{
				difference("AWS_PROFILE", "5", "reads another value"),
				difference("LOG_LEVEL", "3", "does not set it"),
				difference("RUN_TIMEOUT", "6", "reads another value"),
				difference("STORE_FILE", "2", "reads another value"),
			}
		}
		if diff := cmp.Diff(want, e.SystemdDifferences()); diff != "" {
			t.Errorf("%s: lines (-want +got):\n%s", origin, diff)
		}
	}
}
