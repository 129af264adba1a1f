package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

// makeDirs creates directories and returns the path of the last.
func makeDirs(t *testing.T, paths ...string) string {
	t.Helper()
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return paths[len(paths)-1]
}

// TestDotenvOfTheRepository: the nearest .env up to the root of the git repository
// is read, and none above it.
func TestDotenvOfTheRepository(t *testing.T) {
	tests := []struct {
		name  string
		dirs  []string // the last is the working directory
		files map[string]string
		want  string
	}{
		{name: "beside", dirs: []string{"r/.git", "r/a"}, files: map[string]string{"r/a/.env": "near", "r/.env": "far"}, want: "near"},
		{name: "in the root", dirs: []string{"r/.git", "r/a/b"}, files: map[string]string{"r/.env": "far"}, want: "far"},
		{name: "between", dirs: []string{"r/.git", "r/a/b/c"}, files: map[string]string{"r/a/.env": "near", "r/.env": "far"}, want: "near"},
		{name: "above the root", dirs: []string{"r/.git", "r/a"}, files: map[string]string{".env": "above"}, want: "default"},
		{name: "no repository", dirs: []string{"r/a"}, files: map[string]string{"r/.env": "above"}, want: "default"},
		{name: "a worktree", dirs: []string{"r/a"}, files: map[string]string{"r/.env": "far", "r/.git": "gitdir"}, want: "far"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			var dir string
			for _, d := range tt.dirs {
				dir = makeDirs(t, filepath.Join(root, d))
			}
			for path, tenancy := range tt.files {
				writeFile(t, filepath.Join(root, filepath.Dir(path)), filepath.Base(path), "TENANCY="+tenancy)
			}
			l := loadWithoutProblems(t, config.Source{Dir: dir})
			if l.Tenancy != tt.want {
				t.Errorf("the tenancy is %q, want %q", l.Tenancy, tt.want)
			}
		})
	}
}

// TestEnvFileReplacesDotenv: with --env-file .env is not read, not even to report that
// it is broken or private.
func TestEnvFileReplacesDotenv(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, ".env", "TENANCY=a\nLOG_LEVEL=debug\nhush\xff")
	l := loadWithoutProblems(t, config.Source{Dir: dir, EnvFile: writeFile(t, t.TempDir(), "prod.env", "TENANCY=b")})
	if l.Tenancy != "b" || l.Log.Level != "info" || len(l.warnings) > 0 {
		t.Errorf("the tenancy is %q, the level %q, warnings %q", l.Tenancy, l.Log.Level, l.warnings)
	}
}

// TestPrivateDotenvIsIgnored: a .env in a directory of another user says nothing
// about the program.
func TestPrivateDotenvIsIgnored(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root can read every file: the built binary is tested as another user")
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(writeFile(t, dir, ".env", "TENANCY=a"), 0); err != nil {
		t.Fatal(err)
	}
	l := loadWithoutProblems(t, config.Source{Dir: dir})
	if len(l.warnings) != 1 || !strings.HasPrefix(l.warnings[0], ".env: permission denied, and the file is ignored") {
		t.Errorf("warnings %q", l.warnings)
	}
}

// TestLinesThatCannotBeRead: they are ignored with a warning that shows nothing of
// them.
func TestLinesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, ".env", "hush\nTENANCY=a\nLOG_LEVEL=\"hush\nRUN_TIMEOUT=1h\n")
	l := loadWithoutProblems(t, config.Source{Dir: dir})
	want := []string{
		".env:1: is not a setting and is ignored: want NAME=value",
		`.env:3: the value of LOG_LEVEL has no closing ", and the line is ignored: add it`,
	}
	if diff := cmp.Diff(want, l.warnings); diff != "" || l.Tenancy != "a" || l.Run.Timeout.Hours() != 1 {
		t.Errorf("tenancy %q, timeout %v, warnings (-want +got):\n%s", l.Tenancy, l.Run.Timeout, diff)
	}
}

// TestQuotesInValues: docker leaves the quotes of its --env-file in the values, and a
// credential has no notation.
func TestQuotesInValues(t *testing.T) {
	const remedy = "the value begins and ends with %c, which is part of it there: remove both"
	dir, credentials := t.TempDir(), t.TempDir()
	writeFile(t, credentials, "OKTA_ID", "plain")
	writeFile(t, credentials, "OKTA_TOKEN", "'hush'\n")
	writeFile(t, dir, ".env", `FALCON_SECRET='"meant"'`+"\nFALCON_CLIENT_ID=id\n")
	l := loadSource(t, config.Source{Dir: dir, Environ: []string{
		"CREDENTIALS_DIRECTORY=" + credentials, `TENANCY="acme"`, `OKTA_DOMAIN="a" or "b"`, `STORE_FILE='`,
	}})
	want := []string{
		"TENANCY: in the environment: " + strings.ReplaceAll(remedy, "%c", `"`),
		"OKTA_TOKEN: as a credential: " + strings.ReplaceAll(remedy, "%c", "'"),
	}
	if diff := cmp.Diff(want, l.problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if got := l.sections["crowdstrike"].Into.(*crowdstrike).Secret.Reveal(); got != `"meant"` {
		t.Errorf("the secret is %q", got)
	}
}

// TestSecretFilesInUTF16: they are refused in words.
func TestSecretFilesInUTF16(t *testing.T) {
	path := writeFile(t, t.TempDir(), "token", "\xff\xfeh\x00i\x00")
	l := loadSource(t, config.Source{Environ: []string{"OKTA_TOKEN_FILE=" + path}})
	if len(l.problems) != 1 || !strings.Contains(l.problems[0], "is UTF-16, not UTF-8") {
		t.Errorf("problems %q", l.problems)
	}
}
