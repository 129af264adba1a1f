package crowdstrike

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// tenant is a simulated CrowdStrike tenant with the account under test.
type tenant struct {
	*collectortest.Harness
	vendor    *vendorsim.CrowdStrike
	account   *account
	collector *collector.Collector
}

// runTenant runs test with a simulated tenant, whose data is as old as the fake
// clock says, and an account with the default settings as changed by change,
// which may be nil.
func runTenant(t *testing.T, o vendorsim.Options, change func(*Settings), test func(t *tenant)) {
	t.Helper()
	vendor := vendorsim.NewCrowdStrike()
	o.Base = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the start of the fake clock
	o.Vendors = []vendorsim.Vendor{vendor, vendor.Gateway("us-1")}
	o.Gzip = vendorsim.GzipStored
	if o.RecordBytes == nil {
		o.RecordBytes = map[string]int{vendorsim.CrowdStrikeHosts: 400, vendorsim.CrowdStrikeVulns: 400, vendorsim.CrowdStrikeZTA: 400}
	}
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		tenant := &tenant{Harness: h, vendor: vendor}
		tenant.open(h.Host.URL(), "", nil, change)
		test(tenant)
	})
}

// open opens the account at the address base; see openAccountIn for byDefault and
// regions.
func (t *tenant) open(base, byDefault string, regions map[string]string, change func(*Settings)) {
	t.Helper()
	s := defaultSettings(t)
	s.BaseURL = parseURL(t, base)
	if change != nil {
		change(s)
	}
	t.account = openAccountIn(s, collector.Options{Version: "test"}, byDefault, regions)
	if s.Page == 50 {
		t.account.assessmentBatch = 100
	}
	transport := t.HTTP.Transport.(*http.Transport)
	transport.ResponseHeaderTimeout = t.account.api.HTTP.Transport.(*http.Transport).ResponseHeaderTimeout
	t.account.api.HTTP.Transport = transport
	t.collector = source.NewCollector("crowdstrike", t.account)
}

// defaultSettings returns the defaults with the credentials of the simulator.
func defaultSettings(t testing.TB) *Settings {
	t.Helper()
	s := &Settings{}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		text := v.Type().Field(i).Tag.Get("envDefault")
		switch field := v.Field(i).Addr().Interface().(type) {
		case *string:
			*field = text
		case *int:
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			*field = n
		case *url.URL:
			*field = parseURL(t, text)
		}
	}
	s.ClientID, s.Secret = vendorsim.CrowdStrikeClientID, config.Secret(vendorsim.CrowdStrikeSecret)
	return s
}

func parseURL(t testing.TB, text string) url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

// stream returns the stream of the given name.
func (t *tenant) stream(name string) collector.Stream {
	t.Helper()
	return collectortest.FindStream(t, t.collector, name)
}

// expectedRecords returns the records that the collector must extract.
func (t *tenant) expectedRecords(stream string) []string {
	t.Helper()
	var indexes []int
	switch stream {
	case vendorsim.CrowdStrikeVulns:
		var err error
		if indexes, err = t.vendor.Select(t.account.settings.Vulns); err != nil {
			t.Fatal(err)
		}
	case vendorsim.CrowdStrikeZTA:
		indexes = t.vendor.Assessed()
	default:
		return t.Records(stream)
	}
	want := make([]string, len(indexes))
	for i, index := range indexes {
		want[i] = string(t.Sim.Record(stream, index))
	}
	return want
}

// assertExtracts extracts a stream and compares every byte with the vendor's
// records.
func (t *tenant) assertExtracts(name string) {
	t.Helper()
	t.AssertRecords(t.Extract(t.stream(name)), t.expectedRecords(name))
}

// assertExtractsLawfully is assertExtracts, and checks that no request broke a rule of
// the vendor.
func (t *tenant) assertExtractsLawfully(name string) {
	t.Helper()
	t.assertExtracts(name)
	t.AssertNoViolations()
}

// extractWithDoubts extracts a stream and returns its records and the doubts.
func (t *tenant) extractWithDoubts(name string) ([]string, []collector.Doubt) {
	t.Helper()
	out, stats := collectortest.NewSpool(t.T), &collector.Stats{}
	if err := t.stream(name).Extract(collector.WithStats(t.Context(), stats), out); err != nil {
		t.Fatal(err)
	}
	return out.Records(), stats.Doubts()
}

