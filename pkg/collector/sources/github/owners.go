package github

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// ownerRecord is the record of an owner of repositories in the list of owners.
type ownerRecord struct {
	Login string `json:"login"`
	Type  string `json:"type"` // Organization or User
}

// isUser reports whether an owner is a user, who has neither members nor listings of
// alerts.
func isUser(owner rest.Parent) bool { return rest.TextOf(rest.Member(owner.Record, "type")) == "User" }

// newOwners returns the list of the organisations, or of the user who has none.
func (a *account) newOwners() *rest.ParentList {
	setting := ""
	if a.app == nil && len(a.settings.orgs()) > 0 {
		setting = "GITHUB_ORGS"
	}
	return &rest.ParentList{
		Setting: setting,
		Noun:    "an organisation", LogField: "organization",
		List:      func(ctx context.Context, out collector.Output) error { return a.listOwners(ctx, out, "100") },
		ListFirst: func(ctx context.Context, out collector.Output) error { return a.listOwners(ctx, out, "1") },
		Parse: func(record []byte) (rest.Parent, error) {
			login := rest.TextOf(rest.Member(record, "login"))
			return rest.Parent{ID: login, Name: login, Record: bytes.Clone(record)}, nil
		},
		Find: func(ctx context.Context, owner rest.Parent) error {
			path := "/orgs/"
			if isUser(owner) {
				path = "/users/"
			}
			_, err := a.clientFor(owner.ID, "").Get(ctx, a.request(path+url.PathEscape(owner.ID), nil))
			return err
		},
		Parallel: a.settings.Parallel, SkipForbidden: a.settings.Skip, SkipSetting: "GITHUB_SKIP_FORBIDDEN", Log: a.log,
	}
}

// listOwners writes the owners to out. size is the page size; with "1", one page is
// enough.
func (a *account) listOwners(ctx context.Context, out collector.Output, size string) error {
	if a.app != nil {
		return a.app.listInstallations(ctx, out)
	}
	if orgs := a.settings.orgs(); len(orgs) > 0 {
		return writeOwners(out, orgs, "Organization")
	}
	return a.listVisible(ctx, out, size)
}

// listVisible writes the organisations that the token can see to out; its user if
// there is none.
func (a *account) listVisible(ctx context.Context, out collector.Output, size string) error {
	c := a.clientFor("", "organisation permission Members (read); classic: scope read:org; or name the organisations in GITHUB_ORGS")
	l := numberedListing(a.request("/user/orgs", url.Values{"per_page": {size}}))
	l.CheckPage = func(e *rest.Envelope, _ int64) error {
		addHiddenOrganizations(ctx, e.Header.Get("X-GitHub-SSO"))
		return nil
	}
	l.OnRecord = func(batch collector.Batch, _ *rest.Envelope, raw []byte) error {
		return appendOwner(batch, rest.TextOf(rest.Member(raw, "login")), "Organization")
	}
	if size == "1" {
		l.Pager = onePage
	}
	orgs, err := c.Walk(ctx, l, out)
	if err != nil || orgs > 0 {
		return adviseOn(err)
	}
	user, err := c.Get(ctx, a.request("/user", nil))
	if err != nil {
		return adviseOn(err)
	}
	a.log.Warn("the token sees no organisation, so the repositories of its user are read: set GITHUB_ORGS to name organisations")
	return writeOwners(out, []string{user.Text("login")}, "User")
}

// addHiddenOrganizations counts the organisations that a response leaves out because
// the token is not authorized for their single sign-on. header is X-GitHub-SSO, such as
// "partial-results; organizations=21955855,20582480".
func addHiddenOrganizations(ctx context.Context, header string) {
	if kind, rest, _ := strings.Cut(header, ";"); strings.TrimSpace(kind) == "partial-results" {
		_, ids, _ := strings.Cut(rest, "organizations=")
		addHidden(ctx, int64(len(strings.Split(ids, ","))))
	}
}

func addHidden(ctx context.Context, organizations int64) {
	rest.AddListDoubt(ctx, "an organisation is left out because the token is not authorized for its single sign-on", organizations)
}

// writeOwners writes owners to out, in one batch.
func writeOwners(out collector.Output, logins []string, kind string) error {
	batch := out.NewBatch()
	defer batch.Discard()
	for _, login := range logins {
		if err := appendOwner(batch, login, kind); err != nil {
			return err
		}
	}
	return batch.Commit()
}

func appendOwner(batch collector.Batch, login, kind string) error {
	record, err := json.Marshal(ownerRecord{Login: login, Type: kind})
	if err != nil {
		return err
	}
	return batch.Append(record)
}
