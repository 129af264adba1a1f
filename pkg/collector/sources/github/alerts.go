package github

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// alertKind is a kind of security alerts.
type alertKind struct {
	path       string // below the organisation or the repository
	permission string
	absent     absentFeature
	hideSecret bool // the alerts must not contain the secrets that they are about
}

// alertStream returns the stream of a kind of alerts.
func (a *account) alertStream(name string, kind alertKind) collector.Stream {
	c := rest.Children{
		Parents: a.owners, Stream: name, Members: []rest.ParentMember{{Name: "_org"}}, Absent: kind.absent.doubtOf,
		Read: func(ctx context.Context, owner rest.Parent, out collector.Output) (int64, error) {
			if isUser(owner) {
				return 0, a.alertsByRepository(name, kind, owner).ExtractChildren(ctx, out)
			}
			return a.walkListing(ctx, owner, kind.permission, a.alertsAt(kind, "/orgs/"+url.PathEscape(owner.ID)), out)
		},
		Probe: func(ctx context.Context, owner rest.Parent, out collector.Output) (int64, error) {
			if isUser(owner) {
				return 0, a.alertsByRepository(name, kind, owner).CheckChildren(ctx)
			}
			return a.walkListing(ctx, owner, kind.permission, firstEntry(a.alertsAt(kind, "/orgs/"+url.PathEscape(owner.ID))), out)
		},
	}
	return collector.Stream{Name: name, Extract: c.ExtractChildren, Check: c.CheckChildren}
}

// alertsByRepository returns the alerts of a user's repositories, for which the vendor
// has no listing.
func (a *account) alertsByRepository(stream string, kind alertKind, owner rest.Parent) rest.Children {
	repos := a.repositoryList(
		func(ctx context.Context, out collector.Output) error {
			_, err := a.readRepositories(ctx, owner, out)
			return err
		},
		func(ctx context.Context, out collector.Output) error {
			_, err := a.probeRepositories(ctx, owner, out)
			return err
		},
	)
	return rest.Children{
		Parents: repos, Stream: stream, Members: []rest.ParentMember{{Name: "_repo", From: "name"}}, Absent: kind.absent.doubtOf,
		Read: func(ctx context.Context, repo rest.Parent, out collector.Output) (int64, error) {
			return a.walkListing(ctx, owner, kind.permission, a.alertsAt(kind, "/repos/"+repositoryPath(repo)), out)
		},
		Probe: func(ctx context.Context, repo rest.Parent, out collector.Output) (int64, error) {
			return a.walkListing(ctx, owner, kind.permission, firstEntry(a.alertsAt(kind, "/repos/"+repositoryPath(repo))), out)
		},
	}
}

// alertsAt returns the listing of alerts of an organisation or a repository, in the
// order in which they were created, so that new ones come last.
func (a *account) alertsAt(kind alertKind, path string) rest.Listing {
	q := url.Values{"per_page": {"100"}, "sort": {"created"}, "direction": {"asc"}}
	if kind.hideSecret {
		q.Set("hide_secret", "true")
	}
	return rest.Listing{
		Request: a.request(path+"/"+kind.path, q), Pager: rest.Link{},
		OnRecord: appendAlert(kind.hideSecret),
	}
}

// errSecretShown means that an alert has a secret that must not be stored.
var errSecretShown = errors.New("the server does not hide the secrets that were found: it must know the parameter hide_secret; " +
	"or set GITHUB_SECRET_LITERALS=true to store them")

// appendAlert returns a RecordFunc that adds the repository of an organisation's alert
// under the name that the alerts of one repository get.
func appendAlert(hideSecret bool) rest.RecordFunc {
	var record []byte
	return func(batch collector.Batch, _ *rest.Envelope, raw []byte) (err error) {
		if hideSecret && showsSecret(raw) {
			return errSecretShown
		}
		name := rest.Member(raw, "repository.name")
		if name == nil {
			return batch.Append(raw)
		}
		x := rest.Extension{Values: []rest.Value{{Name: "_repo", Raw: name}}}
		if record, err = x.Append(record[:0], raw); err != nil {
			return err
		}
		return batch.Append(record)
	}
}

// showsSecret reports whether an alert has the secret that it is about. A text of
// asterisks stands for a hidden one.
func showsSecret(alert []byte) bool {
	v := rest.Member(alert, "secret")
	return v != nil && v.Kind() != 'n' && strings.Trim(rest.TextOf(v), "*") != ""
}
