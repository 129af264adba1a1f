package sources

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// tenant of CrowdStrike: a simulated one, with the reader under test.
type falconTenant struct {
	*bubble
	vendor *vendorsim.CrowdStrike
	f      *falcon
	c      *collector.Collector
}

// inFalcon runs a test against a simulated tenant, whose data stands at the
// present of the fake clock, and a reader with the default settings as
// changed.
func inFalcon(t *testing.T, o vendorsim.Options, change func(*crowdstrikeSettings), test func(t *falconTenant)) {
	t.Helper()
	vendor := vendorsim.NewCrowdStrike()
	o.Base = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // a bubble's clock starts then
	o.Vendors = []vendorsim.Vendor{vendor, vendor.Gateway("us-1")}
	o.Gzip = vendorsim.GzipStored
	if o.RecordBytes == nil {
		o.RecordBytes = map[string]int{vendorsim.CrowdStrikeHosts: 400, vendorsim.CrowdStrikeVulns: 400, vendorsim.CrowdStrikeZTA: 400}
	}
	inBubble(t, o, func(b *bubble) {
		tenant := &falconTenant{bubble: b, vendor: vendor}
		tenant.open(b.host.URL(), "", nil, change)
		test(tenant)
	})
}

// open makes the reader.
func (t *falconTenant) open(base, byDefault string, regions map[string]string, change func(*crowdstrikeSettings)) {
	t.Helper()
	s := falconSettings(t)
	s.BaseURL = falconURL(t, base)
	if change != nil {
		change(s)
	}
	t.f = newFalcon(s, collector.Options{Version: "test"}, byDefault, regions)
	if s.Page == 50 {
		t.f.batch = 100
	}
	joined := t.http.Transport.(*http.Transport)
	joined.ResponseHeaderTimeout = t.f.api.HTTP.Transport.(*http.Transport).ResponseHeaderTimeout
	t.f.api.HTTP.Transport = joined
	t.c = t.f.collector()
}

// falconSettings are the defaults, with the credential of the simulator.
func falconSettings(t testing.TB) *crowdstrikeSettings {
	t.Helper()
	s := &crowdstrikeSettings{}
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
			*field = falconURL(t, text)
		}
	}
	s.ClientID, s.Secret = vendorsim.CrowdStrikeClientID, config.Secret(vendorsim.CrowdStrikeSecret)
	return s
}

func falconURL(t testing.TB, text string) url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

// want are the records that a stream must have.
func (t *falconTenant) want(stream string) []string {
	t.Helper()
	var list []int
	switch stream {
	case vendorsim.CrowdStrikeVulns:
		var err error
		if list, err = t.vendor.Select(t.f.Vulns); err != nil {
			t.Fatal(err)
		}
	case vendorsim.CrowdStrikeZTA:
		list = t.vendor.Assessed()
	default:
		return t.records(stream)
	}
	want := make([]string, len(list))
	for k, i := range list {
		want[k] = string(t.sim.Record(stream, i))
	}
	return want
}

// whole extracts a stream and compares every byte with the vendor's.
func (t *falconTenant) whole(name string) {
	t.Helper()
	t.same(t.extract(stream(t, t.c, name)), t.want(name))
	t.lawful()
}

// lawful wants no rule of the vendor broken.
func (t *falconTenant) lawful() {
	t.Helper()
	if v := t.host.Stats().Violations; len(v) > 0 {
		t.Errorf("rules broken: %v", v)
	}
}

// fails extracts a stream, which must not succeed.
func (t *falconTenant) fails(name string) error {
	t.Helper()
	return t.refused(stream(t, t.c, name), 10*time.Hour)
}

const (
	falconHostsPath   = "/devices/combined/devices/v1"
	falconVulnsPath   = "/spotlight/combined/vulnerabilities/v1"
	falconScrollPath  = "/devices/queries/devices-scroll/v1"
	falconDevicesPath = "/devices/entities/devices/v2"
	falconScorePath   = "/zero-trust-assessment/queries/assessments/v1"
)

