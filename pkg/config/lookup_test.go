package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

// TestPrecedence sets one variable at every subset of the sources, which gives
// either the value of the first of them or, if NAME_FILE meets NAME, an error.
func TestPrecedence(t *testing.T) {
	const environment, pointer, credential, dotenv, envFile = 1, 2, 4, 8, 16
	sources := []struct {
		source        int
		origin, value string
	}{
		{environment, "environment", "a"}, {pointer, "TENANCY_FILE", "b"}, {credential, "credential", "c"},
		{dotenv, ".env", "d"}, {envFile, "--env-file", "e"}, {0, "default", "default"},
	}
	for set := range 32 {
		t.Run(fmt.Sprintf("%05b", set), func(t *testing.T) {
			dir, credentials := t.TempDir(), t.TempDir()
			src := config.Source{Dir: dir, EnvFile: "prod.env", Environ: []string{"CREDENTIALS_DIRECTORY=" + credentials, "TENANCY="}}
			named := "TENANCY=\n"
			if set&environment != 0 {
				src.Environ[1] = "TENANCY=a"
			}
			if set&pointer != 0 {
				src.Environ = append(src.Environ, "TENANCY_FILE="+write(t, t.TempDir(), "tenancy", "b\n"))
			}
			if set&credential != 0 {
				write(t, credentials, "TENANCY", "c")
			}
			if set&dotenv != 0 {
				write(t, dir, ".env", "TENANCY=d\n")
			}
			if set&envFile != 0 {
				named = "TENANCY=e\n"
			}
			write(t, dir, "prod.env", named)

			l := load(t, src)
			if set&pointer != 0 && set&(environment|dotenv|envFile) != 0 {
				if len(l.problems) != 1 || !strings.HasPrefix(l.problems[0], "TENANCY: set in ") || !strings.Contains(l.problems[0], "TENANCY_FILE is set in the environment") {
					t.Errorf("problems: %q", l.problems)
				}
				return
			}
			for _, want := range sources {
				if set&want.source == 0 && want.source != 0 {
					continue
				}
				if l.Tenancy != want.value || l.found.Origin("TENANCY") != want.origin || len(l.problems) > 0 {
					t.Errorf("got %q by %q, want %q by %q; problems %q", l.Tenancy, l.found.Origin("TENANCY"), want.value, want.origin, l.problems)
				}
				break
			}
		})
	}
}

// TestPointerFromAnySource puts NAME_FILE into each source.
func TestPointerFromAnySource(t *testing.T) {
	secret := write(t, t.TempDir(), "secret", "s3cret\n")
	for _, source := range []string{"environment", "credential", ".env", "--env-file"} {
		t.Run(source, func(t *testing.T) {
			dir, credentials := t.TempDir(), t.TempDir()
			src := config.Source{Dir: dir, EnvFile: "prod.env", Environ: []string{"CREDENTIALS_DIRECTORY=" + credentials, "FALCON_CLIENT_ID=id"}}
			assignment := "FALCON_SECRET_FILE=" + secret
			named := ""
			switch source {
			case "environment":
				src.Environ = append(src.Environ, assignment)
			case "credential":
				write(t, credentials, "FALCON_SECRET_FILE", secret+"\n")
			case ".env":
				write(t, dir, ".env", assignment)
			case "--env-file":
				named = assignment
			}
			write(t, dir, "prod.env", named)
			l := clean(t, src)
			if got := l.sections["crowdstrike"].Into.(*crowdstrike).Secret.Reveal(); got != "s3cret" {
				t.Errorf("the secret is %q", got)
			}
			if got := l.found.Origin("FALCON_SECRET"); got != "FALCON_SECRET_FILE" {
				t.Errorf("the origin is %q", got)
			}
		})
	}
}

