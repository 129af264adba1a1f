package sources

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// knowBe4Settings switch on KnowBe4.
type knowBe4Settings struct {
	Token    config.Secret `env:"KNOWBE4_TOKEN" required:"true" doc:"API token of the reporting API."`
	Endpoint string        `env:"KNOWBE4_ENDPOINT" envDefault:"https://us.api.knowbe4.com/v1/training/enrollments" want:"a host or a URL" doc:"Address of the enrollments, or only the host; the regions are us, eu, ca, uk and de."`
	Filter   string        `env:"KNOWBE4_FILTER" example:"exclude_archived_users=true&include_employee_number=true" doc:"Parameters of the listing, as a query: campaign_id, user_id, store_purchase_id, exclude_archived_users, and include_campaign_id, include_store_purchase_id, include_employee_number, which add members."`
}

// Validate implements config.Validator.
func (s *knowBe4Settings) Validate() []error {
	_, err := s.address()
	_, wrong := s.filter()
	return errorsOf(err, wrong)
}

const knowBe4Path = "/v1/training/enrollments"

// address is where the enrollments are. A path that is not the vendor's is a
// gateway's, and stays.
func (s *knowBe4Settings) address() (url.URL, error) {
	u, err := address("KNOWBE4_ENDPOINT", s.Endpoint, "https://eu.api.knowbe4.com"+knowBe4Path+" or eu.api.knowbe4.com")
	if u.Path == "" || u.Path == "/v1" {
		u.Path = knowBe4Path
	}
	return u, err
}

func (s *knowBe4Settings) filter() (url.Values, error) {
	return query("KNOWBE4_FILTER", s.Filter, "exclude_archived_users=true", "cursor", "page", "per_page")
}

var knowBe4Source = collector.Define(collector.Info{
	Name:        "knowbe4",
	Title:       "KnowBe4 Security Awareness Training",
	Docs:        "https://developer.knowbe4.com/rest/reporting",
	Permissions: "an API token of the reporting API, which the subscription must include",
	RateLimit:   "4 requests a second, 50 a minute and, by plan, about 10 a day for each licensed user. The collector keeps to the first two; an answer 429 is waited out until the run's deadline.",
	Streams: []collector.StreamInfo{{
		Name: "knowbe4_enrollments", Records: "an enrollment of a user in a training or policy",
		Endpoints: []string{"GET /v1/training/enrollments"},
		PageSize:  "500 enrollments",
		Notes: "All enrollments, those of archived users included; KNOWBE4_FILTER narrows it. " +
			"Read by cursor; a tenant that does not know cursors yet is read by page number, in a listing of its own.",
	}},
}, openKnowBe4)

// knowBe4 reads one tenant.
type knowBe4 struct {
	api    *rest.Client
	path   string
	filter url.Values
	log    *zap.Logger
}

func openKnowBe4(s *knowBe4Settings, o collector.Options) (*collector.Collector, error) {
	k, err := newKnowBe4(s, o)
	if err != nil {
		return nil, err
	}
	return k.collector(), nil
}

func newKnowBe4(s *knowBe4Settings, o collector.Options) (*knowBe4, error) {
	base, err := s.address()
	if err != nil {
		return nil, err
	}
	k := &knowBe4{path: base.Path, log: logger(o)}
	if k.filter, err = s.filter(); err != nil {
		return nil, err
	}
	base.Path = ""
	k.api = client(base, rest.Bearer(strings.TrimSpace(s.Token.Reveal())), map[string]rest.Limit{
		// A little slower than allowed: the vendor counts when requests arrive.
		"": {Concurrent: 1, Rates: []rest.Rate{{N: 4, Per: 1200 * time.Millisecond}, {N: 50, Per: 61 * time.Second}}},
	}, o)
	k.api.Hints = map[int]string{
		http.StatusUnauthorized: "check KNOWBE4_TOKEN, and that KNOWBE4_ENDPOINT names its region",
		http.StatusForbidden:    "the subscription of KNOWBE4_TOKEN must include the reporting API",
		http.StatusNotFound:     "check KNOWBE4_ENDPOINT",
	}
	if len(k.filter) > 0 {
		k.api.Hints[http.StatusBadRequest] = "check KNOWBE4_FILTER"
	}
	return k, nil
}

func (k *knowBe4) collector() *collector.Collector {
	return &collector.Collector{
		Name:    "knowbe4",
		Streams: []collector.Stream{named("knowbe4_enrollments", k.enrollments)},
		Check: func(ctx context.Context) error {
			shape := knowBe4Shape
			shape.OrArray = true
			_, err := k.api.Fetch(ctx, k.request("per_page", "1"), shape, &rest.Gathered{}, nil)
			return err
		},
	}
}

var knowBe4Shape = rest.Shape{Records: "data", Errors: []string{"error", "errors"}}

// request asks for enrollments, with names and values of parameters in turn.
func (k *knowBe4) request(parameters ...string) rest.Request {
	q := maps.Clone(k.filter)
	for i := 0; i < len(parameters); i += 2 {
		q.Set(parameters[i], parameters[i+1])
	}
	return rest.Request{Path: k.path, Query: q}
}

// enrollments reads by cursor. A tenant that knows pages only ignores the
// cursor and answers with a bare array, or refuses it: then nothing of that
// answer is kept, and the listing is read by page from its start.
func (k *knowBe4) enrollments(ctx context.Context, out collector.Output) error {
	shape := knowBe4Shape
	shape.OrArray = true
	kept, err := k.api.Walk(ctx, rest.Listing{
		Request: k.request("per_page", "500", "cursor", "0"), Shape: shape,
		Pager: rest.Cursor{Path: "pagination.nextCursor", Param: "cursor"},
	}, out)
	if kept > 0 || !isOlderForm(err) {
		return err
	}
	k.log.Info("the tenant does not know cursors, reading by page number")
	_, err = k.api.Walk(ctx, rest.Listing{
		Request: k.request("per_page", "500", "page", "1"),
		// A short page is no end here, only an empty one is.
		Pager: rest.PageNumber{Param: "page", Size: 500, Stop: rest.AtEmpty},
	}, out)
	return err
}

func isOlderForm(err error) bool {
	var s *rest.StatusError
	return errors.Is(err, rest.ErrBareArray) ||
		errors.As(err, &s) && (s.Status == http.StatusBadRequest || s.Status == http.StatusUnprocessableEntity)
}
