package vendorsim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

// crowdstrikeClient reads a simulated tenant with a token.
type crowdstrikeClient struct {
	*testing.T
	sim    *vendorsim.Server
	vendor *vendorsim.CrowdStrike
	host   *vendorsim.Host
	clock  *vendorsim.Clock
	token  string
}

func startCrowdStrike(t *testing.T, o vendorsim.Options) *crowdstrikeClient {
	t.Helper()
	client := &crowdstrikeClient{T: t, vendor: vendorsim.NewCrowdStrike(),
		clock: vendorsim.NewClock(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))}
	o.Vendors = []vendorsim.Vendor{client.vendor, client.vendor.Gateway("us-1")}
	o.Now = client.clock.Now
	client.sim = startServer(t, o)
	client.host = client.sim.Host("crowdstrike")
	client.login()
	return client
}

// login requests a token.
func (c *crowdstrikeClient) login() {
	c.Helper()
	r := c.sendAuthorized("POST", "/oauth2/token", crowdstrikeForm(vendorsim.CrowdStrikeClientID, vendorsim.CrowdStrikeSecret),
		"Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
		Type    string `json:"token_type"`
	}
	if err := json.Unmarshal([]byte(r.body), &token); err != nil || r.code != 201 || token.Expires != 1799 || token.Type != "bearer" {
		c.Fatalf("token: %d %s", r.code, r.body)
	}
	if r.header.Get("X-Cs-Region") != "us-1" || r.header.Get("X-Ratelimit-Limit") != "300" {
		c.Errorf("token: headers %v", r.header)
	}
	c.token = token.Token
}

func crowdstrikeForm(id, secret string) string {
	return url.Values{"client_id": {id}, "client_secret": {secret}}.Encode()
}

func (c *crowdstrikeClient) sendAuthorized(method, path, body string, header ...string) response {
	c.Helper()
	if c.token != "" {
		header = append(header, "Authorization", "Bearer "+c.token)
	}
	return sendRequest(c.T, c.sim, method, c.host.URL()+path, strings.NewReader(body), header...)
}

// crowdstrikeResponse is a response with its parsed envelope.
type crowdstrikeResponse struct {
	response
	Meta struct {
		Pagination *struct {
			Total     int         `json:"total"`
			Limit     *int        `json:"limit"`
			Offset    any         `json:"offset"`
			Next      *string     `json:"next"`
			After     *string     `json:"after"`
			ExpiresAt json.Number `json:"expires_at"`
		} `json:"pagination"`
	} `json:"meta"`
	Resources []json.RawMessage `json:"resources"`
	Errors    *[]struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
}

// requireGet requests path with a query of names and values in turn. The
// response must have the status code.
func (c *crowdstrikeClient) requireGet(code int, path string, query ...string) crowdstrikeResponse {
	c.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		q.Add(query[i], query[i+1])
	}
	return c.requireStatus(code, c.sendAuthorized("GET", path+"?"+q.Encode(), ""))
}

func (c *crowdstrikeClient) requireStatus(code int, r response) crowdstrikeResponse {
	c.Helper()
	parsed := crowdstrikeResponse{response: r}
	if r.code != code {
		c.Fatalf("status %d, want %d: %.300s", r.code, code, r.body)
	}
	if r.header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal([]byte(r.body), &parsed); err != nil {
			c.Fatalf("%v: %.300s", err, r.body)
		}
	}
	return parsed
}

// assertError checks that the response is an error whose message contains text.
func (c crowdstrikeResponse) assertError(t *testing.T, text string) {
	t.Helper()
	if c.Errors == nil || len(*c.Errors) != 1 || (*c.Errors)[0].Code != c.code || !strings.Contains((*c.Errors)[0].Message, text) {
		t.Errorf("response %.300s, want an error with %q", c.body, text)
	}
}

const (
	crowdstrikeFilter   = "cve.id:!['']+last_seen_within:'14'"
	crowdstrikeVulns    = "/spotlight/combined/vulnerabilities/v1"
	crowdstrikeCombined = "/devices/combined/devices/v1"
	crowdstrikeScroll   = "/devices/queries/devices-scroll/v1"
	crowdstrikeEntities = "/devices/entities/devices/v2"
	crowdstrikeZTA      = "/zero-trust-assessment/entities/assessments/v1"
)