// assertDoubts extracts a stream, which must have all of the vendor's records,
// and compares the doubts.
func (t *tenant) assertDoubts(name string, want ...collector.Doubt) {
	t.Helper()
	got, doubts := t.extractWithDoubts(name)
	t.AssertRecords(got, t.expectedRecords(name))
	if !slices.Equal(doubts, want) {
		t.Errorf("doubts %v, want %v", doubts, want)
	}
}

// extractError extracts a stream, which must fail, and returns the error.
func (t *tenant) extractError(name string) error {
	t.Helper()
	return t.ExtractError(t.stream(name), 10*time.Hour)
}

const (
	hostsPath   = "/devices/combined/devices/v1"
	scrollPath  = "/devices/queries/devices-scroll/v1"
	devicesPath = "/devices/entities/devices/v2"
	scoresPath  = "/zero-trust-assessment/queries/assessments/v1"
)

// streamPaths are the paths of the requests for records, by stream.
var streamPaths = map[string]string{
	vendorsim.CrowdStrikeHosts: hostsPath,
	vendorsim.CrowdStrikeVulns: vulnerabilitiesPath,
	vendorsim.CrowdStrikeZTA:   assessmentsPath,
}

// smallTenant returns the options of a tenant whose streams take several
// requests if the settings have smallPages.
func smallTenant() vendorsim.Options {
	return vendorsim.Options{
		Counts:     map[string]int{vendorsim.CrowdStrikeHosts: 650, vendorsim.CrowdStrikeVulns: 600},
		PageLimits: map[string]int{vendorsim.CrowdStrikeHosts: 100},
		Latency:    50 * time.Millisecond,
	}
}

func smallPages(s *Settings) { s.Page = 50 }

func TestCrowdStrikeRefusals(t *testing.T) {
	forbid := func(stream string) func(*vendorsim.CrowdStrikeConfig) {
		return func(c *vendorsim.CrowdStrikeConfig) { c.Forbidden = map[string]bool{stream: true} }
	}
	for name, tc := range map[string]struct {
		settings func(*Settings)
		sim      func(*vendorsim.CrowdStrikeConfig)
		stream   string
		class    error
		want     []string
		requests int
	}{
		"unknown id": {
			settings: func(s *Settings) { s.ClientID = "unknown" },
			stream:   vendorsim.CrowdStrikeHosts, class: collector.ErrRefused, want: []string{"FALCON_CLIENT_ID", "400"}, requests: 1,
		},
		"wrong secret": {
			settings: func(s *Settings) { s.Secret = "hush-hush" },
			stream:   vendorsim.CrowdStrikeVulns, class: collector.ErrRefused, want: []string{"FALCON_SECRET", "403"}, requests: 1,
		},
		"hosts scope": {
			sim:    forbid(vendorsim.CrowdStrikeHosts),
			stream: vendorsim.CrowdStrikeHosts, class: collector.ErrForbidden, want: []string{"Hosts: read"}, requests: 2,
		},
		"hosts scope for the assessments": {
			sim:    forbid(vendorsim.CrowdStrikeHosts),
			stream: vendorsim.CrowdStrikeZTA, class: collector.ErrForbidden, want: []string{"Hosts: read"}, requests: 2,
		},
		"vulnerabilities scope": {
			sim:    forbid(vendorsim.CrowdStrikeVulns),
			stream: vendorsim.CrowdStrikeVulns, class: collector.ErrForbidden, want: []string{"Vulnerabilities (Spotlight): read"}, requests: 2,
		},
		"assessments scope": {
			sim:    forbid(vendorsim.CrowdStrikeZTA),
			stream: vendorsim.CrowdStrikeZTA, class: collector.ErrForbidden, want: []string{"Zero Trust Assessment: read"}, requests: 2 + 4,
		},
		"filter of vulnerabilities": {
			settings: func(s *Settings) { s.Vulns = "no_such_field:'1'" },
			stream:   vendorsim.CrowdStrikeVulns, want: []string{"FALCON_VULNERABILITIES_FILTER", "400"}, requests: 2,
		},
		"filter of hosts": {
			settings: func(s *Settings) { s.Hosts = "platform_name:" },
			stream:   vendorsim.CrowdStrikeHosts, want: []string{"FALCON_HOSTS_FILTER", "400"}, requests: 2,
		},
		"token refused at once": {
			sim:    func(c *vendorsim.CrowdStrikeConfig) { c.TokenCalls = -1 },
			stream: vendorsim.CrowdStrikeHosts, class: collector.ErrRefused, want: []string{"FALCON_CLIENT_ID"}, requests: 4,
		},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, vendorsim.Options{}, tc.settings, func(t *tenant) {
				if tc.sim != nil {
					t.vendor.Configure(tc.sim)
				}
				err := t.extractError(tc.stream)
				if tc.class != nil && !errors.Is(err, tc.class) {
					t.Errorf("error %v, want %v", err, tc.class)
				}
				for _, want := range tc.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error lacks %q: %v", want, err)
					}
				}
				if strings.Contains(err.Error(), "hush-hush") {
					t.Errorf("the error shows the secret: %v", err)
				}
				if got := t.Host.Stats().Total; got > tc.requests {
					t.Errorf("%d requests, want at most %d", got, tc.requests)
				}
				t.AssertNoViolations()
			})
		})
	}
}

