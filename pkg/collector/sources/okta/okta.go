// Package okta reads the users of an Okta organisation.
package okta

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
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of Okta.
type Settings struct {
	Domain        string        `env:"OKTA_DOMAIN" required:"true" want:"a host or a URL" example:"https://acme.okta.com" doc:"The organisation's host, or its URL; not that of its administrator console, which ends in -admin."`
	Token         config.Secret `env:"OKTA_TOKEN" required:"true" doc:"API token. It has the rights of the administrator who created it. It expires after 30 days without use, and when that administrator is deactivated."`
	Deprovisioned bool          `env:"OKTA_DEPROVISIONED" envDefault:"true" doc:"Also read deprovisioned users, which the vendor's plain listing leaves out. Has no effect when OKTA_FILTER is set."`
	Compat        bool          `env:"OKTA_COMPAT_FIELDS" envDefault:"true" doc:"Repeat the members that earlier clients renamed under those names, such as last_login beside lastLogin and profile.first_name beside profile.firstName, and add the members of the profile that they always stored, such as department, as null where the user has none."`
	Filter        string        `env:"OKTA_FILTER" example:"status eq \"ACTIVE\"" doc:"Filter expression for the listing of users; all users when unset."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, err := s.baseURL()
	return source.NonNil(err)
}

const domainExample = "https://acme.okta.com or acme.okta.com"

func (s *Settings) baseURL() (url.URL, error) {
	u, err := source.ParseAddress("OKTA_DOMAIN", s.Domain, domainExample)
	if err == nil && u.Path != "" {
		return u, config.Invalid("OKTA_DOMAIN", "%q has a path: want one such as %s", s.Domain, domainExample)
	}
	if organisation, ok := organisationOfConsole(u.Hostname()); err == nil && ok {
		return u, config.Invalid("OKTA_DOMAIN", "%q is the address of the administrator console: want %s", s.Domain, organisation)
	}
	return u, err
}

// organisationOfConsole returns the host of the organisation whose administrator
// console has the given host, and whether there is one. The console does not
// serve the API.
func organisationOfConsole(host string) (string, bool) {
	name, domain, _ := strings.Cut(strings.ToLower(host), ".")
	organisation, isConsole := strings.CutSuffix(name, "-admin")
	switch domain {
	case "okta.com", "oktapreview.com", "okta-emea.com", "okta-gov.com", "okta.mil", "trexcloud.com":
		return organisation + "." + domain, isConsole && organisation != ""
	}
	return "", false // a domain of the customer's own
}

// Definition describes Okta.
var Definition = source.Define(collector.Info{
	Name:        "okta",
	Title:       "Okta",
	Docs:        "https://developer.okta.com/docs/api/openapi/okta-management/management/tag/User/",
	Permissions: "the administrator who created the token needs the role Read-only Administrator",
	RateLimit: "One limit for the endpoint and the whole organisation, commonly 600 requests a minute, reported in X-Rate-Limit-Limit, -Remaining and -Reset. " +
		"The collector leaves the last 10 % to other programs and then waits for the reset. After a 429 it waits. The cursor is serial, so there is one request at a time.",
	Streams: []collector.StreamInfo{{
		Name: "okta_users", Records: "a user",
		Optional:  []string{"lastLogin", "passwordChanged", "statusChanged", "activated"},
		Endpoints: []string{"GET /api/v1/users", "GET /api/v1/users?filter=status eq \"DEPROVISIONED\""},
		PageSize:  "200 users",
		Notes: "All users; a second listing reads the deprovisioned ones. A user in both listings, such as one who was deprovisioned between them, is stored once, as read first. " +
			"OKTA_DEPROVISIONED=false leaves the deprovisioned ones out. OKTA_FILTER replaces both listings by one. " +
			"A user who is reactivated between the listings appears with the next run. The vendor does not return deleted users. " +
			"OKTA_COMPAT_FIELDS=true adds last_login, password_changed, status_changed, last_updated and similar names for profile members. They are null where the native member is absent. It also adds department, city, division, organization, state, title, email and secondEmail to the profile as null where they are absent. " +
			"A profile attribute of the organisation that already has such a name is not changed.",
	}},
}, openAccount)

// account is one organisation.
type account struct {
	settings Settings
	api      *rest.Client
	log      *zap.Logger
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	base, err := s.baseURL()
	if err != nil {
		return nil, err
	}
	a := &account{settings: *s, log: source.Logger(o)}
	token := strings.TrimSpace(s.Token.Reveal())
	if len(token) > 5 && strings.EqualFold(token[:5], "SSWS ") {
		token = strings.TrimSpace(token[5:])
	}
	// The window is 60 s; both times are rounded to seconds.
	const maxWait = 65 * time.Second
	a.api = source.NewClient(base, "OKTA_DOMAIN", rest.StaticHeader{Name: "Authorization", Value: "SSWS " + token}, map[string]rest.Limit{
		"": {Concurrent: 1, Quota: rest.Quota{
			Limit: "X-Rate-Limit-Limit", Remaining: "X-Rate-Limit-Remaining", Reset: "X-Rate-Limit-Reset",
			Reserve: 0.1, MaxWait: maxWait,
		}},
	}, o)
	a.api.Retry = rest.Retry{WaitHeaders: []string{"Retry-After", "X-Rate-Limit-Reset"}, MaxWait: maxWait}
	a.api.Hints = map[int]string{
		http.StatusUnauthorized: "check OKTA_TOKEN: it may be revoked, unused for 30 days, or of a deactivated administrator",
		http.StatusForbidden:    "the administrator who made OKTA_TOKEN needs the role Read-only Administrator",
	}
	if s.Filter != "" {
		a.api.Hints[http.StatusBadRequest] = "check OKTA_FILTER"
	}
	return a, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{collector.Stream{Name: "okta_users", Extract: a.extractUsers, Check: a.Check}}
}

// Check implements source.Account and collector.Stream.
func (a *account) Check(ctx context.Context) error {
	r := usersRequest(a.settings.Filter)
	r.Query.Set("limit", "1")
	_, err := a.api.Fetch(ctx, r, rest.Shape{}, &rest.MemoryOutput{}, nil)
	return err
}

// usersRequest returns the request for the first page of users. Without a
// filter the vendor lists all users except the deprovisioned ones.
func usersRequest(filter string) rest.Request {
	q := url.Values{"limit": {"200"}}
	if filter != "" {
		q.Set("filter", filter)
	}
	return rest.Request{Path: "/api/v1/users", Query: q}
}

// extractUsers reads the listings one after the other, the plain one first. A
// user who is deprovisioned in between is then in both listings; in the other
// order the user would be in neither.
func (a *account) extractUsers(ctx context.Context, out collector.Output) error {
	filters := []string{a.settings.Filter}
	if a.settings.Filter == "" && a.settings.Deprovisioned {
		filters = append(filters, deprovisionedFilter)
	}
	distinct := rest.NewDistinct(out, userID)
	for _, filter := range filters {
		l := rest.Listing{Request: usersRequest(filter), Pager: rest.Link{}}
		if a.settings.Compat {
			l.OnRecord = source.ExtendRecords(&compatNames)
		}
		if filter == deprovisionedFilter {
			l.OnRecord = requireDeprovisioned(l.OnRecord)
		}
		if _, err := a.api.Walk(ctx, l, distinct); err != nil {
			return err
		}
	}
	if n := distinct.Dropped(); n > 0 {
		a.log.Info("users who were listed twice were stored once", zap.Int64("users", n))
	}
	return nil
}

// deprovisionedFilter selects the users that the plain listing leaves out.
const deprovisionedFilter = `status eq "DEPROVISIONED"`

// requireDeprovisioned returns a RecordFunc that fails on a user who is not
// deprovisioned: the response then belongs to another request, and the users
// of this request would be missing.
func requireDeprovisioned(next rest.RecordFunc) rest.RecordFunc {
	return func(batch collector.Batch, e *rest.Envelope, raw []byte) error {
		if status := rest.TextOf(rest.Member(raw, "status")); status != "DEPROVISIONED" {
			return fmt.Errorf("%w: asked for deprovisioned users, got one with the status %q", collector.ErrIncomplete, status)
		}
		if next == nil {
			return batch.Append(raw)
		}
		return next(batch, e, raw)
	}
}

// userID returns the id of a user record.
func userID(record []byte) (string, error) {
	id := rest.TextOf(rest.Member(record, "id"))
	if id == "" {
		return "", fmt.Errorf("%w: a user has no id", collector.ErrIncomplete)
	}
	return id, nil
}

// compatNames are the members that earlier clients stored of each user, under the
// names that they gave them.
var compatNames = rest.Extension{
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
		// These were not renamed. Queries name them although the vendor leaves out
		// those without a value, and a query fails if no user has the member.
		{From: "department", To: "department"},
		{From: "city", To: "city"},
		{From: "division", To: "division"},
		{From: "organization", To: "organization"},
		{From: "state", To: "state"},
		{From: "title", To: "title"},
		{From: "email", To: "email"},
		{From: "secondEmail", To: "secondEmail"},
	}}},
}