func TestCrowdStrikeTokens(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{})
	form := "application/x-www-form-urlencoded"
	for _, tc := range []struct {
		body, kind string
		code       int
		message    string
	}{
		{body: crowdstrikeForm("x", "y"), kind: form, code: 400, message: "Failed to generate access token for clientID=x"},
		{
			body:    crowdstrikeForm(vendorsim.CrowdStrikeClientID, "y"),
			kind:    form,
			code:    403,
			message: "Failed to issue access token - Not Authorized",
		},
		{body: `{"client_id":"x"}`, kind: "application/json", code: 400, message: "form"},
		{body: "", kind: form, code: 400, message: "form"},
	} {
		client.requireStatus(tc.code, client.sendAuthorized("POST", "/oauth2/token", tc.body, "Content-Type", tc.kind)).assertError(t, tc.message)
	}
	client.requireGet(200, crowdstrikeCombined, "limit", "1")
	client.clock.Advance(1800 * time.Second)
	a := client.requireGet(401, crowdstrikeCombined)
	a.assertError(t, "access denied, invalid bearer token")
	if a.Meta.Pagination != nil || a.header.Get("X-Ratelimit-Limit") != "15" {
		t.Errorf("response to an invalid token: %v %s", a.header, a.body)
	}
	for range 14 {
		client.requireGet(401, crowdstrikeCombined)
	}
	client.requireGet(429, crowdstrikeCombined).assertError(t, "API rate limit exceeded.")
	client.login()
	client.requireGet(200, crowdstrikeCombined, "limit", "1")
	client.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) {
		c.Forbidden = map[string]bool{vendorsim.CrowdStrikeZTA: true}
	})
	client.requireGet(403, crowdstrikeZTA, "ids", "x").assertError(t, "access denied, authorization failed")
	client.requireGet(200, crowdstrikeCombined, "limit", "1")
}

func TestCrowdStrikeOtherRegion(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{})
	client.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Region = "us-2" })
	httpClient := *client.sim.Client()
	httpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, limit := range map[string]string{"/oauth2/token": "300", crowdstrikeCombined + "?limit=1": "15"} {
		resp, err := httpClient.Post(client.sim.VendorURL("crowdstrike_us-1")+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if h := resp.Header; resp.StatusCode != 308 || resp.ContentLength != 0 || h.Get("Location") != client.host.URL()+path ||
			h.Get("X-Cs-Region") != "us-2" || h.Get("X-Ratelimit-Limit") != limit {
			t.Errorf("%s: %d %v", path, resp.StatusCode, h)
		}
	}
}

func TestCrowdStrikeRateLimit(t *testing.T) {
	limits := map[string]vendorsim.LimitNumbers{"crowdstrike": {Max: 2, RetryAfter: 2 * time.Second}}
	client := startCrowdStrike(t, vendorsim.Options{Limits: limits})
	client.requireGet(200, crowdstrikeCombined, "limit", "1")
	if a := client.requireGet(200, crowdstrikeCombined, "limit", "1"); a.header.Get("X-Ratelimit-Limit") != "2" ||
		a.header.Get("X-Ratelimit-Remaining") != "0" {
		t.Errorf("headers %v", a.header)
	}
	a := client.requireGet(429, crowdstrikeCombined)
	a.assertError(t, "API rate limit exceeded.")
	stamp := strconv.FormatInt(client.clock.Now().Add(2*time.Second).Unix(), 10)
	if a.header.Get("X-Ratelimit-Retryafter") != stamp || a.header.Get("Retry-After") != "" {
		t.Errorf("headers %v, want the stamp %s", a.header, stamp)
	}
	client.clock.Advance(time.Second)
	client.requireGet(429, crowdstrikeCombined)
	if v := client.host.Stats().Violations; len(v) != 1 || v[0].Kind != vendorsim.TooEarly {
		t.Errorf("violations %v", v)
	}
	client.clock.Advance(time.Minute)
	client.requireGet(200, crowdstrikeCombined, "limit", "1")
}

