package snyk

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector/rest"
)

// setCredentials sets the authorization of the requests, and the remedies that
// name the credential.
func (a *account) setCredentials() {
	credential, refused := "SNYK_TOKEN", "check SNYK_TOKEN"
	a.api.Auth = rest.StaticHeader{Name: "Authorization", Value: a.settings.authorization()}
	if a.settings.ClientID != "" {
		credential, refused = "SNYK_CLIENT_ID", "a new token was refused, too: check that the service account of SNYK_CLIENT_ID still exists"
		a.api.Auth = a.newCredentials()
	}
	a.api.Hints = map[int]string{
		http.StatusUnauthorized: refused + ", and that SNYK_ENDPOINT names its region",
		http.StatusForbidden:    "the owner of " + credential + " needs the right to view it, and the plan must include the API",
		http.StatusBadRequest:   "check SNYK_VERSION, SNYK_PROJECTS_FILTER and SNYK_ISSUES_FILTER",
		http.StatusNotFound:     "check SNYK_ENDPOINT, and that the owner of " + credential + " has the right to view it",
	}
}

// newCredentials returns the authorization by client credentials, whose tokens
// live for about an hour.
func (a *account) newCredentials() *rest.ClientCredentials {
	tokens := *a.api
	tokens.Auth = nil
	tokens.Classify = rest.ClassifyToken
	const check = "check SNYK_CLIENT_ID and SNYK_CLIENT_SECRET, and that SNYK_ENDPOINT names the region of the service account"
	tokens.Hints = map[int]string{
		http.StatusBadRequest: check, http.StatusUnauthorized: check, http.StatusForbidden: check,
	}
	return &rest.ClientCredentials{Client: &tokens, Path: "/oauth2/token", Params: url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {strings.TrimSpace(a.settings.ClientID)},
		"client_secret": {strings.TrimSpace(a.settings.Secret.Reveal())},
	}}
}

// authorization returns the value of the Authorization header for any form of
// the token.
func (s *Settings) authorization() string {
	token := strings.TrimSpace(s.Token.Reveal())
	scheme, bare, found := strings.Cut(token, " ")
	if found && (strings.EqualFold(scheme, "token") || strings.EqualFold(scheme, "bearer")) {
		return strings.ToLower(scheme) + " " + strings.TrimSpace(bare)
	}
	return "token " + token
}
