package vendorsim

// TenableStream says how the export jobs of one stream behave. The zero value
// of a field is the good case unless its comment says otherwise.
type TenableStream struct {
	// QueuedPolls is the number of status polls that a job answers before it
	// starts to work (default 1).
	QueuedPolls int
	// GrowPolls is the number of polls over which the chunk list grows while
	// the job is PROCESSING (default 3). With 0 the job is finished at once.
	GrowPolls int
	// ChunkRecords is the number of records of a chunk. 0 means as many as
	// the requested unit gives: 20 for each of num_assets, or chunk_size.
	ChunkRecords int
	// MaxJobs is the number of jobs of all streams that may run at once
	// (default 10); the next one is refused with the gateway's 429.
	MaxJobs int

	// Next are the outcomes of the next jobs, in order; Always is that of the
	// jobs after them.
	Next   []Outcome
	Always Outcome
	// Empty is the form of an export without records.
	Empty EmptyForm
	// Duplicates says what happens to a request whose filters equal those of
	// a running job. The default is that of the real stream: 409 with the id
	// for vulnerabilities and bulk WAS, 409 without a body for assets,
	// accepted for compliance.
	Duplicates DuplicateForm
	// Ready lets compliance jobs list their chunks under the status READY
	// before they finish, in place of the bare PROCESSING.
	Ready bool
	// OldStatus makes vulnerability jobs answer with the four members of
	// 2018 instead of all of them.
	OldStatus bool
	// Overlap puts the first record of each chunk also at the end of the
	// chunk before it.
	Overlap bool
	// RoleLoss is the share of rows, in percent, that a user who lost "Can
	// View" on some assets no longer gets, with status 200.
	RoleLoss int
	// Forbidden answers 403 on every path of the stream.
	Forbidden bool
	// CancelForm is the shape of the answer to a cancel.
	CancelForm CancelForm

	// The fields below concern [TenableWAS] alone.

	// Configs is the least number of scan configs; those that no finding
	// needs never ran. 201 fills two pages.
	Configs int
	// Shift moves a config to the front of the list before each page but the
	// first, as if it had just been updated.
	Shift bool
	// GoneTargets are targets, counted from 0 over the whole tenant, whose
	// scan is deleted between the target list and the report.
	GoneTargets []int
	// AbortedParents are parent scans, counted from 0 over those with
	// findings, that were aborted at their time limit.
	AbortedParents []int
	// MiscountTargets are targets whose counts do not fit their report.
	MiscountTargets []int
	// ReportPolls is the number of 404 answers between the PUT that orders a
	// report and the report.
	ReportPolls int
}

// Outcome is the way in which an export job ends.
type Outcome int

// Outcomes.
const (
	// OutcomeGood is FINISHED with all chunks.
	OutcomeGood Outcome = iota
	// OutcomeError is ERROR with up to two chunks available, none failed and
	// the others cancelled, and a reason.
	OutcomeError
	// OutcomeChunkFailed is FINISHED although one chunk has failed, with a
	// reason. The status of an assets job does not show it.
	OutcomeChunkFailed
	// OutcomeCancelled is CANCELLED by somebody else with half of the chunks
	// available.
	OutcomeCancelled
	// OutcomeStuck is PROCESSING for ever with half of the chunks available.
	OutcomeStuck
)

// EmptyForm is a way in which an export without records looks.
type EmptyForm int

// Empty forms.
const (
	// EmptyNoChunks lists no chunk and counts none.
	EmptyNoChunks EmptyForm = iota
	// EmptyCounted lists no chunk but counts one, which is empty.
	EmptyCounted
	// EmptyChunk lists chunk 1, whose body is [].
	EmptyChunk
	// EmptyNull lists chunk 1, whose body is null.
	EmptyNull
)

// DuplicateForm is an answer to a request that equals a running job.
type DuplicateForm int

// Duplicate forms.
const (
	// DuplicateAccepted starts a second job.
	DuplicateAccepted DuplicateForm = iota
	// Duplicate409ID answers 409 with active_job_id.
	Duplicate409ID
	// Duplicate409Empty answers 409 without a body.
	Duplicate409Empty
	// Duplicate429Message answers 429 with the id inside a sentence.
	Duplicate429Message
	// Duplicate429Values answers 429 with the id in an array of values.
	Duplicate429Values
	// DuplicateCancelsOld cancels the running job and starts a new one.
	DuplicateCancelsOld
)

// CancelForm is a shape of the answer to a cancel.
type CancelForm int

// Cancel forms.
const (
	// CancelUsual is the recorded shape of the stream: nested for assets,
	// with export_uuid for vulnerabilities, plain elsewhere.
	CancelUsual CancelForm = iota
	// CancelPlain is {"status":"CANCELLED"}.
	CancelPlain
	// CancelNested is {"response":{"status":"CANCELLED"}}.
	CancelNested
	// CancelExport is {"export_uuid":"…","export_status":"CANCELLED"}.
	CancelExport
)