var falconPaths = map[string]string{
	vendorsim.CrowdStrikeHosts: falconHostsPath,
	vendorsim.CrowdStrikeVulns: falconVulnsPath,
	vendorsim.CrowdStrikeZTA:   falconAssessments,
}

// falconSmall is a tenant whose streams take several requests, with
// falconSmallPages.
func falconSmall() vendorsim.Options {
	return vendorsim.Options{
		Counts:     map[string]int{vendorsim.CrowdStrikeHosts: 650, vendorsim.CrowdStrikeVulns: 600},
		PageLimits: map[string]int{vendorsim.CrowdStrikeHosts: 100},
		Latency:    50 * time.Millisecond,
	}
}

func falconSmallPages(s *crowdstrikeSettings) { s.Page = 50 }

func TestFalconRefusals(t *testing.T) {
	forbid := func(stream string) func(*vendorsim.CrowdStrikeConfig) {
		return func(c *vendorsim.CrowdStrikeConfig) { c.Forbidden = map[string]bool{stream: true} }
	}
	for name, tc := range map[string]struct {
		settings func(*crowdstrikeSettings)
		sim      func(*vendorsim.CrowdStrikeConfig)
		stream   string
		class    error
		want     []string
		requests int
	}{
		"unknown id": {
			settings: func(s *crowdstrikeSettings) { s.ClientID = "nobody" },
			stream:   vendorsim.CrowdStrikeHosts, class: collector.ErrRefused, want: []string{"FALCON_CLIENT_ID", "400"}, requests: 1,
		},
		"wrong secret": {
			settings: func(s *crowdstrikeSettings) { s.Secret = "hush-hush" },
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
			settings: func(s *crowdstrikeSettings) { s.Vulns = "no_such_field:'1'" },
			stream:   vendorsim.CrowdStrikeVulns, want: []string{"FALCON_VULNERABILITIES_FILTER", "400"}, requests: 2,
		},
		"filter of hosts": {
			settings: func(s *crowdstrikeSettings) { s.Hosts = "platform_name:" },
			stream:   vendorsim.CrowdStrikeHosts, want: []string{"FALCON_HOSTS_FILTER", "400"}, requests: 2,
		},
		"token refused at once": {
			sim:    func(c *vendorsim.CrowdStrikeConfig) { c.TokenCalls = -1 },
			stream: vendorsim.CrowdStrikeHosts, class: collector.ErrRefused, want: []string{"FALCON_CLIENT_ID"}, requests: 4,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFalcon(t, vendorsim.Options{}, tc.settings, func(t *falconTenant) {
				if tc.sim != nil {
					t.vendor.Configure(tc.sim)
				}
				err := t.fails(tc.stream)
				if tc.class != nil && !errors.Is(err, tc.class) {
					t.Errorf("error %v, want %v", err, tc.class)
				}
				for _, want := range tc.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error lacks %q: %v", want, err)
					}
				}
				if strings.Contains(err.Error(), "hush-hush") {
					t.Errorf("the error tells the secret: %v", err)
				}
				if got := t.host.Stats().Total; got > tc.requests {
					t.Errorf("%d requests, want at most %d", got, tc.requests)
				}
				t.lawful()
			})
		})
	}
}

// A stream that is forbidden leaves the others alone; all share one token and
// one gate.
func TestFalconStreamsAreIndependent(t *testing.T) {
	inFalcon(t, falconSmall(), falconSmallPages, func(t *falconTenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) {
			c.Forbidden = map[string]bool{vendorsim.CrowdStrikeVulns: true}
		})
		var wg sync.WaitGroup
		outs, errs := map[string]*spool{}, map[string]*error{}
		for name := range falconPaths {
			out, err := newSpool(t.T), new(error)
			outs[name], errs[name] = out, err
			s := stream(t, t.c, name)
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
			t.same(outs[name].records(), t.want(name))
		}
		stats := t.host.Stats()
		if n := stats.Requests["POST /oauth2/token"]; n != 1 {
			t.Errorf("%d token requests for three streams, want 1", n)
		}
		if n := stats.MaxParallel[""]; n > 16 {
			t.Errorf("%d requests at once, want at most FALCON_PARALLEL", n)
		}
		t.lawful()
	})
}

