package sinks_test

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
)

func TestNames(t *testing.T) {
	if got, want := sinks.Names(), []string{"file", "duckdb", "postgres", "s3", "backup"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
}

// load fills settings from the environment.
func load(t *testing.T, environ ...string) config.Store {
	t.Helper()
	found, err := config.Open(config.Source{Environ: environ, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	settings := sinks.NewSettings()
	if _, err := found.Load(settings); err != nil {
		t.Fatal(err)
	}
	return settings.Store
}

func TestOpen(t *testing.T) {
	postgres := []string{"STORE_POSTGRES_HOST=db.example.com", "STORE_POSTGRES_USER=u", "STORE_POSTGRES_DBNAME=d"}
	tests := []struct {
		name    string
		environ []string
		want    []string
	}{
		{name: "defaults", want: []string{"file"}},
		{name: "nothing", environ: []string{"STORE_FILE=off", "STORE_DUCKDB=OFF"}},
		{
			name:    "everything",
			environ: append([]string{"STORE_DUCKDB=x.duckdb", "STORE_AWS_S3_BUCKET=b", "STORE_AWS_S3_KEY=%TAG.json"}, postgres...),
			want:    []string{"file", "duckdb", "postgres", "s3", "backup"},
		},
		{name: "a bucket without a key", environ: []string{"STORE_FILE=off", "STORE_AWS_S3_BUCKET=b"}, want: []string{"backup"}},
		{name: "no backup", environ: []string{"STORE_FILE=off", "STORE_AWS_S3_BUCKET=b", "STORE_AWS_S3_KEY=%TAG.json", "STORE_AWS_S3_BACKUP= Off"}, want: []string{"s3"}},
		{name: "an empty backup", environ: []string{"STORE_FILE=off", "STORE_AWS_S3_BUCKET=b", "STORE_AWS_S3_KEY=%TAG.json", "STORE_AWS_S3_BACKUP="}, want: []string{"s3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opened, err := sinks.Open(load(t, tt.environ...), nil, store.Options{}, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range opened {
				names = append(names, s.Name())
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("opened %q, want %q", names, tt.want)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		problem string
	}{
		{name: "one file for all streams", environ: []string{"STORE_FILE=x.json"}, problem: "STORE_FILE: \"x.json\" has neither %TAG nor %UUID"},
		{name: "no format", environ: []string{"STORE_FILE=%TAG.csv"}, problem: "STORE_FILE: "},
		{name: "unknown variable", environ: []string{"STORE_DUCKDB=%FOO.duckdb"}, problem: "STORE_DUCKDB: "},
		{
			name:    "one object for all streams",
			environ: []string{"STORE_AWS_S3_BUCKET=b", "STORE_AWS_S3_KEY=x.json"},
			problem: "STORE_AWS_S3_KEY: \"x.json\" has neither %TAG nor %UUID",
		},
		{
			name:    "one backup for all streams",
			environ: []string{"STORE_AWS_S3_BUCKET=b", "STORE_AWS_S3_BACKUP=x.json"},
			problem: "STORE_AWS_S3_BACKUP: \"x.json\" has no %TAG",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sinks.Open(load(t, tt.environ...), nil, store.Options{}, zap.NewNop())
			if err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("error %v, want %q", err, tt.problem)
			}
		})
	}
}

func TestOpenBackup(t *testing.T) {
	s, err := sinks.OpenBackup(load(t), zap.NewNop())
	if s != nil || err != nil {
		t.Errorf("without a bucket: %v, %v", s, err)
	}
	s, err = sinks.OpenBackup(load(t, "STORE_AWS_S3_BUCKET=b"), zap.NewNop())
	if err != nil || s.Name() != "backup" {
		t.Errorf("with a bucket: %v, %v", s, err)
	}
}

// TestViewsAreRefused has unknown values of the settings of views: the problem names
// the variable.
func TestViewsAreRefused(t *testing.T) {
	for _, name := range []string{"STORE_DUCKDB_VIEWS", "STORE_POSTGRES_VIEWS"} {
		found, err := config.Open(config.Source{Environ: []string{name + "=sometimes"}, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := found.Load(sinks.NewSettings()); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "typed") {
			t.Errorf("%s: err = %v, want one that names it and its values", name, err)
		}
	}
}
