// Package knowbe4 reads the training enrollments of a KnowBe4 account.
package knowbe4

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of KnowBe4.
type Settings struct {
	Token    config.Secret `env:"KNOWBE4_TOKEN" required:"true" doc:"API token of the reporting API."`
	Endpoint string        `env:"KNOWBE4_ENDPOINT" envDefault:"https://us.api.knowbe4.com/v1/training/enrollments" want:"a host or a URL" doc:"Address of the enrollments, or only the host. The regions are us, eu, ca, uk and de."`
	Filter   string        `env:"KNOWBE4_FILTER" example:"exclude_archived_users=true&include_employee_number=true" doc:"Parameters of the listing, as a query: campaign_id, user_id, store_purchase_id and exclude_archived_users select enrollments; include_campaign_id, include_store_purchase_id and include_employee_number add members."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, addressErr := s.listingURL()
	_, filterErr := s.listingFilter()
	return source.NonNil(addressErr, filterErr)
}

const enrollmentsPath = "/v1/training/enrollments"

// listingURL returns the address of the enrollments. A path that is not the
// vendor's belongs to a gateway and is not changed.
func (s *Settings) listingURL() (url.URL, error) {
	u, err := source.ParseAddress("KNOWBE4_ENDPOINT", s.Endpoint, "https://eu.api.knowbe4.com"+enrollmentsPath+" or eu.api.knowbe4.com")
	if u.Path == "" || u.Path == "/v1" {
		u.Path = enrollmentsPath
	}
	return u, err
}

func (s *Settings) listingFilter() (url.Values, error) {
	return source.ParseQuery("KNOWBE4_FILTER", s.Filter, "exclude_archived_users=true", "cursor", "page", "per_page")
}

// Definition describes KnowBe4.
var Definition = source.Define(collector.Info{
	Name:        "knowbe4",
	Title:       "KnowBe4 Security Awareness Training",
	Docs:        "https://developer.knowbe4.com/rest/reporting",
	Permissions: "an API token of the reporting API, which the subscription must include",
	RateLimit:   "4 requests a second, 50 a minute and, depending on the plan, about 10 a day for each licensed user. The collector stays within the first two. After a 429 it waits, at most until the run's deadline.",
	Streams: []collector.StreamInfo{{
		Name: "knowbe4_enrollments", Records: "an enrollment of a user in a training or policy",
		Optional:  []string{"user.email", "status", "enrollment_date", "start_date", "completion_date"},
		Endpoints: []string{"GET /v1/training/enrollments"},
		PageSize:  "500 enrollments",
		Notes: "All enrollments, including those of archived users; KNOWBE4_FILTER narrows the selection. " +
			"The listing is read by cursor. If the account's API does not support cursors, it is read again by page number. " +
			"Each page is then read again after the page that follows it, which doubles the number of requests: enrollments that are removed meanwhile move others to pages that were already read. Each enrollment_id is stored once.",
	}},
}, openAccount)

// account is one KnowBe4 account.
type account struct {
	api    *rest.Client
	path   string
	filter url.Values
	log    *zap.Logger
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	base, err := s.listingURL()
	if err != nil {
		return nil, err
	}
	a := &account{path: base.Path, log: source.Logger(o)}
	if a.filter, err = s.listingFilter(); err != nil {
		return nil, err
	}
	base.Path = ""
	a.api = source.NewClient(base, "KNOWBE4_ENDPOINT", rest.Bearer(strings.TrimSpace(s.Token.Reveal())), map[string]rest.Limit{
		// Slightly slower than allowed: the vendor counts requests when they arrive.
		"": {Concurrent: 1, Rates: []rest.Rate{{N: 4, Per: 1200 * time.Millisecond}, {N: 50, Per: 61 * time.Second}}},
	}, o)
	a.api.Hints = map[int]string{
		http.StatusUnauthorized: "check KNOWBE4_TOKEN, and that KNOWBE4_ENDPOINT names its region",
		http.StatusForbidden:    "the subscription of KNOWBE4_TOKEN must include the reporting API",
	}
	if len(a.filter) > 0 {
		a.api.Hints[http.StatusBadRequest] = "check KNOWBE4_FILTER"
	}
	return a, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{collector.Stream{Name: "knowbe4_enrollments", Extract: a.extractEnrollments, Check: a.Check}}
}

// Check implements source.Account and collector.Stream.
func (a *account) Check(ctx context.Context) error {
	shape := enrollmentsShape
	shape.OrArray = true
	_, err := a.api.Fetch(ctx, a.enrollmentsRequest(map[string]string{"per_page": "1"}), shape, &rest.MemoryOutput{}, nil)
	return err
}

var enrollmentsShape = rest.Shape{Records: "data", Errors: []string{"error", "errors"}}

// enrollmentsRequest returns a request for enrollments with the configured
// filter and the given parameters.
func (a *account) enrollmentsRequest(parameters map[string]string) rest.Request {
	q := maps.Clone(a.filter)
	for name, value := range parameters {
		q.Set(name, value)
	}
	return rest.Request{Path: a.path, Query: q}
}

// extractEnrollments reads the listing by cursor. An API without cursors
// ignores the cursor and responds with a bare array, or refuses the request.
// Then no record of that response is kept, and the listing is read by page
// number from its start.
func (a *account) extractEnrollments(ctx context.Context, out collector.Output) error {
	shape := enrollmentsShape
	shape.OrArray = true
	kept, err := a.api.Walk(ctx, rest.Listing{
		Request: a.enrollmentsRequest(map[string]string{"per_page": "500", "cursor": "0"}),
		Shape:   shape,
		Pager:   rest.Cursor{Path: "pagination.nextCursor", Param: "cursor"},
	}, out)
	if kept > 0 || !isWithoutCursors(err) {
		return err
	}
	a.log.Info("the API does not support cursors, reading by page number")
	_, err = a.api.Walk(ctx, rest.Listing{
		Request: a.enrollmentsRequest(map[string]string{"per_page": "500", "page": "1"}),
		// A page with fewer records than requested is not the last one; only an
		// empty page is.
		Pager: rest.PageNumber{Param: "page", Key: enrollmentID},
	}, out)
	return err
}

// enrollmentID returns the id of an enrollment record.
func enrollmentID(record []byte) (string, error) {
	id := rest.TextOf(rest.Member(record, "enrollment_id"))
	if id == "" {
		return "", fmt.Errorf("%w: an enrollment has no enrollment_id", collector.ErrIncomplete)
	}
	return id, nil
}

// isWithoutCursors reports whether err is the response of an API that does not
// support cursors.
func isWithoutCursors(err error) bool {
	return errors.Is(err, rest.ErrBareArray) ||
		rest.HasStatus(err, http.StatusBadRequest, http.StatusUnprocessableEntity)
}
