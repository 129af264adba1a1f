package vendorsim_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

// TestKeysAreRotated checks that each vendor accepts a second key, refuses one that is
// withdrawn, and reports their last uses.
func TestKeysAreRotated(t *testing.T) {
	s := startServer(t, vendorsim.Options{
		Vendors: vendorsim.AllVendors(), Limits: map[string]vendorsim.LimitNumbers{"knowbe4-second": {Max: 100}},
	})
	for name, tc := range map[string]struct {
		path, header, usual string
		format              func(key string) string
	}{
		"knowbe4": {
			path: "/v1/training/enrollments", header: "Authorization", usual: vendorsim.KnowBe4Token,
			format: func(key string) string { return "Bearer " + key },
		},
		"okta": {
			path: "/api/v1/users", header: "Authorization", usual: vendorsim.OktaToken,
			format: func(key string) string { return "SSWS " + key },
		},
		"snyk": {
			path: "/rest/orgs?version=2024-10-15", header: "Authorization", usual: vendorsim.SnykToken,
			format: func(key string) string { return "token " + key },
		},
		"tenable": {
			path: "/assets/export/status", header: "X-ApiKeys", usual: vendorsim.TenableSecretKey,
			format: func(key string) string { return "accessKey=" + vendorsim.TenableAccessKey + ";secretKey=" + key },
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := s.Host(name)
			status := func(key string) int {
				req, err := http.NewRequest(http.MethodGet, host.URL()+tc.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set(tc.header, tc.format(key))
				resp, err := s.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				return closeBody(resp)
			}
			requireKeyRotation(t, host, tc.usual, status)
		})
	}
	t.Run("crowdstrike", func(t *testing.T) {
		host := s.Host("crowdstrike")
		status := func(key string) int {
			form := url.Values{"client_id": {vendorsim.CrowdStrikeClientID}, "client_secret": {key}}
			resp, err := s.Client().Post(host.URL()+"/oauth2/token", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			if code := closeBody(resp); code != http.StatusCreated {
				return http.StatusUnauthorized
			}
			return http.StatusOK
		}
		requireKeyRotation(t, host, vendorsim.CrowdStrikeSecret, status)
	})
}

// closeBody closes the body of a response and returns its status.
func closeBody(resp *http.Response) int {
	_ = resp.Body.Close()
	return resp.StatusCode
}

// requireKeyRotation replaces the usual key of a vendor. status returns the status of
// the response to a request with a key.
func requireKeyRotation(t *testing.T, host *vendorsim.Host, usual string, status func(key string) int) {
	t.Helper()
	const second = "a-second-key"
	expect := func(when, key string, want int) {
		t.Helper()
		if got := status(key); got != want {
			t.Errorf("%s: the response to the key %q has status %d, want %d", when, key, got, want)
		}
	}
	if used := host.LastKeyUse(second); !used.IsZero() {
		t.Errorf("the last use of an unused key is %v, want none", used)
	}
	expect("at the start", second, http.StatusUnauthorized)
	expect("at the start", usual, http.StatusOK)
	host.AcceptKey(second)
	expect("with two keys", usual, http.StatusOK)
	expect("with two keys", second, http.StatusOK)
	used := host.LastKeyUse(usual)
	if used.IsZero() || !host.LastKeyUse(second).After(used) {
		t.Errorf("the last uses of the keys are %v and then %v, want both in this order", used, host.LastKeyUse(second))
	}
	host.WithdrawKey(usual)
	expect("after the old one was withdrawn", usual, http.StatusUnauthorized)
	expect("after the old one was withdrawn", second, http.StatusOK)
}
