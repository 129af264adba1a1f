package domains

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openDomains opens the collector of the simulated domains. change may be nil.
func openDomains(h *collectortest.Harness, domains string, change func(*account)) *collector.Collector {
	h.Helper()
	s := Settings{
		Domains: domains, Resolvers: []string{vendorsim.DomainsResolver}, RDAP: h.Host.URL() + "/rdap/dns.json", TLSPort: 443, HTTPPort: 80,
	}
	if errs := s.Validate(); len(errs) > 0 {
		h.Fatal(errs)
	}
	a, err := openAccount(&s, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	dial := h.Sim.Client().Transport.(*http.Transport).DialContext
	a.dial, a.resolver.dial = dial, dial
	a.roots = h.Host.Vendor().(*vendorsim.Domains).Roots()
	a.rdap.http, a.rdap.list.HTTP = h.HTTP, h.HTTP
	if change != nil {
		change(a)
	}
	return source.NewCollector("domains", a)
}

// runDomains runs test against simulated domains.
func runDomains(t *testing.T, test func(h *collectortest.Harness, sim *vendorsim.Domains)) {
	t.Helper()
	sim := vendorsim.NewDomains()
	collectortest.Run(t, vendorsim.Options{Vendors: []vendorsim.Vendor{sim}}, func(h *collectortest.Harness) {
		test(h, sim)
		// The fake clock stops when the test ends, and TLS connections that are being
		// closed wait for their peer for some seconds.
		time.Sleep(time.Minute)
	})
}

// recordsByDomain decodes records, in the order in which they were extracted.
func recordsByDomain(t *testing.T, records []string) (domains []string, by map[string]map[string]any) {
	t.Helper()
	by = map[string]map[string]any{}
	for _, text := range records {
		var record map[string]any
		if err := json.Unmarshal([]byte(text), &record); err != nil {
			t.Fatal(err)
		}
		domain := record["domain"].(string)
		domains, by[domain] = append(domains, domain), record
	}
	return domains, by
}

// requireMembers compares members of a record, given as JSON.
func requireMembers(t *testing.T, record map[string]any, want map[string]string) {
	t.Helper()
	for name, text := range want {
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		got, known := record[name]
		if !known || !reflect.DeepEqual(got, value) {
			shown, _ := json.Marshal(got)
			t.Errorf("%v: %s is %s, want %s", record["domain"], name, shown, text)
		}
	}
}

// reasons returns the failures of a record as "lookup reason".
func reasons(record map[string]any) []string {
	all := []string{}
	for _, one := range record["errors"].([]any) {
		failure := one.(map[string]any)
		all = append(all, failure["lookup"].(string)+" "+failure["reason"].(string))
	}
	return all
}

func requireReasons(t *testing.T, record map[string]any, want ...string) {
	t.Helper()
	if got := reasons(record); !slices.Equal(got, want) {
		t.Errorf("%v: failures %q, want %q", record["domain"], got, want)
	}
}

const allDomains = vendorsim.DomainComplete + ";" + vendorsim.DomainParked + ";" + vendorsim.DomainExpired + ";" + vendorsim.DomainMisnamed + ";" +
	vendorsim.DomainGone + ";" + vendorsim.DomainCountry + ";" + vendorsim.DomainBroken + ";bücher.example;" + vendorsim.DomainInside + ";" +
	"mail." + vendorsim.DomainComplete + ";" + vendorsim.DomainPlain

func TestRegistrations(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
		stream := collectortest.FindStream(h, openDomains(h, allDomains, nil), "domains")
		first := h.Extract(stream)
		domains, by := recordsByDomain(t, first)
		if want := strings.ReplaceAll(allDomains, "bücher.example", vendorsim.DomainInternational); strings.Join(domains, ";") != want {
			t.Errorf("domains %q, want %q", domains, want)
		}
		requireMembers(t, by[vendorsim.DomainComplete], map[string]string{
			"exists": "true", "registered": "true", "registered_domain": `"complete.example"`, "registrar": `"Registrar Inc."`,
			"expiration_date": `"2026-09-17T00:00:00Z"`, "creation_date": `"2021-03-01T00:00:00Z"`, "updated_date": `"2026-02-01T00:00:00Z"`,
			"name_servers": `["ns1.complete.example"]`, "status": `["client transfer prohibited"]`, "delegation_signed": "true",
			"mx":    `["10 mx1.complete.example.","20 mx2.complete.example."]`,
			"txt":   `["site=\"quoted\" ü","v=spf1 include:_spf.complete.example -all","` + strings.Repeat("x", 2000) + `"]`,
			"dmarc": `["v=DMARC1; p=reject; rua=mailto:d@complete.example"]`, "dmarc_name": `"_dmarc.complete.example"`, "errors": "[]",
		})
		requireMembers(t, by["mail."+vendorsim.DomainComplete], map[string]string{ // the policy of the registered domain applies
			"registered_domain": `"complete.example"`, "dmarc": `["v=DMARC1; p=reject; rua=mailto:d@complete.example"]`, "dmarc_name": `"_dmarc.complete.example"`,
		})
		requireMembers(t, by[vendorsim.DomainParked], map[string]string{
			"exists": "true", "mx": "[]", "txt": "[]", "dmarc": "[]", "registered": "true", "expiration_date": "null", "creation_date": `"2021-03-01T00:00:00Z"`,
		})
		requireReasons(t, by[vendorsim.DomainParked], "rdap no_expiration_date")
		requireMembers(t, by[vendorsim.DomainGone], map[string]string{
			"exists": "false", "mx": "[]", "txt": "[]", "dmarc": "[]", "registered": "false", "expiration_date": "null", "errors": "[]",
		})
		requireMembers(t, by[vendorsim.DomainCountry], map[string]string{"exists": "true", "mx": `["0 ."]`, "registered": "null", "expiration_date": "null"})
		requireReasons(t, by[vendorsim.DomainCountry], "rdap no_rdap")
		requireMembers(t, by[vendorsim.DomainBroken], map[string]string{"exists": "null", "mx": "null", "txt": "null", "dmarc": "null", "registered": "true"})
		requireReasons(t, by[vendorsim.DomainBroken], "dmarc servfail", "mx servfail", "txt servfail")
		requireMembers(t, by[vendorsim.DomainInternational], map[string]string{"unicode": `"bücher.example"`, "exists": "true", "errors": "[]"})
		if second := h.Extract(stream); !slices.Equal(first, second) {
			t.Errorf("a second run has other records:\n%s\n%s", first, second)
		}
		h.AssertNoViolations()
		if n := sim.Queries("complete.example. MX"); n != 2 {
			t.Errorf("%d queries for the MX of %s in two runs", n, vendorsim.DomainComplete)
		}
	})
}

