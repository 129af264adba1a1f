package config_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

// TestLibraryVariables: the variables of libraries are found in every source, the
// environment first, and their secrets are known.
func TestLibraryVariables(t *testing.T) {
	dir, credentials := t.TempDir(), t.TempDir()
	writeFile(t, credentials, "AWS_SECRET_ACCESS_KEY", "hush-1\n")
	writeFile(t, credentials, "OTHER", "x")
	writeFile(t, dir, ".env", `
AWS_ACCESS_KEY_ID=AKIA
AWS_SECRET_ACCESS_KEY=stale
AWS_REGION=eu-central-1
PGSSLMODE=require
PGPASSWORD=hush-2
HTTPS_PROXY=http://me:hush%2D3@proxy:3128
no_proxy=localhost
SSL_CERT_FILE=/ca.pem
OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20hush-4,x-team=sec"
PGADMIN=x
EDITOR=vi
AWS_PROFILE=
`)
	l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: []string{
		"CREDENTIALS_DIRECTORY=" + credentials, "AWS_REGION=us-east-1", "http_proxy=", "AWS_SESSION_TOKEN=hush-5",
	}})
	want := []config.Variable{
		{Name: "AWS_ACCESS_KEY_ID", Value: "AKIA", Origin: ".env:2"},
		{Name: "AWS_REGION", Value: "us-east-1", Origin: "environment"},
		{Name: "AWS_SECRET_ACCESS_KEY", Value: "hush-1", Origin: "credential"},
		{Name: "AWS_SESSION_TOKEN", Value: "hush-5", Origin: "environment"},
		{Name: "HTTPS_PROXY", Value: "http://me:hush%2D3@proxy:3128", Origin: ".env:7"},
		{Name: "OTEL_EXPORTER_OTLP_HEADERS", Value: "authorization=Bearer%20hush-4,x-team=sec", Origin: ".env:10"},
		{Name: "PGPASSWORD", Value: "hush-2", Origin: ".env:6"},
		{Name: "PGSSLMODE", Value: "require", Origin: ".env:5"},
		{Name: "SSL_CERT_FILE", Value: "/ca.pem", Origin: ".env:9"},
		{Name: "http_proxy", Origin: "environment"},
		{Name: "no_proxy", Value: "localhost", Origin: ".env:8"},
	}
	if diff := cmp.Diff(want, l.found.LibraryVariables()); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	secrets := l.found.Secrets()
	for _, secret := range []string{"hush-1", "hush-2", "hush-3", "Bearer hush-4", "Bearer%20hush-4", "hush-5"} {
		if !slices.Contains(secrets, secret) {
			t.Errorf("%q is not a secret", secret)
		}
	}
	wantWarnings := []string{"AWS_REGION: the environment and .env:4 set it to different values: that of the environment is used"}
	if diff := cmp.Diff(wantWarnings, l.warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestLibraryChanges(t *testing.T) {
	before := []config.Variable{{Name: "AWS_REGION", Value: "a"}, {Name: "PGUSER", Value: "u"}, {Name: "HTTPS_PROXY", Value: "p"}, {Name: "SSL_CERT_FILE", Value: "c"}, {Name: "no_proxy"}}
	after := []config.Variable{{Name: "AWS_REGION", Value: "b"}, {Name: "HTTPS_PROXY", Value: "p"}, {Name: "OTEL_SERVICE_NAME", Value: "s"}}
	changed, restart := config.LibraryChanges(before, after)
	if diff := cmp.Diff([]string{"AWS_REGION", "OTEL_SERVICE_NAME", "PGUSER", "SSL_CERT_FILE"}, changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"OTEL_SERVICE_NAME", "SSL_CERT_FILE"}, restart); diff != "" {
		t.Errorf("restart (-want +got):\n%s", diff)
	}
}

// TestKnownAWSVariables compares the list of the AWS SDK's variables with its source, so
// that a new one is not taken for a misspelled one.
func TestKnownAWSVariables(t *testing.T) {
	for _, module := range []string{"config", "service/s3"} {
		dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/"+module).Output()
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source of %s: %v", module, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range regexp.MustCompile(`"(AWS_[A-Z0-9_]*[A-Z0-9])"`).FindAllStringSubmatch(string(text), -1) {
				found := loadWithoutProblems(t, config.Source{Dir: t.TempDir(), Environ: []string{name[1] + "=x"}})
				if len(found.warnings) > 0 {
					t.Errorf("%s, which %s reads: %q", name[1], file, found.warnings)
				}
			}
		}
	}
}
