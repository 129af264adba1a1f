// Package endoflife reads the products and their releases of endoflife.date.
package endoflife

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// Settings are the settings of endoflife.date.
type Settings struct {
	On  bool   `env:"ENDOFLIFE" required:"true" doc:"Read the products and releases. They are public and need no key."`
	URL string `env:"ENDOFLIFE_URL" envDefault:"https://endoflife.date" doc:"Address of the API without /api/v1, such as that of a mirror."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, err := s.siteURL()
	return source.NonNil(err)
}

func (s *Settings) siteURL() (url.URL, error) {
	return source.ParseAddress("ENDOFLIFE_URL", s.URL, "https://endoflife.date")
}

// Definition describes endoflife.date.
var Definition = source.Define(collector.Info{
	Name:        "endoflife",
	Title:       "endoflife.date",
	Docs:        "https://endoflife.date/docs/api/v1/",
	Permissions: "none",
	IsPublic:    true,
	RateLimit:   source.FeedRateLimit + " Both streams share the request when they run together.",
	Streams: []collector.StreamInfo{
		{
			Name: "eol_products", Records: "a product with its releases",
			Endpoints: []string{"GET " + productsPath}, PageSize: "all products, about 460",
			Notes: "A list whose `total` is not the number of its products is not accepted. `identifiers` has package URLs and CPEs for joins.",
		},
		{
			Name: "eol_releases", Records: "a release of a product",
			Optional:  []string{"codename", "isEoas", "eoasFrom", "isDiscontinued", "discontinuedFrom", "isEoes", "eoesFrom"},
			Endpoints: []string{"GET " + productsPath}, PageSize: "all releases",
			Notes: "The elements of `releases` of all products, each with the name of its product as `_product`. `isEol` says whether the release has reached its end of life, and `eolFrom` when it does or did, if that is known.",
		},
	},
}, openAccount)

const productsPath = "/api/v1/products/full"

// account is the public API.
type account struct {
	api    *rest.Client
	shared rest.SharedFile // the list of products, for both streams
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	address, err := s.siteURL()
	if err != nil {
		return nil, err
	}
	return &account{api: source.NewFeedClient(address, "ENDOFLIFE_URL", o)}, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{
		collector.Stream{Name: "eol_products", Extract: a.extractProducts, Check: a.Check},
		collector.Stream{Name: "eol_releases", Extract: a.extractReleases, Check: a.Check},
	}
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error {
	return a.api.CheckFile(ctx, rest.Request{Path: productsPath})
}

var products = rest.Shape{Records: "result"}

// verifyProducts returns an error unless the list is complete.
func verifyProducts(body io.Reader) error {
	e, err := rest.Split(body, products, nil)
	if err != nil {
		return err
	}
	total, ok := e.Count("total")
	switch {
	case !ok:
		return fmt.Errorf("%w: the response has no number of its products (total): check that ENDOFLIFE_URL names the API", collector.ErrIncomplete)
	case total != int64(e.Records):
		return fmt.Errorf("%w: the list has %d products and declares %d (total): the publisher, or the mirror of ENDOFLIFE_URL, must correct it",
			collector.ErrIncomplete, e.Records, total)
	}
	return nil
}

// eachProduct writes what onProduct makes of each product to out.
func (a *account) eachProduct(ctx context.Context, out collector.Output, onProduct rest.RecordFunc) error {
	request := rest.Request{Path: productsPath}
	return rest.FetchIfChanged(ctx, request, a.api.Base.String(), out, func(r rest.Request) (http.Header, error) {
		batch := out.NewBatch()
		defer batch.Discard()
		header, err := a.shared.Fetch(ctx, a.api, r, source.MaxFeed, verifyProducts, func(body io.Reader) error {
			_, err := rest.Split(body, products, func(e *rest.Envelope, raw []byte) error { return onProduct(batch, e, raw) })
			return err
		})
		if err != nil {
			return nil, err
		}
		return header, batch.Commit()
	})
}

func (a *account) extractProducts(ctx context.Context, out collector.Output) error {
	return a.eachProduct(ctx, out, func(batch collector.Batch, _ *rest.Envelope, raw []byte) error { return batch.Append(raw) })
}

func (a *account) extractReleases(ctx context.Context, out collector.Output) error {
	return a.eachProduct(ctx, out, func(batch collector.Batch, e *rest.Envelope, product []byte) error {
		name, releases := rest.Member(product, "name"), rest.Member(product, "releases")
		if rest.TextOf(name) == "" || releases == nil {
			return fmt.Errorf("%w: product %d has no name or no releases", collector.ErrIncomplete, e.Records+1)
		}
		addProduct := source.ExtendRecords(&rest.Extension{Values: []rest.Value{{Name: "_product", Raw: name}}})
		_, err := rest.Split(bytes.NewReader(releases), rest.Shape{}, func(e *rest.Envelope, release []byte) error { return addProduct(batch, e, release) })
		return err
	})
}
