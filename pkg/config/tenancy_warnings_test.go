package config_test

import (
	"slices"
	"testing"

	"github.com/collectord/collectord/pkg/config"
)

// TestTenancyWarnings checks the warnings of files and credentials that are meant for a tenancy
// and have no effect.
func TestTenancyWarnings(t *testing.T) {
	t.Parallel()
	dir, credentials := t.TempDir(), t.TempDir()
	for _, name := range []string{"acme.env", "GLOBEX.ENV", "acme.env~"} {
		writeFile(t, dir, name, "")
	}
	for _, name := range []string{"acme.TIO_SECRET_KEY", "ghost.TIO_SECRET_KEY", "acme.TIO_SECRT_KEY", "TIO_ACCESS_KEY", "tls.key"} {
		writeFile(t, credentials, name, "s3cr3t-tenable")
	}
	env, err := config.Open(config.Source{Environ: []string{"CREDENTIALS_DIRECTORY=" + credentials}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = env.LoadShared(coreSettings(), sampleSections()...) // refuses the shared TIO_ACCESS_KEY
	want := []string{
		"TENANCIES_DIR: GLOBEX.ENV is ignored: want a name that ends in .env",
		"the credential acme.TIO_SECRT_KEY is not used: TIO_SECRT_KEY is not a setting of collectord: did you mean TIO_SECRET_KEY?",
		"the credential ghost.TIO_SECRET_KEY is not used: TENANCIES_DIR has no file ghost.env",
	}
	if got := env.WarnOfTenancies(dir, []string{"acme.env"}); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
