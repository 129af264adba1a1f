package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// onePage is a Pager that reads no page after the first.
var onePage = rest.NextURL{Path: "\x00"}

// numberedListing returns a listing by page numbers, whose entries move to the page
// before when one is deleted.
func numberedListing(r rest.Request) rest.Listing {
	r.Query.Set("page", "1")
	return rest.Listing{Request: r, Pager: rest.PageNumber{Param: "page", Linked: true, Key: source.KeyMember("id")}}
}

// readOrganization reads the record of an organisation. A user has none.
func (a *account) readOrganization(ctx context.Context, owner rest.Parent, out collector.Output) (int64, error) {
	if isUser(owner) {
		return 0, nil
	}
	r := a.request("/orgs/"+url.PathEscape(owner.ID), nil)
	if err := a.clientFor(owner.ID, "access to the organisation; classic: scope read:org").FetchObject(ctx, r, "id", out); err != nil {
		return 0, adviseOn(err)
	}
	return 1, nil
}

func (a *account) readRepositories(ctx context.Context, owner rest.Parent, out collector.Output) (int64, error) {
	return a.walkListing(ctx, owner, readMetadata, a.repositoriesOf(owner), out)
}

func (a *account) probeRepositories(ctx context.Context, owner rest.Parent, out collector.Output) (int64, error) {
	return a.walkListing(ctx, owner, readMetadata, firstEntry(a.repositoriesOf(owner)), out)
}

// walkListing reads a listing of what an owner has.
func (a *account) walkListing(ctx context.Context, owner rest.Parent, permission string, l rest.Listing, out collector.Output) (int64, error) {
	records, err := a.clientFor(owner.ID, permission).Walk(ctx, l, out)
	return records, adviseOn(err)
}

// firstEntry returns a listing of one page with one entry.
func firstEntry(l rest.Listing) rest.Listing {
	l.Query.Set("per_page", "1")
	l.Pager = onePage
	return l
}

// repositoriesOf returns the listing of an owner's repositories, in the order in which
// they were created, so that new ones come last.
func (a *account) repositoriesOf(owner rest.Parent) rest.Listing {
	q := url.Values{"per_page": {"100"}, "sort": {"created"}, "direction": {"asc"}}
	switch {
	case !isUser(owner):
		return numberedListing(a.request("/orgs/"+url.PathEscape(owner.ID)+"/repos", q))
	case a.app != nil:
		l := numberedListing(a.request("/installation/repositories", url.Values{"per_page": {"100"}}))
		l.Shape = rest.Shape{Records: "repositories"}
		return l
	}
	q.Set("affiliation", "owner")
	return numberedListing(a.request("/user/repos", q))
}

// repository is what the streams need of a repository.
type repository struct {
	Org      string `json:"org"`
	Name     string `json:"name"`
	FullName string `json:"full_name"`
	Branch   string `json:"branch"`
}

// newRepositories returns the list of the repositories of all owners.
func (a *account) newRepositories() *rest.ParentList {
	all := rest.Children{Parents: a.owners, Stream: "github_branch_protection_rules", Read: a.readRepositories}
	return a.repositoryList(all.ExtractChildren, func(ctx context.Context, out collector.Output) error {
		first := all
		first.Probe = func(ctx context.Context, owner rest.Parent, _ collector.Output) (int64, error) {
			return a.probeRepositories(ctx, owner, out)
		}
		return first.CheckChildren(ctx)
	})
}

// repositoryList returns a list of repositories that list writes, and first the
// smallest first page of it.
func (a *account) repositoryList(list, first func(context.Context, collector.Output) error) *rest.ParentList {
	return &rest.ParentList{
		Noun: "a repository", LogField: "repository", List: list, ListFirst: first, Parse: a.parseRepository,
		Find: func(ctx context.Context, repo rest.Parent) error {
			_, err := a.clientFor(repositoryOwner(repo), readMetadata).Get(ctx, a.request("/repos/"+repositoryPath(repo), nil))
			return err
		},
		Parallel: a.settings.Parallel, SkipForbidden: a.settings.Skip, SkipSetting: "GITHUB_SKIP_FORBIDDEN", Log: a.log,
	}
}

// parseRepository keeps the part of a repository's record that the streams need: the
// whole has several kilobytes.
func (a *account) parseRepository(record []byte) (rest.Parent, error) {
	text := func(path string) string { return rest.TextOf(rest.Member(record, path)) }
	repo := repository{Org: a.settings.spellLogin(text("owner.login")), Name: text("name"), FullName: text("full_name"), Branch: text("default_branch")}
	kept, err := json.Marshal(repo)
	if err != nil {
		return rest.Parent{}, err
	}
	return rest.Parent{ID: text("id"), Name: repo.FullName, Record: kept}, nil
}

// repositoryOwner returns the login of a repository's owner in the list of owners.
func repositoryOwner(repo rest.Parent) string { return rest.TextOf(rest.Member(repo.Record, "org")) }

// repositoryPath returns the owner and the name of a repository as a path.
func repositoryPath(repo rest.Parent) string {
	owner, name, _ := strings.Cut(repo.Name, "/")
	return url.PathEscape(owner) + "/" + url.PathEscape(name)
}

func (a *account) readMembers(ctx context.Context, owner rest.Parent, out collector.Output) (int64, error) {
	return a.walkMembers(ctx, owner, false, out)
}

func (a *account) probeMembers(ctx context.Context, owner rest.Parent, out collector.Output) (int64, error) {
	return a.walkMembers(ctx, owner, true, out)
}

// walkMembers reads the members of an organisation. A user has none. The vendor
// redirects a token that is not of a member to the list of public members, which is
// incomplete.
func (a *account) walkMembers(ctx context.Context, owner rest.Parent, first bool, out collector.Output) (int64, error) {
	if isUser(owner) {
		return 0, nil
	}
	l := numberedListing(a.request("/orgs/"+url.PathEscape(owner.ID)+"/members", url.Values{"per_page": {"100"}}))
	if first {
		l = firstEntry(l)
	}
	c := a.clientFor(owner.ID, readMembers)
	direct := *c.HTTP
	follow := direct.CheckRedirect
	direct.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if strings.HasSuffix(r.URL.Path, "/public_members") {
			return http.ErrUseLastResponse
		}
		return follow(r, via)
	}
	c.HTTP = &direct
	records, err := c.Walk(ctx, l, out)
	if rest.HasStatus(err, http.StatusFound) {
		err = fmt.Errorf("%w: the vendor shows the public members only: %w", collector.ErrForbidden, err)
	}
	return records, adviseOn(err)
}

// readRules reads the rules of a repository's default branch.
func (a *account) readRules(ctx context.Context, repo rest.Parent, out collector.Output) (int64, error) {
	branch := rest.TextOf(rest.Member(repo.Record, "branch"))
	r := a.request("/repos/"+repositoryPath(repo)+"/rules/branches/"+url.PathEscape(branch), url.Values{"per_page": {"100"}})
	records, err := a.clientFor(repositoryOwner(repo), readMetadata).Walk(ctx, rest.Listing{Request: r, Pager: rest.Link{}}, out)
	return records, adviseOn(err)
}
