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

// falcon is a simulated tenant with a token.
type falcon struct {
	*testing.T
	sim    *vendorsim.Server
	vendor *vendorsim.CrowdStrike
	host   *vendorsim.Host
	clock  *vendorsim.Clock
	token  string
}

func startFalcon(t *testing.T, o vendorsim.Options) *falcon {
	t.Helper()
	f := &falcon{T: t, vendor: vendorsim.NewCrowdStrike(), clock: vendorsim.NewClock(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))}
	o.Vendors = []vendorsim.Vendor{f.vendor, f.vendor.Gateway("us-1")}
	o.Now = f.clock.Now
	f.sim = start(t, o)
	f.host = f.sim.Host("crowdstrike")
	f.login()
	return f
}

// login fetches a token.
func (f *falcon) login() {
	f.Helper()
	r := f.ask("POST", "/oauth2/token", falconForm(vendorsim.CrowdStrikeClientID, vendorsim.CrowdStrikeSecret), "Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
		Type    string `json:"token_type"`
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.code != 201 || answer.Expires != 1799 || answer.Type != "bearer" {
		f.Fatalf("token: %d %s", r.code, r.body)
	}
	if r.header.Get("X-Cs-Region") != "us-1" || r.header.Get("X-Ratelimit-Limit") != "300" {
		f.Errorf("token: headers %v", r.header)
	}
	f.token = answer.Token
}

func falconForm(id, secret string) string {
	return url.Values{"client_id": {id}, "client_secret": {secret}}.Encode()
}

func (f *falcon) ask(method, path, body string, header ...string) reply {
	f.Helper()
	if f.token != "" {
		header = append(header, "Authorization", "Bearer "+f.token)
	}
	return call(f.T, f.sim, method, f.host.URL()+path, strings.NewReader(body), header...)
}

// falconAnswer is an answer with its envelope.
type falconAnswer struct {
	reply
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

// get asks for path with a query given as names and values in turn, and wants
// a status.
func (f *falcon) get(code int, path string, query ...string) falconAnswer {
	f.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		q.Add(query[i], query[i+1])
	}
	return f.read(code, f.ask("GET", path+"?"+q.Encode(), ""))
}

func (f *falcon) read(code int, r reply) falconAnswer {
	f.Helper()
	a := falconAnswer{reply: r}
	if r.code != code {
		f.Fatalf("status %d, want %d: %.300s", r.code, code, r.body)
	}
	if r.header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal([]byte(r.body), &a); err != nil {
			f.Fatalf("%v: %.300s", err, r.body)
		}
	}
	return a
}

// says wants an error with a text.
func (a falconAnswer) says(t *testing.T, text string) {
	t.Helper()
	if a.Errors == nil || len(*a.Errors) != 1 || (*a.Errors)[0].Code != a.code || !strings.Contains((*a.Errors)[0].Message, text) {
		t.Errorf("answer %.300s, want an error with %q", a.body, text)
	}
}

const (
	falconFilter   = "cve.id:!['']+last_seen_within:'14'"
	falconVulns    = "/spotlight/combined/vulnerabilities/v1"
	falconCombined = "/devices/combined/devices/v1"
	falconScroll   = "/devices/queries/devices-scroll/v1"
	falconEntities = "/devices/entities/devices/v2"
	falconZTA      = "/zero-trust-assessment/entities/assessments/v1"
)

func TestFalconTokens(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{})
	form := "application/x-www-form-urlencoded"
	for _, tc := range []struct {
		body, kind string
		code       int
		says       string
	}{
		{falconForm("x", "y"), form, 400, "Failed to generate access token for clientID=x"},
		{falconForm(vendorsim.CrowdStrikeClientID, "y"), form, 403, "Failed to issue access token - Not Authorized"},
		{`{"client_id":"x"}`, "application/json", 400, "form"},
		{"", form, 400, "form"},
	} {
		f.read(tc.code, f.ask("POST", "/oauth2/token", tc.body, "Content-Type", tc.kind)).says(t, tc.says)
	}
	f.get(200, falconCombined, "limit", "1")
	f.clock.Advance(1800 * time.Second)
	a := f.get(401, falconCombined)
	a.says(t, "access denied, invalid bearer token")
	if a.Meta.Pagination != nil || a.header.Get("X-Ratelimit-Limit") != "15" {
		t.Errorf("a bad bearer is answered with %v %s", a.header, a.body)
	}
	for range 14 {
		f.get(401, falconCombined)
	}
	f.get(429, falconCombined).says(t, "API rate limit exceeded.")
	f.login()
	f.get(200, falconCombined, "limit", "1")
	f.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) {
		c.Forbidden = map[string]bool{vendorsim.CrowdStrikeZTA: true}
	})
	f.get(403, falconZTA, "ids", "x").says(t, "access denied, authorization failed")
	f.get(200, falconCombined, "limit", "1")
}

