package github

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

var streamNames = []string{
	vendorsim.GitHubOrganizations, vendorsim.GitHubRepositories, vendorsim.GitHubMembers,
	vendorsim.GitHubDependabot, vendorsim.GitHubCode, vendorsim.GitHubSecrets, vendorsim.GitHubRules,
}

// pageSize is the largest page of the simulated listings.
const pageSize = 10

// openGitHub opens the collector of the simulated account. change may be nil.
func openGitHub(h *collectortest.Harness, change func(*Settings)) *collector.Collector {
	h.Helper()
	s := Settings{Endpoint: h.Host.URL() + "/api/v3", Token: vendorsim.GitHubToken, Version: "2022-11-28", Parallel: 4}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test", Log: zap.NewNop()})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP.Transport = h.HTTP.Transport // which the client of the App shares
	return source.NewCollector("github", a)
}

// useApp replaces the token in the settings by an App.
func useApp(s *Settings) {
	s.Token, s.AppID, s.AppKey = "", vendorsim.GitHubAppID, config.Secret(vendorsim.GitHubAppKey())
}

// simulateGitHub returns an account with the given number of organisations and of
// records in each other stream.
func simulateGitHub(orgs, records int) (*vendorsim.GitHub, vendorsim.Options) {
	sim := vendorsim.NewGitHub()
	o := vendorsim.Options{
		Vendors: []vendorsim.Vendor{sim}, Counts: map[string]int{vendorsim.GitHubOrganizations: orgs},
		RecordBytes: map[string]int{}, PageLimits: map[string]int{},
	}
	for _, stream := range streamNames {
		o.PageLimits[stream], o.RecordBytes[stream] = pageSize, 900
		if stream != vendorsim.GitHubOrganizations {
			o.Counts[stream] = records
		}
	}
	return sim, o
}

// expectedRecord returns record i of a stream as the collector must extract it.
func expectedRecord(h *collectortest.Harness, sim *vendorsim.GitHub, stream string, i int) string {
	r := string(h.Sim.Record(stream, i))
	return r[:len(r)-1] + sim.ParentMembers(stream, i) + "}"
}

// expectedRecords returns the records that the collector must extract of a stream,
// without those of some organisations.
func expectedRecords(h *collectortest.Harness, sim *vendorsim.GitHub, stream string, without ...int) []string {
	var want []string
	for i := range h.Sim.RecordCount(stream) {
		if !slices.Contains(without, sim.Organization(stream, i)) {
			want = append(want, expectedRecord(h, sim, stream, i))
		}
	}
	return want
}

// numberedRequests returns the number of requests for a listing by page numbers, of
// which each page but the first is followed by another request for the one before.
func numberedRequests(records int) int { return 2*cursorRequests(records) - 1 }

// cursorRequests returns the number of requests for a listing by cursor.
func cursorRequests(records int) int { return max(1, (records+pageSize-1)/pageSize) }

// expectedRequests returns the number of requests for a stream.
func expectedRequests(h *collectortest.Harness, sim *vendorsim.GitHub, stream string) int {
	orgs := h.Sim.RecordCount(vendorsim.GitHubOrganizations)
	perOrg := func(stream string, requests func(int) int) (total int) {
		counts := make([]int, orgs)
		for i := range h.Sim.RecordCount(stream) {
			counts[sim.Organization(stream, i)]++
		}
		for _, n := range counts {
			total += requests(n)
		}
		return total
	}
	total := numberedRequests(orgs) // the list of organisations
	switch stream {
	case vendorsim.GitHubOrganizations:
		return total + orgs
	case vendorsim.GitHubRepositories, vendorsim.GitHubMembers:
		return total + perOrg(stream, numberedRequests)
	case vendorsim.GitHubRules:
		return total + perOrg(vendorsim.GitHubRepositories, numberedRequests) + h.Sim.RecordCount(vendorsim.GitHubRepositories)
	}
	return total + perOrg(stream, cursorRequests)
}

