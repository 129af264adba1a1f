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
)

// crowdstrike has a second name for each variable.
type crowdstrike struct {
	ClientID string        `env:"FALCON_CLIENT_ID" alias:"CROWDSTRIKE_CLIENT_ID" required:"true" doc:"The ID of the API client."`
	Secret   config.Secret `env:"FALCON_SECRET" alias:"CROWDSTRIKE_CLIENT_SECRET" required:"true" doc:"The secret of the API client."`
	Cloud    string        `env:"FALCON_CLOUD" envDefault:"us-1" oneof:"us-1,us-2,eu-1" doc:"The cloud that holds the account."`
}

// tenable has settings of most types, nested ones among them, and a check.
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

// okta needs three variables, feed none.
type okta struct {
	Domain string        `env:"OKTA_DOMAIN" required:"true" doc:"The domain of the organisation."`
	ID     string        `env:"OKTA_ID" required:"true" doc:"The ID of the client."`
	Token  config.Secret `env:"OKTA_TOKEN" required:"true" doc:"The token."`
}

type feed struct {
	URL url.URL `env:"FEED_URL" envDefault:"https://feed.example.com/all" doc:"Where the feed is."`
}

// collectors gives fresh sections of all sample collectors.
func collectors() []*config.Section {
	return []*config.Section{
		{Name: "crowdstrike", Title: "CrowdStrike Falcon", Into: &crowdstrike{}, Collector: true},
		{Name: "tenable", Title: "Tenable Vulnerability Management", Into: &tenable{}, Collector: true},
		{Name: "okta", Title: "Okta", Into: &okta{}, Collector: true},
		{Name: "feed", Title: "Feed", Into: &feed{}, Collector: true},
	}
}

// write puts a file into a folder and gives its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loaded is all that a Load gives.
type loaded struct {
	config.Settings
	found    *config.Environment
	sections map[string]*config.Section
	warnings []string
	problems []string
}

// load opens a source in an own folder unless it names one, and loads the core
// and all sample collectors.
func load(t *testing.T, src config.Source) *loaded {
	t.Helper()
	if src.Dir == "" {
		src.Dir = t.TempDir()
	}
	found, err := config.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	l := &loaded{found: found, sections: map[string]*config.Section{}}
	sections := collectors()
	for _, s := range sections {
		l.sections[s.Name] = s
	}
	l.warnings, err = found.Load(&l.Settings, sections...)
	l.problems = lines(t, err)
	return l
}

// lines gives each problem of an error.
func lines(t *testing.T, err error) []string {
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

// clean is a load that must have no problems.
func clean(t *testing.T, src config.Source) *loaded {
	t.Helper()
	l := load(t, src)
	if len(l.problems) > 0 {
		t.Fatalf("problems:\n%s", strings.Join(l.problems, "\n"))
	}
	return l
}
