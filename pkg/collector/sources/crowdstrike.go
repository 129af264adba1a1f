package sources

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
	"github.com/collectord/collectord/pkg/config"
)

// crowdstrikeSettings switch on CrowdStrike Falcon.
type crowdstrikeSettings struct {
	ClientID  string        `env:"FALCON_CLIENT_ID" alias:"CROWDSTRIKE_CLIENT_ID" required:"true" doc:"Client id of an API client."`
	Secret    config.Secret `env:"FALCON_SECRET" alias:"CROWDSTRIKE_CLIENT_SECRET" required:"true" doc:"Secret of the same API client."`
	BaseURL   url.URL       `env:"FALCON_BASE_URL" envDefault:"https://api.crowdstrike.com" doc:"Address of the API. At its default the tenant's commercial region is found by itself; any other address is used as it is. Government clouds cannot be found: https://api.laggar.gcw.crowdstrike.com (us-gov-1), https://api.us-gov-2.crowdstrike.mil (us-gov-2)."`
	MemberCID string        `env:"FALCON_MEMBER_CID" doc:"Customer id of a Flight Control child tenant to read in place of the API client's own."`
	Vulns     string        `env:"FALCON_VULNERABILITIES_FILTER" envDefault:"cve.id:!['']+last_seen_within:'14'" doc:"Filter of the vulnerabilities, in the Falcon Query Language. The vendor requires one."`
	Hosts     string        `env:"FALCON_HOSTS_FILTER" doc:"Filter of the hosts, and with them of the assessments, in the Falcon Query Language; all hosts when unset." example:"platform_name:'Windows'"`
	Parallel  int           `env:"FALCON_PARALLEL" envDefault:"16" min:"1" max:"32" doc:"Requests under way at once, over all three streams."`
	Split     int           `env:"FALCON_SPLIT" envDefault:"8" min:"1" max:"16" doc:"Cursors that read the vulnerabilities at once, each its own span of creation times; 1 reads them with one cursor."`
	Page      int           `env:"FALCON_VULNERABILITIES_PAGE" envDefault:"5000" min:"50" max:"5000" doc:"Most vulnerabilities in one answer. Pages start with 400, grow towards this while answers are quick, and shrink when the vendor is in trouble."`
	Rate      int           `env:"FALCON_REQUESTS_PER_MINUTE" envDefault:"1000" min:"60" max:"6000" doc:"Requests in any minute, over all three streams. The vendor allows 6000 to all programs of the tenant together."`
}

// Validate implements config.Validator.
func (s *crowdstrikeSettings) Validate() []error {
	if strings.Trim(s.Vulns, " *") == "" {
		return []error{config.Invalid("FALCON_VULNERABILITIES_FILTER", "%q selects everything, which the vendor refuses: want a filter such as cve.id:!['']", s.Vulns)}
	}
	return nil
}

const (
	falconHostsScope = "Hosts: read"
	falconVulnsScope = "Vulnerabilities (Spotlight): read"
	falconZTAScope   = "Zero Trust Assessment: read"
)