func TestCrowdStrikeHosts(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 12000}})
	plain := "/devices/queries/devices/v1"
	if a := client.requireGet(200, plain, "limit", "5000", "offset", "5000"); len(a.Resources) != 5000 || a.Meta.Pagination.Total != 12000 {
		t.Errorf("%d ids of %d", len(a.Resources), a.Meta.Pagination.Total)
	}
	client.requireGet(400, plain, "limit", "1", "offset", "10000").assertError(t, "limit + offset must be less than 10000")
	client.requireGet(400, crowdstrikeCombined, "limit", "10001")
	client.requireGet(400, crowdstrikeCombined, "filter", "nope:'1'")

	a := client.requireGet(200, crowdstrikeCombined, "limit", "10000", "fields", "device_id")
	if p := a.Meta.Pagination; p.Offset != "" || p.Next == nil || len(a.Resources) != 10000 {
		t.Fatalf("first page: %+v", p)
	}
	b := client.requireGet(200, crowdstrikeCombined, "limit", "10000", "offset", *a.Meta.Pagination.Next)
	if b.Meta.Pagination.Next != nil || len(b.Resources) != 2000 ||
		string(b.Resources[1999]) != string(client.sim.Record(vendorsim.CrowdStrikeHosts, 11999)) {
		t.Errorf("last page: %d hosts, next %v", len(b.Resources), b.Meta.Pagination.Next)
	}
	client.clock.Advance(121 * time.Second)
	client.requireGet(400, crowdstrikeCombined, "limit", "10000", "offset", *a.Meta.Pagination.Next)

	ids := []string{"00000000000000000000000000000000"}
	for _, i := range []int{3, 11000, 7} {
		ids = append(ids, client.sim.RecordID(vendorsim.CrowdStrikeHosts, i))
	}
	post := func(code int, v any) crowdstrikeResponse {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return client.requireStatus(code, client.sendAuthorized("POST", crowdstrikeEntities, string(body), "Content-Type", "application/json"))
	}
	if e := post(200, map[string]any{"ids": ids}); len(e.Resources) != 3 || e.Errors != nil || e.Meta.Pagination != nil ||
		string(e.Resources[0]) == string(client.sim.Record(vendorsim.CrowdStrikeHosts, 3)) {
		t.Errorf("entities: %d, errors %v", len(e.Resources), e.Errors)
	}
	post(400, map[string]any{"ids": slices.Repeat(ids[:1], 5001)})
	post(413, map[string]any{"ids": ids, "x": strings.Repeat("x", 1<<20)})
}

// The token of a scroll stays the same, and the server advances even if its
// response is lost.
func TestCrowdStrikeScroll(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 250}})
	a := client.requireGet(200, crowdstrikeScroll, "limit", "100")
	token, ok := a.Meta.Pagination.Offset.(string)
	if !ok || token == "" || a.Meta.Pagination.Limit != nil || len(a.Meta.Pagination.ExpiresAt) != 19 {
		t.Fatalf("first page: %+v", a.Meta.Pagination)
	}
	client.host.Inject(vendorsim.Fault{Path: crowdstrikeScroll, Do: vendorsim.Truncate(vendorsim.Half)})
	if r := client.sendAuthorized("GET", crowdstrikeScroll+"?limit=100&offset="+url.QueryEscape(token), ""); r.err == nil {
		t.Error("the response was complete")
	}
	c := client.requireGet(200, crowdstrikeScroll, "limit", "100", "offset", token)
	if len(c.Resources) != 50 || c.Meta.Pagination.Offset != token {
		t.Errorf("third page: %d ids, %+v", len(c.Resources), c.Meta.Pagination)
	}
	if d := client.requireGet(200, crowdstrikeScroll, "limit", "100", "offset", token); len(d.Resources) != 0 ||
		d.Meta.Pagination.Offset != "" || d.Meta.Pagination.Total != 0 {
		t.Errorf("after the end: %+v", d.Meta.Pagination)
	}
	e := client.requireGet(200, crowdstrikeScroll)
	client.clock.Advance(121 * time.Second)
	client.requireGet(404, crowdstrikeScroll, "offset", e.Meta.Pagination.Offset.(string))
}