// TestCrowdStrikeStreamsAreIndependent: a forbidden stream does not affect the
// others. All streams share one token and one rate limit.
func TestCrowdStrikeStreamsAreIndependent(t *testing.T) {
	runTenant(t, smallTenant(), smallPages, func(t *tenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) {
			c.Forbidden = map[string]bool{vendorsim.CrowdStrikeVulns: true}
		})
		var wg sync.WaitGroup
		outs, errs := map[string]*collectortest.Spool{}, map[string]*error{}
		for name := range streamPaths {
			out, err := collectortest.NewSpool(t), new(error)
			outs[name], errs[name] = out, err
			s := t.stream(name)
			wg.Go(func() { *err = s.Extract(t.Context(), out) })
		}
		wg.Wait()
		for name, err := range errs {
			if name == vendorsim.CrowdStrikeVulns {
				if !errors.Is(*err, collector.ErrForbidden) {
					t.Errorf("%s: %v", name, *err)
				}
				continue
			}
			if *err != nil {
				t.Fatal(*err)
			}
			t.AssertRecords(outs[name].Records(), t.expectedRecords(name))
		}
		stats := t.Host.Stats()
		if n := stats.Requests["POST /oauth2/token"]; n != 1 {
			t.Errorf("%d token requests for three streams, want 1", n)
		}
		if n := stats.MaxParallel[""]; n > 16 {
			t.Errorf("%d requests at once, want at most FALCON_PARALLEL", n)
		}
		t.AssertNoViolations()
	})
}

func TestCrowdStrikeCheck(t *testing.T) {
	runTenant(t, vendorsim.Options{}, nil, func(t *tenant) {
		if err := t.collector.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := t.Host.Stats(); s.Total != 1 || s.Requests["POST /oauth2/token"] != 1 {
			t.Errorf("requests %v, want only one for a token", s.Requests)
		}
		t.open(t.Host.URL(), "", nil, func(s *Settings) { s.Secret = "hush-hush" })
		err := t.collector.Check(t.Context())
		if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "FALCON_SECRET") || strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("error %v", err)
		}
		if !strings.HasPrefix(err.Error(), "crowdstrike: ") {
			t.Errorf("the error does not name the collector: %v", err)
		}
	})
}