var crowdstrikeSource = collector.Define(collector.Info{
	Name:        "crowdstrike",
	Title:       "CrowdStrike Falcon",
	Docs:        "https://falcon.crowdstrike.com/documentation/page/a2a7fc0e/crowdstrike-oauth2-based-apis",
	Permissions: "an API client with the scopes " + falconHostsScope + ", " + falconVulnsScope + " and " + falconZTAScope + ". An IP allow list of the tenant must include collectord.",
	RateLimit: "6,000 requests a minute for all programs of a tenant together. FALCON_REQUESTS_PER_MINUTE of them are used at most, and none while less than a quarter is left (X-Ratelimit-Remaining). " +
		"After a 429 all requests wait until the instant in X-Ratelimit-RetryAfter.",
	Streams: []collector.StreamInfo{
		{
			Name: "crowdstrike_hosts", Records: "a host with a sensor",
			Endpoints:   []string{"GET /devices/combined/devices/v1", "GET /devices/queries/devices-scroll/v1", "POST /devices/entities/devices/v2"},
			PageSize:    "1,000 hosts at first, up to 10,000 while answers are quick",
			Permissions: falconHostsScope,
			Notes:       "Hidden hosts are not listed by the vendor. FALCON_HOSTS_FILTER narrows the table. Where the combined endpoint does not exist, ids are listed by scroll and hosts are read 5,000 at a time.",
		},
		{
			Name: "crowdstrike_vulnerabilities", Records: "a vulnerability of an application on a host, with the facets cve, host_info and remediation",
			Endpoints:   []string{"GET /spotlight/combined/vulnerabilities/v1"},
			PageSize:    "400 vulnerabilities at first, up to FALCON_VULNERABILITIES_PAGE while answers are quick, down to 50 in trouble",
			Permissions: falconVulnsScope,
			Notes: "By default those that have a CVE id and were seen within 14 days, in every status; FALCON_VULNERABILITIES_FILTER changes that. " +
				"Large tenants are read with FALCON_SPLIT cursors at once, each over a span of created_timestamp: the spans cover all of time and do not overlap, and the sum is compared with the undivided total. When it does not agree the table is read again with one cursor.",
		},
		{
			Name: "crowdstrike_zero_trust_assessment", Records: "the Zero Trust Assessment of a host",
			Endpoints:   []string{"GET /devices/combined/devices/v1", "GET /zero-trust-assessment/entities/assessments/v1", "GET /zero-trust-assessment/queries/assessments/v1"},
			PageSize:    "500 hosts, fewer when the vendor or a proxy refuses so long an address",
			Permissions: falconHostsScope + " and " + falconZTAScope,
			Notes:       "Hosts without an assessment have no record. FALCON_HOSTS_FILTER narrows this table, too.",
		},
	},
}, openCrowdStrike)

// falcon reads one tenant. Its streams share the token and the rate gate.
type falcon struct {
	crowdstrikeSettings
	api    *rest.Client
	tokens *rest.Client
	region *falconRegion
	log    *zap.Logger
	batch  int // ids in a request for assessments, at first
}

func openCrowdStrike(s *crowdstrikeSettings, o collector.Options) (*collector.Collector, error) {
	return newFalcon(s, o, falconDefault, falconRegions).collector(), nil
}

// newFalcon makes the reader of a tenant. At the address byDefault the tenant
// may be in any of the regions.
func newFalcon(s *crowdstrikeSettings, o collector.Options, byDefault string, regions map[string]string) *falcon {
	f := &falcon{crowdstrikeSettings: *s, log: logger(o), region: &falconRegion{}, batch: falconBatch}
	if strings.TrimSuffix(s.BaseURL.String(), "/") == byDefault {
		f.region.known = regions
	}
	f.api = client(s.BaseURL, nil, map[string]rest.Limit{
		"": {
			Rates:      []rest.Rate{{N: s.Rate, Per: time.Minute}},
			Concurrent: s.Parallel,
			// The window slides and no header says when it is free again.
			Quota: rest.Quota{Limit: "X-Ratelimit-Limit", Remaining: "X-Ratelimit-Remaining", Reserve: 0.25, Pause: 5 * time.Second},
		},
		"token": {Rates: []rest.Rate{{N: 60, Per: time.Minute}}},
	}, o)
	f.api.HTTP.CheckRedirect = f.region.redirect
	// Longer, and the cursor of the page before would be lost meanwhile.
	f.api.HTTP.Transport.(*http.Transport).ResponseHeaderTimeout = time.Minute
	f.api.Retry = rest.Retry{First: 2 * time.Second, WaitHeaders: []string{"X-Ratelimit-Retryafter", "Retry-After"}}
	f.api.Classify = classifyFalcon

	tokens := *f.api
	f.tokens = &tokens
	f.tokens.Auth = f.region
	f.tokens.Classify = classifyFalconToken
	f.tokens.Retry.MostAsked = time.Minute // its 429 names instants that are not to be trusted
	f.tokens.Hints = map[int]string{
		http.StatusBadRequest:   "check FALCON_CLIENT_ID, and FALCON_MEMBER_CID if set; a government cloud needs FALCON_BASE_URL",
		http.StatusUnauthorized: "check FALCON_CLIENT_ID and FALCON_SECRET",
		http.StatusForbidden:    "check FALCON_SECRET, and that the tenant's IP allow list includes this host",
		http.StatusNotFound:     "check FALCON_BASE_URL",
	}
	f.api.Auth = falconAuth{ClientCredentials: f.credentials(), region: f.region}
	return f
}

