package sources

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// acmeSettings switch on Acme Devices.
type acmeSettings struct {
	Token config.Secret `env:"ACME_TOKEN" required:"true" doc:"API token with the right devices.read."`
	URL   url.URL       `env:"ACME_URL" envDefault:"https://api.acme.example" doc:"Address of the API."`
}

var acmeSource = collector.Define(collector.Info{
	Name: "acme", Title: "Acme Devices", Docs: "https://docs.acme.example/api",
	Permissions: "a token with the right devices.read",
	RateLimit:   "600 requests a minute, 5 at once; a 429 is waited out.",
	Streams: []collector.StreamInfo{{
		Name: "acme_devices", Records: "a device",
		Endpoints: []string{"GET /v1/devices"}, PageSize: "500 devices",
	}},
}, func(s *acmeSettings, o collector.Options) (*collector.Collector, error) {
	api := client(s.URL, rest.Bearer(s.Token.Reveal()), map[string]rest.Limit{
		"": {Concurrent: 5, Rates: []rest.Rate{{N: 600, Per: time.Minute}}},
	}, o)
	api.Hints = map[int]string{
		http.StatusUnauthorized: "check ACME_TOKEN",
		http.StatusForbidden:    "ACME_TOKEN needs the right devices.read",
	}
	devices := rest.Listing{
		Request: rest.Request{Path: "/v1/devices", Query: url.Values{"limit": {"500"}}},
		Shape:   rest.Shape{Records: "data", Errors: []string{"errors"}},
		Pager:   rest.Cursor{Path: "meta.next", Param: "after"},
		Total:   "meta.total",
	}
	return &collector.Collector{
		Name: "acme",
		Streams: []collector.Stream{named("acme_devices", func(ctx context.Context, out collector.Output) error {
			_, err := api.Walk(ctx, devices, out)
			return err
		})},
		Check: func(ctx context.Context) error {
			_, err := api.Fetch(ctx, devices.Request, devices.Shape, &rest.Gathered{}, nil)
			return err
		},
	}, nil
})