// assertDoubt checks that the last extraction has one doubt, with the given text; none
// if the count is zero.
func assertDoubt(h *collectortest.Harness, text string, count int64) {
	h.Helper()
	var want []collector.Doubt
	if count > 0 {
		want = []collector.Doubt{{Text: text, Count: count}}
	}
	if diff := cmp.Diff(want, h.Stats.Doubts()); diff != "" {
		h.Errorf("doubts (-want +got):\n%s", diff)
	}
}

// listingPaths are the paths of the listings with several pages, by stream.
var listingPaths = map[string]string{
	vendorsim.GitHubRepositories: "/api/v3/orgs/*/repos", vendorsim.GitHubMembers: "/api/v3/orgs/*/members",
	vendorsim.GitHubDependabot: "/api/v3/orgs/*/dependabot/alerts", vendorsim.GitHubCode: "/api/v3/orgs/*/code-scanning/alerts",
	vendorsim.GitHubSecrets: "/api/v3/orgs/*/secret-scanning/alerts", vendorsim.GitHubRules: "/api/v3/repos/*/*/rules/branches/*",
	vendorsim.GitHubOrganizations: "/api/v3/orgs/*",
}

// TestGitHubStreamsUnderFaults tests that each stream survives what passes and fails
// because of what does not.
func TestGitHubStreamsUnderFaults(t *testing.T) {
	for _, name := range []string{vendorsim.GitHubRepositories, vendorsim.GitHubDependabot, vendorsim.GitHubRules} {
		t.Run(name, func(t *testing.T) {
			sim, o := simulateGitHub(2, 24)
			p := collectortest.PagedStream{
				Options: func() vendorsim.Options { _, o := simulateGitHub(2, 24); return o },
				Open: func(h *collectortest.Harness) collector.Stream {
					return collectortest.FindStream(h, openGitHub(h, nil), name)
				},
				Want:       func(h *collectortest.Harness) []string { return expectedRecords(h, sim, name) },
				Path:       listingPaths[name],
				Credential: "GITHUB_TOKEN",
				Permission: "GITHUB_TOKEN",
				Secret:     vendorsim.GitHubToken,
				Parallel:   true,
			}
			collectortest.Run(t, o, func(h *collectortest.Harness) { p.Requests = expectedRequests(h, sim, name) })
			p.TestPassing(t, map[string]vendorsim.Fault{
				"403 of the secondary limit": {Do: vendorsim.Status(403, `{"message":"You have exceeded a secondary rate limit."}`, "Retry-After", "60")},
				"403 without a wait":         {Do: vendorsim.Status(403, `{"message":"You have exceeded a secondary rate limit."}`)},
				"abuse detection":            {Do: vendorsim.Status(403, `{"message":"You have triggered an abuse detection mechanism."}`)},
			})
			p.TestLasting(t)
		})
	}
}

// TestGitHubStreams tests the records and the requests of all streams, with a token and
// with an App, whose installations have a token each.
func TestGitHubStreams(t *testing.T) {
	for _, name := range streamNames {
		for _, byApp := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				sim, o := simulateGitHub(3, 70)
				collectortest.Run(t, o, func(h *collectortest.Harness) {
					tokens, change := 0, func(*Settings) {}
					if byApp {
						tokens, change = 3, useApp
					}
					s := collectortest.FindStream(h, openGitHub(h, change), name)
					h.AssertRecords(h.Extract(s), expectedRecords(h, sim, name))
					assertDoubt(h, "", 0)
					h.AssertRequests(expectedRequests(h, sim, name) + tokens)
					h.Host.ResetStats()
					if err := s.Check(h.Context()); err != nil {
						t.Error(err)
					}
					if n := h.Host.Stats().Total; n > 3 {
						t.Errorf("the check made %d requests, want at most 3", n)
					}
					h.AssertNoViolations()
				})
			})
		}
	}
}

// TestGitHubUserWithoutOrganizations: the repositories of a user who has no organisation
// are read, and the alerts of each, with a token and by an App that the user has installed.
func TestGitHubUserWithoutOrganizations(t *testing.T) {
	t.Run("token", func(t *testing.T) { testUserWithoutOrganizations(t, nil) })
	t.Run("App", func(t *testing.T) { testUserWithoutOrganizations(t, useApp) })
}