func TestFalconCheck(t *testing.T) {
	inFalcon(t, vendorsim.Options{}, nil, func(t *falconTenant) {
		if err := t.c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := t.host.Stats(); s.Total != 1 || s.Requests["POST /oauth2/token"] != 1 {
			t.Errorf("requests %v, want the token's alone", s.Requests)
		}
		t.open(t.host.URL(), "", nil, func(s *crowdstrikeSettings) { s.Secret = "hush-hush" })
		err := t.c.Check(t.Context())
		if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "FALCON_SECRET") || strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("error %v", err)
		}
		if !strings.HasPrefix(err.Error(), "crowdstrike: ") {
			t.Errorf("the error does not name the collector: %v", err)
		}
	})
}

func TestFalconRegions(t *testing.T) {
	const us1, us2 = "http://crowdstrike_us-1.sim", "http://crowdstrike.sim"
	regions := map[string]string{"us-1": us1, "us-2": us2}
	for name, tc := range map[string]struct {
		base, byDefault string
		regions         map[string]string
		region          string
		want            string
	}{
		"found by redirect":              {us1, us1, regions, "us-2", ""},
		"found by header":                {us2, us2, map[string]string{"us-2": us2}, "us-2", ""},
		"unknown region is passed over":  {us2, us2, regions, "mars-1", ""},
		"explicit address stays":         {us2, us1, regions, "us-1", ""},
		"explicit address of another":    {us1, "https://elsewhere", regions, "us-2", "set FALCON_BASE_URL to " + us2},
		"redirect to a host of no table": {us1, us1, map[string]string{"us-1": us1}, "us-2", "FALCON_BASE_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			inFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 2500}}, nil, func(t *falconTenant) {
				if t.host.URL() != us2 {
					t.Fatalf("the simulator is at %s", t.host.URL())
				}
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Region, c.TokenLife = tc.region, 100*time.Second })
				t.open(tc.base, tc.byDefault, tc.regions, nil)
				// The wait outlives the token.
				t.host.Inject(vendorsim.Fault{Path: falconHostsPath, From: 2, Do: vendorsim.Status(503, "", "Retry-After", "90")})
				gateway := t.sim.Host("crowdstrike_us-1")
				if tc.want != "" {
					err := t.fails(vendorsim.CrowdStrikeHosts)
					if !strings.Contains(err.Error(), tc.want) {
						t.Errorf("error %v, want %q", err, tc.want)
					}
					if n := gateway.Stats().Total; n != 1 || t.host.Stats().Total != 0 {
						t.Errorf("%d requests to the wrong region, %d to the other, want 1 and none", n, t.host.Stats().Total)
					}
					return
				}
				t.whole(vendorsim.CrowdStrikeHosts)
				if n := t.host.Stats().Requests["POST /oauth2/token"]; n != 2 {
					t.Errorf("%d tokens, want 2", n)
				}
				if n := gateway.Stats().Total; n > 1 {
					t.Errorf("%d requests to the wrong region, want the first token's alone", n)
				}
			})
		})
	}
}

// What the reference says is what there is.
func TestFalconInfo(t *testing.T) {
	c, err := crowdstrikeSource.Open(falconSettings(t), collector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range crowdstrikeSource.Streams {
		if c.Streams[i].Name != s.Name || s.Records == "" || s.PageSize == "" || len(s.Endpoints) == 0 || s.Permissions == "" || s.Notes == "" {
			t.Errorf("stream %d is %s; described is %+v", i, c.Streams[i].Name, s)
		}
	}
	for _, filter := range []string{"", "*", " * "} {
		if errs := (&crowdstrikeSettings{Vulns: filter}).Validate(); len(errs) != 1 {
			t.Errorf("filter %q is accepted", filter)
		}
	}
	if errs := falconSettings(t).Validate(); len(errs) != 0 {
		t.Errorf("the defaults are refused: %v", errs)
	}
	if text := fmt.Sprintf("%+v", *falconSettings(t)); strings.Contains(text, vendorsim.CrowdStrikeSecret) {
		t.Error("the settings show the secret")
	}
}