func TestCrowdStrikeRegions(t *testing.T) {
	const us1, us2 = "http://crowdstrike_us-1.localhost", "http://crowdstrike.localhost"
	regions := map[string]string{"us-1": us1, "us-2": us2}
	for _, tc := range []struct {
		name      string
		base      string
		byDefault string
		regions   map[string]string
		region    string // of the tenant
		wantError string // "" if the tenant must be found
	}{
		{name: "found by redirect", base: us1, byDefault: us1, regions: regions, region: "us-2"},
		{name: "found by header", base: us2, byDefault: us2, regions: map[string]string{"us-2": us2}, region: "us-2"},
		{name: "unknown region is ignored", base: us2, byDefault: us2, regions: regions, region: "mars-1"},
		{name: "configured address is used", base: us2, byDefault: us1, regions: regions, region: "us-1"},
		{
			name: "configured address of another region",
			base: us1, byDefault: "https://elsewhere", regions: regions, region: "us-2",
			wantError: "set FALCON_BASE_URL to " + us2,
		},
		{
			name: "redirect to an unknown host",
			base: us1, byDefault: us1, regions: map[string]string{"us-1": us1}, region: "us-2",
			wantError: "FALCON_BASE_URL",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 2500}}, nil, func(t *tenant) {
				if t.Host.URL() != us2 {
					t.Fatalf("the simulator is at %s", t.Host.URL())
				}
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Region, c.TokenLife = tc.region, 100*time.Second })
				t.open(tc.base, tc.byDefault, tc.regions, nil)
				// The wait is longer than the life of the token.
				t.Host.Inject(vendorsim.Fault{Path: hostsPath, From: 2, Do: vendorsim.Status(503, "", "Retry-After", "90")})
				gateway := t.Sim.Host("crowdstrike_us-1")
				if tc.wantError != "" {
					err := t.extractError(vendorsim.CrowdStrikeHosts)
					if !strings.Contains(err.Error(), tc.wantError) {
						t.Errorf("error %v, want %q", err, tc.wantError)
					}
					if n := gateway.Stats().Total; n != 1 || t.Host.Stats().Total != 0 {
						t.Errorf("%d requests to the wrong region, %d to the other, want 1 and none", n, t.Host.Stats().Total)
					}
					return
				}
				t.assertExtractsLawfully(vendorsim.CrowdStrikeHosts)
				if n := t.Host.Stats().Requests["POST /oauth2/token"]; n != 2 {
					t.Errorf("%d tokens, want 2", n)
				}
				if n := gateway.Stats().Total; n > 1 {
					t.Errorf("%d requests to the wrong region, want at most that for the first token", n)
				}
			})
		})
	}
}

// TestCrowdStrikeRedirectByProxy: only an error that is a redirect advises to
// change the address, and only to an address of the vendor.
func TestCrowdStrikeRedirectByProxy(t *testing.T) {
	runTenant(t, smallTenant(), nil, func(t *tenant) {
		for _, path := range []string{hostsPath, "/oauth2/token"} {
			t.open(t.Host.URL(), "", regionAddresses, nil)
			redirect := func(path, target string) error {
				t.Host.Inject(vendorsim.Fault{Path: path, Do: vendorsim.Status(302, "", "Location", target)})
				err := t.extractError(vendorsim.CrowdStrikeHosts)
				if !strings.Contains(err.Error(), "FALCON_BASE_URL") {
					t.Errorf("%s: error %v", path, err)
				}
				return err
			}
			if err := redirect(path, "https://login.proxy.example/portal"); strings.Contains(err.Error(), "login.proxy.example") {
				t.Errorf("%s: the error advises to use the proxy: %v", path, err)
			}
			if err := redirect(path, "https://api.us-2.crowdstrike.com"+path); !strings.Contains(err.Error(), "set FALCON_BASE_URL to https://api.us-2.crowdstrike.com") {
				t.Errorf("%s: error %v", path, err)
			}
			t.Host.Inject(vendorsim.Fault{Path: hostsPath, Do: vendorsim.Status(403, "{}")})
			if err := t.extractError(vendorsim.CrowdStrikeHosts); strings.Contains(err.Error(), "FALCON_BASE_URL") {
				t.Errorf("%s: an error that is no redirect: %v", path, err)
			}
			t.assertExtracts(vendorsim.CrowdStrikeHosts)
			if err := redirect(hostsPath, "https://login.proxy.example/portal"); strings.Contains(err.Error(), "us-2") {
				t.Errorf("%s: the error names the region of an earlier redirect: %v", path, err)
			}
			t.assertExtracts(vendorsim.CrowdStrikeHosts)
		}
	})
}

// TestCrowdStrikeInfo: the definition describes the streams completely.
func TestCrowdStrikeInfo(t *testing.T) {
	c, err := Definition.Open(defaultSettings(t), collector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range Definition.Streams {
		if c.Streams[i].Name != s.Name || s.Records == "" || s.PageSize == "" || len(s.Endpoints) == 0 || s.Permissions == "" || s.Notes == "" {
			t.Errorf("stream %d is %s; described is %+v", i, c.Streams[i].Name, s)
		}
	}
	for _, filter := range []string{"", "*", " * "} {
		if errs := (&Settings{Vulns: filter}).Validate(); len(errs) != 1 {
			t.Errorf("filter %q is accepted", filter)
		}
	}
	if errs := defaultSettings(t).Validate(); len(errs) != 0 {
		t.Errorf("the defaults are refused: %v", errs)
	}
	if text := fmt.Sprintf("%+v", *defaultSettings(t)); strings.Contains(text, vendorsim.CrowdStrikeSecret) {
		t.Error("the settings show the secret")
	}
}
