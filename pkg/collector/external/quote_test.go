package external

import (
	"strings"
	"testing"
)

// TestOutputIsQuotedWithoutSecrets: an error about the output has no part of a secret that
// the program prints, also where the text is shortened.
func TestOutputIsQuotedWithoutSecrets(t *testing.T) {
	t.Parallel()
	const secret = `abcdEFGH/1234"ijklMNOP5678qrst`
	for name, printed := range map[string]string{
		"no JSON":          `printf '%s\n' "$HR_TOKEN"`,
		"after an object":  `printf '{}%s\n' "$HR_TOKEN"`,
		"name of a member": `printf '{"abcdEFGH/1234\\"ijklMNOP5678qrst": {"x": 01}}\n'`,
		"name of a stream": `printf '{"stream": "abcdEFGH/1234\\"ijklMNOP5678qrst", "record": {}}\n'`,
		"long":             `printf '%s%8000s\n' "$HR_TOKEN" x`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "name: hr\ncommand: [sh, -c, " + `'` + strings.ReplaceAll(printed, "'", "''") + `'` + "]\nvariables: [HR_TOKEN]\n" +
				"streams: [{name: hr_people}, {name: hr_teams}]\n"
			f, section := loadOne(t, text, "HR_TOKEN="+secret)
			err := extractStreams(t.Context(), t, f, section).errs["hr_people"]
			if err == nil || !strings.Contains(err.Error(), "line 1 of the output") {
				t.Fatalf("error %v", err)
			}
			for _, part := range []string{"abcdEFGH", "ijklMNOP"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("a part of the secret is shown: %v", err)
				}
			}
		})
	}
}

// TestTapLeavesProcesses: a tap that ends before the process which prints its records is
// not complete.
func TestTapLeavesProcesses(t *testing.T) {
	t.Parallel()
	const command = `printf '{"type": "SCHEMA", "stream": "users", "schema": {}, "key_properties": []}\n'; sleep 600 &`
	f, section := loadOne(t, "name: hr\ncommand: [sh, -c, '"+strings.ReplaceAll(command, "'", "''")+"']\nprotocol: singer\n"+
		"streams: [{name: hr_people, tap_stream: users}]\n")
	err := extractStreams(t.Context(), t, f, section).errs["hr_people"]
	if err == nil || !strings.Contains(err.Error(), "it ended before 1 processes that it had started") {
		t.Errorf("error %v", err)
	}
}
