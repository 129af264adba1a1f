// Package crowdstrike reads the hosts, vulnerabilities and Zero Trust
// Assessments of a CrowdStrike Falcon tenant.
package crowdstrike

import (
	"context"
	"encoding/json"
	"errors"
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

// Settings are the settings of CrowdStrike Falcon.
type Settings struct {
	ClientID  string        `env:"FALCON_CLIENT_ID" alias:"CROWDSTRIKE_CLIENT_ID" required:"true" doc:"Client id of an API client."`
	Secret    config.Secret `env:"FALCON_SECRET" alias:"CROWDSTRIKE_CLIENT_SECRET" required:"true" doc:"Secret of the same API client."`
	BaseURL   url.URL       `env:"FALCON_BASE_URL" envDefault:"https://api.crowdstrike.com" doc:"Address of the API. With the default the tenant's commercial region is found automatically; any other address is used as it is. Government clouds are not found automatically: https://api.laggar.gcw.crowdstrike.com (us-gov-1), https://api.us-gov-2.crowdstrike.mil (us-gov-2)."`
	MemberCID string        `env:"FALCON_MEMBER_CID" doc:"Customer id of a Flight Control child tenant to read instead of the API client's own tenant."`
	Vulns     string        `env:"FALCON_VULNERABILITIES_FILTER" envDefault:"cve.id:!['']+last_seen_within:'14'" doc:"Filter of the vulnerabilities, in the Falcon Query Language. The vendor requires one."`
	Hosts     string        `env:"FALCON_HOSTS_FILTER" doc:"Filter of the hosts and of their assessments, in the Falcon Query Language; all hosts when unset." example:"platform_name:'Windows'"`
	Parallel  int           `env:"FALCON_PARALLEL" envDefault:"16" min:"1" max:"32" doc:"Number of requests that all three streams together have in progress at once."`
	Split     int           `env:"FALCON_SPLIT" envDefault:"8" min:"1" max:"16" doc:"Number of cursors that read the vulnerabilities at once, each over its own range of creation times; with 1 the ranges are read one after the other."`
	Page      int           `env:"FALCON_VULNERABILITIES_PAGE" envDefault:"5000" min:"50" max:"5000" doc:"Largest number of vulnerabilities in one response. Pages start with 400, grow up to this number while responses are fast, and shrink after server errors."`
	Rate      int           `env:"FALCON_REQUESTS_PER_MINUTE" envDefault:"1000" min:"60" max:"6000" doc:"Number of requests in any minute, over all three streams. The vendor allows 6000 to all programs of the tenant together."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	if strings.Trim(s.Vulns, " *") == "" {
		return []error{config.Invalid("FALCON_VULNERABILITIES_FILTER", "%q selects everything, which the vendor refuses: want a filter such as cve.id:!['']", s.Vulns)}
	}
	return nil
}

const (
	hostsScope           = "Hosts: read"
	vulnerabilitiesScope = "Vulnerabilities (Spotlight): read"
	assessmentsScope     = "Zero Trust Assessment: read"
)

// readAgainNote describes what readListing does.
const readAgainNote = "A listing that lacks more than 1 % of the declared total, and more than three records, is read again. If two reads agree and at most 2 %, or ten records of a small table, are missing, they are accepted. Every difference from the declared total that is accepted is a doubt."

// Definition describes CrowdStrike Falcon.
var Definition = source.Define(collector.Info{
	Name:        "crowdstrike",
	Title:       "CrowdStrike Falcon",
	Docs:        "https://falcon.crowdstrike.com/documentation/page/a2a7fc0e/crowdstrike-oauth2-based-apis",
	Permissions: "an API client with the scopes " + hostsScope + ", " + vulnerabilitiesScope + " and " + assessmentsScope + ". If the tenant has an IP allow list, it must include collectord.",
	RateLimit: "6,000 requests a minute for all programs of a tenant together. The collector sends at most FALCON_REQUESTS_PER_MINUTE, and pauses while less than a quarter of the limit is left (X-Ratelimit-Remaining). " +
		"After a 429 all requests wait until the time in X-Ratelimit-RetryAfter.",
	Streams: []collector.StreamInfo{
		{
			Name: "crowdstrike_hosts", Records: "a host with a sensor",
			Endpoints:   []string{"GET /devices/combined/devices/v1", "GET /devices/queries/devices-scroll/v1", "POST /devices/entities/devices/v2"},
			PageSize:    "1,000 hosts at first, up to 10,000 while responses are fast",
			Permissions: hostsScope,
			Notes:       "The vendor does not list hidden hosts. FALCON_HOSTS_FILTER narrows the selection. Where the combined endpoint does not exist, ids are listed by scroll and hosts are read 5,000 at a time. " + readAgainNote,
		},
		{
			Name: "crowdstrike_vulnerabilities", Records: "a vulnerability of an application on a host, with the facets cve, host_info and remediation",
			Optional:    []string{"cve.severity", "cve.published_date", "cve.remediation_level", "cve.exploit_status", "closed_timestamp", "remediation.entities[].title"},
			Endpoints:   []string{"GET /spotlight/combined/vulnerabilities/v1"},
			PageSize:    "400 vulnerabilities at first, up to FALCON_VULNERABILITIES_PAGE while responses are fast, down to 50 after server errors",
			Permissions: vulnerabilitiesScope,
			Notes: "By default those that have a CVE id and were seen within 14 days, in every status; FALCON_VULNERABILITIES_FILTER changes the selection. " +
				"The vendor lists them in the order of their updates, so one that is updated meanwhile is listed twice; it is stored once. " +
				"Large tenants are read in ranges of created_timestamp, with FALCON_SPLIT cursors at once. The ranges cover all times and do not overlap; what is created during the run has a range of its own, which is read last. The sum of their records is compared with the total of the whole listing. If it differs, the table is read again with one cursor. " +
				"If a cursor expires, only its range is read again. A range has about 50,000 vulnerabilities at most. The distinct ids of the ranges being read take up to 16 bytes of memory each. " + readAgainNote,
		},
		{
			Name: "crowdstrike_zero_trust_assessment", Records: "the Zero Trust Assessment of a host",
			Endpoints:   []string{"GET /devices/combined/devices/v1", "GET /zero-trust-assessment/entities/assessments/v1", "GET /zero-trust-assessment/queries/assessments/v1"},
			PageSize:    "500 hosts, fewer when the vendor or a proxy refuses such a long URL",
			Permissions: hostsScope + " and " + assessmentsScope,
			Notes: "Hosts without an assessment have no record. FALCON_HOSTS_FILTER narrows this table as well. " +
				"If there are fewer assessments than hosts, the vendor's list of assessments says which are missing: a few are a doubt, more fail the run.",
		},
	},
}, openAccount)

// account is one tenant. Its streams share the token and the rate limit.
type account struct {
	settings Settings
	api      *rest.Client
	tokens   *rest.Client
	region   *tenantRegion
	log      *zap.Logger
	// assessmentBatch is the number of ids in the first requests for assessments.
	assessmentBatch int
	// partCount is maxPartCount, except in tests.
	partCount int
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	return openAccountIn(s, o, defaultAddress, regionAddresses), nil
}

// openAccountIn opens a tenant. If its configured address is byDefault, the tenant
// may be in any of the regions.
func openAccountIn(s *Settings, o collector.Options, byDefault string, regions map[string]string) *account {
	a := &account{settings: *s, log: source.Logger(o), region: &tenantRegion{all: regions}, assessmentBatch: maxAssessmentBatch, partCount: maxPartCount}
	if strings.TrimSuffix(s.BaseURL.String(), "/") == byDefault {
		a.region.known = regions
	}
	a.api = source.NewClient(s.BaseURL, "FALCON_BASE_URL", nil, map[string]rest.Limit{
		"": {
			Rates:      []rest.Rate{{N: s.Rate, Per: time.Minute}},
			Concurrent: s.Parallel,
			// The window slides, and no header says when requests are allowed again.
			Quota: rest.Quota{Limit: "X-Ratelimit-Limit", Remaining: "X-Ratelimit-Remaining", Reserve: 0.25, Pause: 5 * time.Second},
		},
		"token": {Rates: []rest.Rate{{N: 60, Per: time.Minute}}},
	}, o)
	// If a response took longer, the cursor of the previous page would expire.
	a.api.HTTP = rest.NewHTTPWithin(o.Shared, time.Minute)
	a.api.HTTP.CheckRedirect = a.region.checkRedirect
	a.api.BodyIdle = 30 * time.Second
	a.api.Retry = rest.Retry{First: 2 * time.Second, WaitHeaders: []string{"X-Ratelimit-Retryafter", "Retry-After"}}
	a.api.Classify = classifyStatus

	tokens := *a.api
	a.tokens = &tokens
	a.tokens.Auth = a.region
	a.tokens.Classify = rest.ClassifyToken
	a.tokens.Retry.MaxWait = time.Minute // the times in its 429 responses are unreliable
	a.tokens.Hints = map[int]string{
		http.StatusBadRequest:   "check FALCON_CLIENT_ID, and FALCON_MEMBER_CID if set; a government cloud needs FALCON_BASE_URL",
		http.StatusUnauthorized: "check FALCON_CLIENT_ID and FALCON_SECRET",
		http.StatusForbidden:    "check FALCON_SECRET, and that the tenant's IP allow list includes this host",
	}
	a.api.Auth = a.newCredentials()
	a.api.ShareLimits(o.Shared, s.ClientID)
	return a
}

// newCredentials returns the authorization with a token of its own. The
// credentials are sent in the form, because a redirect to the tenant's region
// would drop a header.
func (a *account) newCredentials() *rest.ClientCredentials {
	form := url.Values{"client_id": {a.settings.ClientID}, "client_secret": {a.settings.Secret.Reveal()}}
	if a.settings.MemberCID != "" {
		form.Set("member_cid", a.settings.MemberCID)
	}
	return &rest.ClientCredentials{Client: a.tokens, Path: "/oauth2/token", Params: form, Base: a.region.baseOfToken}
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	stream := func(name string, extract func(context.Context, collector.Output) error, check func(context.Context) error) collector.Stream {
		return collector.Stream{
			Name:    name,
			Extract: func(ctx context.Context, out collector.Output) error { return a.region.addHint(extract(ctx, out)) },
			Check:   func(ctx context.Context) error { return a.region.addHint(check(ctx)) },
		}
	}
	return []collector.Stream{
		stream("crowdstrike_hosts", a.extractHosts, a.checkHosts),
		stream("crowdstrike_vulnerabilities", a.extractVulnerabilities, a.checkVulnerabilities),
		stream("crowdstrike_zero_trust_assessment", a.extractAssessments, a.checkAssessments),
	}
}

// Check implements source.Account. It requests a token of its own.
func (a *account) Check(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.settings.BaseURL.String(), nil)
	if err == nil {
		err = a.newCredentials().Apply(ctx, req)
	}
	if err != nil {
		return fmt.Errorf("crowdstrike: %w", a.region.addHint(err))
	}
	return nil
}

// checkHosts requests one host.
func (a *account) checkHosts(ctx context.Context) error {
	c := a.clientFor(hostsScope, "FALCON_HOSTS_FILTER")
	r := a.hostListing(1).Request
	r.Size = nil
	r.Query.Set("limit", "1")
	_, err := fetchTotal(ctx, c, r)
	if rest.HasStatus(err, http.StatusNotFound) { // the listing is then replaced by the scroll
		r.Path = scrollHostsPath
		_, err = fetchTotal(ctx, c, r)
	}
	return err
}

// checkVulnerabilities requests one vulnerability.
func (a *account) checkVulnerabilities(ctx context.Context) error {
	_, err := fetchTotal(ctx, a.clientFor(vulnerabilitiesScope, "FALCON_VULNERABILITIES_FILTER"), rest.Request{
		Path: vulnerabilitiesPath, Query: url.Values{"filter": {a.settings.Vulns}, "limit": {"1"}},
	})
	return err
}

// checkAssessments requests one host, whose ids the stream needs, and the id of one
// assessment.
func (a *account) checkAssessments(ctx context.Context) error {
	if err := a.checkHosts(ctx); err != nil {
		return err
	}
	_, err := fetchTotal(ctx, a.clientFor(assessmentsScope, ""), rest.Request{
		Path: assessmentQueryPath, Query: url.Values{"filter": {anyScore}, "limit": {"1"}},
	})
	return err
}

// clientFor returns the tenant's client with hints for the given scope and for
// the setting that holds the filter, if any.
func (a *account) clientFor(scope, filterSetting string) *rest.Client {
	c := *a.api
	c.Hints = map[int]string{
		http.StatusUnauthorized: "a new token was refused, too: check that the API client of FALCON_CLIENT_ID still exists",
		http.StatusForbidden:    "give the API client of FALCON_CLIENT_ID the scope " + scope + "; the tenant's IP allow list must include this host",
	}
	if filterSetting != "" {
		c.Hints[http.StatusBadRequest] = "check " + filterSetting
		c.Hints[http.StatusInternalServerError] = "check " + filterSetting + ": the vendor responds with 500 to some invalid filters"
	}
	return &c
}

// classifyStatus retries a 404, because some valid requests get one and
// succeed a moment later, unless it says that a cursor has expired.
func classifyStatus(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status == http.StatusNotFound && s.Times <= 2 && !isCursorExpired(s) {
		return rest.Transient
	}
	return usual
}

// cursorLife is how long the vendor knows the cursor of a listing after the
// response that contained it.
const cursorLife = 2 * time.Minute

// isCursorExpired reports whether err says that the cursor of a listing has
// expired.
func isCursorExpired(err error) bool {
	var s *rest.StatusError
	if errors.Is(err, rest.ErrCursorExpired) {
		return true
	}
	if !errors.As(err, &s) {
		return err != nil && strings.Contains(err.Error(), "context expired")
	}
	text := strings.ToLower(string(s.Body))
	switch s.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusGone:
		return strings.Contains(text, "expired") || strings.Contains(text, "no longer valid")
	}
	return false
}

// listShape is the shape of all listings. A list of errors in a successful
// response means that records may be missing.
var listShape = rest.Shape{Records: "resources", Errors: []string{"errors"}}

// entitiesShape is the shape of responses to lists of ids. They may report ids
// that no longer exist.
var entitiesShape = rest.Shape{Records: "resources", Errors: []string{"errors"}, Harmless: isOnlyNotFound}

// isOnlyNotFound reports whether all errors in a response are "not found".
func isOnlyNotFound(errorList []byte) bool {
	var list []struct {
		Code int `json:"code"`
	}
	if json.Unmarshal(errorList, &list) != nil {
		return false
	}
	for _, e := range list {
		if e.Code != http.StatusNotFound {
			return false
		}
	}
	return true
}

// fetchTotal requests the smallest page of a listing and returns the number of
// records that the response declares.
func fetchTotal(ctx context.Context, c *rest.Client, r rest.Request) (int64, error) {
	var e *rest.Envelope
	err := c.Do(ctx, r, func(resp *rest.Response) (err error) {
		e, err = rest.Split(resp.Body, listShape, nil)
		return err
	})
	if err != nil {
		return 0, err
	}
	total, ok := e.Count("meta.pagination.total")
	if !ok {
		return 0, fmt.Errorf("%s: %w: the response has no meta.pagination.total", r.Step(), collector.ErrIncomplete)
	}
	return total, nil
}
