package state

import (
	"context"
	"errors"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// Runs begins and ends runs, and has their history.
type Runs interface {
	// Commit seals w and, in one transaction, ends the run, makes the snapshot the
	// last-known one, and queues a delivery for each sink; or records it as empty
	// or held when the policy says so. The caller holds the stream's lock. After
	// an error nothing has changed, and the caller calls Fail and aborts w.
	Commit(ctx context.Context, id RunID, w *snapshot.Writer, stats RunStats, p Policy) (CommitResult, error)
	// List returns the newest runs of a stream, at most limit, newest first; of all
	// streams when stream is "".
	List(ctx context.Context, stream string, limit int) ([]Run, error)
	// ListTenancy is List for the streams of one tenancy.
	ListTenancy(ctx context.Context, stream, tenancy string, limit int) ([]Run, error)
	// ListPage returns the runs of a page, newest first.
	ListPage(ctx context.Context, p RunPage) ([]Run, error)
	// LastEnded returns the newest run of a stream that has ended and was not skipped; the
	// zero Run for none.
	LastEnded(ctx context.Context, collector, stream, tenancy string) (Run, error)
	// LastDuration returns how long the last run of a stream took that ended with the vendor's
	// complete data. A later one that ended otherwise counts if it took longer, such as one that
	// a time limit ended. Skipped ticks do not count, nor runs whose process died: they have no
	// true end. It is 0 when there is none. collected reports whether the history has a run
	// that ended with complete data.
	LastDuration(ctx context.Context, stream, tenancy string) (took time.Duration, collected bool, err error)
	// OutcomeCounts returns the counts of every stream and outcome that has
	// occurred. Unlike the history they are never swept.
	OutcomeCounts(ctx context.Context) ([]Count, error)
	// Recent returns the last n ended runs and skipped ticks of each of the streams, oldest
	// first.
	Recent(ctx context.Context, tenancy string, streams []string, n int) (map[string][]Point, error)
	// History returns the history of a stream, with at most limit runs.
	History(ctx context.Context, stream, tenancy string, limit int) (h History, err error)
	// ImportHistory adds the history of the stream of h from a backup. It changes
	// nothing when the database has a run of the stream.
	ImportHistory(ctx context.Context, h snapshot.Header, past History) error
	// Begin adds a run that has started to the history.
	Begin(ctx context.Context, start RunStart) (RunID, error)
	// Fail records the end of a run that has no new snapshot.
	Fail(ctx context.Context, id RunID, outcome Outcome, cause error, stats RunStats) error
	// Skip adds a run that did not begin to the history, with the reason.
	Skip(ctx context.Context, start RunStart, reason error) error
	// ConfirmUnchanged ends a run that started at checked and found the vendor's data to be
	// still that of last, the last-known snapshot, which stays and is not delivered again. A
	// held snapshot that is older than the run no longer waits for Accept. The caller holds
	// the stream's lock. The error wraps ErrReplaced when last is not the last-known
	// snapshot any more; nothing has then changed, and the caller calls Fail.
	ConfirmUnchanged(ctx context.Context, id RunID, last snapshot.Info, checked time.Time, stats RunStats) error
}

// A Run is one entry of the history.
type Run struct {
	ID                         RunID
	Collector, Stream, Tenancy string
	UploadID, Trigger          string
	Started, Ended             time.Time // Ended is zero while the run is in progress
	Outcome                    Outcome   // "" while the run is in progress
	Err                        string
	RunStats
}

// A RunPage selects a page of the history of a tenancy.
type RunPage struct {
	Tenancy string
	// Stream selects the runs of one stream; "" those of all.
	Stream string
	// Outcomes selects the runs with one of these outcomes; empty all, also those in
	// progress.
	Outcomes []Outcome
	// Before and After select the runs with smaller and with larger ids; 0 selects
	// all. With After the page has those that follow it, otherwise the newest.
	Before, After RunID
	// Limit is the maximum number of runs.
	Limit int
}

// A Count is the number of runs of a stream with one outcome, over all time.
type Count struct {
	Collector, Stream, Tenancy string
	Outcome                    Outcome
	Runs                       int64
	LastEnded                  time.Time
}

// A Point is an ended run or a skipped tick in a chart.
type Point struct {
	Outcome Outcome
	Records int64
	Took    time.Duration
}

// A History is the history of a stream in its portable form, for backups.
type History struct {
	// Ends has a summary of each outcome that occurred, over all time.
	Ends []OutcomeSummary `json:"ends"`
	// Runs are the newest runs, newest first.
	Runs []PastRun `json:"runs"`
}

// An OutcomeSummary is the number of runs with one outcome, and when and with
// which error the last of them ended.
type OutcomeSummary struct {
	Outcome Outcome   `json:"outcome"`
	Runs    int64     `json:"runs"`
	Last    time.Time `json:"last"`
	Err     string    `json:"error,omitempty"`
}

// A PastRun is an ended run.
type PastRun struct {
	UploadID string        `json:"upload_id"`
	Trigger  string        `json:"trigger"`
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended"`
	Outcome  Outcome       `json:"outcome"`
	Err      string        `json:"error,omitempty"`
	Records  int64         `json:"records"`
	Bytes    int64         `json:"bytes"`
	Pages    int64         `json:"pages"`
	Requests int64         `json:"requests"`
	Retries  int64         `json:"retries"`
	Waited   time.Duration `json:"rate_limit_wait_ns"`
	// Doubts are the differences that the run accepted.
	Doubts snapshot.Doubts `json:"doubts,omitempty"`
}

// An Outcome is how a run of a stream ended.
type Outcome string

// The outcomes.
const (
	Success     Outcome = "success"     // a new snapshot is the last-known one
	Unchanged   Outcome = "unchanged"   // the vendor's data is that of the last-known snapshot
	Empty       Outcome = "empty"       // the vendor has no records
	Held        Outcome = "held"        // far fewer records than before: waits for Accept
	Failed      Outcome = "failed"      // an error
	Timeout     Outcome = "timeout"     // the run reached a time limit
	Cancelled   Outcome = "cancelled"   // collectord was stopped, or the tenancy was removed
	Skipped     Outcome = "skipped"     // another run of the collector was in progress
	Interrupted Outcome = "interrupted" // the process died
)

// Outcomes are all outcomes.
var Outcomes = []Outcome{Success, Unchanged, Empty, Held, Failed, Timeout, Cancelled, Skipped, Interrupted}

// IsSuccess reports whether a run with the outcome ended with the vendor's complete data.
func (o Outcome) IsSuccess() bool { return o == Success || o == Unchanged || o == Empty }

// A RunID identifies a run in the history.
type RunID int64

// A RunStart describes a run that begins.
type RunStart struct {
	snapshot.Header
	// Trigger is what started the run, such as "once".
	Trigger string
	Started time.Time
}

// RunStats are the statistics of a run.
type RunStats struct {
	Records, Bytes, Pages, Requests, Retries int64
	// RateLimitWait is the time spent waiting for the vendor's rate limit.
	RateLimitWait time.Duration
	// Doubts are the differences that the extraction accepted, also before it
	// failed.
	Doubts snapshot.Doubts
}

// A StreamStatus is the status of a stream.
type StreamStatus struct {
	Collector, Stream, Tenancy string
	// Last is the newest run that was not skipped, running or ended; zero when
	// the history has none.
	Last Run
	// LastSuccess is when a run last ended with the vendor's complete data, even
	// if that was empty; zero for never.
	LastSuccess time.Time
	// LastFailure is when a run last ended otherwise, and FailureErr its error.
	// Skipped runs do not count.
	LastFailure time.Time
	FailureErr  string
	// FirstFailure is when the first run in the history failed of a stream that has
	// never succeeded and has no data; zero for other streams.
	FirstFailure time.Time
	// Taken is the upload timestamp of the last-known snapshot; zero when there
	// is none.
	Taken time.Time
	// Checked is the start of the last run that found the last-known snapshot to be
	// still the vendor's data; zero when there was none.
	Checked time.Time
	Records int64
	Source  Source
	// Doubts are those of the last-known snapshot, or of a later successful run
	// that did not replace it because the stream was empty.
	Doubts snapshot.Doubts
	// Held reports whether a snapshot waits for Accept.
	Held bool
	// Queued is the number of queued deliveries. Of these, Refused were refused by the
	// destination, and Retried failed otherwise, at the last attempt.
	Queued, Refused, Retried int
}

// DataTime returns the time of the last-known data: when it was taken or, if that is
// later, when the vendor last said that it has not changed; zero when there is none.
func (s StreamStatus) DataTime() time.Time { return laterOf(s.Taken, s.Checked) }

// ErrReplaced means that another snapshot became the last-known one during a run that
// found the vendor's data unchanged.
var ErrReplaced = errors.New("the last-known snapshot was replaced during the run")