func TestDNSRecords(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
		stream := collectortest.FindStream(h, openDomains(h, allDomains, nil), "domains_dns")
		first := h.Extract(stream)
		_, by := recordsByDomain(t, first)
		requireMembers(t, by[vendorsim.DomainComplete], map[string]string{
			"a": `["203.0.113.1"]`, "aaaa": "[]", "ns": `["ns1.complete.example.","ns2.complete.example."]`, "caa": `["0 issue \"ca.example\""]`,
			"soa":     `["ns1.complete.example. hostmaster.complete.example. 7 7200 900 1209600 300"]`,
			"mta_sts": `["v=STSv1; id=1"]`, "tls_rpt": "[]", "dnskey": "[]", "authenticated": "true", "errors": "[]",
			"ds": `["2371 13 2 1F987CC6583E92DF0890718C42E2EA94E2DD2E6A5A9B4F1F5D3C4D8E0A9C1B2A"]`,
		})
		requireMembers(t, by[vendorsim.DomainInternational], map[string]string{"a": `["203.0.113.5"]`, "aaaa": `["2001:db8::5"]`, "authenticated": "false"})
		requireMembers(t, by[vendorsim.DomainGone], map[string]string{"exists": "false", "a": "[]", "errors": "[]"})
		requireMembers(t, by[vendorsim.DomainBroken], map[string]string{"exists": "null", "a": "null", "authenticated": "null"})
		if got := len(reasons(by[vendorsim.DomainBroken])); got != 12 {
			t.Errorf("%d failures, want 12", got)
		}
		if second := h.Extract(stream); !slices.Equal(first, second) {
			t.Errorf("a second run has other records")
		}
	})
}

