// Package microsoft holds what the collectors of Microsoft's products share: the
// tokens of Entra ID, the clients of Microsoft Graph and other APIs in OData, and
// their listings.
package microsoft

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// An Application is an app registration in Entra ID with a client secret.
type Application struct {
	Tenant, ClientID string
	Secret           config.Secret
	// Authority is the address of Entra ID, which depends on the cloud.
	Authority url.URL
	// Prefix is that of the variables, such as "AZURE", for errors.
	Prefix string
}

// Validate returns the problems of the application's settings.
func (a *Application) Validate() []error {
	if strings.ContainsAny(a.Tenant, "/?# ") {
		return []error{config.Invalid(a.Prefix+"_TENANT_ID", "%q is not a tenant: want its id, or one of its domains", a.Tenant)}
	}
	return nil
}

// An API is one API of Microsoft, as an application may use it.
type API struct {
	*rest.Client
	// tokens is the client of the token requests.
	tokens   *rest.Client
	prefix   string
	endpoint Endpoint
}

// An Endpoint is where an API is.
type Endpoint struct {
	URL url.URL
	// Setting is the variable of URL, for errors.
	Setting string
	// Name is that of the API in the Entra admin centre.
	Name string
	// Scope is that of the tokens.
	Scope string
}

// NewAPI returns the API at an endpoint. Collectors with the same application share the
// token and the limits.
func NewAPI(app Application, endpoint Endpoint, limits map[string]rest.Limit, o collector.Options) *API {
	a := &API{Client: source.NewClient(endpoint.URL, endpoint.Setting, nil, limits, o), prefix: app.Prefix, endpoint: endpoint}
	a.Classify = classifyGraphStatus
	a.tokens = source.NewClient(app.Authority, app.Prefix+"_AUTHORITY_HOST", nil, map[string]rest.Limit{}, o)
	a.tokens.Classify = rest.ClassifyToken
	check := "check " + app.Prefix + "_TENANT_ID, " + app.Prefix + "_CLIENT_ID and " + app.Prefix + "_CLIENT_SECRET: the value of the secret, not its id, which must not have expired"
	a.tokens.Hints = map[int]string{
		http.StatusBadRequest: check, http.StatusUnauthorized: check, http.StatusForbidden: check,
	}
	a.Auth = &rest.ClientCredentials{
		Client: a.tokens, Path: "/" + url.PathEscape(strings.TrimSpace(app.Tenant)) + "/oauth2/v2.0/token",
		Params: url.Values{
			"grant_type":    {"client_credentials"},
			"client_id":     {strings.TrimSpace(app.ClientID)},
			"client_secret": {strings.TrimSpace(app.Secret.Reveal())},
			"scope":         {endpoint.Scope},
		},
	}
	a.Share(o.Shared)
	return a
}

// SetTransport replaces the HTTP clients, for tests.
func (a *API) SetTransport(client *http.Client) { a.HTTP, a.tokens.HTTP = client, client }

// classifyGraphStatus recognizes a further status with which Graph throttles: the
// bandwidth is used up.
func classifyGraphStatus(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status == 509 {
		return rest.Limited
	}
	return usual
}

// CheckToken requests a token of its own, which shows whether the credentials are
// accepted.
func (a *API) CheckToken(ctx context.Context) error {
	shared := a.Auth.(*rest.ClientCredentials)
	own := &rest.ClientCredentials{Client: a.tokens, Path: shared.Path, Params: shared.Params}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Base.String(), nil)
	if err != nil {
		return err
	}
	return own.Apply(ctx, req)
}

// ForPermissions returns the client whose errors name the application permissions
// that a stream needs, and what else it needs; "" for nothing.
func (a *API) ForPermissions(permissions, besides string) *rest.Client {
	c := *a.Client
	hint := a.prefix + "_CLIENT_ID needs the application permission " + permissions + " of " + a.endpoint.Name + ", with the consent of an administrator"
	if besides != "" {
		hint += "; " + besides
	}
	c.Hints = map[int]string{
		http.StatusUnauthorized: "check " + a.prefix + "_CLIENT_ID: a new token was refused, too",
		http.StatusForbidden:    hint,
	}
	return &c
}