// TestFileContents cuts one newline and nothing else, of files and credentials.
func TestFileContents(t *testing.T) {
	tests := []struct{ text, want string }{
		{"s", "s"}, {"s\n", "s"}, {"s\r\n", "s"}, {"s\n\n", "s\n"}, {"s\r\n\r\n", "s\r\n"}, {"s\r", "s\r"}, {" s \n", " s "},
		{"\ns", "\ns"}, {"a\nb\n", "a\nb"}, {"$TAG # x\n", "$TAG # x"}, {`"s"`, `"s"`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			dir, credentials := t.TempDir(), t.TempDir()
			write(t, dir, "secret", tt.text)
			write(t, credentials, "OKTA_TOKEN", tt.text)
			l := clean(t, config.Source{Dir: dir, Environ: []string{
				"FALCON_CLIENT_ID=id", "FALCON_SECRET_FILE=secret",
				"CREDENTIALS_DIRECTORY=" + credentials, "OKTA_DOMAIN=d", "OKTA_ID=i",
			}})
			if got := l.sections["crowdstrike"].Into.(*crowdstrike).Secret.Reveal(); got != tt.want {
				t.Errorf("the file gives %q, want %q", got, tt.want)
			}
			if got := l.sections["okta"].Into.(*okta).Token.Reveal(); got != tt.want {
				t.Errorf("the credential gives %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFileProblems(t *testing.T) {
	dir := t.TempDir()
	credentials := t.TempDir()
	empty, long := write(t, dir, "empty", "\n"), write(t, dir, "long", strings.Repeat("x", 1<<20+1))
	if err := os.Mkdir(filepath.Join(credentials, "TENANCY"), 0o700); err != nil {
		t.Fatal(err)
	}
	const want = ": want a readable file that holds the value of "
	tests := []struct {
		name    string
		environ []string
		dotenv  string
		want    []string
	}{
		{"missing", []string{"TENANCY_FILE=/no/such"}, "", []string{`TENANCY_FILE: "/no/such": no such file or directory` + want + "TENANCY"}},
		{"relative", []string{"TENANCY_FILE=no-such"}, "", []string{`TENANCY_FILE: "no-such": no such file or directory` + want + "TENANCY"}},
		{"a secret's, relative", []string{"STORE_POSTGRES_URL_FILE=no-such"}, "", []string{"STORE_POSTGRES_URL_FILE: the file: no such file or directory" + want + "STORE_POSTGRES_URL"}},
		{"folder", []string{"TENANCY_FILE=" + dir}, "", []string{fmt.Sprintf("TENANCY_FILE: %q: is a directory", dir) + want + "TENANCY"}},
		{"empty", []string{"TENANCY_FILE=" + empty}, "", []string{fmt.Sprintf("TENANCY_FILE: %q: empty", empty) + want + "TENANCY"}},
		{"too long", []string{"TENANCY_FILE=" + long}, "", []string{fmt.Sprintf("TENANCY_FILE: %q: longer than 1 MiB", long) + want + "TENANCY"}},
		{"bad value", []string{"RUN_TIMEOUT_FILE=" + write(t, dir, "timeout", "soon\n")}, "", []string{`RUN_TIMEOUT: "soon" is not a duration: want a duration of 1s or more such as 90s, 15m, 6h or 7d`}},
		{"half of a pair", []string{"FALCON_CLIENT_ID=id", "FALCON_SECRET_FILE=/no/such"}, "", []string{`FALCON_SECRET_FILE: "/no/such": no such file or directory` + want + "FALCON_SECRET"}},
		{"an alias's", []string{"FALCON_CLIENT_ID=id", "CROWDSTRIKE_CLIENT_SECRET_FILE=/no/such"}, "", []string{`CROWDSTRIKE_CLIENT_SECRET_FILE: "/no/such": no such file or directory` + want + "CROWDSTRIKE_CLIENT_SECRET"}},
		{"both", []string{"TENANCY=a", "TENANCY_FILE=/no/such"}, "", []string{"TENANCY: set in the environment, and TENANCY_FILE is set in the environment: keep one of the two"}},
		{"both in different places", []string{"TENANCY=a"}, "TENANCY_FILE=x", []string{"TENANCY: set in the environment, and TENANCY_FILE is set in .env: keep one of the two"}},
		{"credential is a folder", []string{"CREDENTIALS_DIRECTORY=" + credentials}, "", []string{"TENANCY: the credential $CREDENTIALS_DIRECTORY/TENANCY: is a directory: want a readable file"}},
		{"credential that is not needed", []string{"CREDENTIALS_DIRECTORY=" + credentials, "TENANCY=a"}, "", nil},
		{"no credentials folder", []string{"CREDENTIALS_DIRECTORY=/no/such"}, "", nil},
		{"empty pointer", []string{"TENANCY_FILE=", "TENANCY=a"}, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			work := t.TempDir()
			write(t, work, ".env", tt.dotenv)
			l := load(t, config.Source{Dir: work, Environ: tt.environ})
			if diff := cmp.Diff(tt.want, l.problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKnownNamesEndingInFile: STORE_FILE is a setting, not the file of "STORE",
// and has a NAME_FILE of its own.
func TestKnownNamesEndingInFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "template", "/data/$TAG.json\n")
	l := clean(t, config.Source{Dir: dir, Environ: []string{"STORE_FILE_FILE=template"}})
	if l.Store.File != "/data/$TAG.json" {
		t.Errorf("the file is %q", l.Store.File)
	}
	type odd struct {
		Web     string `env:"WEB" doc:"One."`
		WebFile string `env:"WEB_FILE" doc:"Another."`
	}
	found, err := config.Open(config.Source{Dir: dir, Environ: []string{"WEB=a", "WEB_FILE=b"}})
	if err != nil {
		t.Fatal(err)
	}
	section := &config.Section{Name: "odd", Into: &odd{}}
	if _, err := found.Load(&config.Settings{}, section); err != nil {
		t.Fatal(err)
	}
	if got := *section.Into.(*odd); got != (odd{"a", "b"}) || !section.Active {
		t.Errorf("got %+v, active %v", got, section.Active)
	}
}

func TestDotenvKeepsPathVariables(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, ".env", "\ufeffexport STORE_FILE=../out/$TAG/$TENANCY.json # older spelling\r\nSTORE_AWS_S3_KEY=\"src/$TAG\"\r\nSTORE_AWS_S3_BACKUP='bk/$TAG'\r\nSTORE_AWS_S3_BUCKET=b\r\n")
	l := clean(t, config.Source{Dir: dir, Environ: []string{"TAG=expanded", "TENANCY=acme"}})
	if l.Store.File != "../out/$TAG/$TENANCY.json" || l.Store.S3.Key != "src/$TAG" || l.Store.S3.Backup != "bk/$TAG" {
		t.Errorf("got %q, %q, %q", l.Store.File, l.Store.S3.Key, l.Store.S3.Backup)
	}
}

func TestFirstOfTwoEnvironmentEntriesCounts(t *testing.T) {
	if l := clean(t, config.Source{Environ: []string{"TENANCY=a", "TENANCY=b", "=x", "no-sign"}}); l.Tenancy != "a" {
		t.Errorf("the tenancy is %q", l.Tenancy)
	}
}

func TestOpenProblems(t *testing.T) {
	tests := []struct {
		name, dotenv, named, envFile string
		want                         []string
	}{
		{"nothing there", "", "", "", nil},
		{"missing --env-file", "", "", "no/such.env", []string{"--env-file no/such.env: no such file or directory: want a readable file"}},
		{"broken .env", "A=1\nhush", "", "", []string{".env:2: is not a setting: want NAME=value"}},
		{"all broken", "hush", "A='hush", "prod.env", []string{".env:1: is not a setting: want NAME=value", "prod.env:1: the value of A has no closing '"}},
		{"the same file twice", "TENANCY=x", "", "./.env", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.dotenv != "" {
				write(t, dir, ".env", tt.dotenv)
			}
			if tt.named != "" {
				write(t, dir, "prod.env", tt.named)
			}
			_, err := config.Open(config.Source{Dir: dir, EnvFile: tt.envFile})
			if diff := cmp.Diff(tt.want, lines(t, err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := config.Open(config.Source{Dir: dir})
	if diff := cmp.Diff([]string{".env: is a directory: want a readable file"}, lines(t, err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestEnvFileByAbsolutePath also reads from a pipe, as a shell's <(...) is.
func TestEnvFileByAbsolutePath(t *testing.T) {
	path := write(t, t.TempDir(), "prod.env", "TENANCY=acme\n")
	if l := clean(t, config.Source{EnvFile: path}); l.Tenancy != "acme" || l.found.Origin("TENANCY") != "--env-file" {
		t.Errorf("the tenancy is %q by %q", l.Tenancy, l.found.Origin("TENANCY"))
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("TENANCY=piped\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if l := clean(t, config.Source{EnvFile: fmt.Sprintf("/dev/fd/%d", r.Fd())}); l.Tenancy != "piped" {
		t.Errorf("the tenancy is %q", l.Tenancy)
	}
}