func testUserWithoutOrganizations(t *testing.T, change func(*Settings)) {
	for _, name := range streamNames {
		t.Run(name, func(t *testing.T) {
			sim, o := simulateGitHub(1, 30)
			o.Counts[vendorsim.GitHubRepositories] = 12
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				sim.ConfigureAccount(func(b *vendorsim.GitHubBehaviour) { b.UserOwned = true })
				sim.Disable(vendorsim.GitHubCode, 3)
				sim.Disable(vendorsim.GitHubDependabot, 3)
				sim.Disable(vendorsim.GitHubSecrets, 3)
				sim.Disable(vendorsim.GitHubRules, 3)
				s := collectortest.FindStream(h, openGitHub(h, change), name)
				got := h.Extract(s)
				var want []string
				disabled := map[string]string{
					vendorsim.GitHubDependabot: dependabotAbsent.doubt, vendorsim.GitHubCode: codeAbsent.doubt,
					vendorsim.GitHubSecrets: secretsAbsent.doubt, vendorsim.GitHubRules: rulesAbsent.doubt,
				}[name]
				for i := range h.Sim.RecordCount(name) {
					isOfOrganization := name == vendorsim.GitHubOrganizations || name == vendorsim.GitHubMembers
					if !isOfOrganization && (disabled == "" || sim.Repository(name, i) != 3) {
						want = append(want, expectedRecord(h, sim, name, i))
					}
				}
				h.AssertRecords(got, want)
				assertDoubt(h, disabled, int64(min(1, len(disabled))))
				if err := s.Check(h.Context()); err != nil {
					t.Error(err)
				}
				h.AssertNoViolations()
			})
		})
	}
}

// TestGitHubPermissions: a missing permission fails the stream with the names and the
// permission, or is skipped with a doubt, and is no disabled feature.
func TestGitHubPermissions(t *testing.T) {
	permissions := map[string]string{
		vendorsim.GitHubOrganizations: "read:org", vendorsim.GitHubRepositories: "Metadata (read)", vendorsim.GitHubMembers: "Members (read)",
		vendorsim.GitHubDependabot: "Dependabot alerts (read)", vendorsim.GitHubCode: "Code scanning alerts (read)",
		vendorsim.GitHubSecrets: "Secret scanning alerts (read)", vendorsim.GitHubRules: "Metadata (read)",
	}
	for _, name := range streamNames {
		for _, notFound := range []bool{false, true} {
			if notFound && name == vendorsim.GitHubOrganizations {
				continue // the organisation itself is not found, although it is listed
			}
			t.Run(name, func(t *testing.T) {
				sim, o := simulateGitHub(3, 12)
				collectortest.Run(t, o, func(h *collectortest.Harness) {
					sim.ConfigureAccount(func(b *vendorsim.GitHubBehaviour) { b.ForbiddenNotFound = notFound })
					sim.Forbid(name, 1)
					s := collectortest.FindStream(h, openGitHub(h, nil), name)
					err := h.ExtractError(s, time.Hour)
					wants := []string{permissions[name], "GITHUB_SKIP_FORBIDDEN=true", `"org-1`, "GITHUB_TOKEN needs the"}
					if !notFound {
						wants = append(wants, "simulated=read")
					}
					for _, want := range wants {
						if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), want) {
							t.Errorf("error %v, want %q", err, want)
						}
					}
					h.AssertNoViolations()
					s = collectortest.FindStream(h, openGitHub(h, func(s *Settings) { s.Skip = true }), name)
					h.AssertRecords(h.Extract(s), expectedRecords(h, sim, name, 1))
					doubt, count := "an organisation that the token may not read was skipped", int64(1)
					if name == vendorsim.GitHubRules {
						doubt, count = "a repository that the token may not read was skipped", 4
					}
					assertDoubt(h, doubt, count)
					sim.Forbid(name)
					if err := s.Check(h.Context()); !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), permissions[name]) {
						t.Errorf("check: %v", err)
					}
				})
			})
		}
	}
}

