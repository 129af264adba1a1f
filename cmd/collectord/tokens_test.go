package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestTokenWarnings checks what a person learns about tokens that can be used and are
// probably not what they want, and which are refused.
func TestTokenWarnings(t *testing.T) {
	t.Parallel()
	const token = "token: 0123456789abcdef"
	entry := func(token, tenancies string) string {
		return "- {name: one, " + token + ", tenancies: " + tenancies + ", rights: [read]}\n"
	}
	for name, tc := range map[string]struct {
		text     string
		mode     os.FileMode
		warnings []string // one part of each
		err      string
	}{
		"nothing":          {text: entry(token, "[acme]"), mode: 0o600},
		"readable by all":  {text: entry(token, "[acme]"), mode: 0o644, warnings: []string{"anyone on this machine can read it: run chmod 600 "}},
		"hashes alone":     {text: entry("token_sha256: "+strings.Repeat("0a", 32), "[acme]"), mode: 0o644},
		"no such tenancy":  {text: entry(token, "[acmee, ..]"), mode: 0o600, warnings: []string{`is for the tenancy "acmee", which does not exist`, `is for the tenancy "..", which`}},
		"the HTTP_TOKEN":   {text: entry("token: token-of-the-service", "[acme]"), mode: 0o600, err: `the token "one" is that of HTTP_TOKEN, which has all rights: want another one`},
		"not regular file": {mode: os.ModeNamedPipe, err: "it is not a regular file: want a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "tokens.yaml")
			var err error
			if tc.mode == os.ModeNamedPipe {
				err = syscall.Mkfifo(path, 0o600)
			} else {
				err = os.WriteFile(path, []byte(tc.text), tc.mode)
			}
			if err != nil {
				t.Fatal(err)
			}
			c, err := readTenancyFiles(t, dir, []string{"HTTP_TOKENS_FILE=" + path, "HTTP_TOKEN=token-of-the-service"}, map[string]string{"acme.env": ""})
			if err != nil {
				t.Fatal(err)
			}
			_, warnings, err := c.readTokens()
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v", err)
			}
			if strings.Join(c.warnings, "") != strings.Join(warnings, "") || len(warnings) != len(tc.warnings) {
				t.Errorf("warnings %q", c.warnings)
			}
			for i, part := range tc.warnings {
				if i < len(warnings) && !strings.Contains(warnings[i], part) {
					t.Errorf("%s is not in %s", part, warnings[i])
				}
			}
			if strings.Contains(strings.Join(c.warnings, ""), "0123456789abcdef") {
				t.Error("a token is shown")
			}
		})
	}
}