func TestCertificates(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
		stream := collectortest.FindStream(h, openDomains(h, allDomains, nil), "domains_tls")
		first := h.Extract(stream)
		_, by := recordsByDomain(t, first)
		now := time.Now().UTC()
		date := func(t time.Time) string { return `"` + t.Truncate(time.Second).Format(time.RFC3339) + `"` }
		requireMembers(t, by[vendorsim.DomainComplete], map[string]string{
			"version": `"TLS 1.3"`, "verified": "true", "verify_reason": "null", "subject": `"CN=complete.example"`, "serial": `"0100"`,
			"sans": `["complete.example","*.complete.example"]`, "port": `"443"`, "errors": "[]",
		})
		if chain, _ := by[vendorsim.DomainComplete]["chain"].([]any); len(chain) != 2 {
			t.Errorf("%v", by[vendorsim.DomainComplete])
		}
		requireMembers(t, by[vendorsim.DomainExpired], map[string]string{"verified": "false", "verify_reason": `"expired"`})
		if end, _ := by[vendorsim.DomainExpired]["not_after"].(string); !strings.HasPrefix(date(now.AddDate(0, 0, -3)), `"`+end[:min(len(end), 10)]) {
			t.Errorf("not_after is %s", end)
		}
		requireMembers(t, by[vendorsim.DomainMisnamed], map[string]string{"verified": "false", "verify_reason": `"wrong_name"`, "sans": `["other.example"]`})
		requireMembers(t, by[vendorsim.DomainInternational], map[string]string{"verified": "false", "verify_reason": `"unknown_authority"`})
		for domain, reason := range map[string]string{
			vendorsim.DomainParked: "tls no_address", vendorsim.DomainGone: "a nxdomain", vendorsim.DomainBroken: "aaaa servfail",
			vendorsim.DomainInside: "tls private_address", vendorsim.DomainPlain: "tls not_tls", vendorsim.DomainCountry: "tls handshake",
		} {
			requireReasons(t, by[domain], reason)
			requireMembers(t, by[domain], map[string]string{"not_after": "null", "verified": "null", "address": "null", "chain": "null"})
		}
		if second := h.Extract(stream); !slices.Equal(first, second) {
			t.Errorf("a second run has other records:\n%s\n%s", first, second)
		}
	})
}

func TestHeaders(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
		stream := collectortest.FindStream(h, openDomains(h, allDomains, nil), "domains_headers")
		first := h.Extract(stream)
		_, by := recordsByDomain(t, first)
		last := `{"url":"https://www.complete.example/home","status":200,"headers":{"content-length":"18","content-type":"text/html; charset=utf-8","strict-transport-security":"max-age=31536000","x-two":"a, b"},
			"cookies":[{"name":"session","secure":true,"http_only":true,"same_site":"Lax"}],"redirects":[REDIRECTS]}`
		to := `{"url":"https://complete.example/","status":302,"location":"https://www.complete.example/home"}`
		requireMembers(t, by[vendorsim.DomainComplete], map[string]string{
			"https": strings.Replace(last, "REDIRECTS", to, 1),
			"http":  strings.Replace(last, "REDIRECTS", `{"url":"http://complete.example/","status":301,"location":"https://complete.example/"},`+to, 1),
		})
		expired, _ := by[vendorsim.DomainExpired]["https"].(map[string]any) // also with a certificate that is not valid
		if expired == nil || expired["status"] != 302.0 || expired["headers"].(map[string]any)["location"] != "https://elsewhere.example/" {
			t.Errorf("a redirect to another domain: %v", expired)
		}
		requireReasons(t, by[vendorsim.DomainMisnamed], "http too_many_redirects", "https too_many_redirects")
		requireReasons(t, by[vendorsim.DomainInside], "http private_address", "https private_address")
		requireReasons(t, by[vendorsim.DomainParked], "http no_address", "https no_address")
		requireReasons(t, by[vendorsim.DomainGone], "a nxdomain")
		requireMembers(t, by[vendorsim.DomainGone], map[string]string{"https": "null", "http": "null"})
		if sim.Queries("elsewhere.example. A") != 0 {
			t.Error("another domain was looked up")
		}
		if all := strings.Join(first, ""); strings.Contains(all, "secret-") {
			t.Error("a record has the value of a cookie")
		}
		if second := h.Extract(stream); !slices.Equal(first, second) {
			t.Errorf("a second run has other records:\n%s\n%s", first, second)
		}
	})
}