func TestCrowdStrikeSpotlight(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 1000}})
	client.requireGet(400, crowdstrikeVulns)
	client.requireGet(400, crowdstrikeVulns, "filter", "*")
	client.requireGet(400, crowdstrikeVulns, "filter", crowdstrikeFilter, "limit", "5001")
	client.requireGet(400, crowdstrikeVulns, "filter", crowdstrikeFilter, "facet", "nope")
	client.requireGet(400, crowdstrikeVulns, "filter", crowdstrikeFilter, "sort", "updated_timestamp.asc")

	list, err := client.vendor.VulnerabilitiesInOrder(crowdstrikeFilter)
	if err != nil || len(list) < 900 || len(list) == 1000 {
		t.Fatalf("%d selected, %v", len(list), err)
	}
	page := func(code int, after string, more ...string) crowdstrikeResponse {
		return client.requireGet(code, crowdstrikeVulns,
			append([]string{"filter", crowdstrikeFilter, "limit", "600", "after", after}, more...)...)
	}
	facets := []string{"facet", "cve", "facet", "host_info", "facet", "remediation"}
	a := page(200, "", facets...)
	if len(a.Resources) != 600 || a.Meta.Pagination.Total != len(list) || a.Errors != nil ||
		string(a.Resources[0]) != string(client.sim.Record(vendorsim.CrowdStrikeVulns, list[0])) {
		t.Errorf("first page: %d, %+v, errors %v", len(a.Resources), a.Meta.Pagination, a.Errors)
	}
	b := page(200, *a.Meta.Pagination.After) // without the facets
	if len(b.Resources) != len(list)-600 || *b.Meta.Pagination.After == "" || strings.Contains(b.body, `"host_info"`) {
		t.Errorf("short last page: %d, %+v", len(b.Resources), b.Meta.Pagination)
	}
	if c := page(200, *b.Meta.Pagination.After); len(c.Resources) != 0 || c.Meta.Pagination.Total != 0 || *c.Meta.Pagination.After != "" {
		t.Errorf("after the end: %+v", c.Meta.Pagination)
	}
	client.requireGet(400, crowdstrikeVulns, "filter", "status:'open'", "after", *a.Meta.Pagination.After)
	client.clock.Advance(121 * time.Second)
	e := page(404, *a.Meta.Pagination.After)
	e.assertError(t, "Search context expired, 'after' key no longer valid")
	if p := e.Meta.Pagination; p == nil || p.Total != 0 || *p.After != "" {
		t.Errorf("expired: %s", e.body)
	}
	client.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 5 })
	totals := map[int]bool{}
	for range 5 {
		totals[page(200, "").Meta.Pagination.Total] = true
	}
	if len(totals) < 3 {
		t.Errorf("totals %v do not drift", totals)
	}
}

// TestCrowdStrikeSpotlightOrder: vulnerabilities are listed in the order of
// their updates. One that is updated after it was listed is listed again.
func TestCrowdStrikeSpotlightOrder(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 100}})
	list, err := client.vendor.VulnerabilitiesInOrder(crowdstrikeFilter)
	if err != nil || len(list) < 80 {
		t.Fatalf("%d selected, %v", len(list), err)
	}
	var listed []string
	for after := ""; ; {
		page := client.requireGet(200, crowdstrikeVulns, "filter", crowdstrikeFilter, "limit", "40", "after", after)
		for _, raw := range page.Resources {
			var v struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatal(err)
			}
			listed = append(listed, v.ID)
		}
		if after == "" {
			client.clock.Advance(time.Second)
			client.vendor.UpdateVulnerabilities(list[0], list[39], list[40])
		}
		if after = *page.Meta.Pagination.After; after == "" {
			break
		}
	}
	var want []string
	updated := []int{list[0], list[39], list[40]}
	slices.Sort(updated) // of one second, in the order of their indices
	for _, i := range slices.Concat(list[:40], list[41:], updated) {
		want = append(want, client.sim.RecordID(vendorsim.CrowdStrikeVulns, i))
	}
	if !slices.Equal(listed, want) {
		t.Errorf("listed %d ids, want %d:\n%q\n%q", len(listed), len(want), listed, want)
	}
}

// Filters select records by their content.
func TestCrowdStrikeFilters(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 2000}})
	type vuln struct {
		ID      string `json:"id"`
		Status  string `json:"status"`
		Created string `json:"created_timestamp"`
		CVE     struct {
			ID       string `json:"id"`
			Severity string `json:"severity"`
		} `json:"cve"`
	}
	all := make([]vuln, 2000)
	ids := map[string]bool{}
	for i := range all {
		if err := json.Unmarshal(client.sim.Record(vendorsim.CrowdStrikeVulns, i), &all[i]); err != nil {
			t.Fatal(err)
		}
		if i > 0 && all[i].Created < all[i-1].Created {
			t.Fatalf("record %d was created before the previous one", i)
		}
		ids[all[i].ID] = true
	}
	if len(ids) != 2000 {
		t.Fatalf("%d distinct ids", len(ids))
	}
	at := all[700].Created
	for filter, holds := range map[string]func(v vuln) bool{
		"cve.id:!['']": func(v vuln) bool { return v.CVE.ID != "" },
		"status:['open','reopen']+cve.severity:!'HIGH'": func(v vuln) bool {
			return (v.Status == "open" || v.Status == "reopen") && v.CVE.Severity != "HIGH"
		},
		"status:'open',status:'closed'+cve.severity:'LOW'": func(v vuln) bool {
			return v.Status == "open" || v.Status == "closed" && v.CVE.Severity == "LOW"
		},
		"(status:'open',status:'closed')+cve.severity:'LOW'": func(v vuln) bool {
			return (v.Status == "open" || v.Status == "closed") && v.CVE.Severity == "LOW"
		},
		"cve.id:!['']+created_timestamp:>='" + at + "'":                    func(v vuln) bool { return v.CVE.ID != "" && v.Created >= at },
		"created_timestamp:<'" + at + "'":                                  func(v vuln) bool { return v.Created < at },
		"created_timestamp:>'" + at + "'":                                  func(v vuln) bool { return v.Created > at },
		"created_timestamp:<='" + at + "'":                                 func(v vuln) bool { return v.Created <= at },
		"created_timestamp:<'" + at + "',created_timestamp:>='" + at + "'": func(vuln) bool { return true },
	} {
		got, err := client.vendor.Select(filter)
		if err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
		var want []int
		for i, v := range all {
			if holds(v) {
				want = append(want, i)
			}
		}
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: %d records, want %d", filter, len(got), len(want))
		}
	}
	for _, filter := range []string{"", "x:'1'", "status", "status:'open", "status:['open'", "status:", "(status:'open'",
		"status:'open')", "created_timestamp:>'yesterday'"} {
		if _, err := client.vendor.Select(filter); err == nil {
			t.Errorf("filter %q is accepted", filter)
		}
	}
}

