package domains

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// maxParallel is how many domains are examined at once.
const maxParallel = 8

// A failure is a look-up that failed. It is part of the domain's record, so it
// contains nothing that differs from one run to the next without a reason.
type failure struct {
	// Lookup is what was looked up, such as "mx", "rdap" or "tls".
	Lookup string `json:"lookup"`
	// Name is the name that was looked up.
	Name string `json:"name"`
	// Reason is one of a small number, such as "timeout".
	Reason string `json:"reason"`
	// Detail is a sentence for a person.
	Detail string `json:"detail"`
}

// failures are those of one domain.
type failures struct {
	mu  sync.Mutex
	all []failure
	// withoutReply means that no resolver responded to one of the look-ups.
	withoutReply bool
}

// addFailure adds one if it is not nil, once.
func (f *failures) addFailure(one *failure) {
	if one == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.all, *one) {
		f.all = append(f.all, *one)
	}
	f.withoutReply = f.withoutReply || one.isWithoutReply()
}

// list returns the failures in a fixed order; not nil, so that it is a list in JSON.
func (f *failures) list() []failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.all, func(a, b failure) int { return cmp.Or(cmp.Compare(a.Lookup, b.Lookup), cmp.Compare(a.Name, b.Name)) })
	return append([]failure{}, f.all...)
}

// examiner returns the record of a domain.
type examiner func(ctx context.Context, d domainName, failed *failures) any

// extractWith returns the extraction of a stream that has the record of each
// domain, in the order of DOMAINS.
func (a *account) extractWith(examine examiner) func(context.Context, collector.Output) error {
	return func(ctx context.Context, out collector.Output) error {
		if err := a.awaitResolver(ctx); err != nil {
			return err
		}
		records := make([][]byte, len(a.domains))
		withoutReply := make([]bool, len(a.domains))
		var group errgroup.Group
		group.SetLimit(maxParallel)
		for i, d := range a.domains {
			group.Go(func() error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				failed := new(failures)
				var err error
				records[i], err = json.Marshal(examine(ctx, d, failed))
				withoutReply[i] = failed.withoutReply
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if ctx.Err() != nil { // what failed may have failed because of that
			return context.Cause(ctx)
		}
		if slices.Contains(withoutReply, true) {
			if err := a.awaitResolver(ctx); err != nil {
				return err
			}
		}
		batch := out.NewBatch()
		defer batch.Discard()
		for _, record := range records {
			if err := batch.Append(record); err != nil {
				return err
			}
		}
		return batch.Commit()
	}
}

// awaitResolver returns nil when a resolver responds to a question that has nothing
// to do with the domains, and an error if none does for the retry time. Without
// a resolver, failed look-ups say nothing about the domains.
func (a *account) awaitResolver(ctx context.Context) error {
	var period rest.RetryPeriod
	for {
		err := a.resolver.checkRoot(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, os.ErrNotExist) {
			return err
		}
		wait, again := period.NextWait(ctx, err)
		if !again {
			return fmt.Errorf("%w: %w", collector.ErrIncomplete, err)
		}
		collector.LogFrom(ctx).Debug("no resolver responds", zap.Error(err))
		if sleepErr := rest.Sleep(ctx, wait, "a DNS resolver"); sleepErr != nil {
			return fmt.Errorf("%w after %w", sleepErr, err)
		}
	}
}

// describeNetworkError returns the reason and the detail of a failed connection
// without ports and addresses of this machine, which differ in each run.
func describeNetworkError(err error) (reason, detail string) {
	var timeout net.Error
	var syscallErr syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout", "no response in time: the server is off, or a firewall drops the packets"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection_refused", "the connection was refused: no server listens on the port"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection_reset", "the server closed the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable", "there is no route to the address"
	case errors.As(err, &syscallErr):
		return "network", syscallErr.Error()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return "network", op.Err.Error()
	}
	return "network", err.Error()
}
