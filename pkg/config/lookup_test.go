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

// TestPrecedence sets one variable in every subset of the sources. Its value is that
// of the first of them, unless both NAME and NAME_FILE are set, which is an error.
func TestPrecedence(t *testing.T) {
	const environment, pointer, credential, dotenv, envFile = 1, 2, 4, 8, 16
	sources := []struct {
		source        int
		origin, value string
	}{
		{source: environment, origin: "environment", value: "a"}, {source: pointer, origin: "TENANCY_FILE", value: "b"}, {source: credential, origin: "credential", value: "c"},
		{source: dotenv, origin: ".env", value: "d"}, {source: envFile, origin: "--env-file", value: "e"}, {origin: "default", value: "default"},
	}
	for set := range 32 {
		if set&dotenv != 0 && set&envFile != 0 {
			continue // TestEnvFileReplacesDotenv
		}
		t.Run(fmt.Sprintf("%05b", set), func(t *testing.T) {
			dir, credentials := t.TempDir(), t.TempDir()
			src := config.Source{Dir: dir, Environ: []string{"CREDENTIALS_DIRECTORY=" + credentials, "TENANCY="}}
			if set&environment != 0 {
				src.Environ[1] = "TENANCY=a"
			}
			if set&pointer != 0 {
				src.Environ = append(src.Environ, "TENANCY_FILE="+writeFile(t, t.TempDir(), "tenancy", "b\n"))
			}
			if set&credential != 0 {
				writeFile(t, credentials, "TENANCY", "c")
			}
			if set&dotenv != 0 {
				writeFile(t, dir, ".env", "TENANCY=d\n")
			}
			if set&envFile != 0 {
				src.EnvFile = "prod.env"
				writeFile(t, dir, "prod.env", "TENANCY=e\n")
			}

			l := loadSource(t, src)
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

// TestPointerFromAnySource sets NAME_FILE in each source.
func TestPointerFromAnySource(t *testing.T) {
	secret := writeFile(t, t.TempDir(), "secret", "s3cret\n")
	for _, source := range []string{"environment", "credential", ".env", "--env-file"} {
		t.Run(source, func(t *testing.T) {
			dir, credentials := t.TempDir(), t.TempDir()
			src := config.Source{Dir: dir, Environ: []string{"CREDENTIALS_DIRECTORY=" + credentials, "FALCON_CLIENT_ID=id"}}
			assignment := "FALCON_SECRET_FILE=" + secret
			switch source {
			case "environment":
				src.Environ = append(src.Environ, assignment)
			case "credential":
				writeFile(t, credentials, "FALCON_SECRET_FILE", secret+"\n")
			case ".env":
				writeFile(t, dir, ".env", assignment)
			case "--env-file":
				src.EnvFile = writeFile(t, dir, "prod.env", assignment)
			}
			l := loadWithoutProblems(t, src)
			if got := l.sections["crowdstrike"].Into.(*crowdstrike).Secret.Reveal(); got != "s3cret" {
				t.Errorf("the secret is %q", got)
			}
			if got := l.found.Origin("FALCON_SECRET"); got != "FALCON_SECRET_FILE" {
				t.Errorf("the origin is %q", got)
			}
		})
	}
}

// TestFileContents: one newline and a byte order mark are removed from files and
// credentials.
func TestFileContents(t *testing.T) {
	tests := []struct{ text, want string }{
		{"s", "s"}, {"s\n", "s"}, {"s\r\n", "s"}, {"s\n\n", "s\n"}, {"s\r\n\r\n", "s\r\n"}, {"s\r", "s\r"}, {" s \n", " s "},
		{"\ns", "\ns"}, {"a\nb\n", "a\nb"}, {"$TAG # x\n", "$TAG # x"}, {"\ufeffs\r\n", "s"}, {`"a" or "b"`, `"a" or "b"`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			dir, credentials := t.TempDir(), t.TempDir()
			writeFile(t, dir, "secret", tt.text)
			writeFile(t, credentials, "OKTA_TOKEN", tt.text)
			l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: []string{
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
	empty, long := writeFile(t, dir, "empty", "\n"), writeFile(t, dir, "long", strings.Repeat("x", 1<<20+1))
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
		{
			name:    "missing",
			environ: []string{"TENANCY_FILE=/no/such"},
			want:    []string{`TENANCY_FILE: "/no/such": no such file or directory` + want + "TENANCY"},
		},
		{
			name:    "relative",
			environ: []string{"TENANCY_FILE=no-such"},
			want:    []string{`TENANCY_FILE: "no-such": no such file or directory` + want + "TENANCY"},
		},
		{
			name:    "a secret's, relative",
			environ: []string{"STORE_POSTGRES_URL_FILE=no-such"},
			want:    []string{"STORE_POSTGRES_URL_FILE: the file: no such file or directory" + want + "STORE_POSTGRES_URL"},
		},
		{
			name:    "directory",
			environ: []string{"TENANCY_FILE=" + dir},
			want:    []string{fmt.Sprintf("TENANCY_FILE: %q: is a directory", dir) + want + "TENANCY"},
		},
		{
			name:    "empty",
			environ: []string{"TENANCY_FILE=" + empty},
			want:    []string{fmt.Sprintf("TENANCY_FILE: %q: empty", empty) + want + "TENANCY"},
		},
		{
			name:    "too long",
			environ: []string{"TENANCY_FILE=" + long},
			want:    []string{fmt.Sprintf("TENANCY_FILE: %q: longer than 1 MiB", long) + want + "TENANCY"},
		},
		{
			name:    "bad value",
			environ: []string{"RUN_TIMEOUT_FILE=" + writeFile(t, dir, "timeout", "soon\n")},
			want:    []string{`RUN_TIMEOUT: "soon" is not a duration: want a duration of 1s or more such as 90s, 15m, 6h or 7d`},
		},
		{
			name:    "half of a pair",
			environ: []string{"FALCON_CLIENT_ID=id", "FALCON_SECRET_FILE=/no/such"},
			want:    []string{`FALCON_SECRET_FILE: "/no/such": no such file or directory` + want + "FALCON_SECRET"},
		},
		{
			name:    "an alias's",
			environ: []string{"FALCON_CLIENT_ID=id", "CROWDSTRIKE_CLIENT_SECRET_FILE=/no/such"},
			want:    []string{`CROWDSTRIKE_CLIENT_SECRET_FILE: "/no/such": no such file or directory` + want + "CROWDSTRIKE_CLIENT_SECRET"},
		},
		{
			name:    "both",
			environ: []string{"TENANCY=a", "TENANCY_FILE=/no/such"},
			want:    []string{"TENANCY: set in the environment, and TENANCY_FILE is set in the environment: keep one of the two"},
		},
		{
			name:    "both in different places",
			environ: []string{"TENANCY=a"},
			dotenv:  "TENANCY_FILE=x",
			want:    []string{"TENANCY: set in the environment, and TENANCY_FILE is set in .env: keep one of the two"},
		},
		{
			name:    "credential is a directory",
			environ: []string{"CREDENTIALS_DIRECTORY=" + credentials},
			want:    []string{"TENANCY: the credential $CREDENTIALS_DIRECTORY/TENANCY: is a directory: want a readable file"},
		},
		{name: "credential that is not needed", environ: []string{"CREDENTIALS_DIRECTORY=" + credentials, "TENANCY=a"}},
		{name: "no credentials directory", environ: []string{"CREDENTIALS_DIRECTORY=/no/such"}},
		{name: "empty pointer", environ: []string{"TENANCY_FILE=", "TENANCY=a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			work := t.TempDir()
			writeFile(t, work, ".env", tt.dotenv)
			l := loadSource(t, config.Source{Dir: work, Environ: tt.environ})
			if diff := cmp.Diff(tt.want, l.problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKnownNamesEndingInFile: STORE_FILE is a setting, not the NAME_FILE of STORE,
// and has a NAME_FILE of its own.
func TestKnownNamesEndingInFile(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "template", "/data/$TAG.json\n")
	l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: []string{"STORE_FILE_FILE=template"}})
	if l.file.Path != "/data/$TAG.json" {
		t.Errorf("the file is %q", l.file.Path)
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
	writeFile(t, dir, ".env", "\ufeffexport STORE_FILE=../out/$TAG/$TENANCY.json # older spelling\r\nSTORE_AWS_S3_KEY=\"src/$TAG\"\r\nSTORE_AWS_S3_BACKUP='bk/$TAG'\r\nSTORE_AWS_S3_BUCKET=b\r\n")
	l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: []string{"TAG=expanded", "TENANCY=acme"}})
	if l.file.Path != "../out/$TAG/$TENANCY.json" || l.s3.Key != "src/$TAG" || l.s3.Backup != "bk/$TAG" {
		t.Errorf("got %q, %q, %q", l.file.Path, l.s3.Key, l.s3.Backup)
	}
}

func TestFirstOfTwoEnvironmentEntriesCounts(t *testing.T) {
	if l := loadWithoutProblems(t, config.Source{Environ: []string{"TENANCY=a", "TENANCY=b", "=x", "no-sign"}}); l.Tenancy != "a" {
		t.Errorf("the tenancy is %q", l.Tenancy)
	}
}

func TestOpenProblems(t *testing.T) {
	tests := []struct {
		name, dotenv, named, envFile string
		want                         []string
	}{
		{name: "nothing there"},
		{
			name:    "missing --env-file",
			envFile: "no/such.env",
			want:    []string{"--env-file no/such.env: no such file or directory: want a readable file"},
		},
		{name: "broken .env", dotenv: "A=1\nhush\xff", want: []string{".env: line 2 is not text: want UTF-8, not UTF-16, and no NUL bytes"}},
		{
			name:    "broken --env-file",
			dotenv:  "hush\xff",
			named:   "hush\xff",
			envFile: "prod.env",
			want:    []string{"--env-file prod.env: line 1 is not text: want UTF-8, not UTF-16, and no NUL bytes"},
		},
		{name: ".env by name", dotenv: "TENANCY=x", envFile: "./.env"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.dotenv != "" {
				writeFile(t, dir, ".env", tt.dotenv)
			}
			if tt.named != "" {
				writeFile(t, dir, "prod.env", tt.named)
			}
			_, err := config.Open(config.Source{Dir: dir, EnvFile: tt.envFile})
			if diff := cmp.Diff(tt.want, problemLines(t, err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := config.Open(config.Source{Dir: dir})
	if diff := cmp.Diff([]string{".env: is a directory: want a readable file"}, problemLines(t, err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestEnvFileByAbsolutePath also reads from a pipe, such as a shell's <(...).
func TestEnvFileByAbsolutePath(t *testing.T) {
	path := writeFile(t, t.TempDir(), "prod.env", "TENANCY=acme\n")
	if l := loadWithoutProblems(t, config.Source{EnvFile: path}); l.Tenancy != "acme" || l.found.Origin("TENANCY") != "--env-file" {
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
	if l := loadWithoutProblems(t, config.Source{EnvFile: fmt.Sprintf("/dev/fd/%d", r.Fd())}); l.Tenancy != "piped" {
		t.Errorf("the tenancy is %q", l.Tenancy)
	}
}