func TestCrowdStrikeZeroTrustAssessments(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 700}})
	assessed := client.vendor.Assessed()
	if len(assessed) < 500 || len(assessed) == 700 {
		t.Fatalf("%d assessed", len(assessed))
	}
	query := []string{"ids", "00000000000000000000000000000000"}
	for i := range 500 {
		query = append(query, "ids", client.sim.RecordID(vendorsim.CrowdStrikeHosts, i))
	}
	a := client.requireGet(200, crowdstrikeZTA, query...)
	want, empty := 0, 0
	for _, i := range assessed {
		if i < 500 {
			want++
		}
	}
	for _, record := range a.Resources {
		if strings.Contains(string(record), `"assessment":{}`) {
			empty++
		}
	}
	if len(a.Resources) != want || a.Errors != nil || empty == 0 || empty > 50 {
		t.Errorf("%d assessments of 500 hosts, want %d; %d are empty; errors %v", len(a.Resources), want, empty, a.Errors)
	}
	scores := "/zero-trust-assessment/queries/assessments/v1"
	client.requireGet(400, scores)
	client.requireGet(400, scores, "filter", "score:>=0", "limit", "1001")
	if b := client.requireGet(200, scores, "filter", "score:>=0", "limit", "1000"); b.Meta.Pagination.Total <= 500 ||
		b.Meta.Pagination.Total >= len(assessed) || len(b.Resources) != b.Meta.Pagination.Total {
		t.Errorf("%d scores, %+v", len(b.Resources), b.Meta.Pagination)
	}
	client.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.MaxURL, c.AssessmentErrors, c.MaxAssessments = 9000, true, 200 })
	if r := client.requireGet(414, crowdstrikeZTA, query...); !strings.HasPrefix(r.body, "<") {
		t.Errorf("414: %.100s", r.body)
	}
	client.requireGet(400, crowdstrikeZTA, query[:2*201]...)
	if c := client.requireGet(200, crowdstrikeZTA, query[:6]...); c.Errors == nil || (*c.Errors)[0].Code != 404 {
		t.Errorf("errors %v", c.Errors)
	}
}

// Every record is JSON with the expected id, including awkward ones.
func TestCrowdStrikeRecords(t *testing.T) {
	client := startCrowdStrike(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 500, vendorsim.CrowdStrikeVulns: 500}})
	for stream, member := range map[string]string{
		vendorsim.CrowdStrikeHosts: "device_id", vendorsim.CrowdStrikeVulns: "id", vendorsim.CrowdStrikeZTA: "aid",
	} {
		huge := 0
		for i := range 500 {
			record := client.sim.Record(stream, i)
			var members map[string]any
			if err := json.Unmarshal(record, &members); err != nil || members[member] != client.sim.RecordID(stream, i) {
				t.Fatalf("%s %d: %v: %.200s", stream, i, err, record)
			}
			if len(record) > 64<<10 {
				huge++
			}
		}
		if huge != 1 {
			t.Errorf("%s: %d records over 64 KiB", stream, huge)
		}
	}
	if env := fmt.Sprint(client.host.Env()); !strings.Contains(env, "FALCON_BASE_URL="+client.host.URL()) {
		t.Errorf("environment %s", env)
	}
}
