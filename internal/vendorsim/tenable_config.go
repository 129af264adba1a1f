package vendorsim

// TenableStream configures how the export jobs of one stream behave. The zero
// value of a field means that nothing goes wrong, unless its comment says
// otherwise.
type TenableStream struct {
	// QueuedPolls is the number of status polls before a job starts to work
	// (default 1).
	QueuedPolls int
	// GrowPolls is the number of polls over which the chunk list grows while
	// the job is PROCESSING (default 3). With 0 the job finishes at once.
	GrowPolls int
	// ChunkRecords is the number of records of a chunk. 0 means as many as
	// requested: 20 for each of num_assets, or chunk_size.
	ChunkRecords int
	// MaxJobs is the number of jobs of all streams that may run at once
	// (default 10). The gateway responds with 429 to the next one.
	MaxJobs int

	// Next are the outcomes of the next jobs, in order. Always is the outcome
	// of the jobs after them.
	Next   []Outcome
	Always Outcome
	// Empty is what an export without records looks like.
	Empty EmptyForm
	// Duplicates is the response to a request whose filters equal those of a
	// running job. The default is that of the vendor: 409 with the id for
	// vulnerabilities and bulk WAS, 409 without a body for assets, accepted for
	// compliance.
	Duplicates DuplicateForm
	// Ready makes compliance jobs list their chunks with the status READY
	// before they finish, instead of the plain PROCESSING.
	Ready bool
	// OldStatus limits the status of vulnerability jobs to the four members of
	// 2018.
	OldStatus bool
	// Overlap repeats the first record of each chunk at the end of the previous
	// chunk.
	Overlap bool
	// RoleLoss is the share of rows, in percent, that are missing, with status
	// 200, because the user has lost "Can View" on some assets.
	RoleLoss int
	// Forbidden makes the response 403 on every path of the stream.
	Forbidden bool
	// CancelForm is the form of the response to a cancel request.
	CancelForm CancelForm
	// ListLag is the number of reads of the list of recent jobs in which a
	// finished job is still PROCESSING, without its last chunk.
	ListLag int
	// StatusLag is the number of status polls of a new job to which a server
	// that does not know the job yet responds with 404.
	StatusLag int
	// ChunkLag is the number of reads of chunks that the status has listed to
	// which a server that does not know them yet responds with 404.
	ChunkLag int

	// The fields below apply only to [TenableWAS].

	// Configs is the minimum number of scan configs. Configs without findings
	// have never run. 201 fills two pages.
	Configs int
	// Shift moves a config to the front of the list before each page except the
	// first, as if it had just been updated.
	Shift bool
	// GoneTargets are targets, counted from 0 over the whole tenant, whose
	// scan is deleted between the target list and the report.
	GoneTargets []int
	// AbortedParents are parent scans, counted from 0 over those with
	// findings, that were aborted at their time limit.
	AbortedParents []int
	// RunningParents are parent scans, counted like AbortedParents, whose
	// config is being scanned again: its last scan is another one, which is
	// still running.
	RunningParents []int
	// MiscountTargets are targets whose counts do not match their report.
	MiscountTargets []int
	// Uncounted leaves out the number of informational findings of all targets.
	Uncounted bool
	// UncreatedTargets are targets whose report is never created.
	UncreatedTargets []int
	// ReportPolls is the number of 404 responses between the PUT that requests
	// a report and the report.
	ReportPolls int
}

// Outcome is how an export job ends.
type Outcome int

// Outcomes.
const (
	// OutcomeGood is FINISHED with all chunks.
	OutcomeGood Outcome = iota
	// OutcomeError is ERROR with a reason. Up to two chunks are available, none
	// has failed, and the others are cancelled.
	OutcomeError
	// OutcomeChunkFailed is FINISHED with a reason although one chunk has
	// failed. The status of an assets job does not show the failure.
	OutcomeChunkFailed
	// OutcomeCancelled is CANCELLED by another user, with half of the chunks
	// available.
	OutcomeCancelled
	// OutcomeStuck is PROCESSING forever, with half of the chunks available.
	OutcomeStuck
)

// EmptyForm is a form of an export without records.
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

// DuplicateForm is a response to a request that duplicates a running job.
type DuplicateForm int

// Duplicate forms.
const (
	// DuplicateAccepted starts a second job.
	DuplicateAccepted DuplicateForm = iota
	// Duplicate409ID responds with 409 and active_job_id.
	Duplicate409ID
	// Duplicate409Empty responds with 409 without a body.
	Duplicate409Empty
	// Duplicate429Message responds with 429 and the id in a sentence.
	Duplicate429Message
	// Duplicate429Values responds with 429 and the id in an array of values.
	Duplicate429Values
	// DuplicateCancelsOld cancels the running job and starts a new one.
	DuplicateCancelsOld
)

// CancelForm is a form of the response to a cancel request.
type CancelForm int

// Cancel forms.
const (
	// CancelUsual is the form that was recorded for the stream: nested for
	// assets, with export_uuid for vulnerabilities, plain elsewhere.
	CancelUsual CancelForm = iota
	// CancelPlain is {"status":"CANCELLED"}.
	CancelPlain
	// CancelNested is {"response":{"status":"CANCELLED"}}.
	CancelNested
	// CancelExport is {"export_uuid":"…","export_status":"CANCELLED"}.
	CancelExport
)