func TestFalconOtherRegion(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{})
	f.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Region = "us-2" })
	client := *f.sim.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, limit := range map[string]string{"/oauth2/token": "300", falconCombined + "?limit=1": "15"} {
		resp, err := client.Post(f.sim.URL("crowdstrike_us-1")+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if h := resp.Header; resp.StatusCode != 308 || resp.ContentLength != 0 || h.Get("Location") != f.host.URL()+path ||
			h.Get("X-Cs-Region") != "us-2" || h.Get("X-Ratelimit-Limit") != limit {
			t.Errorf("%s: %d %v", path, resp.StatusCode, h)
		}
	}
}

func TestFalconRateLimit(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{Limits: map[string]vendorsim.LimitNumbers{"crowdstrike": {Max: 2, RetryAfter: 2 * time.Second}}})
	f.get(200, falconCombined, "limit", "1")
	if a := f.get(200, falconCombined, "limit", "1"); a.header.Get("X-Ratelimit-Limit") != "2" || a.header.Get("X-Ratelimit-Remaining") != "0" {
		t.Errorf("headers %v", a.header)
	}
	a := f.get(429, falconCombined)
	a.says(t, "API rate limit exceeded.")
	if stamp := strconv.FormatInt(f.clock.Now().Add(2*time.Second).Unix(), 10); a.header.Get("X-Ratelimit-Retryafter") != stamp || a.header.Get("Retry-After") != "" {
		t.Errorf("headers %v, want the stamp %s", a.header, stamp)
	}
	f.clock.Advance(time.Second)
	f.get(429, falconCombined)
	if v := f.host.Stats().Violations; len(v) != 1 || v[0].Kind != vendorsim.TooEarly {
		t.Errorf("violations %v", v)
	}
	f.clock.Advance(time.Minute)
	f.get(200, falconCombined, "limit", "1")
}

func TestFalconHosts(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 12000}})
	plain := "/devices/queries/devices/v1"
	if a := f.get(200, plain, "limit", "5000", "offset", "5000"); len(a.Resources) != 5000 || a.Meta.Pagination.Total != 12000 {
		t.Errorf("%d ids of %d", len(a.Resources), a.Meta.Pagination.Total)
	}
	f.get(400, plain, "limit", "1", "offset", "10000").says(t, "limit + offset must be less than 10000")
	f.get(400, falconCombined, "limit", "10001")
	f.get(400, falconCombined, "filter", "nope:'1'")

	a := f.get(200, falconCombined, "limit", "10000", "fields", "device_id")
	if p := a.Meta.Pagination; p.Offset != "" || p.Next == nil || len(a.Resources) != 10000 {
		t.Fatalf("first page: %+v", p)
	}
	b := f.get(200, falconCombined, "limit", "10000", "offset", *a.Meta.Pagination.Next)
	if b.Meta.Pagination.Next != nil || len(b.Resources) != 2000 || string(b.Resources[1999]) != string(f.sim.Record(vendorsim.CrowdStrikeHosts, 11999)) {
		t.Errorf("last page: %d hosts, next %v", len(b.Resources), b.Meta.Pagination.Next)
	}
	f.clock.Advance(121 * time.Second)
	f.get(400, falconCombined, "limit", "10000", "offset", *a.Meta.Pagination.Next)

	ids := []string{"00000000000000000000000000000000"}
	for _, i := range []int{3, 11000, 7} {
		ids = append(ids, f.sim.RecordID(vendorsim.CrowdStrikeHosts, i))
	}
	post := func(code int, v any) falconAnswer {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return f.read(code, f.ask("POST", falconEntities, string(body), "Content-Type", "application/json"))
	}
	if e := post(200, map[string]any{"ids": ids}); len(e.Resources) != 3 || e.Errors != nil || e.Meta.Pagination != nil ||
		string(e.Resources[0]) == string(f.sim.Record(vendorsim.CrowdStrikeHosts, 3)) {
		t.Errorf("entities: %d, errors %v", len(e.Resources), e.Errors)
	}
	post(400, map[string]any{"ids": slices.Repeat(ids[:1], 5001)})
	post(413, map[string]any{"ids": ids, "x": strings.Repeat("x", 1<<20)})
}