// TestGitHubDeletions: what is deleted while it is read is skipped with a doubt, and a
// deletion hides nothing else.
func TestGitHubDeletions(t *testing.T) {
	t.Run("organisation", func(t *testing.T) {
		for _, name := range []string{vendorsim.GitHubMembers, vendorsim.GitHubCode} {
			sim, o := simulateGitHub(3, 60)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				h.Host.Inject(vendorsim.Fault{Path: strings.Replace(listingPaths[name], "*", "org-2", 1), From: 2, Do: vendorsim.Before(func() { sim.DeleteOrganization(2) })})
				h.AssertRecords(h.Extract(collectortest.FindStream(h, openGitHub(h, nil), name)), expectedRecords(h, sim, name, 2))
				assertDoubt(h, "an organisation was deleted while it was read, and was skipped", 1)
			})
		}
	})
	t.Run("repository between pages", func(t *testing.T) {
		sim, o := simulateGitHub(1, 35)
		collectortest.Run(t, o, func(h *collectortest.Harness) {
			// The repositories of the second page move to the first, which was read.
			h.Host.Inject(vendorsim.Fault{Path: listingPaths[vendorsim.GitHubRepositories], From: 2, Do: vendorsim.Before(func() { sim.DeleteRepository(0) })})
			got := h.Extract(collectortest.FindStream(h, openGitHub(h, nil), vendorsim.GitHubRepositories))
			h.AssertRecords(got, expectedRecords(h, sim, vendorsim.GitHubRepositories))
		})
	})
	t.Run("repository before its rules", func(t *testing.T) {
		sim, o := simulateGitHub(1, 12)
		collectortest.Run(t, o, func(h *collectortest.Harness) {
			h.Host.Inject(vendorsim.Fault{Path: "/api/v3/repos/*/repo.4/rules/branches/*", Do: vendorsim.Before(func() { sim.DeleteRepository(4) })})
			got := h.Extract(collectortest.FindStream(h, openGitHub(h, nil), vendorsim.GitHubRules))
			want := expectedRecords(h, sim, vendorsim.GitHubRules)
			h.AssertRecords(got, slices.Delete(want, 4, 5))
			assertDoubt(h, "a repository was deleted while it was read, and was skipped", 1)
		})
	})
}

// TestGitHubSelectsOrganizations: GITHUB_ORGS and GITHUB_APP_INSTALLATION_ID select what is
// read, and name what is missing.
func TestGitHubSelectsOrganizations(t *testing.T) {
	sim, o := simulateGitHub(3, 20)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		for _, change := range []func(*Settings){
			func(s *Settings) { s.Orgs = "org-0;org-2, ORG-2" },
			func(s *Settings) { useApp(s); s.Orgs = "org-2,org-0" },
		} {
			got := h.Extract(collectortest.FindStream(h, openGitHub(h, change), vendorsim.GitHubMembers))
			h.AssertRecords(got, expectedRecords(h, sim, vendorsim.GitHubMembers, 1))
		}
		one := func(s *Settings) { useApp(s); s.Installation = "7001" }
		got := h.Extract(collectortest.FindStream(h, openGitHub(h, one), vendorsim.GitHubMembers))
		h.AssertRecords(got, expectedRecords(h, sim, vendorsim.GitHubMembers, 0, 2))
		missing := func(s *Settings) { useApp(s); s.Orgs = "elsewhere" }
		err := h.ExtractError(collectortest.FindStream(h, openGitHub(h, missing), vendorsim.GitHubMembers), time.Hour)
		if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), `organisation "elsewhere"`) {
			t.Errorf("error %v", err)
		}
		elsewhere := openGitHub(h, func(s *Settings) { s.Orgs = "elsewhere" })
		for _, stream := range []string{vendorsim.GitHubOrganizations, vendorsim.GitHubMembers, vendorsim.GitHubDependabot} {
			err := h.ExtractError(collectortest.FindStream(h, elsewhere, stream), time.Hour)
			if text := err.Error(); strings.Contains(text, "exists") || !strings.Contains(text, `organisation "elsewhere": `) ||
				!strings.Contains(text, "check GITHUB_ORGS: the organisation does not exist, or the credentials may not see it") {
				t.Errorf("%s: error %v", stream, err)
			}
		}
	})
}