// TestResolverDown: without a resolver no stream has a result, however many
// domains there are; one that comes back in time is enough.
func TestResolverDown(t *testing.T) {
	for _, name := range []string{"domains", "domains_dns", "domains_tls", "domains_headers"} {
		t.Run(name, func(t *testing.T) {
			runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
				stream := collectortest.FindStream(h, openDomains(h, vendorsim.DomainComplete+","+vendorsim.DomainGone, nil), name)
				sim.ChangeFaults(func(b *vendorsim.DomainsFaults) { b.ResolverDown = true })
				err := h.ExtractError(stream, 5*time.Hour)
				if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "no resolver responded: "+vendorsim.DomainsResolver) || !strings.Contains(err.Error(), "check DOMAINS_RESOLVERS") {
					t.Errorf("the error is %v", err)
				}
				if err := stream.Check(h.Context()); err == nil || !strings.Contains(err.Error(), "no resolver responded") {
					t.Errorf("the check returns %v", err)
				}
				up := time.AfterFunc(10*time.Minute, func() {
					sim.ChangeFaults(func(b *vendorsim.DomainsFaults) { b.ResolverDown = false })
				})
				defer up.Stop()
				if records := h.Extract(stream); len(records) != 2 {
					t.Errorf("records %q", records)
				}
				if err := stream.Check(h.Context()); err != nil {
					t.Errorf("the check returns %v", err)
				}
			})
		})
	}
}

// TestResolverFailsMeanwhile: a resolver that stops after the first look-ups
// proves nothing about the domains either.
func TestResolverFailsMeanwhile(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
		c := openDomains(h, vendorsim.DomainComplete, func(a *account) {
			dial := a.resolver.dial
			questions := 0
			a.resolver.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if questions++; questions == 3 {
					sim.ChangeFaults(func(b *vendorsim.DomainsFaults) { b.ResolverDown = true })
				}
				return dial(ctx, network, address)
			}
		})
		if err := h.ExtractError(collectortest.FindStream(h, c, "domains_dns"), 5*time.Hour); !errors.Is(err, collector.ErrIncomplete) {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestDNSFaults: a lost packet is no failure, and a domain whose name servers do
// not respond is one of that domain.
func TestDNSFaults(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
		stream := collectortest.FindStream(h, openDomains(h, vendorsim.DomainComplete+" "+vendorsim.DomainSilent, nil), "domains")
		sim.ChangeFaults(func(b *vendorsim.DomainsFaults) { b.DropQueries = 2 })
		_, by := recordsByDomain(t, h.Extract(stream))
		requireReasons(t, by[vendorsim.DomainComplete])
		requireReasons(t, by[vendorsim.DomainSilent], "dmarc timeout", "mx timeout", "txt timeout")
		requireMembers(t, by[vendorsim.DomainSilent], map[string]string{"exists": "null", "mx": "null", "txt": "null", "dmarc": "null"})
	})
}

// TestSecondResolver: the next resolver is asked when the first one does not respond.
func TestSecondResolver(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, _ *vendorsim.Domains) {
		c := openDomains(h, vendorsim.DomainComplete, func(a *account) { a.resolver.servers = []string{"192.0.2.99:53", vendorsim.DomainsResolver} })
		_, by := recordsByDomain(t, h.Extract(collectortest.FindStream(h, c, "domains_dns")))
		requireReasons(t, by[vendorsim.DomainComplete])
	})
}

