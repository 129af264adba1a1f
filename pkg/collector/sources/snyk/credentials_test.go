package snyk

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// TestSnykClientCredentials: tokens are requested when they are needed, shared by
// all streams, and renewed before they expire and after they are revoked.
func TestSnykClientCredentials(t *testing.T) {
	const tokenRequests = "POST /oauth2/token"
	for name, tc := range map[string]struct {
		prepare    func(h *collectortest.Harness, sim *vendorsim.Snyk)
		wantTokens int
		within     bool // up to wantTokens
	}{
		"one token": {wantTokens: 1},
		"revoked once": {wantTokens: 2, prepare: func(h *collectortest.Harness, sim *vendorsim.Snyk) {
			h.Host.Inject(vendorsim.Fault{Path: "/rest/orgs/*/issues", From: 2, Do: vendorsim.Before(sim.Revoke)})
		}},
		"short life": {wantTokens: 12, within: true, prepare: func(h *collectortest.Harness, sim *vendorsim.Snyk) {
			sim.ChangeBehaviour(func(b *vendorsim.SnykBehaviour) { b.TokenLife = time.Second })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sim, o := simulateSnyk(6, 60)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				if tc.prepare != nil {
					tc.prepare(h, sim)
				}
				got := extractAll(h, openSnyk(h, nil, useClientCredentials))
				for _, stream := range streamNames {
					h.AssertRecords(got[stream], expectedRecords(h, sim, stream))
				}
				if n := h.Host.Stats().Requests[tokenRequests]; n > tc.wantTokens || n < tc.wantTokens && !tc.within {
					t.Errorf("%d token requests, want %d", n, tc.wantTokens)
				}
			})
		})
	}
}

// TestSnykWrongClientCredentials: the error names the variables and not the secret.
func TestSnykWrongClientCredentials(t *testing.T) {
	_, o := simulateSnyk(2, 10)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		c := openSnyk(h, nil, func(s *Settings) {
			useClientCredentials(s)
			s.Secret = "a-wrong-client-secret"
		})
		err := c.Check(h.Context())
		if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "check SNYK_CLIENT_ID and SNYK_CLIENT_SECRET") ||
			strings.Contains(err.Error(), "a-wrong-client-secret") {
			t.Errorf("error %v, want one that the credentials are refused, with their names", err)
		}
	})
}

// TestSnykCredentialSettings: the collector is on with a token or with client
// credentials, and the two exclude each other.
func TestSnykCredentialSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		environ     []string
		wantActive  bool
		wantMissing []string
		wantErr     string
	}{
		"nothing":       {wantMissing: []string{"SNYK_TOKEN"}},
		"token":         {environ: []string{"SNYK_TOKEN=t"}, wantActive: true},
		"client":        {environ: []string{"SNYK_CLIENT_ID=i", "SNYK_CLIENT_SECRET=s"}, wantActive: true},
		"client id":     {environ: []string{"SNYK_CLIENT_ID=i"}, wantMissing: []string{"SNYK_CLIENT_SECRET"}},
		"client secret": {environ: []string{"SNYK_CLIENT_SECRET=s"}, wantMissing: []string{"SNYK_CLIENT_ID"}},
		"both": {environ: []string{"SNYK_TOKEN=t", "SNYK_CLIENT_ID=i", "SNYK_CLIENT_SECRET=s"}, wantActive: true,
			wantErr: "SNYK_TOKEN is set, too: want one of them"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := config.Open(config.Source{Environ: tc.environ})
			if err != nil {
				t.Fatal(err)
			}
			section := &config.Section{Name: "snyk", Title: "Snyk", Into: new(Settings), Collector: true}
			_, err = found.Load(new(config.Settings), section)
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("error %v, want %q", err, tc.wantErr)
			}
			if section.Active != tc.wantActive || !slices.Equal(section.Missing, tc.wantMissing) {
				t.Errorf("active %v, missing %v, want %v and %v", section.Active, section.Missing, tc.wantActive, tc.wantMissing)
			}
		})
	}
}
