// Package acme reads the devices of an Acme account.
package acme

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of Acme Devices.
type Settings struct {
	Token config.Secret `env:"ACME_TOKEN" required:"true" doc:"API token with the right devices.read."`
	URL   url.URL       `env:"ACME_URL" envDefault:"https://api.acme.example" doc:"Address of the API."`
}

// Definition describes Acme Devices.
var Definition = source.Define(collector.Info{
	Name: "acme", Title: "Acme Devices", Docs: "https://docs.acme.example/api",
	Permissions: "a token with the right devices.read",
	RateLimit:   "600 requests a minute, 5 at once. After a 429 the collector waits.",
	Streams: []collector.StreamInfo{{
		Name: "acme_devices", Records: "a device",
		Endpoints: []string{"GET /v1/devices"}, PageSize: "500 devices",
	}},
}, openAccount)

// account is one Acme account.
type account struct {
	api *rest.Client
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	api := source.NewClient(s.URL, "ACME_URL", rest.Bearer(s.Token.Reveal()), map[string]rest.Limit{
		"": {Concurrent: 5, Rates: []rest.Rate{{N: 600, Per: time.Minute}}},
	}, o)
	api.Hints = map[int]string{
		http.StatusUnauthorized: "check ACME_TOKEN",
		http.StatusForbidden:    "ACME_TOKEN needs the right devices.read",
	}
	return &account{api: api}, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{collector.Stream{Name: "acme_devices", Extract: a.extractDevices, Check: a.Check}}
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error {
	_, err := a.api.Fetch(ctx, devices.Request, devices.Shape, &rest.MemoryOutput{}, nil)
	return err
}

// devices is the listing of all devices.
var devices = rest.Listing{
	Request: rest.Request{Path: "/v1/devices", Query: url.Values{"limit": {"500"}}},
	Shape:   rest.Shape{Records: "data", Errors: []string{"errors"}},
	Pager:   rest.Cursor{Path: "meta.next", Param: "after"},
	Total:   "meta.total",
}

func (a *account) extractDevices(ctx context.Context, out collector.Output) error {
	// A total that does not match gets a second look.
	read, err := a.api.WalkComplete(ctx, devices, rest.Reread{Key: source.KeyMember("id")}, out)
	read.ReportDifference(ctx, "devices")
	return err
}
