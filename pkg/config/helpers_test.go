package config_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store/duckdb"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/postgres"
	"github.com/collectord/collectord/pkg/store/s3"
)

// crowdstrike has an alias for each variable.
type crowdstrike struct {
	ClientID string        `env:"FALCON_CLIENT_ID" alias:"CROWDSTRIKE_CLIENT_ID" required:"true" doc:"The ID of the API client."`
	Secret   config.Secret `env:"FALCON_SECRET" alias:"CROWDSTRIKE_CLIENT_SECRET" required:"true" doc:"The secret of the API client."`
	Cloud    string        `env:"FALCON_CLOUD" envDefault:"us-1" oneof:"us-1,us-2,eu-1" doc:"The cloud that holds the account."`
}

// tenable has settings of most types, some in a nested struct, and a validator.
type tenable struct {
	AccessKey config.Secret `env:"TIO_ACCESS_KEY" required:"true" doc:"The access key."`
	SecretKey config.Secret `env:"TIO_SECRET_KEY" required:"true" doc:"The secret key."`
	URL       *url.URL      `env:"TIO_URL" envDefault:"https://cloud.tenable.com" doc:"Where the API is."`
	Export    struct {
		Chunk   int           `env:"TIO_CHUNK" envDefault:"1000" min:"50" max:"5000" doc:"How many assets a chunk holds."`
		Rate    float64       `env:"TIO_RATE" min:"0.1" doc:"Requests a second."`
		Timeout time.Duration `env:"TIO_TIMEOUT" envDefault:"1h" min:"1m" max:"7d" doc:"How long an export may take."`
		Buffer  config.Bytes  `env:"TIO_BUFFER" envDefault:"1MiB" min:"1KiB" max:"1GiB" doc:"How much is held in memory | at once."`
		Tags    []string      `env:"TIO_TAGS" example:"prod,dmz" doc:"Only assets with these tags."`
	} `title:"Export"`
}

func (t *tenable) Validate() []error {
	var errs []error
	if t.AccessKey == t.SecretKey {
		errs = append(errs, config.Invalid("TIO_SECRET_KEY", "the same as TIO_ACCESS_KEY (%s): want the other half of the pair", t.SecretKey.Reveal()))
	}
	if t.Export.Chunk%10 != 0 {
		errs = append(errs, config.Invalid("TIO_CHUNK", "%d is not round: want tens", t.Export.Chunk))
	}
	return errs
}

// okta requires three variables, feed none.
type okta struct {
	Domain string        `env:"OKTA_DOMAIN" required:"true" doc:"The domain of the organisation."`
	ID     string        `env:"OKTA_ID" required:"true" doc:"The ID of the client."`
	Token  config.Secret `env:"OKTA_TOKEN" required:"true" doc:"The token."`
}

type feed struct {
	URL url.URL `env:"FEED_URL" envDefault:"https://feed.example.com/all" doc:"Where the feed is."`
}

// sampleSections returns new sections of all sample collectors.
func sampleSections() []*config.Section {
	return []*config.Section{
		{Name: "crowdstrike", Title: "CrowdStrike Falcon", Into: &crowdstrike{}, Collector: true, Streams: streams("crowdstrike_hosts", "crowdstrike_vulnerabilities")},
		{Name: "tenable", Title: "Tenable Vulnerability Management", Into: &tenable{}, Collector: true, Streams: streams("tenable_assets", "tenable_was")},
		{Name: "okta", Title: "Okta", Into: &okta{}, Collector: true, Streams: streams("okta_users")},
		{Name: "feed", Title: "Feed", Into: &feed{}, Collector: true, Streams: streams("feed_items")},
	}
}

// streams returns streams with these names.
func streams(names ...string) (all []config.Stream) {
	for _, name := range names {
		all = append(all, config.Stream{Name: name})
	}
	return all
}

// destinations returns the groups of the destinations' settings.
func destinations(f *file.Settings, d *duckdb.Settings, p *postgres.Settings, s *s3.Settings) config.Groups {
	return config.Groups{
		{Title: file.Definition.Title, Into: f},
		{Title: duckdb.Definition.Title, Into: d},
		{Title: postgres.Definition.Title, Into: p},
		{Title: s3.Definition.Title, Into: s},
	}
}

// coreSettings returns empty settings of the program and its destinations.
func coreSettings() *config.Settings {
	return &config.Settings{Store: config.Store{
		Destinations: destinations(&file.Settings{}, &duckdb.Settings{}, &postgres.Settings{}, &s3.Settings{}),
	}}
}

// writeFile writes a file in a directory and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loaded is the result of Load.
type loaded struct {
	config.Settings
	file     *file.Settings
	duckdb   *duckdb.Settings
	postgres *postgres.Settings
	s3       *s3.Settings
	found    *config.Environment
	sections map[string]*config.Section
	warnings []string
	problems []string
}

// loadSource opens a source, in a directory of its own unless it names one, and loads
// the core and all sample collectors.
func loadSource(t *testing.T, src config.Source) *loaded {
	t.Helper()
	if src.Dir == "" {
		src.Dir = t.TempDir()
	}
	found, err := config.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	l := &loaded{
		file: &file.Settings{}, duckdb: &duckdb.Settings{}, postgres: &postgres.Settings{}, s3: &s3.Settings{},
		found: found, sections: map[string]*config.Section{},
	}
	l.Store.Destinations = destinations(l.file, l.duckdb, l.postgres, l.s3)
	sections := sampleSections()
	for _, s := range sections {
		l.sections[s.Name] = s
	}
	l.warnings, err = found.Load(&l.Settings, sections...)
	l.problems = problemLines(t, err)
	return l
}

// problemLines returns the line of each problem of an error.
func problemLines(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var problems *config.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("%T is not *Problems: %v", err, err)
	}
	var first *config.Problem
	if !errors.As(err, &first) || first != problems.List[0] {
		t.Fatalf("the list cannot be reached with errors.As: %v", err)
	}
	split := strings.Split(err.Error(), "\n")
	if len(split) != len(problems.List) {
		t.Fatalf("%d problems on %d lines:\n%v", len(problems.List), len(split), err)
	}
	return split
}

// loadWithoutProblems loads a source and fails the test if there are problems.
func loadWithoutProblems(t *testing.T, src config.Source) *loaded {
	t.Helper()
	l := loadSource(t, src)
	if len(l.problems) > 0 {
		t.Fatalf("problems:\n%s", strings.Join(l.problems, "\n"))
	}
	return l
}
