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

func TestDidYouMean(t *testing.T) {
	const unknown = ": not a setting of collectord"
	tests := []struct {
		name    string
		environ []string
		dotenv  string
		want    []string
	}{
		{"typo", []string{"STORE_FIEL=x"}, "", []string{"STORE_FIEL (environment)" + unknown + ": did you mean STORE_FILE?"}},
		{"letter left out", []string{"STORE_POSTGRES_PASSWRD=x"}, "", []string{"STORE_POSTGRES_PASSWRD (environment)" + unknown + ": did you mean STORE_POSTGRES_PASSWORD?"}},
		{"typo of a NAME_FILE", []string{"STORE_POSTGRES_PASSWRD_FILE=x"}, "", []string{"STORE_POSTGRES_PASSWRD_FILE (environment)" + unknown + ": did you mean STORE_POSTGRES_PASSWORD_FILE?"}},
		{"nothing like it", []string{"STORE_WINDOW=x"}, "", []string{"STORE_WINDOW (environment)" + unknown}},
		{"empty", []string{"STORE_FIEL="}, "", nil},
		{"others' in the environment", []string{"RUN_ID=1", "LOG_DIR=x", "STATE_DIRECTORY=/x", "GUARD_DOG=x", "RESTORE_ALL=1", "HOME=/", "store_x=1"}, "", nil},
		{"those of reports", []string{"STORE_AWS_S3_WEB=x"}, "STORE_AWS_S3_HISTORY=x\n", nil},
		{"others' in a file", nil, "AWS_REGION=x\nFALCON_COULD=x\nRUNNER=1\n", nil},
		{"in a file", nil, "A=1\nRUN_TIMEOT=1h\n\nLOG_LEVL=x\nRESTORE_TIME_OUT=x\nGUARD_DRP=1\nSTATE_KEP=1\nSTORE_EMTY=1\nSCHEDULE_X=1\n", []string{
			"GUARD_DRP (.env:6)" + unknown + ": did you mean GUARD_DROP?",
			"LOG_LEVL (.env:4)" + unknown + ": did you mean LOG_LEVEL?",
			"RESTORE_TIME_OUT (.env:5)" + unknown + ": did you mean RESTORE_TIMEOUT?",
			"RUN_TIMEOT (.env:2)" + unknown + ": did you mean RUN_TIMEOUT?",
			"SCHEDULE_X (.env:9)" + unknown + ": did you mean SCHEDULE_TZ?",
			"STATE_KEP (.env:7)" + unknown + ": did you mean STATE_KEEP?",
			"STORE_EMTY (.env:8)" + unknown + ": did you mean STORE_EMPTY?",
		}},
		{"schedule", []string{"SCHEDULE_TZ=UTC", "SCHEDULE_OKTA=@daily", "SCHEDULE_JITER=x"}, "SCHEDULE_RETRY=1\nSCHEDULE_CATCHUP=1\n", []string{
			"SCHEDULE_JITER (environment)" + unknown + ": did you mean SCHEDULE_JITTER?",
		}},
		{"schedule of a collector", []string{"SCHEDULE_TENABEL=x"}, "", []string{"SCHEDULE_TENABEL (environment)" + unknown + ": did you mean SCHEDULE_TENABLE?"}},
		{"known", []string{"STORE_FILE=x", "STORE_FILE_FILE="}, "RUN_TIMEOUT=1h\nLOG_LEVEL_FILE=\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, ".env", tt.dotenv)
			l := clean(t, config.Source{Dir: dir, Environ: tt.environ})
			if diff := cmp.Diff(tt.want, l.warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFilesThatOthersMayRead(t *testing.T) {
	const secrets = "TIO_ACCESS_KEY=abcd\nTIO_SECRET_KEY=efgh\nTENANCY=x\nCROWDSTRIKE_CLIENT_SECRET=\n"
	tests := []struct {
		mode os.FileMode
		text string
		warn bool
	}{
		{0o600, secrets, false}, {0o640, secrets, false}, {0o660, secrets, false}, {0o644, secrets, true}, {0o604, secrets, true},
		{0o644, "TENANCY=x\nFALCON_SECRET=\nTIO_ACCESS_KEY_FILE=\n", false},
	}
	for _, tt := range tests {
		for _, name := range []string{".env", "prod.env"} {
			t.Run(fmt.Sprintf("%s %o", name, tt.mode), func(t *testing.T) {
				dir := t.TempDir()
				src := config.Source{Dir: dir}
				if name != ".env" {
					src.EnvFile = name
				}
				if err := os.Chmod(write(t, dir, name, tt.text), tt.mode); err != nil {
					t.Fatal(err)
				}
				var want []string
				if tt.warn {
					want = []string{name + ": anybody on this machine may read it, and it holds TIO_ACCESS_KEY and TIO_SECRET_KEY: run chmod 600 " + name}
				}
				if diff := cmp.Diff(want, clean(t, src).warnings); diff != "" {
					t.Errorf("warnings (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestDifferingFiles(t *testing.T) {
	const used = "TENANCY: .env and prod.env set it to different values: .env is used"
	tests := []struct {
		name, dotenv, named string
		environ             []string
		want                []string
	}{
		{"differ", "TENANCY=a", "TENANCY=b", nil, []string{used}},
		{"agree", "TENANCY=a", "TENANCY='a'", nil, nil},
		{"empty in .env", "TENANCY=", "TENANCY=b", nil, nil},
		{"empty in the other", "TENANCY=a", "TENANCY=", nil, nil},
		{"the environment's is used", "TENANCY=a", "TENANCY=b", []string{"TENANCY=c"}, nil},
		{"not ours", "AWS_REGION=a", "AWS_REGION=b", nil, nil},
		{"a secret", "STORE_POSTGRES_URL=postgres://h/aaaa", "STORE_POSTGRES_URL=postgres://h/bbbb", nil, []string{"STORE_POSTGRES_URL: .env and prod.env set it to different values: .env is used"}},
		{"a NAME_FILE", "TENANCY_FILE=prod.env", "TENANCY_FILE=b", nil, []string{"TENANCY_FILE: .env and prod.env set it to different values: .env is used"}},
		{"twice in one", "TENANCY=a\nTENANCY=b\nTENANCY=c\nTENANCY=c\nAWS_REGION=1\nAWS_REGION=2", "", nil, []string{"TENANCY: set more than once in .env, to different values: line 4 is used"}},
		{"twice in the other", "", "TENANCY=a\nTENANCY=b", nil, []string{"TENANCY: set more than once in prod.env, to different values: line 2 is used"}},
		{"twice the same", "TENANCY=a\nTENANCY=a", "", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, ".env", tt.dotenv)
			write(t, dir, "prod.env", tt.named)
			l := clean(t, config.Source{Dir: dir, EnvFile: "prod.env", Environ: tt.environ})
			if diff := cmp.Diff(tt.want, l.warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWarningsComeWithProblems: what is doubtful may be why something is wrong.
func TestWarningsComeWithProblems(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Clean(dir), ".env", "STORE_POSTGRES_HOSTNAME=h\nSTORE_POSTGRES_USER=u\nSTORE_POSTGRES_DBNAME=d\n")
	l := load(t, config.Source{Dir: dir})
	if len(l.problems) != 1 || !strings.HasPrefix(l.problems[0], "STORE_POSTGRES_HOST: not set, but ") {
		t.Errorf("problems: %q", l.problems)
	}
	if len(l.warnings) != 1 || !strings.HasSuffix(l.warnings[0], "did you mean STORE_POSTGRES_HOST?") {
		t.Errorf("warnings: %q", l.warnings)
	}
}
