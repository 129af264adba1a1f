package run

import (
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A Result is the result of the run of one stream.
type Result struct {
	Collector, Stream string
	// Outcome is the outcome that the run history records.
	Outcome state.Outcome
	// Err says why there is no new snapshot; nil after a success.
	Err      error
	UploadID string
	// Records and Bytes are the size of the snapshot.
	Records       int64
	Bytes         int64
	Duration      time.Duration
	Requests      int64
	Retries       int64
	RateLimitWait time.Duration
	// RenamedMembers and RepairedUTF8 count the changes that were made to records.
	RenamedMembers int64
	RepairedUTF8   int64
	// Doubts are the differences that the extraction accepted, also before it
	// failed.
	Doubts snapshot.Doubts
	// LastRecords is the number of records of the previous snapshot.
	LastRecords int64
	// Skipped are the destinations that do not receive the snapshot before this one,
	// because their queue was too large.
	Skipped []string
	// DeliveryCount is the number of deliveries that were queued.
	DeliveryCount int
}

// Failures returns the results of streams of a collector that failed because of err before they
// ran.
func Failures(collector string, streams []string, err error) (results []Result) {
	for _, stream := range streams {
		results = append(results, Result{Collector: collector, Stream: stream, Outcome: state.Failed, Err: err})
	}
	return results
}

// OK reports whether the data is complete and queued for every destination, or
// whether the stream is legitimately empty.
func (r Result) OK() bool { return r.Err == nil && r.Outcome != state.Held }
