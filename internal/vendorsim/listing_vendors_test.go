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

// TestListingVendorsResponses compares the responses of the vendors without
// export jobs with their documentation.
func TestListingVendorsResponses(t *testing.T) {
	okta, knowbe4, snyk := vendorsim.NewOkta(), vendorsim.NewKnowBe4(), vendorsim.NewSnyk()
	s := startServer(t, vendorsim.Options{
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
		"okta, bad token": {
			vendor: "okta", path: "/api/v1/users", key: "SSWS x", code: 401, body: `"errorCode":"E0000011"`,
		},
		"okta, bad filter": {
			vendor: "okta", path: `/api/v1/users?filter=name+is+"x"`, key: "", code: 400, body: `"errorCode":"E0000031"`,
		},
		"okta, bad cursor": {
			vendor: "okta", path: "/api/v1/users?after=17", key: "", code: 400, body: `"errorCode":"E0000001"`,
		},
		"okta, unknown id": {vendor: "okta", path: `/api/v1/users?filter=id+eq+"00u"`, key: "", code: 200, body: `[]`},
		"knowbe4, bad token": {
			vendor: "knowbe4", path: "/v1/training/enrollments", key: "Bearer x", code: 401, body: `"error"`,
		},
		"knowbe4, by page": {
			vendor: "knowbe4", path: "/v1/training/enrollments?page=1", key: "", code: 200, body: `[{"enrollment_id":101,`,
		},
		"knowbe4, by cursor": {
			vendor: "knowbe4",
			path:   "/v1/training/enrollments?cursor=0",
			key:    "",
			code:   200,
			body:   `{"data":[{"enrollment_id":101,`,
		},
		"knowbe4, past the end": {
			vendor: "knowbe4", path: "/v1/training/enrollments?page=9999", key: "", code: 200, body: `[]`,
		},
		"knowbe4, last cursor": {
			vendor: "knowbe4",
			path:   "/v1/training/enrollments?cursor=1990",
			key:    "",
			code:   200,
			body:   `"pagination":{"nextCursor":null}}`,
		},
		"snyk, bad token": {
			vendor: "snyk", path: "/rest/orgs?" + version, key: "token x", code: 401, body: `"errors":[{`,
		},
		"snyk, version missing": {vendor: "snyk", path: "/rest/orgs", key: "", code: 400, body: `"errors":[{`},
		"snyk, limit of 15": {
			vendor: "snyk", path: "/rest/orgs?limit=15&" + version, key: "", code: 400, body: `"errors":[{`,
		},
		"snyk, limit of 110": {
			vendor: "snyk", path: "/rest/orgs?limit=110&" + version, key: "", code: 400, body: `"errors":[{`,
		},
		"snyk, unknown organisation": {
			vendor: "snyk", path: "/rest/orgs/x/projects?" + version, key: "", code: 404, body: `"errors":[{`,
		},
		"snyk, organisation, no issues": {
			vendor: "snyk", path: "/rest/orgs/" + org(3) + "/issues?" + version, key: "", code: 200, body: `"data":[]`,
		},
		"snyk, members forbidden": {
			vendor: "snyk", path: "/v1/org/" + org(1) + "/members", key: "", code: 403, body: `"errors":[{`,
		},
		"snyk, members": {vendor: "snyk", path: "/v1/org/" + org(0) + "/members", key: "", code: 200, body: `[{"id":"`},
	} {
		t.Run(name, func(t *testing.T) {
			key := tc.key
			if key == "" {
				key = keys[tc.vendor]
			}
			r := sendRequest(t, s, "GET", s.VendorURL(tc.vendor)+tc.path, nil, "Authorization", key)
			if r.code != tc.code || !strings.Contains(r.body, tc.body) || !json.Valid([]byte(r.body)) {
				t.Errorf("status %d, error %v, %.300s", r.code, r.err, r.body)
			}
		})
	}
	r := sendRequest(t, s, "GET", s.VendorURL("snyk")+"/rest/orgs?"+version, nil, "Authorization", keys["snyk"])
	if got := r.header.Get("X-Ratelimit-Limit"); !regexp.MustCompile(`^1620, 160;w=1;name="[^"]+", 1620;w=60;`).MatchString(got) {
		t.Errorf("X-Ratelimit-Limit: %s", got)
	}
	r = sendRequest(t, s, "GET", s.VendorURL("okta")+"/api/v1/users?limit=999", nil, "Authorization", keys["okta"])
	if got := strings.Join(r.header.Values("Link"), ", "); !strings.Contains(got, `rel="self"`) ||
		!strings.Contains(got, "<"+s.VendorURL("okta")+"/api/v1/users?after=") {
		t.Errorf("Link: %s", got)
	}
	if r.header.Get("X-Rate-Limit-Limit") != "600" || r.header.Get("X-Rate-Limit-Reset") == "" {
		t.Errorf("headers: %v", r.header)
	}
	if n := strings.Count(r.body, `"lastUpdated"`); n != 200 || strings.Contains(r.body, `"status":"DEPROVISIONED"`) {
		t.Errorf("a plain page has %d users, want 200 and none deprovisioned", n)
	}
}

// TestListingVendorsRecords checks that every record is valid JSON, keeps its
// bytes when the count changes, and contains its organisation if the vendor's
// records do.
func TestListingVendorsRecords(t *testing.T) {
	snyk := vendorsim.NewSnyk()
	s := startServer(t, vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOkta(), vendorsim.NewKnowBe4(), snyk}})
	for _, stream := range []string{
		vendorsim.OktaUsers, vendorsim.KnowBe4Enrollments,
		vendorsim.SnykOrganizations, vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues,
	} {
		ids := map[string]bool{}
		for i := range 300 {
			raw := s.Record(stream, i)
			if !json.Valid(raw) {
				t.Fatalf("%s %d is not JSON: %.300s", stream, i, raw)
			}
			id := s.RecordID(stream, i)
			ids[id] = true
			if !bytes.Contains(raw, []byte(id)) {
				t.Errorf("%s %d lacks its id %s", stream, i, id)
			}
			if stream == vendorsim.SnykProjects || stream == vendorsim.SnykIssues {
				org := s.RecordID(vendorsim.SnykOrganizations, snyk.Organization(stream, i))
				if !bytes.Contains(raw, []byte(`"organization":{"data":{"type":"org","id":"`+org)) {
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

// TestListingVendorsLimits checks how the vendors reject requests over their
// limits.
func TestListingVendorsLimits(t *testing.T) {
	one := vendorsim.LimitNumbers{Max: 1}
	s := startServer(t, vendorsim.Options{
		Vendors: []vendorsim.Vendor{vendorsim.NewOkta(), vendorsim.NewKnowBe4(), vendorsim.NewSnyk()},
		Limits:  map[string]vendorsim.LimitNumbers{"okta": one, "knowbe4-minute": one, "snyk-minute": one},
	})
	for vendor, want := range map[string]struct{ path, header, body string }{
		"okta":    {path: "/api/v1/users", header: "X-Rate-Limit-Reset", body: "E0000047"},
		"knowbe4": {path: "/v1/training/enrollments", header: "Retry-After", body: "error"},
		"snyk":    {path: "/rest/orgs", header: "Retry-After", body: "errors"},
	} {
		var r response
		for range 2 {
			r = sendRequest(t, s, "GET", s.VendorURL(vendor)+want.path, nil)
		}
		if r.code != http.StatusTooManyRequests || r.header.Get(want.header) == "" || !strings.Contains(r.body, want.body) {
			t.Errorf("%s: status %d, %v, %s", vendor, r.code, r.header, r.body)
		}
	}
}
