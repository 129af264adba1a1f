package vendorsim_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

// TestListingVendorsAnswer holds the answers of the vendors without export
// jobs against what their documentation says.
func TestListingVendorsAnswer(t *testing.T) {
	okta, knowbe4, snyk := vendorsim.NewOkta(), vendorsim.NewKnowBe4(), vendorsim.NewSnyk()
	s := start(t, vendorsim.Options{
		Vendors: []vendorsim.Vendor{okta, knowbe4, snyk},
		Limits:  map[string]vendorsim.LimitNumbers{"knowbe4-second": {Max: 100}},
	})
	snyk.Forbid(vendorsim.SnykMembers, 1)
	org := func(i int) string { return s.RecordID(vendorsim.SnykOrganizations, i) }
	const version = "version=2024-08-25"
	keys := map[string]string{
		"okta": "SSWS " + vendorsim.OktaToken, "knowbe4": "Bearer " + vendorsim.KnowBe4Token, "snyk": "token " + vendorsim.SnykToken,
	}
	for name, tc := range map[string]struct {
		vendor, path, key string
		code              int
		body              string
	}{
		"okta, bad token":               {"okta", "/api/v1/users", "SSWS x", 401, `"errorCode":"E0000011"`},
		"okta, bad filter":              {"okta", `/api/v1/users?filter=name+is+"x"`, "", 400, `"errorCode":"E0000031"`},
		"okta, bad cursor":              {"okta", "/api/v1/users?after=17", "", 400, `"errorCode":"E0000001"`},
		"okta, unknown id":              {"okta", `/api/v1/users?filter=id+eq+"00u"`, "", 200, `[]`},
		"knowbe4, bad token":            {"knowbe4", "/v1/training/enrollments", "Bearer x", 401, `"error"`},
		"knowbe4, by page":              {"knowbe4", "/v1/training/enrollments?page=1", "", 200, `[{"enrollment_id":101,`},
		"knowbe4, by cursor":            {"knowbe4", "/v1/training/enrollments?cursor=0", "", 200, `{"data":[{"enrollment_id":101,`},
		"knowbe4, past the end":         {"knowbe4", "/v1/training/enrollments?page=9999", "", 200, `[]`},
		"knowbe4, last cursor":          {"knowbe4", "/v1/training/enrollments?cursor=1990", "", 200, `"pagination":{"nextCursor":null}}`},
		"snyk, bad token":               {"snyk", "/rest/orgs?" + version, "token x", 401, `"errors":[{`},
		"snyk, version missing":         {"snyk", "/rest/orgs", "", 400, `"errors":[{`},
		"snyk, limit of 15":             {"snyk", "/rest/orgs?limit=15&" + version, "", 400, `"errors":[{`},
		"snyk, limit of 110":            {"snyk", "/rest/orgs?limit=110&" + version, "", 400, `"errors":[{`},
		"snyk, unknown organisation":    {"snyk", "/rest/orgs/x/projects?" + version, "", 404, `"errors":[{`},
		"snyk, organisation, no issues": {"snyk", "/rest/orgs/" + org(3) + "/issues?" + version, "", 200, `"data":[]`},
		"snyk, members forbidden":       {"snyk", "/v1/org/" + org(1) + "/members", "", 403, `"errors":[{`},
		"snyk, members":                 {"snyk", "/v1/org/" + org(0) + "/members", "", 200, `[{"id":"`},
	} {
		t.Run(name, func(t *testing.T) {
			key := tc.key
			if key == "" {
				key = keys[tc.vendor]
			}
			r := call(t, s, "GET", s.URL(tc.vendor)+tc.path, nil, "Authorization", key)
			if r.code != tc.code || !strings.Contains(r.body, tc.body) || !json.Valid([]byte(r.body)) {
				t.Errorf("status %d, error %v, %.300s", r.code, r.err, r.body)
			}
		})
	}
	r := call(t, s, "GET", s.URL("snyk")+"/rest/orgs?"+version, nil, "Authorization", keys["snyk"])
	if got := r.header.Get("X-Ratelimit-Limit"); !regexp.MustCompile(`^1620, 160;w=1;name="[^"]+", 1620;w=60;`).MatchString(got) {
		t.Errorf("X-Ratelimit-Limit: %s", got)
	}
	r = call(t, s, "GET", s.URL("okta")+"/api/v1/users?limit=999", nil, "Authorization", keys["okta"])
	if got := strings.Join(r.header.Values("Link"), ", "); !strings.Contains(got, `rel="self"`) || !strings.Contains(got, "<"+s.URL("okta")+"/api/v1/users?after=") {
		t.Errorf("Link: %s", got)
	}
	if r.header.Get("X-Rate-Limit-Limit") != "600" || r.header.Get("X-Rate-Limit-Reset") == "" {
		t.Errorf("headers: %v", r.header)
	}
	if n := strings.Count(r.body, `"lastUpdated"`); n != 200 || strings.Contains(r.body, `"status":"DEPROVISIONED"`) {
		t.Errorf("a plain page has %d users, want 200 and none deprovisioned", n)
	}
}

