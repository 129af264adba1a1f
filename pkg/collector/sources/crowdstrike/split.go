package crowdstrike

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

	"github.com/collectord/collectord/pkg/collector/rest"
)

const (
	day = 24 * time.Hour
	// oldestAge is older than the product.
	oldestAge = 4096 * day
	// maxDepth bounds how often a part is divided.
	maxDepth = 12
	// maxPartCount is the largest number of vulnerabilities that a part should
	// have, however many there are: the ids of the parts being read are in memory.
	maxPartCount = 50_000
)

// A part is the vulnerabilities of one span. Nearly all of their creation
// times are between first and last, as far as is known: the part is divided
// there.
type part struct {
	span        timeSpan
	first, last time.Time
	count       int64
	depth       int
}

// splitReader is one extraction with several cursors. They start with the
// parts that are small enough while larger parts are still divided.
type splitReader struct {
	vulnerabilities *vulnerabilityReader
	targetCount     int64 // the largest number of vulnerabilities that a part should have
	group           *errgroup.Group
	undivided       atomic.Bool // the vendor refuses filters by time of creation

	mu          sync.Mutex
	read        rest.CompleteRead // the sum of the parts
	freeCursors int
	waiting     []part // small enough to read, sorted by count
}

// readParts reads the vulnerabilities that were created before now, with at
// most cursors cursors at once. No part grows while it is read. readParts
// returns the sum of the parts. It returns false if the vendor refuses filters
// by time of creation: there is then one part, with all vulnerabilities.
func (r *vulnerabilityReader) readParts(ctx context.Context, now time.Time, total int64, cursors int) (read rest.CompleteRead, divided bool, err error) {
	group, ctx := errgroup.WithContext(ctx)
	s := &splitReader{
		vulnerabilities: r,
		targetCount:     max(min(total*2/int64(3*cursors), int64(r.partCount)), int64(r.maxPage)),
		freeCursors:     cursors,
		group:           group,
	}
	group.Go(func() error {
		return s.readOrDivide(ctx, part{span: timeSpan{to: now}, first: now.Add(-oldestAge), last: now, count: total})
	})
	err = group.Wait()
	return s.read, !s.undivided.Load(), err
}

// readOrDivide schedules a part for reading if it is small enough, and divides
// it otherwise.
func (s *splitReader) readOrDivide(ctx context.Context, p part) error {
	if p.count <= s.targetCount || p.depth >= maxDepth {
		s.enqueuePart(ctx, p)
		return nil
	}
	parts, err := s.dividePart(ctx, p)
	if err != nil {
		return err
	}
	for _, smaller := range parts {
		s.group.Go(func() error { return s.readOrDivide(ctx, smaller) })
	}
	return nil
}

// enqueuePart schedules a part for reading. The largest parts are read first,
// so that none of them remains alone at the end.
func (s *splitReader) enqueuePart(ctx context.Context, p part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.waiting, p, func(a, b part) int { return cmp.Compare(a.count, b.count) })
	s.waiting = slices.Insert(s.waiting, i, p)
	s.startWaiting(ctx)
}

// startWaiting starts to read waiting parts while cursors are free. The caller
// holds mu.
func (s *splitReader) startWaiting(ctx context.Context) {
	for s.freeCursors > 0 && len(s.waiting) > 0 {
		last := len(s.waiting) - 1
		p := s.waiting[last]
		s.waiting = s.waiting[:last]
		s.freeCursors--
		s.group.Go(func() error { return s.readPart(ctx, p) })
	}
}

// readPart reads a part. The cursor is released once the declared number of
// records has arrived; only the empty page at the end remains to be read.
func (s *splitReader) readPart(ctx context.Context, p part) error {
	releaseCursor := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.freeCursors++
		s.startWaiting(ctx)
	})
	defer releaseCursor()
	read, err := s.vulnerabilities.readSpan(ctx, p.span, p.count == 0, func(records int64) {
		if records >= p.count {
			releaseCursor()
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = addReads(s.read, read)
	return err
}

// dividePart divides a part into parts that cover it without overlap. If it
// returns one part, first and last of that part are closer together.
func (s *splitReader) dividePart(ctx context.Context, p part) ([]part, error) {
	cuts := p.cutTimes(s.targetCount)
	below := make([]int64, len(cuts)+1)
	below[len(cuts)] = p.count
	group, groupCtx := errgroup.WithContext(ctx)
	client := *s.vulnerabilities.client
	client.Classify = classifyFilterStatus
	for i, cut := range cuts {
		group.Go(func() (err error) {
			below[i], err = s.vulnerabilities.countSpanWith(groupCtx, &client, timeSpan{p.span.from, cut})
			return err
		})
	}
	err := group.Wait()
	if rest.HasStatus(err, http.StatusBadRequest, http.StatusInternalServerError) {
		// This is how the vendor refuses a filter.
		s.vulnerabilities.log.Warn("the vulnerabilities cannot be split by time of creation", zap.Error(err))
		if p.depth == 0 {
			s.undivided.Store(true)
			p.span = timeSpan{}
		}
		p.depth = maxDepth
		return []part{p}, nil
	}
	if err != nil {
		return nil, err
	}
	if len(cuts) == 0 { // all were created within a second
		p.depth = maxDepth
		return []part{p}, nil
	}
	return p.divideAt(cuts, below, s.targetCount), nil
}

// classifyFilterStatus is classifyStatus for requests with a filter that the
// vendor may refuse, which it does with 500 as well. A 500 is therefore repeated
// a few times only.
func classifyFilterStatus(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status == http.StatusInternalServerError && s.Times >= 6 {
		return rest.Fatal
	}
	return classifyStatus(s, usual)
}

// cutTimes returns the times at which a part is divided. The first division
// uses ages that grow fourfold, because most vulnerabilities are young; later
// ones use equal intervals.
func (p part) cutTimes(targetCount int64) []time.Time {
	var cuts []time.Time
	if p.depth == 0 {
		for age := oldestAge / 4; age >= day; age /= 4 {
			cuts = append(cuts, p.last.Add(-age))
		}
		return cuts
	}
	pieces := min(p.count/targetCount+2, 8)
	if p.depth > 1 { // the creation times are close together
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

// divideAt divides p at the cuts. below[i] is how many vulnerabilities of p
// were created before cuts[i]; its last element is the count of p. Neighbours
// that together have at most targetCount become one part. No part is empty.
func (p part) divideAt(cuts []time.Time, below []int64, targetCount int64) []part {
	var parts []part
	start, before := p.first, int64(0)
	for i, n := range below {
		end := p.last
		if i < len(cuts) {
			end = cuts[i]
		}
		piece := part{first: start, last: end, count: max(n-before, 0), depth: p.depth + 1}
		start, before = end, max(n, before)
		last := len(parts) - 1
		switch {
		case last < 0 || parts[last].count > 0 && piece.count > 0 && parts[last].count+piece.count > targetCount:
			parts = append(parts, piece)
		case parts[last].count == 0:
			parts[last] = piece
		case piece.count > 0:
			parts[last].last = piece.last
			parts[last].count += piece.count
		}
	}
	// A range without vulnerabilities may belong to either of its neighbours.
	for i := range parts {
		parts[i].span = p.span
		if i > 0 {
			parts[i].span.from = parts[i].first
			parts[i-1].span.to = parts[i].first
		}
	}
	return parts
}