// TestGitHubSingleSignOn: a refusal names the address where the token is authorized, and
// organisations that are left out are a doubt about every stream.
func TestGitHubSingleSignOn(t *testing.T) {
	sim, o := simulateGitHub(2, 12)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		sim.ConfigureAccount(func(b *vendorsim.GitHubBehaviour) { b.SignOn = true })
		err := h.ExtractError(collectortest.FindStream(h, openGitHub(h, nil), vendorsim.GitHubMembers), time.Hour)
		if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "/sso?authorization_request=AQUB") {
			t.Errorf("error %v", err)
		}
		sim.ConfigureAccount(func(b *vendorsim.GitHubBehaviour) { b.SignOn, b.HiddenOrganizations = false, 2 })
		for _, name := range []string{vendorsim.GitHubMembers, vendorsim.GitHubRules} {
			h.AssertRecords(h.Extract(collectortest.FindStream(h, openGitHub(h, nil), name)), expectedRecords(h, sim, name))
			assertDoubt(h, "an organisation is left out because the token is not authorized for its single sign-on", 2)
		}
	})
}

// TestGitHubPublicMembersAreNotAll: a redirect to the public members is a missing
// permission.
func TestGitHubPublicMembersAreNotAll(t *testing.T) {
	sim, o := simulateGitHub(2, 12)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		sim.ConfigureAccount(func(b *vendorsim.GitHubBehaviour) { b.Outsider = true })
		s := collectortest.FindStream(h, openGitHub(h, nil), vendorsim.GitHubMembers)
		for _, err := range []error{h.ExtractError(s, time.Hour), s.Check(h.Context())} {
			if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "public members") || !strings.Contains(err.Error(), "Members (read)") {
				t.Errorf("error %v", err)
			}
		}
	})
}

// TestGitHubSecretsStayHidden: the secrets that were found are stored only if the
// operator wants that.
func TestGitHubSecretsStayHidden(t *testing.T) {
	sim, o := simulateGitHub(1, 12)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		literals := func(s *Settings) { s.Literals = true }
		got := h.Extract(collectortest.FindStream(h, openGitHub(h, literals), vendorsim.GitHubSecrets))
		if !strings.Contains(got[0], `"secret":"`+vendorsim.GitHubSecret+`"`) {
			t.Errorf("the secret is not stored, although GITHUB_SECRET_LITERALS is set: %s", got[0])
		}
		sim.ConfigureAccount(func(b *vendorsim.GitHubBehaviour) { b.ShowSecrets = true })
		s := collectortest.FindStream(h, openGitHub(h, nil), vendorsim.GitHubSecrets)
		for _, err := range []error{h.ExtractError(s, time.Hour), s.Check(h.Context())} {
			if !errors.Is(err, errSecretShown) || strings.Contains(err.Error(), vendorsim.GitHubSecret) {
				t.Errorf("error %v", err)
			}
		}
	})
}

// TestGitHubKeepsToTheLimits: more requests than are allowed lead to waits and to no
// refusal.
func TestGitHubKeepsToTheLimits(t *testing.T) {
	sim, o := simulateGitHub(2, 60)
	o.Limits = map[string]vendorsim.LimitNumbers{"github-hour": {Max: 30}}
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		began := time.Now()
		c := openGitHub(h, func(s *Settings) { s.Parallel = 1 })
		h.AssertRecords(h.Extract(collectortest.FindStream(h, c, vendorsim.GitHubRules)), expectedRecords(h, sim, vendorsim.GitHubRules))
		if took := time.Since(began); took < 2*time.Hour || took > 4*time.Hour || h.Host.Stats().Statuses[403] > 0 {
			t.Errorf("took %v with %d refusals", took, h.Host.Stats().Statuses[403])
		}
	})
}