// A Stream is a collection that is read by links to the next page.
type Stream struct {
	// Name is that of the stream.
	Name string
	rest.Request
	// Permissions and Besides are those of API.ForPermissions.
	Permissions, Besides string
	// SmallPage is the parameter with which Check requests one record; "" if the
	// collection has none.
	SmallPage string
	// NoneStatus is the status of a response that there are no records; 0 for none.
	NoneStatus int
	// Extract reads the collection; nil to read all pages of Request.
	Extract func(ctx context.Context, c *rest.Client, out collector.Output) error
}

// Shape is where the records are in a response.
var Shape = rest.Shape{Records: "value", Errors: []string{"error", "errors"}}

// Listing returns the listing of all pages of r. Links to the next page are followed
// on the API's own host, also if they name it by an older name. An empty page with a
// link is not the last one.
func Listing(r rest.Request) rest.Listing {
	return rest.Listing{Request: r, Shape: Shape, Pager: rest.NextURL{Path: "@odata.nextLink", OwnHost: true}, EmptyBetween: true}
}

// Stream returns the collector's stream of s.
func (a *API) Stream(s Stream) collector.Stream {
	c := a.ForPermissions(s.Permissions, s.Besides)
	extract := func(ctx context.Context, out collector.Output) error {
		if s.Extract != nil {
			return s.Extract(ctx, c, out)
		}
		_, err := c.Walk(ctx, Listing(s.Request), out)
		return err
	}
	check := func(ctx context.Context) error {
		r := s.Request
		if s.SmallPage != "" {
			r.Query = url.Values{}
			for name, values := range s.Request.Query {
				r.Query[name] = values
			}
			r.Query.Set(s.SmallPage, "1")
		}
		_, err := c.Fetch(ctx, r, Shape, &rest.MemoryOutput{}, nil)
		if IsNone(err, s.NoneStatus) {
			return nil
		}
		return err
	}
	return collector.Stream{Name: s.Name, Extract: extract, Check: check}
}

// IsNone reports whether err is the response, with the given status and an error in
// OData, that there are no records.
func IsNone(err error, status int) bool {
	var s *rest.StatusError
	return status != 0 && errors.As(err, &s) && rest.HasStatus(err, status) && rest.Member(s.Body, "error.code") != nil
}

// The endpoint classes of Microsoft Graph, whose limits are those of one application
// in one tenant. Those that a tenant's applications share are left to others in part
// by their own 429 responses.
const (
	// ReportsClass is that of sign-ins, audit logs and registrations.
	ReportsClass = "reports"
	// PoliciesClass is that of conditional access.
	PoliciesClass = "policies"
	// DevicesClass is that of Intune.
	DevicesClass = "devices"
)

// NewGraph returns Microsoft Graph at endpoint.
func NewGraph(app Application, endpoint url.URL, o collector.Options) *API {
	graph := Endpoint{
		URL: endpoint, Setting: app.Prefix + "_GRAPH_ENDPOINT", Name: "Microsoft Graph",
		Scope: endpoint.Scheme + "://" + endpoint.Host + "/.default",
	}
	// The periods are slightly longer than the vendor's, which counts requests when
	// they arrive.
	return NewAPI(app, graph, map[string]rest.Limit{
		"":            {Concurrent: 4, Rates: []rest.Rate{{N: 500, Per: 11 * time.Second}}},
		ReportsClass:  {Concurrent: 1, Rates: []rest.Rate{{N: 5, Per: 11 * time.Second}}},
		PoliciesClass: {Concurrent: 1, Rates: []rest.Rate{{N: 1, Per: 1200 * time.Millisecond}}},
		DevicesClass:  {Concurrent: 4, Rates: []rest.Rate{{N: 1000, Per: 21 * time.Second}}},
	}, o)
}
