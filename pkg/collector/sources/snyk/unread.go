package snyk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// Reasons why a stream does not have an organisation.
var (
	// errDeleted means that an organisation was deleted after it was listed.
	errDeleted = errors.New("the organisation no longer exists")
	// errNotFound means that something of an existing organisation is not
	// found. The older API responds so if a permission is missing.
	errNotFound = errors.New("not found, although the organisation exists")
)

// notFoundWait is the wait before a request that was not found is repeated,
// although the organisation exists.
const notFoundWait = 5 * time.Second

// readOrganization reads one organisation. Its errors wrap errDeleted,
// errNotFound or collector.ErrForbidden if the organisation is unread for that
// reason. No record of it is written after an error.
func (a *account) readOrganization(ctx context.Context, org organization, read organizationReader, out collector.Output) error {
	for attempt := 1; ; attempt++ {
		records, err := readWhole(ctx, org, read, out)
		switch {
		case errors.Is(err, collector.ErrForbidden) && records > 0:
			return fmt.Errorf("%w: a page is refused, although the pages before it were not: %v", collector.ErrIncomplete, err)
		case !rest.HasStatus(err, http.StatusNotFound):
			return err
		}
		deleted, checkErr := a.isDeleted(ctx, org)
		switch {
		case checkErr != nil:
			return checkErr
		case deleted:
			return fmt.Errorf("%w: %w", errDeleted, err)
		case records > 0: // for example, an unknown cursor
			return fmt.Errorf("%w: a page is not found, although the organisation is: %v", collector.ErrIncomplete, err)
		case attempt > 1:
			return fmt.Errorf("%w: %w", errNotFound, err)
		}
		if err := rest.Sleep(ctx, notFoundWait, "a second attempt at what was not found"); err != nil {
			return err
		}
	}
}

// isDeleted reports whether an organisation that was listed no longer exists: the
// vendor does not find it, and a list that is read after that does not have it. A
// response of 404 alone may be an error that passes by itself.
func (a *account) isDeleted(ctx context.Context, org organization) (bool, error) {
	single := a.restRequest("/orgs/"+url.PathEscape(org.id), nil)
	single.Query.Del("limit")
	_, err := a.api.Get(ctx, single)
	switch {
	case rest.HasStatus(err, http.StatusNotFound):
		orgs, err := a.organizations.getReadAfter(ctx, time.Now())
		isListed := slices.ContainsFunc(orgs, func(o organization) bool { return o.id == org.id })
		return err == nil && !isListed, err
	case errors.Is(err, collector.ErrForbidden): // no proof that it does not exist
		return false, nil
	}
	return false, err
}

// unreadOrganizations collects the organisations that a stream does not have,
// so that one error names all of them.
type unreadOrganizations struct {
	mu                           sync.Mutex
	forbidden, notFound, deleted unreadGroup
}

// unreadGroup is the organisations that are unread for one reason.
type unreadGroup struct {
	names []string
	cause error // of one of them
}

// addOrganization adds an organisation and returns true if err is a reason to
// do without it.
func (u *unreadOrganizations) addOrganization(org organization, err error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	var group *unreadGroup
	switch {
	case errors.Is(err, errDeleted):
		group = &u.deleted
	case errors.Is(err, errNotFound):
		group = &u.notFound
	case errors.Is(err, collector.ErrForbidden):
		group = &u.forbidden
	default:
		return false
	}
	group.names = append(group.names, fmt.Sprintf("%q", org.name))
	group.cause = err
	return true
}

// checkUnread decides whether a stream without the unread organisations is
// stored. A stream without any organisation always fails.
func (a *account) checkUnread(ctx context.Context, stream string, u *unreadOrganizations, orgs int) error {
	refused := slices.Concat(u.forbidden.names, u.notFound.names)
	slices.Sort(refused)
	switch {
	case len(refused)+len(u.deleted.names) == 0:
		return nil
	case len(refused)+len(u.deleted.names) == orgs:
		return u.errorOfAll(orgs)
	case len(refused) > 0 && !a.settings.Skip:
		return u.errorOfRefused(refused, orgs)
	}
	stats := collector.StatsFrom(ctx)
	stats.AddDoubt("an organisation was deleted while it was read, and was skipped", int64(len(u.deleted.names)))
	stats.AddDoubt("an organisation that the token may not read was skipped", int64(len(refused)))
	if len(refused) > 0 {
		a.log.Warn("organisations that the token may not read were skipped",
			zap.String("stream", stream), zap.Int("organizations", len(refused)), zap.Strings("names", refused))
	}
	return nil
}

// errorOfAll returns the error if no organisation was read. If nothing was
// refused with 403, the cause may also be the address.
func (u *unreadOrganizations) errorOfAll(orgs int) error {
	cause := u.forbidden.cause
	if cause == nil {
		cause = u.deleted.cause
		if u.notFound.cause != nil {
			cause = u.notFound.cause
		}
		cause = fmt.Errorf("%w: %w", collector.ErrIncomplete, cause)
	}
	return fmt.Errorf("all %d organisations: %w", orgs, cause)
}

// errorOfRefused returns the error that names the refused organisations.
func (u *unreadOrganizations) errorOfRefused(names []string, orgs int) error {
	cause := u.forbidden.cause
	if cause == nil {
		cause = fmt.Errorf("%w: %w", collector.ErrForbidden, u.notFound.cause)
	}
	n, more := len(names), ""
	if n > 20 {
		names, more = names[:20], fmt.Sprintf(" and %d more", n-20)
	}
	return fmt.Errorf("%d of %d organisations (%s%s): %w; or set SNYK_SKIP_FORBIDDEN=true to do without them",
		n, orgs, strings.Join(names, ", "), more, cause)
}
