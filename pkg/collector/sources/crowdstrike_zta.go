package sources

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

const (
	// falconBatch is how many ids one request asks for: what other clients of
	// the API send, 18.5 KB of address.
	falconBatch = 500
	// falconLeastBatch is small enough for any limit on addresses.
	falconLeastBatch = 25
)

// assessments extracts the assessment of every host. The vendor's own query
// lists by score and so leaves out hosts that enrolled a moment ago.
func (f *falcon) assessments(ctx context.Context, out collector.Output) error {
	ids, err := f.hostIDs(ctx)
	if err != nil {
		return err
	}
	a := assessing{client: f.client(falconZTAScope, ""), out: out}
	a.batch.Store(int64(f.batch))
	if err := falconBatches(ctx, ids, f.batch, a.read); err != nil {
		return err
	}
	return a.complete(ctx, f.Hosts == "")
}

// assessing is the state of one extraction of assessments.
type assessing struct {
	client  *rest.Client
	out     collector.Output
	batch   atomic.Int64 // how many ids a request may have
	came    atomic.Int64
	unknown atomic.Int64 // ids in requests that were answered "not found"
}

const falconAssessments = "/zero-trust-assessment/entities/assessments/v1"

// read fetches the assessments of the hosts, in smaller batches when the
// vendor or a proxy refuses a long address.
func (a *assessing) read(ctx context.Context, ids []string) error {
	for len(ids) > 0 {
		n := min(int(a.batch.Load()), len(ids))
		e, err := a.client.Fetch(ctx, rest.Request{Path: falconAssessments, Query: url.Values{"ids": ids[:n]}}, falconEntities, a.out, nil)
		switch {
		case err == nil:
			a.came.Add(int64(e.Records))
		case n > falconLeastBatch && falconStatus(err, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong):
			if now := a.batch.Load(); int64(n) <= now { // or another has found out before
				a.batch.CompareAndSwap(now, int64(max(n/2, falconLeastBatch)))
			}
			continue
		case falconStatus(err, http.StatusNotFound):
			a.unknown.Add(int64(n))
		default:
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// complete settles whether "not found" meant that none of the hosts has an
// assessment. With all hosts read, the number of all assessments can tell.
func (a *assessing) complete(ctx context.Context, all bool) error {
	if a.unknown.Load() == 0 {
		return nil
	}
	step := "GET " + falconAssessments
	if !all {
		return fmt.Errorf("%s: %w: 404 for %d hosts", step, collector.ErrIncomplete, a.unknown.Load())
	}
	total, err := falconTotal(ctx, a.client, rest.Request{
		Path: "/zero-trust-assessment/queries/assessments/v1", Query: url.Values{"filter": {"score:>=0"}, "limit": {"1"}},
	})
	if err != nil {
		return err
	}
	if falconShort(a.came.Load(), total) {
		return fmt.Errorf("%s: %w: 404 for %d hosts; %d assessments came, %d exist", step, collector.ErrIncomplete, a.unknown.Load(), a.came.Load(), total)
	}
	return nil
}
