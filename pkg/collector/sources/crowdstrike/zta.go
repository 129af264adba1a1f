package crowdstrike

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

const (
	// maxAssessmentBatch is how many ids one request contains at most: what
	// other clients of the API send, a URL of 18.5 KB.
	maxAssessmentBatch = 500
	// minAssessmentBatch is small enough for any limit on the length of a URL.
	minAssessmentBatch = 25
)

// extractAssessments reads the assessment of every host. The vendor's own
// query for assessments lists by score, so it leaves out hosts that enrolled a
// moment ago.
func (a *account) extractAssessments(ctx context.Context, out collector.Output) error {
	ids, err := a.listHostIDs(ctx)
	if err != nil {
		return err
	}
	slices.Sort(ids)
	r := assessmentReader{client: a.clientFor(assessmentsScope, ""), out: out, ids: ids, hasRecord: make([]bool, len(ids))}
	r.batchSize.Store(int64(a.assessmentBatch))
	if err := forEachBatch(ctx, ids, a.assessmentBatch, r.readBatch); err != nil {
		return err
	}
	if r.received == len(ids) {
		return nil
	}
	missing, err := r.countMissing(ctx)
	if err != nil && r.notFound.Load() == 0 && ctx.Err() == nil {
		a.noteDoubt(ctx, "fewer assessments than hosts, not compared with the vendor's list", int64(len(ids)-r.received), zap.Error(err))
		return nil
	}
	if err != nil {
		return err
	}
	return a.judgeMissingAssessments(ctx, &r, missing)
}

// judgeMissingAssessments returns an error if too many assessments are missing.
// A response "not found" may be a failure of the vendor, so it is judged more
// strictly than assessments that are left out.
func (a *account) judgeMissingAssessments(ctx context.Context, r *assessmentReader, missing int64) error {
	received := int64(r.received)
	notFound := r.notFound.Load()
	expected := received + missing
	switch {
	case missing == 0:
		return nil
	case notFound > 0 && isTooFew(received, expected):
		return fmt.Errorf("GET %s: %w: 404 for %d hosts; received %d of %d assessments", assessmentsPath, collector.ErrIncomplete, notFound, received, expected)
	case isTooFew(received, expected) && !isAcceptable(received, expected):
		return fmt.Errorf("GET %s: %w: received %d of %d assessments", assessmentsPath, collector.ErrIncomplete, received, expected)
	}
	a.noteDoubt(ctx, "received fewer assessments than the vendor lists", missing, zap.Int64("received", received))
	return nil
}

// assessmentReader is the state of one extraction of assessments.
type assessmentReader struct {
	client    *rest.Client
	out       collector.Output
	ids       []string     // of the hosts, sorted
	batchSize atomic.Int64 // how many ids a request may contain
	notFound  atomic.Int64 // ids in requests whose response was "not found"

	mu        sync.Mutex
	hasRecord []bool // whether the assessment of a host was received, as in ids
	received  int    // the number of hosts with an assessment
}

const (
	assessmentsPath     = "/zero-trust-assessment/entities/assessments/v1"
	assessmentQueryPath = "/zero-trust-assessment/queries/assessments/v1"
	anyScore            = "score:>=0" // the filter of the query, which requires one
)

// readBatch reads the assessments of the hosts, in smaller batches if the
// vendor or a proxy refuses a long URL.
func (r *assessmentReader) readBatch(ctx context.Context, ids []string) error {
	for len(ids) > 0 {
		n := min(int(r.batchSize.Load()), len(ids))
		_, err := r.client.Fetch(ctx, rest.Request{Path: assessmentsPath, Query: url.Values{"ids": ids[:n]}}, entitiesShape, r.out, r.appendAssessment)
		switch {
		case err == nil:
		case n > minAssessmentBatch && isTooLong(err):
			if now := r.batchSize.Load(); int64(n) <= now { // otherwise another request has already reduced it
				r.batchSize.CompareAndSwap(now, int64(max(n/2, minAssessmentBatch)))
			}
			continue
		case rest.HasStatus(err, http.StatusNotFound):
			r.notFound.Add(int64(n))
		default:
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// isTooLong reports whether err may mean that a request had too many ids.
func isTooLong(err error) bool {
	return rest.HasStatus(err, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge)
}

// appendAssessment writes an assessment and records whose it is. If its
// response fails later, the request is repeated or the extraction fails.
func (r *assessmentReader) appendAssessment(batch collector.Batch, _ *rest.Envelope, raw []byte) error {
	if at, listed := r.findHost(raw); listed {
		r.mu.Lock()
		if !r.hasRecord[at] {
			r.hasRecord[at] = true
			r.received++
		}
		r.mu.Unlock()
	}
	return batch.Append(raw)
}

// findHost returns the position in ids of the host to which a record belongs.
func (r *assessmentReader) findHost(record []byte) (at int, listed bool) {
	return slices.BinarySearch(r.ids, rest.TextOf(rest.Member(record, "aid")))
}

// countMissing returns how many of the hosts have an assessment in the
// vendor's list, which also contains hosts that are not read, but had none in
// the responses.
func (r *assessmentReader) countMissing(ctx context.Context) (missing int64, err error) {
	listed := make([]bool, len(r.ids))
	_, err = r.client.Walk(ctx, rest.Listing{
		Request: rest.Request{
			Path:  assessmentQueryPath,
			Query: url.Values{"filter": {anyScore}, "limit": {"1000"}},
		},
		Shape: listShape,
		Pager: rest.Cursor{Path: "meta.pagination.after", Param: "after", Life: cursorLife}, Stop: rest.AtEmpty,
		Total: "meta.pagination.total",
		Slack: maxAgreedShare,
		OnRecord: func(_ collector.Batch, _ *rest.Envelope, raw []byte) error {
			at, isHost := r.findHost(raw)
			if isHost && !listed[at] && !r.hasRecord[at] {
				missing++
			}
			if isHost {
				listed[at] = true
			}
			return nil
		},
		Expired: isCursorExpired,
	}, &rest.MemoryOutput{})
	return missing, err
}