// TestRDAPFaults: what lasts is a failure in the record, what passes is none, and
// the list of servers is needed.
func TestRDAPFaults(t *testing.T) {
	const registrations = "/rdap/registry/domain/*"
	for _, tc := range []struct {
		name   string
		fault  vendorsim.Fault
		reason string
	}{
		{name: "errors that pass", fault: vendorsim.Fault{Path: registrations, Times: 3, Do: vendorsim.Status(503, "")}},
		{name: "errors that last", fault: vendorsim.Fault{Path: registrations, Times: vendorsim.Forever, Do: vendorsim.Status(503, "")}, reason: "rdap http_503"},
		{name: "refused", fault: vendorsim.Fault{Path: registrations, Times: vendorsim.Forever, Do: vendorsim.Status(403, "")}, reason: "rdap http_403"},
		{name: "no registration", fault: vendorsim.Fault{Path: registrations, Times: vendorsim.Forever, Do: vendorsim.Status(200, `{"errors":["later"]}`)}, reason: "rdap invalid_response"},
		{name: "rate limit", fault: vendorsim.Fault{Path: registrations, Times: vendorsim.Forever, Do: vendorsim.Status(429, "")}, reason: "rdap timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runDomains(t, func(h *collectortest.Harness, _ *vendorsim.Domains) {
				stream := collectortest.FindStream(h, openDomains(h, vendorsim.DomainComplete, nil), "domains")
				h.Host.Inject(tc.fault)
				_, by := recordsByDomain(t, h.Extract(stream))
				if tc.reason == "" {
					requireReasons(t, by[vendorsim.DomainComplete])
					return
				}
				requireReasons(t, by[vendorsim.DomainComplete], tc.reason)
				requireMembers(t, by[vendorsim.DomainComplete], map[string]string{"registered": "null", "expiration_date": "null", "exists": "true"})
			})
		})
	}
	runDomains(t, func(h *collectortest.Harness, sim *vendorsim.Domains) {
		stream := collectortest.FindStream(h, openDomains(h, vendorsim.DomainComplete, nil), "domains")
		sim.ChangeFaults(func(b *vendorsim.DomainsFaults) { b.Bootstrap = `{"services":[]}` })
		if err := h.ExtractError(stream, 5*time.Hour); !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "check DOMAINS_RDAP_URL") {
			t.Errorf("the error is %v", err)
		}
		refused := h.Host.Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(401, "")})
		const want = "401 Unauthorized: the publisher refuses this client: check the proxy, or set DOMAINS_RDAP_URL to the address of a mirror"
		if err := stream.Check(h.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		refused.Remove()
		if err := stream.Check(h.Context()); err == nil {
			t.Error("the check returns no error")
		}
		off := openDomains(h, vendorsim.DomainComplete, func(a *account) { a.rdap = nil })
		_, by := recordsByDomain(t, h.Extract(off.Streams[0]))
		requireReasons(t, by[vendorsim.DomainComplete], "rdap off")
		if err := off.Streams[0].Check(h.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestCanceledRun: what a canceled run could not look up is in no record.
func TestCanceledRun(t *testing.T) {
	runDomains(t, func(h *collectortest.Harness, _ *vendorsim.Domains) {
		for _, s := range openDomains(h, vendorsim.DomainSilent+","+vendorsim.DomainComplete, nil).Streams {
			if err := h.ExtractError(s, 5*time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: the error is %v", s.Name, err)
			}
		}
	})
}

// TestRealSockets: DNS by UDP, and by TCP for replies that are too long, and
// web servers on this machine.
func TestRealSockets(t *testing.T) {
	sim := vendorsim.NewDomains()
	server, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{sim}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	values := map[string]string{}
	for _, line := range server.Hosts()[0].Env() {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	s := Settings{Domains: vendorsim.DomainComplete, Resolvers: []string{values["DOMAINS_RESOLVERS"]}, RDAP: values["DOMAINS_RDAP_URL"], Private: true}
	if err := json.Unmarshal([]byte("["+values["DOMAINS_TLS_PORT"]+","+values["DOMAINS_HTTP_PORT"]+"]"), &[]any{&s.TLSPort, &s.HTTPPort}); err != nil {
		t.Fatal(err)
	}
	a, err := openAccount(&s, collector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.rdap.http.CloseIdleConnections()
	a.roots, a.timeout, a.resolver.timeout = sim.Roots(), 5*time.Minute, 5*time.Minute
	for _, stream := range a.Streams() {
		out := collectortest.NewSpool(t)
		if err := stream.Extract(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		_, by := recordsByDomain(t, out.Records())
		requireReasons(t, by[vendorsim.DomainComplete])
		switch stream.Name {
		case "domains_dns":
			if txt := by[vendorsim.DomainComplete]["txt"].([]any); len(txt) != 3 || len(txt[2].(string)) != 2000 {
				t.Errorf("txt is %v", txt)
			}
		case "domains_tls":
			requireMembers(t, by[vendorsim.DomainComplete], map[string]string{"address": `"127.0.0.1"`, "verified": "true"})
		case "domains_headers":
			if https := by[vendorsim.DomainComplete]["https"].(map[string]any); https["status"] != 200.0 {
				t.Errorf("https is %v", https)
			}
		}
	}
	// The same servers are not contacted unless that is allowed.
	a.private = false
	_, failed := a.connect(t.Context(), "tls", vendorsim.DomainComplete, a.ports["https"])
	if failed == nil || failed.Reason != "private_address" {
		t.Errorf("the failure is %v", failed)
	}
	// A port on which nothing listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	a.private = true
	if _, failed := a.connect(t.Context(), "tls", vendorsim.DomainComplete, port); failed == nil || failed.Reason != "connection_refused" {
		t.Errorf("the failure is %v", failed)
	}
}

func TestPublicAddresses(t *testing.T) {
	for text, public := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "64:ff9b::808:808": true, "2002:808:808::1": true, "::ffff:8.8.8.8": true,
		"10.0.0.1": false, "172.16.3.4": false, "192.168.1.1": false, "127.0.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "169.254.169.254": false,
		"100.64.0.1": false, "192.0.0.8": false, "198.18.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "::10.0.0.1": false, "::8.8.8.8": true, "fec0::1": false, "2002:a00:1::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != public {
			t.Errorf("%s is public: %v, want %v", text, got, public)
		}
	}
}

func TestParseDomains(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		errs       []string
	}{
		{text: "a.example;b.example", want: "a.example b.example"},
		{text: " a.example, b.example\n\tc.example;; ", want: "a.example b.example c.example"},
		{text: "A.Example.;a.example;a.EXAMPLE", want: "a.example"},
		{text: "bücher.example;xn--bcher-kva.example", want: "xn--bcher-kva.example"},
		{text: "sub.a.example", want: "sub.a.example"},
		{text: ";", errs: []string{"DOMAINS: it names no domain"}},
		{
			text: "https://a.example/ b_c.example 192.0.2.1 localhost *.a.example -a.example a..example good.example " + strings.Repeat("a.", 130) + "example",
			want: "good.example",
			errs: []string{
				`"https://a.example/" is not a domain: it is an address`, `"b_c.example" is not a domain: it has a character`, `"192.0.2.1" is not a domain: it is an IP address`,
				`"localhost" is not a domain: it has no dot`, `"*.a.example" is not a domain: it has a wildcard`, `"-a.example" is not a domain`, `"a..example" is not a domain`,
				"is not a domain: it ",
			},
		},
	} {
		got, errs := parseDomains(tc.text)
		var names []string
		for _, d := range got {
			names = append(names, d.ascii)
		}
		if strings.Join(names, " ") != tc.want {
			t.Errorf("%q: %q, want %q", tc.text, names, tc.want)
		}
		if len(errs) != len(tc.errs) {
			t.Errorf("%q: errors %v", tc.text, errs)
			continue
		}
		for i, err := range errs {
			if !strings.Contains(err.Error(), "DOMAINS") || !strings.Contains(err.Error(), tc.errs[i]) {
				t.Errorf("%q: error %v, want %s", tc.text, err, tc.errs[i])
			}
		}
	}
}

func TestValidate(t *testing.T) {
	good := Settings{Domains: "a.example", RDAP: "https://rdap.example/dns.json", Resolvers: []string{"9.9.9.9", "[2620:fe::fe]:5353", "2620:fe::fe"}}
	if errs := good.Validate(); len(errs) > 0 {
		t.Error(errs)
	}
	servers, err := good.parseResolvers()
	if want := []string{"9.9.9.9:53", "[2620:fe::fe]:5353", "[2620:fe::fe]:53"}; err != nil || !slices.Equal(servers, want) {
		t.Errorf("resolvers %q, want %q: %v", servers, want, err)
	}
	bad := Settings{Domains: "a b.example", RDAP: "rdap://x", Resolvers: []string{"dns.example"}}
	var texts []string
	for _, err := range bad.Validate() {
		texts = append(texts, err.Error())
	}
	for i, name := range []string{"DOMAINS:", "DOMAINS_RESOLVERS:", "DOMAINS_RDAP_URL:"} {
		if i >= len(texts) || !strings.HasPrefix(texts[i], name) {
			t.Errorf("errors %q, want %s", texts, name)
		}
	}
}
