// Package cisakev reads CISA's catalogue of known exploited vulnerabilities.
package cisakev

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// Settings are the settings of the catalogue.
type Settings struct {
	On  bool   `env:"CISA_KEV" required:"true" doc:"Read the catalogue. It is public and needs no key."`
	URL string `env:"CISA_KEV_URL" envDefault:"https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json" doc:"Address of the catalogue, such as that of a mirror."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, err := s.catalogueURL()
	return source.NonNil(err)
}

func (s *Settings) catalogueURL() (url.URL, error) {
	return source.ParseAddress("CISA_KEV_URL", s.URL, "https://mirror.example/known_exploited_vulnerabilities.json")
}

// Definition describes the catalogue.
var Definition = source.Define(collector.Info{
	Name:        "cisa_kev",
	Title:       "CISA Known Exploited Vulnerabilities",
	Docs:        "https://www.cisa.gov/known-exploited-vulnerabilities-catalog",
	Permissions: "none",
	IsPublic:    true,
	RateLimit:   source.FeedRateLimit,
	Streams: []collector.StreamInfo{{
		Name: "cisa_kev_vulnerabilities", Records: "a vulnerability",
		Optional:  []string{"cwes", "notes", "knownRansomwareCampaignUse"},
		Endpoints: []string{"GET /sites/default/files/feeds/known_exploited_vulnerabilities.json"},
		PageSize:  "all vulnerabilities",
		Notes: "The complete catalogue, in which entries are also changed and withdrawn. A file whose `count` is not the number of its entries is not accepted. " +
			"`dateAdded` and `dueDate` are dates without a time zone. `cveID` is the key for joins, see [queries](../guide/queries.md#what-is-exploited-and-open-here). " +
			"CISA also publishes the file at https://raw.githubusercontent.com/cisagov/kev-data/develop/known_exploited_vulnerabilities.json, which CISA_KEV_URL can name where its own site refuses the network.",
	}},
}, openAccount)

// account is the catalogue.
type account struct {
	api     *rest.Client
	request rest.Request
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	address, err := s.catalogueURL()
	if err != nil {
		return nil, err
	}
	return &account{api: source.NewFeedClient(address, "CISA_KEV_URL", o), request: source.FileRequest(address)}, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{collector.Stream{Name: "cisa_kev_vulnerabilities", Extract: a.extractVulnerabilities, Check: a.Check}}
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error { return a.api.CheckFile(ctx, a.request) }

func (a *account) extractVulnerabilities(ctx context.Context, out collector.Output) error {
	return rest.FetchIfChanged(ctx, a.request, a.request.Path, out, func(r rest.Request) (http.Header, error) {
		e, err := a.api.FetchThen(ctx, r, rest.Shape{Records: "vulnerabilities"}, out, nil, requireCount)
		if err != nil {
			return nil, err
		}
		return e.Header, nil
	})
}

// requireCount returns an error unless the catalogue declares the number of its
// vulnerabilities.
func requireCount(_ collector.Batch, e *rest.Envelope) error {
	count, ok := e.Count("count")
	switch {
	case !ok:
		return fmt.Errorf("%w: the file has no number of its vulnerabilities (count): check that CISA_KEV_URL names the catalogue", collector.ErrIncomplete)
	case count != int64(e.Records):
		return fmt.Errorf("%w: the file has %d vulnerabilities and declares %d (count): the publisher, or the mirror of CISA_KEV_URL, must correct it",
			collector.ErrIncomplete, e.Records, count)
	}
	return nil
}
