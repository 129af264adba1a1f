package sources

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// oktaSettings switch on Okta.
type oktaSettings struct {
	Domain        string        `env:"OKTA_DOMAIN" required:"true" want:"a host or a URL" example:"https://acme.okta.com" doc:"The organisation's host, bare or as a URL."`
	Token         config.Secret `env:"OKTA_TOKEN" required:"true" doc:"API token. It has the rights of the administrator who made it, and dies after 30 days without use or when that administrator is deactivated."`
	Deprovisioned bool          `env:"OKTA_DEPROVISIONED" envDefault:"true" doc:"Read the deprovisioned users, too, whom the vendor's plain listing leaves out. Without effect when OKTA_FILTER is set."`
	Compat        bool          `env:"OKTA_COMPAT_FIELDS" envDefault:"true" doc:"Repeat the members that earlier clients renamed under those names, such as last_login beside lastLogin and profile.first_name beside profile.firstName."`
	Filter        string        `env:"OKTA_FILTER" example:"status eq \"ACTIVE\"" doc:"Filter expression for the listing of users, in place of all users."`
}

// Validate implements config.Validator.
func (s *oktaSettings) Validate() []error {
	_, err := s.base()
	return errorsOf(err)
}

const oktaExample = "https://acme.okta.com or acme.okta.com"

func (s *oktaSettings) base() (url.URL, error) {
	u, err := address("OKTA_DOMAIN", s.Domain, oktaExample)
	if err == nil && u.Path != "" {
		return u, config.Invalid("OKTA_DOMAIN", "%q has a path: want one such as %s", s.Domain, oktaExample)
	}
	return u, err
}

var oktaSource = collector.Define(collector.Info{
	Name:        "okta",
	Title:       "Okta",
	Docs:        "https://developer.okta.com/docs/api/openapi/okta-management/management/tag/User/",
	Permissions: "role Read-only Administrator for the administrator who made the token",
	RateLimit:   "One bucket for the endpoint and the whole organisation, commonly 600 requests a minute, told by X-Rate-Limit-Limit, -Remaining and -Reset. The last 10 % of it are left to other programs: the collector waits for the reset. Answers 429 are waited out. The cursor is serial, so one request is under way at a time.",
	Streams: []collector.StreamInfo{{
		Name: "okta_users", Records: "a user",
		Endpoints: []string{"GET /api/v1/users", "GET /api/v1/users?filter=status eq \"DEPROVISIONED\""},
		PageSize:  "200 users",
		Notes: "All users, the deprovisioned ones by a second listing; a user who is seen twice, such as one who was deprovisioned between the listings, is stored once, as seen first. " +
			"OKTA_DEPROVISIONED=false leaves the deprovisioned ones out, OKTA_FILTER replaces both listings by one. " +
			"A user who is reactivated between the listings appears with the next run. Users who were deleted are not known to the vendor any more. " +
			"OKTA_COMPAT_FIELDS=true adds last_login, password_changed, status_changed, last_updated and the like for profile members, null where the native member is absent; a profile attribute of the organisation's own that has such a name stays as it is.",
	}},
}, openOkta)

// okta reads one organisation.
type okta struct {
	oktaSettings
	api *rest.Client
	log *zap.Logger
}

func openOkta(s *oktaSettings, o collector.Options) (*collector.Collector, error) {
	k, err := newOkta(s, o)
	if err != nil {
		return nil, err
	}
	return k.collector(), nil
}

func newOkta(s *oktaSettings, o collector.Options) (*okta, error) {
	base, err := s.base()
	if err != nil {
		return nil, err
	}
	k := &okta{oktaSettings: *s, log: logger(o)}
	token := strings.TrimSpace(s.Token.Reveal())
	if len(token) > 5 && strings.EqualFold(token[:5], "SSWS ") {
		token = strings.TrimSpace(token[5:])
	}
	// The window is 60 s; both times are rounded to seconds.
	const longest = 65 * time.Second
	k.api = client(base, rest.StaticHeader{Name: "Authorization", Value: "SSWS " + token}, map[string]rest.Limit{
		"": {Concurrent: 1, Quota: rest.Quota{
			Limit: "X-Rate-Limit-Limit", Remaining: "X-Rate-Limit-Remaining", Reset: "X-Rate-Limit-Reset",
			Reserve: 0.1, Most: longest,
		}},
	}, o)
	k.api.Retry = rest.Retry{WaitHeaders: []string{"Retry-After", "X-Rate-Limit-Reset"}, MostAsked: longest}
	k.api.Hints = map[int]string{
		http.StatusUnauthorized: "check OKTA_TOKEN: it may be revoked, unused for 30 days, or of a deactivated administrator",
		http.StatusForbidden:    "the administrator who made OKTA_TOKEN needs the role Read-only Administrator",
		http.StatusNotFound:     "check OKTA_DOMAIN",
	}
	if s.Filter != "" {
		k.api.Hints[http.StatusBadRequest] = "check OKTA_FILTER"
	}
	return k, nil
}