// TestListingVendorsRecords: every record is valid JSON, keeps its bytes when
// the count changes, and names its organisation where the vendor's does.
func TestListingVendorsRecords(t *testing.T) {
	snyk := vendorsim.NewSnyk()
	s := start(t, vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOkta(), vendorsim.NewKnowBe4(), snyk}})
	for _, stream := range []string{
		vendorsim.OktaUsers, vendorsim.KnowBe4Enrollments,
		vendorsim.SnykOrganizations, vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues,
	} {
		ids := map[string]bool{}
		for i := range 300 {
			raw := s.Record(stream, i)
			if !json.Valid(raw) {
				t.Fatalf("%s %d is no JSON: %.300s", stream, i, raw)
			}
			id := s.RecordID(stream, i)
			ids[id] = true
			if !bytes.Contains(raw, []byte(id)) {
				t.Errorf("%s %d lacks its id %s", stream, i, id)
			}
			if stream == vendorsim.SnykProjects || stream == vendorsim.SnykIssues {
				if org := s.RecordID(vendorsim.SnykOrganizations, snyk.Organization(stream, i)); !bytes.Contains(raw, []byte(`"organization":{"data":{"type":"org","id":"`+org)) {
					t.Errorf("%s %d does not name organisation %s", stream, i, org)
				}
			}
		}
		if len(ids) != 300 {
			t.Errorf("%s: %d ids of 300 records", stream, len(ids))
		}
		before := s.Record(stream, 7)
		s.SetCount(stream, 50)
		if !bytes.Equal(before, s.Record(stream, 7)) {
			t.Errorf("%s: a record changed with the count", stream)
		}
	}
}

// TestListingVendorsLimits: the vendors refuse what is over their limits, in
// their own words.
func TestListingVendorsLimits(t *testing.T) {
	one := vendorsim.LimitNumbers{Max: 1}
	s := start(t, vendorsim.Options{
		Vendors: []vendorsim.Vendor{vendorsim.NewOkta(), vendorsim.NewKnowBe4(), vendorsim.NewSnyk()},
		Limits:  map[string]vendorsim.LimitNumbers{"okta": one, "knowbe4-minute": one, "snyk-minute": one},
	})
	for vendor, want := range map[string]struct{ path, header, body string }{
		"okta":    {"/api/v1/users", "X-Rate-Limit-Reset", "E0000047"},
		"knowbe4": {"/v1/training/enrollments", "Retry-After", "error"},
		"snyk":    {"/rest/orgs", "Retry-After", "errors"},
	} {
		var r reply
		for range 2 {
			r = call(t, s, "GET", s.URL(vendor)+want.path, nil)
		}
		if r.code != http.StatusTooManyRequests || r.header.Get(want.header) == "" || !strings.Contains(r.body, want.body) {
			t.Errorf("%s: status %d, %v, %s", vendor, r.code, r.header, r.body)
		}
	}
}
