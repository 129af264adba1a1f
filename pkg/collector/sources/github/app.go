package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// assertionLife is the life of the App's own tokens, of which the vendor allows ten
// minutes.
const assertionLife = 9 * time.Minute

// validateApp checks the settings of the App.
func (s *Settings) validateApp() error {
	if s.AppID == "" && s.AppKey.Reveal() == "" {
		return nil
	}
	if s.Token.Reveal() != "" {
		return config.Invalid("GITHUB_APP_ID", "GITHUB_TOKEN is set, too: want one of them")
	}
	if strings.Trim(s.Installation, "0123456789") != "" {
		return config.Invalid("GITHUB_APP_INSTALLATION_ID", "%q is not an id: want a number such as 12345678", s.Installation)
	}
	if _, err := rest.ParseSigningKey(s.AppKey.Reveal()); err != nil {
		return config.Invalid("GITHUB_APP_PRIVATE_KEY", "%v", err)
	}
	return nil
}

// app is a GitHub App. Each installation has a token and rate limits of its own.
type app struct {
	account *account
	api     *rest.Client // with the authorization of the App itself

	mu            sync.Mutex
	installations map[string]*installation // by the login of the owner, in lower case
}

// installation is the authorization for what one owner has.
type installation struct {
	id     string
	auth   *rest.ClientCredentials
	limits *rest.Limiter
}

func newApp(a *account) (*app, error) {
	key, err := rest.ParseSigningKey(a.settings.AppKey.Reveal())
	if err != nil {
		return nil, fmt.Errorf("GITHUB_APP_PRIVATE_KEY: %w", err)
	}
	assertion := &rest.Assertion{Key: key, Claims: jwt.RegisteredClaims{Issuer: strings.TrimSpace(a.settings.AppID)}, Life: assertionLife}
	api := *a.api
	api.Auth, api.OnResponse = assertion, assertion.ObserveDate
	const check = "check GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY, and that GITHUB_ENDPOINT names the server of the App"
	api.Hints = map[int]string{
		http.StatusUnauthorized: check, http.StatusNotFound: "check GITHUB_APP_INSTALLATION_ID and that the App is still installed; " + check,
		http.StatusForbidden: "the installation may be suspended",
	}
	return &app{account: a, api: &api, installations: map[string]*installation{}}, nil
}

// installationRecord is what an installation's record says about its owner.
type installationRecord struct {
	ID        json.Number `json:"id"`
	Suspended *string     `json:"suspended_at"`
	Account   struct {
		Login string `json:"login"`
		Type  string `json:"type"`
	} `json:"account"`
}

// listInstallations writes the owners that have installed the App to out.
func (a *app) listInstallations(ctx context.Context, out collector.Output) error {
	var records rest.MemoryOutput
	if id := a.account.settings.Installation; id != "" {
		if err := a.api.FetchObject(ctx, a.account.request("/app/installations/"+url.PathEscape(id), nil), "id", &records); err != nil {
			return err
		}
	} else {
		l := numberedListing(a.account.request("/app/installations", url.Values{"per_page": {"100"}}))
		if _, err := a.api.Walk(ctx, l, &records); err != nil {
			return err
		}
	}
	return a.writeInstallations(ctx, records.Records(), out)
}

// writeInstallations writes the owners of installations to out.
func (a *app) writeInstallations(ctx context.Context, records [][]byte, out collector.Output) error {
	wanted := a.account.settings.orgs()
	batch := out.NewBatch()
	defer batch.Discard()
	var found []string
	for _, raw := range records {
		var record installationRecord
		if err := json.Unmarshal(raw, &record); err != nil {
			return fmt.Errorf("%w: installation: %w", collector.ErrIncomplete, err)
		}
		isLogin := func(login string) bool { return strings.EqualFold(login, record.Account.Login) }
		if len(wanted) > 0 && !slices.ContainsFunc(wanted, isLogin) {
			continue
		}
		found = append(found, strings.ToLower(record.Account.Login))
		if record.Suspended != nil {
			rest.AddListDoubt(ctx, "an organisation that has suspended the App was skipped", 1)
			continue
		}
		login := a.account.settings.spellLogin(record.Account.Login)
		a.addInstallation(login, record.ID.String())
		if err := appendOwner(batch, login, record.Account.Type); err != nil {
			return err
		}
	}
	for _, org := range wanted {
		if !slices.Contains(found, strings.ToLower(org)) {
			return fmt.Errorf("organisation %q: %w: it has not installed the App of GITHUB_APP_ID: install it, or remove the organisation from GITHUB_ORGS", org, collector.ErrForbidden)
		}
	}
	return batch.Commit()
}

// addInstallation adds the installation of an owner, unless it is known.
func (a *app) addInstallation(login, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	login = strings.ToLower(login)
	if known := a.installations[login]; known != nil && known.id == id {
		return
	}
	a.installations[login] = &installation{
		id: id, limits: rest.NewLimiter(a.account.limits()),
		auth: &rest.ClientCredentials{
			Client: a.api, Path: "/app/installations/" + url.PathEscape(id) + "/access_tokens",
			Encoding: rest.TokenJSON, Parse: parseInstallationToken,
		},
	}
}

// authorizationFor returns the authorization and the limits for what an owner has; those
// of the App itself if the owner is not known.
func (a *app) authorizationFor(login string) (rest.Auth, *rest.Limiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := a.installations[strings.ToLower(login)]; i != nil {
		return i.auth, i.limits
	}
	return a.api.Auth, a.api.Limits
}

// parseInstallationToken returns the token of an installation and its life.
func parseInstallationToken(r rest.TokenResponse) (string, time.Duration, error) {
	var response struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(r.Body, &response); err != nil {
		return "", 0, err
	}
	now := time.Now()
	if date, err := http.ParseTime(r.Header.Get("Date")); err == nil {
		now = date // the clock that the token expires by
	}
	return response.Token, max(response.Expires.Sub(now), time.Second), nil
}