// credentials fetches tokens. The credential goes in the form, because a
// redirect to the tenant's region would lose a header.
func (f *falcon) credentials() *rest.ClientCredentials {
	form := url.Values{"client_id": {f.ClientID}, "client_secret": {f.Secret.Reveal()}}
	if f.MemberCID != "" {
		form.Set("member_cid", f.MemberCID)
	}
	return &rest.ClientCredentials{Client: f.tokens, Path: "/oauth2/token", Form: form, Fetched: f.region.discover}
}

func (f *falcon) collector() *collector.Collector {
	stream := func(name string, extract func(context.Context, collector.Output) error) collector.Stream {
		return named(name, func(ctx context.Context, out collector.Output) error {
			return f.region.explain(extract(ctx, out))
		})
	}
	return &collector.Collector{
		Name: "crowdstrike",
		Streams: []collector.Stream{
			stream("crowdstrike_hosts", f.hosts),
			stream("crowdstrike_vulnerabilities", f.vulnerabilities),
			stream("crowdstrike_zero_trust_assessment", f.assessments),
		},
		Check: func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.BaseURL.String(), nil)
			if err == nil {
				err = f.credentials().Apply(ctx, req) // asks for a token of its own
			}
			if err != nil {
				return fmt.Errorf("crowdstrike: %w", f.region.explain(err))
			}
			return nil
		},
	}
}

// client is the tenant's client with the hints of one scope, and of the
// variable that holds its filter.
func (f *falcon) client(scope, filter string) *rest.Client {
	c := *f.api
	c.Hints = map[int]string{
		http.StatusUnauthorized: "a new token was refused, too: check that the API client of FALCON_CLIENT_ID still exists",
		http.StatusForbidden:    "give the API client of FALCON_CLIENT_ID the scope " + scope + "; the tenant's IP allow list must include this host",
	}
	if filter != "" {
		c.Hints[http.StatusBadRequest] = "check " + filter
		c.Hints[http.StatusInternalServerError] = "check " + filter + ": some faulty filters are answered so"
	}
	return &c
}

// classifyFalcon knows that some valid requests are answered with 404 and
// succeed a moment later, and that a cursor which was forgotten is another
// matter.
func classifyFalcon(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status == http.StatusNotFound && s.Times <= 2 && !falconExpired(s) {
		return rest.Transient
	}
	return usual
}

// classifyFalconToken knows that a refused credential is answered with 400
// when its id is unknown and with 403 when its secret is wrong.
func classifyFalconToken(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status == http.StatusBadRequest || s.Status == http.StatusForbidden {
		return rest.Unauthorized
	}
	return usual
}

// falconExpired tells that the vendor has forgotten the place in a listing:
// cursors live for two minutes after their answer.
func falconExpired(err error) bool {
	var s *rest.StatusError
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

// falconStatus tells whether err is an answer with one of the statuses.
func falconStatus(err error, statuses ...int) bool {
	var s *rest.StatusError
	if !errors.As(err, &s) {
		return false
	}
	for _, status := range statuses {
		if s.Status == status {
			return true
		}
	}
	return false
}

// falconShape is where all answers have their records. A list of errors under
// a status of success means that records may be missing.
var falconShape = rest.Shape{Records: "resources", Errors: []string{"errors"}}

// falconEntities is the same for answers to lists of ids, which may name ids
// that do not exist any more.
var falconEntities = rest.Shape{Records: "resources", Errors: []string{"errors"}, Harmless: falconOnlyNotFound}

func falconOnlyNotFound(filled []byte) bool {
	var list []struct {
		Code int `json:"code"`
	}
	if json.Unmarshal(filled, &list) != nil {
		return false
	}
	for _, e := range list {
		if e.Code != http.StatusNotFound {
			return false
		}
	}
	return true
}

// falconTotal is the declared number of records of a listing, asked for with
// the smallest page.
func falconTotal(ctx context.Context, c *rest.Client, r rest.Request) (int64, error) {
	var e *rest.Envelope
	err := c.Do(ctx, r, func(resp *rest.Response) (err error) {
		e, err = rest.Split(resp.Body, falconShape, func(*rest.Envelope, []byte) error { return nil })
		return err
	})
	if err != nil {
		return 0, err
	}
	total, ok := e.Count("meta.pagination.total")
	if !ok {
		return 0, fmt.Errorf("%s: %w: the answer has no meta.pagination.total", r.Step(), collector.ErrIncomplete)
	}
	return total, nil
}
