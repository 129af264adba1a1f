package github

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/collectord/collectord/pkg/collector/rest"
)

// classifyStatus separates rate limits from missing permissions, which have the same
// status.
func classifyStatus(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status != http.StatusForbidden {
		return usual
	}
	message := strings.ToLower(messageOf(s))
	switch {
	case s.Header.Get("Retry-After") != "", s.Header.Get("X-RateLimit-Remaining") == "0",
		strings.Contains(message, "secondary rate limit"), strings.Contains(message, "abuse detection"):
		return rest.Limited
	}
	return usual
}

// messageOf returns the message of an unsuccessful response.
func messageOf(s *rest.StatusError) string { return rest.TextOf(rest.Member(s.Body, "message")) }

// absentFeature is how the vendor says that a repository or an organisation does not
// have a feature.
type absentFeature struct {
	doubt string
	// messages are the starts of the messages by status.
	messages map[int][]string
}

var (
	dependabotAbsent = absentFeature{
		doubt:    "a repository or organisation has no Dependabot alerts because they are disabled",
		messages: map[int][]string{http.StatusForbidden: {"Dependabot alerts are disabled", "Dependabot alerts are not available for archived repositories"}},
	}
	codeAbsent = absentFeature{
		doubt: "a repository or organisation has no code scanning alerts because code scanning is disabled or has no analysis",
		messages: map[int][]string{
			http.StatusForbidden: {"Advanced Security must be enabled", "Code Security must be enabled", "Code scanning is not enabled"},
			http.StatusNotFound:  {"no analysis found"},
		},
	}
	secretsAbsent = absentFeature{
		doubt:    "a repository or organisation has no secret scanning alerts because secret scanning is disabled",
		messages: map[int][]string{http.StatusNotFound: {"Secret scanning is disabled"}},
	}
	rulesAbsent = absentFeature{
		doubt:    "a repository has no branch rules because the plan does not include them",
		messages: map[int][]string{http.StatusForbidden: {"Upgrade to GitHub "}},
	}
)

// doubtOf returns the doubt if err says that the feature is absent; "" for any other
// error, such as a missing permission.
func (a absentFeature) doubtOf(err error) string {
	var s *rest.StatusError
	if !errors.As(err, &s) || !rest.HasStatus(err, s.Status) {
		return ""
	}
	message := strings.ToLower(messageOf(s))
	for _, start := range a.messages[s.Status] {
		if strings.HasPrefix(message, strings.ToLower(start)) {
			return a.doubt
		}
	}
	return ""
}

// adviseOn adds what a refusal says about its remedy: the address where the token is
// authorized for single sign-on, and the permissions that the vendor accepts.
func adviseOn(err error) error {
	var s *rest.StatusError
	if !errors.As(err, &s) || s.Status != http.StatusForbidden && s.Status != http.StatusNotFound {
		return err
	}
	kind, address, _ := strings.Cut(s.Header.Get("X-GitHub-SSO"), ";")
	if _, address, found := strings.Cut(address, "url="); found && strings.TrimSpace(kind) == "required" {
		return fmt.Errorf("%w; authorize the token for the single sign-on of the organisation at %s", err, strings.TrimSpace(address))
	}
	if accepted := s.Header.Get("X-Accepted-GitHub-Permissions"); accepted != "" {
		return fmt.Errorf("%w (the vendor accepts the permissions %s)", err, accepted)
	}
	return err
}