// The scroll's token stays the same, and the server moves on whether or not
// its answer arrives.
func TestFalconScroll(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 250}})
	a := f.get(200, falconScroll, "limit", "100")
	token, ok := a.Meta.Pagination.Offset.(string)
	if !ok || token == "" || a.Meta.Pagination.Limit != nil || len(a.Meta.Pagination.ExpiresAt) != 19 {
		t.Fatalf("first page: %+v", a.Meta.Pagination)
	}
	f.host.Inject(vendorsim.Fault{Path: falconScroll, Do: vendorsim.Truncate(vendorsim.Half)})
	if r := f.ask("GET", falconScroll+"?limit=100&offset="+url.QueryEscape(token), ""); r.err == nil {
		t.Error("the answer was whole")
	}
	c := f.get(200, falconScroll, "limit", "100", "offset", token)
	if len(c.Resources) != 50 || c.Meta.Pagination.Offset != token {
		t.Errorf("third page: %d ids, %+v", len(c.Resources), c.Meta.Pagination)
	}
	if d := f.get(200, falconScroll, "limit", "100", "offset", token); len(d.Resources) != 0 || d.Meta.Pagination.Offset != "" || d.Meta.Pagination.Total != 0 {
		t.Errorf("after the end: %+v", d.Meta.Pagination)
	}
	e := f.get(200, falconScroll)
	f.clock.Advance(121 * time.Second)
	f.get(404, falconScroll, "offset", e.Meta.Pagination.Offset.(string))
}

func TestFalconSpotlight(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 1000}})
	f.get(400, falconVulns)
	f.get(400, falconVulns, "filter", "*")
	f.get(400, falconVulns, "filter", falconFilter, "limit", "5001")
	f.get(400, falconVulns, "filter", falconFilter, "facet", "nope")
	f.get(400, falconVulns, "filter", falconFilter, "sort", "updated_timestamp.asc")

	list, err := f.vendor.Select(falconFilter)
	if err != nil || len(list) < 900 || len(list) == 1000 {
		t.Fatalf("%d selected, %v", len(list), err)
	}
	page := func(code int, after string, more ...string) falconAnswer {
		return f.get(code, falconVulns, append([]string{"filter", falconFilter, "limit", "600", "after", after}, more...)...)
	}
	facets := []string{"facet", "cve", "facet", "host_info", "facet", "remediation"}
	a := page(200, "", facets...)
	if len(a.Resources) != 600 || a.Meta.Pagination.Total != len(list) || a.Errors != nil || string(a.Resources[0]) != string(f.sim.Record(vendorsim.CrowdStrikeVulns, list[0])) {
		t.Errorf("first page: %d, %+v, errors %v", len(a.Resources), a.Meta.Pagination, a.Errors)
	}
	b := page(200, *a.Meta.Pagination.After) // and without the facets
	if len(b.Resources) != len(list)-600 || *b.Meta.Pagination.After == "" || strings.Contains(b.body, `"host_info"`) {
		t.Errorf("short last page: %d, %+v", len(b.Resources), b.Meta.Pagination)
	}
	if c := page(200, *b.Meta.Pagination.After); len(c.Resources) != 0 || c.Meta.Pagination.Total != 0 || *c.Meta.Pagination.After != "" {
		t.Errorf("after the end: %+v", c.Meta.Pagination)
	}
	f.get(400, falconVulns, "filter", "status:'open'", "after", *a.Meta.Pagination.After)
	f.clock.Advance(121 * time.Second)
	e := page(404, *a.Meta.Pagination.After)
	e.says(t, "Search context expired, 'after' key no longer valid")
	if p := e.Meta.Pagination; p == nil || p.Total != 0 || *p.After != "" {
		t.Errorf("expired: %s", e.body)
	}
	f.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 5 })
	totals := map[int]bool{}
	for range 5 {
		totals[page(200, "").Meta.Pagination.Total] = true
	}
	if len(totals) < 3 {
		t.Errorf("totals %v do not drift", totals)
	}
}