// TestGitHubAppTokens: a token of an installation is renewed before it expires and when
// it is revoked.
func TestGitHubAppTokens(t *testing.T) {
	sim, o := simulateGitHub(1, 60)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		c := openGitHub(h, useApp)
		tokens := func() int {
			return h.Host.Stats().Requests["POST /api/v3/app/installations/{id}/access_tokens"]
		}
		s := collectortest.FindStream(h, c, vendorsim.GitHubMembers)
		h.Extract(s)
		time.Sleep(54 * time.Minute)
		h.Extract(s)
		if n := tokens(); n != 1 {
			t.Errorf("%d tokens within their life, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		h.Extract(s)
		sim.Revoke()
		h.AssertRecords(h.Extract(s), expectedRecords(h, sim, vendorsim.GitHubMembers))
		if n := tokens(); n != 3 || h.Host.Stats().Statuses[http.StatusUnauthorized] != 1 {
			t.Errorf("%d tokens, want 3: one renewed, one replaced; statuses %v", n, h.Host.Stats().Statuses)
		}
	})
}

func TestGitHubRefusals(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"check GITHUB_TOKEN":                             func(s *Settings) { s.Token = "bad-secret" },
		"check GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY": func(s *Settings) { useApp(s); s.AppID = "1" },
	} {
		t.Run(name, func(t *testing.T) {
			_, o := simulateGitHub(2, 5)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				c := openGitHub(h, change)
				for _, err := range []error{c.Check(h.Context()), h.ExtractError(collectortest.FindStream(h, c, vendorsim.GitHubMembers), time.Hour)} {
					if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "bad-secret") {
						t.Errorf("error %v", err)
					}
				}
			})
		})
	}
}

// TestGitHubSuspendedInstallation: an organisation that has suspended the App is skipped
// with a doubt.
func TestGitHubSuspendedInstallation(t *testing.T) {
	sim, o := simulateGitHub(3, 12)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		sim.ConfigureAccount(func(b *vendorsim.GitHubBehaviour) { b.Suspended = 2 })
		got := h.Extract(collectortest.FindStream(h, openGitHub(h, useApp), vendorsim.GitHubMembers))
		h.AssertRecords(got, expectedRecords(h, sim, vendorsim.GitHubMembers, 1))
		assertDoubt(h, "an organisation that has suspended the App was skipped", 1)
	})
}

func TestGitHubSettings(t *testing.T) {
	good := Settings{Endpoint: "https://api.github.com", Version: "2022-11-28", Token: "t"}
	key := config.Secret(vendorsim.GitHubAppKey())
	for _, tc := range []struct {
		name        string
		change      func(*Settings)
		wantProblem string
	}{
		{name: "token", change: func(*Settings) {}},
		{name: "App", change: func(s *Settings) { s.Token, s.AppID, s.AppKey, s.Installation = "", "1", key, "12" }},
		{name: "both", change: func(s *Settings) { s.AppID, s.AppKey = "1", key }, wantProblem: "GITHUB_APP_ID"},
		{name: "no key", change: func(s *Settings) { s.Token, s.AppID, s.AppKey = "", "1", "x" }, wantProblem: "GITHUB_APP_PRIVATE_KEY"},
		{name: "installation", change: func(s *Settings) { s.Token, s.AppID, s.AppKey, s.Installation = "", "1", key, "acme" }, wantProblem: "GITHUB_APP_INSTALLATION_ID"},
		{name: "endpoint", change: func(s *Settings) { s.Endpoint = "ftp://x" }, wantProblem: "GITHUB_ENDPOINT"},
		{name: "version", change: func(s *Settings) { s.Version = "3" }, wantProblem: "GITHUB_API_VERSION"},
		{name: "organisations", change: func(s *Settings) { s.Orgs = "acme,acme/x" }, wantProblem: "GITHUB_ORGS"},
		{name: "no organisations", change: func(s *Settings) { s.Orgs = "," }, wantProblem: "GITHUB_ORGS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := good
			tc.change(&s)
			collectortest.AssertProblem(t, s.Validate(), tc.wantProblem)
		})
	}
}
