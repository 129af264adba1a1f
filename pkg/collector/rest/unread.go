package rest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
)

// unreadParents collects the parents whose children a stream does not have, so
// that one error names all of them.
type unreadParents struct {
	list *ParentList

	mu                        sync.Mutex
	forbidden, notFound, gone unreadGroup
}

// unreadGroup is the parents that are unread for one reason.
type unreadGroup struct {
	names []string
	cause error // of one of them
}

// addParent adds a parent and returns true if err is a reason to do without it.
func (u *unreadParents) addParent(p Parent, err error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	var group *unreadGroup
	switch {
	case errors.Is(err, errParentGone):
		group = &u.gone
	case errors.Is(err, errChildrenNotFound):
		group = &u.notFound
	case errors.Is(err, collector.ErrForbidden):
		group = &u.forbidden
	default:
		return false
	}
	group.names = append(group.names, fmt.Sprintf("%q", p.Name))
	group.cause = err
	return true
}

// checkUnread decides whether a stream without the unread parents is stored. A
// stream without any parent always fails.
func (u *unreadParents) checkUnread(ctx context.Context, stream string, parents int) error {
	refused := slices.Concat(u.forbidden.names, u.notFound.names)
	slices.Sort(refused)
	switch {
	case len(refused)+len(u.gone.names) == 0:
		return nil
	case len(refused)+len(u.gone.names) == parents:
		return u.errorOfAll(parents)
	case len(refused) > 0 && !u.list.SkipForbidden:
		return u.errorOfRefused(refused, parents)
	}
	AddListDoubt(ctx, u.list.Noun+" was deleted while it was read, and was skipped", int64(len(u.gone.names)))
	AddListDoubt(ctx, u.list.Noun+" that the token may not read was skipped", int64(len(refused)))
	if len(refused) > 0 {
		u.list.Log.Warn(u.list.nouns()+" that the token may not read were skipped", zap.String("stream", stream),
			zap.Int(english.PluralWord(2, u.list.LogField, ""), len(refused)), zap.Strings("names", refused))
	}
	return nil
}

// errorOfAll returns the error if no parent was read. If nothing was refused with
// 403, the cause may also be the address.
func (u *unreadParents) errorOfAll(parents int) error {
	cause := u.forbidden.cause
	if cause == nil {
		cause = u.gone.cause
		if u.notFound.cause != nil {
			cause = u.notFound.cause
		}
		cause = fmt.Errorf("%w: %w", collector.ErrIncomplete, cause)
	}
	if parents == 1 {
		names := slices.Concat(u.forbidden.names, u.notFound.names, u.gone.names)
		return fmt.Errorf("%s %s: %w", u.list.noun(), names[0], cause)
	}
	return fmt.Errorf("all %d %s: %w", parents, u.list.nouns(), cause)
}

// errorOfRefused returns the error that names the refused parents.
func (u *unreadParents) errorOfRefused(names []string, parents int) error {
	cause := u.forbidden.cause
	if cause == nil {
		cause = fmt.Errorf("%w: %w", collector.ErrForbidden, u.notFound.cause)
	}
	n, more := len(names), ""
	if n > 20 {
		names, more = names[:20], fmt.Sprintf(" and %d more", n-20)
	}
	return fmt.Errorf("%d of %d %s (%s%s): %w; or set %s=true to do without them",
		n, parents, u.list.nouns(), strings.Join(names, ", "), more, cause, u.list.SkipSetting)
}