// Filters select by what the records say.
func TestFalconFilters(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 2000}})
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
		if err := json.Unmarshal(f.sim.Record(vendorsim.CrowdStrikeVulns, i), &all[i]); err != nil {
			t.Fatal(err)
		}
		if i > 0 && all[i].Created < all[i-1].Created {
			t.Fatalf("record %d was created before the one before it", i)
		}
		ids[all[i].ID] = true
	}
	if len(ids) != 2000 {
		t.Fatalf("%d distinct ids", len(ids))
	}
	at := all[700].Created
	for filter, holds := range map[string]func(v vuln) bool{
		"cve.id:!['']": func(v vuln) bool { return v.CVE.ID != "" },
		"status:['open','reopen']+cve.severity:!'HIGH'":                    func(v vuln) bool { return (v.Status == "open" || v.Status == "reopen") && v.CVE.Severity != "HIGH" },
		"status:'open',status:'closed'+cve.severity:'LOW'":                 func(v vuln) bool { return v.Status == "open" || v.Status == "closed" && v.CVE.Severity == "LOW" },
		"(status:'open',status:'closed')+cve.severity:'LOW'":               func(v vuln) bool { return (v.Status == "open" || v.Status == "closed") && v.CVE.Severity == "LOW" },
		"cve.id:!['']+created_timestamp:>='" + at + "'":                    func(v vuln) bool { return v.CVE.ID != "" && v.Created >= at },
		"created_timestamp:<'" + at + "'":                                  func(v vuln) bool { return v.Created < at },
		"created_timestamp:>'" + at + "'":                                  func(v vuln) bool { return v.Created > at },
		"created_timestamp:<='" + at + "'":                                 func(v vuln) bool { return v.Created <= at },
		"created_timestamp:<'" + at + "',created_timestamp:>='" + at + "'": func(vuln) bool { return true },
	} {
		got, err := f.vendor.Select(filter)
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
	for _, filter := range []string{"", "x:'1'", "status", "status:'open", "status:['open'", "status:", "(status:'open'", "status:'open')", "created_timestamp:>'yesterday'"} {
		if _, err := f.vendor.Select(filter); err == nil {
			t.Errorf("filter %q is accepted", filter)
		}
	}
}

func TestFalconZeroTrust(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 700}})
	assessed := f.vendor.Assessed()
	if len(assessed) < 500 || len(assessed) == 700 {
		t.Fatalf("%d assessed", len(assessed))
	}
	query := []string{"ids", "00000000000000000000000000000000"}
	for i := range 500 {
		query = append(query, "ids", f.sim.RecordID(vendorsim.CrowdStrikeHosts, i))
	}
	a := f.get(200, falconZTA, query...)
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
	f.get(400, scores)
	f.get(400, scores, "filter", "score:>=0", "limit", "1001")
	if b := f.get(200, scores, "filter", "score:>=0", "limit", "1000"); b.Meta.Pagination.Total <= 500 || b.Meta.Pagination.Total >= len(assessed) || len(b.Resources) != b.Meta.Pagination.Total {
		t.Errorf("%d scores, %+v", len(b.Resources), b.Meta.Pagination)
	}
	f.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.MaxURL, c.AssessmentErrors, c.MaxAssessments = 9000, true, 200 })
	if r := f.get(414, falconZTA, query...); !strings.HasPrefix(r.body, "<") {
		t.Errorf("414: %.100s", r.body)
	}
	f.get(400, falconZTA, query[:2*201]...)
	if c := f.get(200, falconZTA, query[:6]...); c.Errors == nil || (*c.Errors)[0].Code != 404 {
		t.Errorf("errors %v", c.Errors)
	}
}

// Every record is JSON with the id that it should have, the awkward ones too.
func TestFalconRecords(t *testing.T) {
	f := startFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 500, vendorsim.CrowdStrikeVulns: 500}})
	for stream, member := range map[string]string{
		vendorsim.CrowdStrikeHosts: "device_id", vendorsim.CrowdStrikeVulns: "id", vendorsim.CrowdStrikeZTA: "aid",
	} {
		huge := 0
		for i := range 500 {
			record := f.sim.Record(stream, i)
			var members map[string]any
			if err := json.Unmarshal(record, &members); err != nil || members[member] != f.sim.RecordID(stream, i) {
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
	if env := fmt.Sprint(f.host.Env()); !strings.Contains(env, "FALCON_BASE_URL="+f.host.URL()) {
		t.Errorf("environment %s", env)
	}
}
