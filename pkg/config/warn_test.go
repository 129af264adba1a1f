package config_test

import (
	"fmt"
	"os"
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
		{
			name:    "typo",
			environ: []string{"STORE_FIEL=x"},
			want:    []string{"STORE_FIEL (environment)" + unknown + ": did you mean STORE_FILE?"},
		},
		{
			name:    "letter left out",
			environ: []string{"STORE_POSTGRES_PASSWRD=x"},
			want:    []string{"STORE_POSTGRES_PASSWRD (environment)" + unknown + ": did you mean STORE_POSTGRES_PASSWORD?"},
		},
		{
			name:    "typo of a NAME_FILE",
			environ: []string{"STORE_POSTGRES_PASSWRD_FILE=x"},
			want:    []string{"STORE_POSTGRES_PASSWRD_FILE (environment)" + unknown + ": did you mean STORE_POSTGRES_PASSWORD_FILE?"},
		},
		{name: "nothing like it", environ: []string{"STORE_WINDOW=x"}, want: []string{"STORE_WINDOW (environment)" + unknown}},
		{name: "empty", environ: []string{"STORE_FIEL="}},
		{
			name:    "others' in the environment",
			environ: []string{"STATE_DIRECTORY=/x", "NOTIFY_SOCKET=/x", "LOG_NAMESPACE=x", "HOME=/", "store_x=1", "HTTP_PROXY=x", "OKTA_SERVICE_HOST=1", "SNYK_PORT_443_TCP_ADDR=1", "TENANT=x", "MANPATH=x", "TZ=x"},
		},
		{
			name: "every prefix in the environment",
			environ: []string{
				"GUARD_DORP=1", "HTTP_TOKN=1", "RUN_TIMEOUTS=1", "STATE_KEPT=1", "LOG_LEVLE=1", "SHUTDOWN_GRACES=1", "MAX_PARALLEL_RUN=1", "RESTORE_TIMEOUTT=1",
				"METRICS_TEXTFIL=1", "OKTA_TOKN=1", "TIO_CHNK=1", "FALCON_COULD=1", "NOTIFY_URL=1", "SLACK_WEBHOOKS=1", "COLLECTOR=1", "TENNANCY=1", "SCHEDUL=1",
			},
			want: []string{
				"COLLECTOR (environment)" + unknown + ": did you mean COLLECTORS?",
				"FALCON_COULD (environment)" + unknown + ": did you mean FALCON_CLOUD?",
				"GUARD_DORP (environment)" + unknown + ": did you mean GUARD_DROP?",
				"HTTP_TOKN (environment)" + unknown + ": did you mean HTTP_TOKEN?",
				"LOG_LEVLE (environment)" + unknown + ": did you mean LOG_LEVEL?",
				"MAX_PARALLEL_RUN (environment)" + unknown + ": did you mean MAX_PARALLEL_RUNS?",
				"METRICS_TEXTFIL (environment)" + unknown + ": did you mean METRICS_TEXTFILE?",
				"NOTIFY_URL (environment)" + unknown + ": did you mean NOTIFY_URLS?",
				"OKTA_TOKN (environment)" + unknown + ": did you mean OKTA_TOKEN?",
				"RESTORE_TIMEOUTT (environment)" + unknown + ": did you mean RESTORE_TIMEOUT?",
				"RUN_TIMEOUTS (environment)" + unknown + ": did you mean RUN_TIMEOUT?",
				"SCHEDUL (environment)" + unknown + ": did you mean SCHEDULE?",
				"SHUTDOWN_GRACES (environment)" + unknown + ": did you mean SHUTDOWN_GRACE?",
				"SLACK_WEBHOOKS (environment)" + unknown + ": did you mean SLACK_WEBHOOK?",
				"STATE_KEPT (environment)" + unknown + ": did you mean STATE_KEEP?",
				"TENNANCY (environment)" + unknown + ": did you mean TENANCY?",
				"TIO_CHNK (environment)" + unknown + ": did you mean TIO_CHUNK?",
			},
		},
		{
			name:    "RUN_PATIENCE beyond RUN_TIMEOUT",
			environ: []string{"RUN_PATIENCE=20m", "RUN_TIMEOUT=10m"},
			want:    []string{"RUN_PATIENCE: 20m0s is longer than RUN_TIMEOUT, 10m0s, which ends the run before"},
		},
		{name: "RUN_TIMEOUT below the default of RUN_PATIENCE", environ: []string{"RUN_TIMEOUT=10m"}},
		{
			name:    "prefix alone",
			environ: []string{"LOG_DIR=x"},
			dotenv:  "RUN_COLOUR=x\n",
			want:    []string{"LOG_DIR (environment)" + unknown, "RUN_COLOUR (.env:1)" + unknown},
		},
		{
			name:   "libraries",
			dotenv: "AWS_REGION=x\nPGSSLMODE=x\nPGSLLMODE=x\nREQUESTS_CA_BUNDLE=x\nTZ=x\nRUNNER=1\n",
			want: []string{
				"PGSLLMODE (.env:3)" + unknown + ": did you mean PGSSLMODE?",
				"REQUESTS_CA_BUNDLE (.env:4): has no effect on collectord: set SSL_CERT_FILE",
				"TZ (.env:5): has no effect on collectord: set SCHEDULE_TZ",
			},
		},
		{
			name: "misspelled ones of libraries",
			environ: []string{
				"AWS_ACCES_KEY_ID=x", "AWS_SECRET_ACESS_KEY=x", "AWS_REGOIN=x", "PGPASSWROD=x", "PGHOTS=x",
				"AWS_PAGER=x", "AWS_VAULT=x", "AWS_ENDPOINT_URL_SQS=x", "AWS_ACCESS_KEY=x", "PGDATA=/x", "PGDATESTYLE=x",
			},
			want: []string{
				"AWS_ACCES_KEY_ID (environment): not a variable of the AWS SDK: did you mean AWS_ACCESS_KEY_ID?",
				"AWS_REGOIN (environment): not a variable of the AWS SDK: did you mean AWS_REGION?",
				"AWS_SECRET_ACESS_KEY (environment): not a variable of the AWS SDK: did you mean AWS_SECRET_ACCESS_KEY?",
				"PGHOTS (environment)" + unknown + ": did you mean PGHOST?",
				"PGPASSWROD (environment)" + unknown + ": did you mean PGPASSWORD?",
			},
		},
		{name: "those of reports", environ: []string{"STORE_AWS_S3_WEB=x"}, dotenv: "STORE_AWS_S3_HISTORY=x\n"},
		{
			name:   "in a file",
			dotenv: "A=1\nRUN_TIMEOT=1h\n\nLOG_LEVL=x\nRESTORE_TIME_OUT=x\nGUARD_DRP=1\nSTATE_KEP=1\nSTORE_EMTY=1\nSCHEDULE_X=1\n",
			want: []string{
				"GUARD_DRP (.env:6)" + unknown + ": did you mean GUARD_DROP?",
				"LOG_LEVL (.env:4)" + unknown + ": did you mean LOG_LEVEL?",
				"RESTORE_TIME_OUT (.env:5)" + unknown + ": did you mean RESTORE_TIMEOUT?",
				"RUN_TIMEOT (.env:2)" + unknown + ": did you mean RUN_TIMEOUT?",
				"SCHEDULE_X (.env:9)" + unknown + ": did you mean SCHEDULE_TZ?",
				"STATE_KEP (.env:7)" + unknown + ": did you mean STATE_KEEP?",
				"STORE_EMTY (.env:8)" + unknown + ": did you mean STORE_EMPTY?",
			},
		},
		{
			name:    "schedule",
			environ: []string{"SCHEDULE_TZ=UTC", "SCHEDULE_OKTA=@daily", "SCHEDULE_JITER=x"},
			dotenv:  "SCHEDULE_RETRY=1\nSCHEDULE_CATCHUP=1\n",
			want: []string{
				"SCHEDULE_JITER (environment)" + unknown + ": did you mean SCHEDULE_JITTER?",
			},
		},
		{
			name:    "schedule of a collector",
			environ: []string{"SCHEDULE_TENABEL=x"},
			want:    []string{"SCHEDULE_TENABEL (environment)" + unknown + ": did you mean SCHEDULE_TENABLE?"},
		},
		{name: "known", environ: []string{"STORE_FILE=x", "STORE_FILE_FILE="}, dotenv: "RUN_TIMEOUT=1h\nLOG_LEVEL_FILE=\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, dir, ".env", tt.dotenv)
			l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: tt.environ})
			if diff := cmp.Diff(tt.want, l.warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadableFiles(t *testing.T) {
	const secrets = "TIO_ACCESS_KEY=abcd\nTIO_SECRET_KEY=efgh\nTENANCY=x\nCROWDSTRIKE_CLIENT_SECRET=\n"
	tests := []struct {
		mode os.FileMode
		text string
		warn string
	}{
		{mode: 0o600, text: secrets}, {mode: 0o640, text: secrets}, {mode: 0o660, text: secrets}, {mode: 0o644, text: secrets, warn: "read it"}, {mode: 0o604, text: secrets, warn: "read it"},
		{mode: 0o602, text: secrets, warn: "change it"}, {mode: 0o666, text: secrets, warn: "read and change it"},
		{mode: 0o644, text: "TENANCY=x\nFALCON_SECRET=\nTIO_ACCESS_KEY_FILE=\n"},
	}
	for _, tt := range tests {
		for _, name := range []string{".env", "prod.env"} {
			t.Run(fmt.Sprintf("%s %o", name, tt.mode), func(t *testing.T) {
				dir := t.TempDir()
				src := config.Source{Dir: dir}
				if name != ".env" {
					src.EnvFile = name
				}
				if err := os.Chmod(writeFile(t, dir, name, tt.text), tt.mode); err != nil {
					t.Fatal(err)
				}
				var want []string
				if tt.warn != "" {
					want = []string{name + ": anyone on this machine can " + tt.warn + ", and it contains TIO_ACCESS_KEY and TIO_SECRET_KEY: run chmod 600 " + name}
				}
				if diff := cmp.Diff(want, loadWithoutProblems(t, src).warnings); diff != "" {
					t.Errorf("warnings (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestReadableSecretOfSeveralSections: a secret that several sections have is named once.
func TestReadableSecretOfSeveralSections(t *testing.T) {
	type login struct {
		Secret config.Secret `env:"AZURE_CLIENT_SECRET" doc:"Secret."`
	}
	dir := t.TempDir()
	if err := os.Chmod(writeFile(t, dir, ".env", "AZURE_CLIENT_SECRET=abcd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var core config.Settings
	found, err := config.Open(config.Source{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := found.Load(&core,
		&config.Section{Name: "one", Into: new(login)}, &config.Section{Name: "two", Into: new(login)})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".env: anyone on this machine can read it, and it contains AZURE_CLIENT_SECRET: run chmod 600 .env"}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestReadableFilesOfSecrets: a NAME_FILE of a secret that others can read is warned of,
// unless a container runtime has mounted it.
func TestReadableFilesOfSecrets(t *testing.T) {
	dir := t.TempDir()
	chmod := func(mode os.FileMode, directory, name string) string {
		path := writeFile(t, directory, name, "the-secret-"+name)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mounted := t.TempDir()
	if err := os.Symlink("..2026", mounted+"/..data"); err != nil {
		t.Fatal(err)
	}
	open, own, volume := chmod(0o644, dir, "open"), chmod(0o640, dir, "own"), chmod(0o644, mounted, "volume")
	found := loadWithoutProblems(t, config.Source{Dir: dir, Environ: []string{
		"OKTA_DOMAIN=x", "OKTA_ID_FILE=" + open, "OKTA_TOKEN_FILE=" + own, "TIO_ACCESS_KEY_FILE=" + volume, "TIO_SECRET_KEY_FILE=" + open,
		"STORE_POSTGRES_PASSWORD_FILE=" + own,
	}})
	want := []string{"TIO_SECRET_KEY_FILE: anyone on this machine can read it: run chmod 600 " + open}
	if diff := cmp.Diff(want, found.warnings[:min(1, len(found.warnings))]); diff != "" {
		t.Errorf("warnings (-want +got):\n%s\n%q", diff, found.warnings)
	}
	for _, w := range found.warnings[1:] {
		if strings.Contains(w, "chmod") {
			t.Errorf("another warning: %s", w)
		}
	}
}

// TestDifferingSources sets variables to different values in several sources.
func TestDifferingSources(t *testing.T) {
	tests := []struct {
		name, dotenv, credential string // of OKTA_TOKEN
		environ                  []string
		want                     []string
	}{
		{
			name:    "environment and file",
			environ: []string{"TENANCY=a"},
			dotenv:  "\nTENANCY=b",
			want:    []string{"TENANCY: the environment and .env:2 set it to different values: that of the environment is used"},
		},
		{
			name:       "environment and credential",
			environ:    []string{"OKTA_TOKEN=stale"},
			credential: "new",
			want:       []string{"OKTA_TOKEN: the environment and the credential set it to different values: that of the environment is used"},
		},
		{
			name:       "credential and file",
			dotenv:     "OKTA_TOKEN=stale",
			credential: "new",
			want:       []string{"OKTA_TOKEN: the credential and .env:1 set it to different values: that of the credential is used"},
		},
		{
			name:       "three that agree",
			environ:    []string{"OKTA_TOKEN=same"},
			dotenv:     "OKTA_TOKEN='same'",
			credential: "same\n",
		},
		{name: "empty", environ: []string{"TENANCY="}, dotenv: "TENANCY=b"},
		{name: "not ours", environ: []string{"EDITOR=a"}, dotenv: "EDITOR=b"},
		{
			name:    "a library's",
			environ: []string{"AWS_REGION=a"},
			dotenv:  "AWS_REGION=b",
			want:    []string{"AWS_REGION: the environment and .env:1 set it to different values: that of the environment is used"},
		},
		{
			name:   "twice in one file",
			dotenv: "TENANCY=a\nTENANCY=b\nTENANCY=c\nTENANCY=c\nOTHER=1\nOTHER=2",
			want:   []string{"TENANCY: set more than once in .env, to different values: line 4 is used"},
		},
		{name: "twice the same", dotenv: "TENANCY=a\nTENANCY=a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, credentials := t.TempDir(), t.TempDir()
			writeFile(t, dir, ".env", tt.dotenv+"\nOKTA_DOMAIN=d\nOKTA_ID=i\n")
			environ := append([]string{"CREDENTIALS_DIRECTORY=" + credentials}, tt.environ...)
			if tt.credential != "" {
				writeFile(t, credentials, "OKTA_TOKEN", tt.credential)
			} else {
				writeFile(t, credentials, "OKTA_DOMAIN", "d")
				environ = append(environ, "OKTA_TOKEN=t")
			}
			l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: environ})
			if diff := cmp.Diff(tt.want, l.warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReferencesAreReported: other programs expand ${NAME} in a file.
func TestReferencesAreReported(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, ".env", "SECRET=x\nOKTA_TOKEN=${SECRET}\nOKTA_DOMAIN=d\nOKTA_ID='${HOME}/i'\nSTORE_FILE=/d/${TAG}.json\nOTHER=${SECRET}\n")
	l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: []string{"HOME=/root"}})
	want := []string{
		"OKTA_ID (.env:4): refers to HOME, which is not expanded: want the value itself",
		"OKTA_TOKEN (.env:2): refers to SECRET, which is not expanded: want the value itself",
	}
	if diff := cmp.Diff(want, l.warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestWarningsComeWithProblems: a warning may explain a problem.
func TestWarningsComeWithProblems(t *testing.T) {
	l := loadSource(t, config.Source{Environ: []string{"COLLECTORS=okta", "OKTA_DOMAIN=d", "OKTA_ID=i", "OKTA_TOKN=t"}})
	if len(l.problems) != 1 || l.problems[0] != "COLLECTORS: okta is named, but OKTA_TOKEN is not set" {
		t.Errorf("problems: %q", l.problems)
	}
	if len(l.warnings) != 1 || !strings.HasSuffix(l.warnings[0], "did you mean OKTA_TOKEN?") {
		t.Errorf("warnings: %q", l.warnings)
	}
}
