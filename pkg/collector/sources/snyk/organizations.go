package snyk

import (
	"bytes"
	"context"
	"net/url"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// newOrganizations returns the list of organisations.
func (a *account) newOrganizations() *rest.ParentList {
	return &rest.ParentList{
		Noun: "an organisation", LogField: "organization", Parse: parseOrganization,
		List: func(ctx context.Context, out collector.Output) error {
			_, err := a.walkListing(ctx, "/orgs", nil, out)
			return err
		},
		ListFirst: func(ctx context.Context, out collector.Output) error {
			_, err := a.api.Fetch(ctx, a.smallestRequest("/orgs", nil), listShape, out, nil)
			return err
		},
		Find: func(ctx context.Context, org rest.Parent) error {
			single := a.restRequest("/orgs/"+url.PathEscape(org.ID), nil)
			single.Query.Del("limit")
			_, err := a.api.Get(ctx, single)
			return err
		},
		Parallel: a.settings.Parallel, SkipForbidden: a.settings.Skip, SkipSetting: "SNYK_SKIP_FORBIDDEN", Log: a.log,
	}
}

func parseOrganization(record []byte) (rest.Parent, error) {
	return rest.Parent{
		ID: rest.TextOf(rest.Member(record, "id")), Name: rest.TextOf(rest.Member(record, "attributes.name")), Record: bytes.Clone(record),
	}, nil
}

// streamByOrganization returns a stream that is read organisation by organisation.
func (a *account) streamByOrganization(name string, read, probe rest.ChildReader, members ...rest.ParentMember) collector.Stream {
	c := rest.Children{Parents: a.organizations, Stream: name, Read: read, Probe: probe, Members: members}
	return collector.Stream{Name: name, Extract: c.ExtractChildren, Check: c.CheckChildren}
}
