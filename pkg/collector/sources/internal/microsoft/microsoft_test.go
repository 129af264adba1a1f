package microsoft

import (
	"errors"
	"net/url"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// TestApplicationsAreShared: collectors of one application have one token and one
// limiter of Microsoft Graph; another API has a token of its own, and so has a new
// secret.
func TestApplicationsAreShared(t *testing.T) {
	graph, err := url.Parse("https://graph.microsoft.com")
	if err != nil {
		t.Fatal(err)
	}
	defender, err := url.Parse("https://api.security.microsoft.com")
	if err != nil {
		t.Fatal(err)
	}
	o := collector.Options{Shared: new(collector.Shared)}
	entra := Application{Tenant: "t", ClientID: "c", Secret: "s", Authority: url.URL{Scheme: "https", Host: "login.microsoftonline.com"}, Prefix: "AZURE"}
	rotated := entra
	rotated.Secret = "new"
	first := NewGraph(entra, *graph, o)
	for _, tc := range []struct {
		name                string
		api                 *API
		wantToken, wantRate bool // the same
	}{
		{name: "Intune", api: NewGraph(entra, *graph, o), wantToken: true, wantRate: true},
		{name: "Defender", api: NewAPI(entra, Endpoint{URL: *defender, Scope: "https://api.securitycenter.windows.com/.default"}, nil, o)},
		{name: "new secret", api: NewGraph(rotated, *graph, o), wantRate: true},
		{name: "another process", api: NewGraph(entra, *graph, collector.Options{Shared: new(collector.Shared)})},
	} {
		if got := tc.api.Auth == first.Auth; got != tc.wantToken {
			t.Errorf("%s: the same token: %v, want %v", tc.name, got, tc.wantToken)
		}
		if got := tc.api.Limits == first.Limits; got != tc.wantRate {
			t.Errorf("%s: the same limiter: %v, want %v", tc.name, got, tc.wantRate)
		}
	}
}

// TestChoiceOfApplication: with the switch the application is that of Entra ID, whose
// variables must be set, and those of the product must not.
func TestChoiceOfApplication(t *testing.T) {
	entra := EntraSettings{Tenant: "at", ClientID: "ac", Secret: "as"}
	own := Application{Tenant: "mt", ClientID: "mc", Secret: "ms", Prefix: "MDE"}
	for _, tc := range []struct {
		name         string
		entra        EntraSettings
		own          Application
		withEntra    bool
		wantTenant   string
		wantProblems []string
	}{
		{name: "own", entra: entra, own: own, wantTenant: "mt"},
		{name: "own, without Entra ID", own: own, wantTenant: "mt"},
		{name: "of Entra ID", entra: entra, own: Application{Prefix: "MDE"}, withEntra: true, wantTenant: "at"},
		{
			name: "not set", own: Application{Prefix: "MDE"}, withEntra: true,
			wantProblems: []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"},
		},
		{name: "both", entra: entra, own: own, withEntra: true, wantTenant: "at", wantProblems: []string{"MDE_TENANT_ID", "MDE_CLIENT_ID", "MDE_CLIENT_SECRET"}},
		{name: "no tenant", own: Application{Tenant: "https://x/y", Prefix: "MDE"}, wantTenant: "https://x/y", wantProblems: []string{"MDE_TENANT_ID"}},
	} {
		if app := tc.entra.ChooseApplication(tc.own, tc.withEntra); app.Tenant != tc.wantTenant {
			t.Errorf("%s: tenant %q, want %q", tc.name, app.Tenant, tc.wantTenant)
		}
		var got []string
		for _, err := range tc.entra.ValidateChoice(tc.own, tc.withEntra) {
			var p *config.Problem
			if errors.As(err, &p) {
				got = append(got, p.Name)
			}
		}
		if len(got) != len(tc.wantProblems) {
			t.Errorf("%s: problems %v, want %v", tc.name, got, tc.wantProblems)
			continue
		}
		for i, want := range tc.wantProblems {
			if got[i] != want {
				t.Errorf("%s: problems %v, want %v", tc.name, got, tc.wantProblems)
			}
		}
	}
}
