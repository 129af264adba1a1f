package sources

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
)

const (
	falconDay = 24 * time.Hour
	// falconOldest is older than the product.
	falconOldest = 4096 * falconDay
	// falconDepth bounds how often a part is divided.
	falconDepth = 12
)

// A falconPart is a part of the vulnerabilities: those of a span. Between
// first and last lie nearly all of their times of creation, as far as is
// known: cuts are sought there.
type falconPart struct {
	falconSpan
	first, last time.Time
	count       int64
	depth       int
}

// splitting is one extraction by several cursors, which begin with the first
// parts that are small enough while larger ones are still divided.
type splitting struct {
	*spotlight
	out   collector.Output
	most  int64 // vulnerabilities that a part should have
	came  atomic.Int64
	parts atomic.Int64
	group *errgroup.Group

	mu      sync.Mutex
	free    int          // cursors that may still begin
	waiting []falconPart // small enough; the largest is last
}

// pullParts reads the vulnerabilities with at most width cursors at once. It
// tells how many came, and by how many parts.
func (s *spotlight) pullParts(ctx context.Context, total int64, width int, out collector.Output) (came, parts int64, err error) {
	now := time.Now().UTC().Truncate(time.Second)
	group, ctx := errgroup.WithContext(ctx)
	x := &splitting{
		spotlight: s, out: out,
		most:  max(total*2/int64(3*width), int64(s.Page)),
		free:  width,
		group: group,
	}
	group.Go(func() error {
		return x.pull(ctx, falconPart{first: now.Add(-falconOldest), last: now, count: total})
	})
	err = group.Wait()
	return x.came.Load(), x.parts.Load(), err
}

// pull sees to it that a part is read, or divides it.
func (x *splitting) pull(ctx context.Context, p falconPart) error {
	if p.count <= x.most || p.depth >= falconDepth {
		x.enqueue(ctx, p)
		return nil
	}
	parts, err := x.divide(ctx, p)
	if err != nil {
		return err
	}
	for _, part := range parts {
		x.group.Go(func() error { return x.pull(ctx, part) })
	}
	return nil
}

// enqueue has a part read as soon as a cursor is free. The largest go first,
// so that none of them is left alone at the end.
func (x *splitting) enqueue(ctx context.Context, p falconPart) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, _ := slices.BinarySearchFunc(x.waiting, p, func(a, b falconPart) int { return cmp.Compare(a.count, b.count) })
	x.waiting = slices.Insert(x.waiting, at, p)
	x.begin(ctx)
}

// begin reads parts while there are any and cursors are free; mu is held.
func (x *splitting) begin(ctx context.Context) {
	for x.free > 0 && len(x.waiting) > 0 {
		last := len(x.waiting) - 1
		p := x.waiting[last]
		x.waiting = x.waiting[:last]
		x.free--
		x.group.Go(func() error { return x.read(ctx, p) })
	}
}

// read reads a part. Its cursor counts as free when all that was declared has
// come: what is left is to ask for the empty page that ends the part.
func (x *splitting) read(ctx context.Context, p falconPart) error {
	done := sync.OnceFunc(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.free++
		x.begin(ctx)
	})
	defer done()
	x.parts.Add(1)
	n, err := x.walk(ctx, p.falconSpan, p.count, func(came int64) {
		if came >= p.count {
			done()
		}
	}, x.out)
	x.came.Add(n)
	return err
}

// divide cuts a part into parts that cover it without overlap. One part means
// that the place for a cut is known better now.
func (x *splitting) divide(ctx context.Context, p falconPart) ([]falconPart, error) {
	cuts := p.cuts(x.most)
	below := make([]int64, len(cuts)+1)
	below[len(cuts)] = p.count
	group, ctx := errgroup.WithContext(ctx)
	for i, cut := range cuts {
		group.Go(func() (err error) {
			below[i], err = x.total(ctx, falconSpan{p.from, cut})
			return err
		})
	}
	err := group.Wait()
	if falconStatus(err, http.StatusBadRequest, http.StatusInternalServerError) {
		// This is how the vendor refuses a filter.
		x.log.Warn("the vulnerabilities cannot be split by time of creation", zap.Error(err))
		p.depth = falconDepth
		return []falconPart{p}, nil
	}
	if err != nil {
		return nil, err
	}
	if len(cuts) == 0 { // all were created within a second
		p.depth = falconDepth
		return []falconPart{p}, nil
	}
	return p.at(cuts, below, x.most), nil
}

// cuts are the times at which a part is divided: at first at ages that grow
// fourfold, because most vulnerabilities are young; then evenly.
func (p falconPart) cuts(most int64) []time.Time {
	var cuts []time.Time
	if p.depth == 0 {
		for age := falconOldest / 4; age >= falconDay; age /= 4 {
			cuts = append(cuts, p.last.Add(-age))
		}
		return cuts
	}
	pieces := min(p.count/most+2, 8)
	if p.depth > 1 { // they lie close together
		pieces = 8
	}
	for k := int64(1); k < pieces; k++ {
		cut := p.first.Add(p.last.Sub(p.first) / time.Duration(pieces) * time.Duration(k)).Truncate(time.Second)
		if cut.After(p.first) && cut.Before(p.last) {
			cuts = append(cuts, cut)
		}
	}
	return slices.Compact(cuts)
}

// at divides p at the cuts. below tells how many of p lie before each of them,
// and at its end how many p has. Neighbours that are small together become one
// part, and none is empty.
func (p falconPart) at(cuts []time.Time, below []int64, most int64) []falconPart {
	var parts []falconPart
	at, before := p.first, int64(0)
	for i, n := range below {
		end := p.last
		if i < len(cuts) {
			end = cuts[i]
		}
		piece := falconPart{first: at, last: end, count: max(n-before, 0), depth: p.depth + 1}
		at, before = end, max(n, before)
		last := len(parts) - 1
		switch {
		case last < 0 || parts[last].count > 0 && piece.count > 0 && parts[last].count+piece.count > most:
			parts = append(parts, piece)
		case parts[last].count == 0:
			parts[last] = piece
		case piece.count > 0:
			parts[last].last = piece.last
			parts[last].count += piece.count
		}
	}
	// Where nothing lies it does not matter to whom it belongs.
	for i := range parts {
		parts[i].from, parts[i].to = p.from, p.to
		if i > 0 {
			parts[i].from = parts[i].first
			parts[i-1].to = parts[i].first
		}
	}
	return parts
}