func (k *okta) collector() *collector.Collector {
	return &collector.Collector{
		Name:    "okta",
		Streams: []collector.Stream{named("okta_users", k.users)},
		Check: func(ctx context.Context) error {
			r := k.listing(k.Filter)
			r.Query.Set("limit", "1")
			_, err := k.api.Fetch(ctx, r, rest.Shape{}, &rest.Gathered{}, nil)
			return err
		},
	}
}

// listing asks for users; the vendor takes "" for all but the deprovisioned.
func (k *okta) listing(filter string) rest.Request {
	q := url.Values{"limit": {"200"}}
	if filter != "" {
		q.Set("filter", filter)
	}
	return rest.Request{Path: "/api/v1/users", Query: q}
}

// users reads the listings one after the other, the plain one first: who is
// deprovisioned in between is then seen twice, and otherwise not at all.
func (k *okta) users(ctx context.Context, out collector.Output) error {
	filters := []string{k.Filter}
	if k.Filter == "" && k.Deprovisioned {
		filters = append(filters, oktaDeprovisioned)
	}
	once := rest.NewDistinct(out, oktaKey)
	for _, filter := range filters {
		l := rest.Listing{Request: k.listing(filter), Pager: rest.Link{}}
		if k.Compat {
			l.Each = extended(&oktaNames)
		}
		if filter == oktaDeprovisioned {
			l.Each = onlyDeprovisioned(l.Each)
		}
		if _, err := k.api.Walk(ctx, l, once); err != nil {
			return err
		}
	}
	if n := once.Dropped(); n > 0 {
		k.log.Info("users who were seen twice were stored once", zap.Int64("users", n))
	}
	return nil
}

// oktaDeprovisioned is the filter of the users that a plain listing hides.
const oktaDeprovisioned = `status eq "DEPROVISIONED"`

// onlyDeprovisioned fails an answer that has other users than were asked for:
// it is the answer to another request, and those asked for would be missing.
func onlyDeprovisioned(each rest.Each) rest.Each {
	return func(page collector.Page, e *rest.Envelope, raw []byte) error {
		if status := rest.Text(rest.Member(raw, "status")); status != "DEPROVISIONED" {
			return fmt.Errorf("GET /api/v1/users: %w: asked for deprovisioned users, got one who is %q", collector.ErrIncomplete, status)
		}
		if each == nil {
			return page.Append(raw)
		}
		return each(page, e, raw)
	}
}

// oktaKey is what tells users apart.
func oktaKey(record []byte) (string, error) {
	id := rest.Text(rest.Member(record, "id"))
	if id == "" {
		return "", fmt.Errorf("%w: a user has no id", collector.ErrIncomplete)
	}
	return id, nil
}

// oktaNames are the names that earlier clients gave to the vendor's members.
// The ones that they left alone are not here.
var oktaNames = rest.Extension{
	Copies: []rest.Copy{
		{From: "statusChanged", To: "status_changed"},
		{From: "lastLogin", To: "last_login"},
		{From: "lastUpdated", To: "last_updated"},
		{From: "passwordChanged", To: "password_changed"},
	},
	Inside: map[string]*rest.Extension{"profile": {Copies: []rest.Copy{
		{From: "firstName", To: "first_name"},
		{From: "lastName", To: "last_name"},
		{From: "nickName", To: "nick_name"},
		{From: "displayName", To: "display_name"},
		{From: "profileUrl", To: "profile_url"},
		{From: "preferredLanguage", To: "preferred_language"},
		{From: "userType", To: "user_type"},
		{From: "costCenter", To: "cost_center"},
		{From: "employeeNumber", To: "employee_number"},
		{From: "mobilePhone", To: "mobile_phone"},
		{From: "primaryPhone", To: "primary_phone"},
		{From: "streetAddress", To: "street_address"},
		{From: "zipCode", To: "zip_code"},
		{From: "countryCode", To: "country_code"},
	}}},
}
