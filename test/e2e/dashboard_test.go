package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
)

// dashboard is the part of deploy/grafana/collectord.json that sends queries.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		Title   string
		Targets []struct {
			Expr    string
			Instant bool
		}
	}
}

// prometheusAPI sends requests to a Prometheus.
type prometheusAPI struct {
	*testing.T
	url string
}

// get returns the data of a response, and an error if it is not a success, or has a warning.
func (p prometheusAPI) get(path string, parameters url.Values) (json.RawMessage, error) {
	request, err := http.NewRequestWithContext(p.Context(), http.MethodGet, p.url+path+"?"+parameters.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var body struct {
		Status, Error string
		Data          json.RawMessage
		Warnings      []string
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		return nil, err
	}
	if body.Status != "success" || len(body.Warnings) > 0 {
		return nil, fmt.Errorf("%s %s %q", body.Status, body.Error, body.Warnings)
	}
	return body.Data, nil
}

// labelValues returns the response to a query of a variable, label_values(metric, label).
func (p prometheusAPI) labelValues(query string) (values []string, err error) {
	parts := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(query)
	if parts == nil {
		return nil, fmt.Errorf("%q is not label_values", query)
	}
	data, err := p.get("/api/v1/label/"+parts[2]+"/values", url.Values{"match[]": {parts[1]}})
	if err != nil {
		return nil, err
	}
	return values, json.Unmarshal(data, &values)
}

// query returns the labels of the series that a query returns, now or over the last minutes.
func (p prometheusAPI) query(expr string, instant bool) (found []map[string]string, err error) {
	now := time.Now()
	path, parameters := "/api/v1/query", url.Values{"query": {expr}}
	if !instant {
		path = "/api/v1/query_range"
		parameters.Set("start", now.Add(-5*time.Minute).Format(time.RFC3339))
		parameters.Set("end", now.Format(time.RFC3339))
		parameters.Set("step", "1")
	}
	data, err := p.get(path, parameters)
	if err != nil {
		return nil, err
	}
	var result struct {
		Result []struct{ Metric map[string]string }
	}
	if err := json.Unmarshal(data, &result); err != nil {
		return nil, err
	}
	for _, series := range result.Result {
		found = append(found, series.Metric)
	}
	return found, nil
}

// TestDashboard sends every query of the Grafana dashboard to a Prometheus that scrapes the
// services of two tenancies, and checks that each returns data of the chosen tenancy alone.
// Okta waits for the vendor's rate limit, and one destination is down, so that no
// panel is empty. The first service has a shared state.
func TestDashboard(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-the-test"
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable(), vendorsim.NewOkta())
	sim.Hosts()[1].Inject(vendorsim.Fault{
		Times: vendorsim.Forever, Do: vendorsim.Status(429, `{"error":"slow down"}`, "Retry-After", "3600"),
	})
	var services []*harness.Service
	var targets []string
	for _, tenancy := range []string{"acme", "other"} {
		ws := harness.NewWorkspace(t).UseVendors(sim)
		ws.Env["TENANCY"], ws.Env["HTTP_TOKEN"], ws.Env["SHUTDOWN_GRACE"] = tenancy, token, "1s"
		ws.Env["STORE_POSTGRES_HOST"], ws.Env["STORE_POSTGRES_PORT"], ws.Env["STORE_POSTGRES_USER"] = "127.0.0.1", "1", "someone"
		ws.Env["STORE_POSTGRES_DBNAME"], ws.Env["STORE_POSTGRES_PASSWORD"] = "none", "a-password"
		if tenancy == "acme" {
			shareState(t, ws)
		}
		s := ws.StartService()
		services, targets = append(services, s), append(targets, strings.TrimPrefix(s.BaseURL(), "http://"))
	}
	first := targets[0]
	prom := prometheusAPI{t, startPrometheus(t, targets...)}
	text, err := os.ReadFile(checkout.Join(t, "deploy", "grafana", "collectord.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}

	substitute := map[string]string{"__rate_interval": "1m"}
	fill := func(query string) string {
		return regexp.MustCompile(`\$(\w+)`).ReplaceAllStringFunc(query, func(variable string) string {
			value, ok := substitute[variable[1:]]
			if !ok {
				t.Errorf("%s uses the unknown variable %s", query, variable)
			}
			return value
		})
	}
	for _, want := range []struct {
		name   string
		values []string
		chosen string
	}{
		{"instance", targets, strings.Join(targets, "|")},
		{"tenancy", []string{"acme", "other"}, "acme"},
		{"stream", []string{"okta_users", "tenable_assets", "tenable_findings", "tenable_vulnerabilities", "tenable_was"}, ".*"},
	} {
		for _, v := range d.Templating.List {
			if v.Name != want.name {
				continue
			}
			query := fill(v.Definition)
			slices.Sort(want.values)
			waitUntil(t, query+" returns its values", func() bool {
				values, err := prom.labelValues(query)
				slices.Sort(values)
				return err == nil && slices.Equal(values, want.values)
			})
			substitute[want.name] = want.chosen
		}
	}
	type query struct {
		expr    string
		instant bool
	}
	var pending []query
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			pending = append(pending, query{fill(target.Expr), target.Instant})
		}
	}
	if len(pending) < 40 {
		t.Errorf("only %d queries", len(pending))
	}
	waitUntil(t, "every query returns data", func() bool {
		// Rates and increases need runs between the scrapes.
		services[0].Request("POST", "http://"+first+"/api/v1/streams/tenable_assets/run", token)
		pending = slices.DeleteFunc(pending, func(q query) bool {
			found, err := prom.query(q.expr, q.instant)
			if err != nil {
				t.Fatalf("%v: %s", err, q.expr)
			}
			for _, labels := range found {
				if tenancy, ok := labels["tenancy"]; ok && tenancy != "acme" {
					t.Fatalf("data of another tenancy: %v: %s", labels, q.expr)
				}
			}
			return len(found) > 0
		})
		t.Logf("without data: %+v", pending)
		return len(pending) == 0
	})
	// Okta's runs have not ended: their requests and waits count while they last.
	for _, metric := range []string{`collectord_requests_total{code="4xx"}`, "collectord_rate_limit_wait_seconds_total"} {
		expr := metric + ` > 0 and on (instance, stream) collectord_running{stream="okta_users"} == 1`
		waitUntil(t, expr, func() bool {
			found, err := prom.query(expr, true)
			return err == nil && len(found) == 2
		})
	}
	for _, s := range services {
		s.Signal(syscall.SIGTERM)
		s.AssertResult(s.Wait(), harness.ExitOK)
	}
}

// waitUntil waits until the condition holds, which other processes bring about.
func waitUntil(t *testing.T, condition string, holds func() bool) {
	t.Helper()
	deadline := time.After(harness.HangLimit)
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("timeout: %s", condition)
		}
	}
}
