package vendorsim

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Statuses of export jobs.
const (
	statusQueued     = "QUEUED"
	statusProcessing = "PROCESSING"
	statusReady      = "READY"
	statusFinished   = "FINISHED"
	statusError      = "ERROR"
	statusCancelled  = "CANCELLED"
)

// maxJobAge is the age at which a job ends even if it is not polled.
const maxJobAge = 10 * time.Minute

// exportKind defines what differs between the four export APIs.
type exportKind struct {
	stream      string
	base        string // path prefix of status, chunks and cancel
	unit        string // member of the body that sets the chunk size
	min, max    int
	fallback    int // chunk size if the body has none; 0 means that it is required
	contentType string
	chunkLife   time.Duration
}

func exportKinds() []*exportKind {
	const day = 24 * time.Hour
	return []*exportKind{
		{
			stream:      TenableVulns,
			base:        "/vulns/export",
			unit:        "num_assets",
			min:         50,
			max:         5000,
			fallback:    50,
			contentType: "application/octet-stream",
			chunkLife:   day,
		},
		{
			stream:      TenableAssets,
			base:        "/assets/export",
			unit:        "chunk_size",
			min:         100,
			max:         10000,
			fallback:    0,
			contentType: "application/json;charset=utf-8",
			chunkLife:   day,
		},
		{
			stream:      TenableFindings,
			base:        "/compliance/export",
			unit:        "num_findings",
			min:         50,
			max:         10000,
			fallback:    5000,
			contentType: "application/octet-stream",
			chunkLife:   3 * day,
		},
		{
			stream:      TenableWASBulk,
			base:        "/was/v1/export/vulns",
			unit:        "num_assets",
			min:         50,
			max:         5000,
			fallback:    50,
			contentType: "application/octet-stream",
			chunkLife:   day,
		},
	}
}

// startPaths returns the paths that start a job of the kind.
func (e *exportKind) startPaths() []string {
	if e.stream == TenableAssets {
		return []string{e.base, "/assets/v2/export"}
	}
	return []string{e.base}
}

// exportJob is one export. The lock of Tenable guards it.
type exportJob struct {
	uuid     string
	kind     *exportKind
	records  string // stream whose records it exports
	filters  map[string]any
	equal    string // filters in canonical form
	body     string
	size     int // of a chunk, in the unit of the kind
	perChunk int // records
	count    int // records of the stream when the job was created
	chunks   int
	order    []int            // order in which chunks become available
	match    func(i int) bool // nil: all records
	config   TenableStream    // when the job was created
	outcome  Outcome
	foreign  bool
	created  time.Time

	status   string
	ready    int // number of available chunks, in the order of order
	polls    int
	lastPoll time.Time
	reads    map[int]int
	expired  bool
}

// isRunning reports whether the job counts as one of the running jobs.
func (e *exportJob) isRunning() bool {
	return e.status == statusQueued || e.status == statusProcessing || e.status == statusReady
}

// advance updates the status of the job from its polls and its age.
func (e *exportJob) advance(now time.Time) {
	if !e.isRunning() {
		return
	}
	c := e.config
	step := e.polls - c.QueuedPolls
	if now.Sub(e.created) > maxJobAge {
		step = c.GrowPolls + 1
	}
	switch {
	case step <= 0:
		e.status, e.ready = statusQueued, 0
		if e.kind.stream == TenableFindings {
			e.status = statusProcessing
		}
		return
	case e.outcome == OutcomeStuck:
		e.status, e.ready = statusProcessing, e.chunks/2
		return
	case step <= c.GrowPolls:
		e.status = statusProcessing
		if e.kind.stream == TenableFindings && c.Ready {
			e.status = statusReady
		}
		e.ready = min((e.chunks*step+c.GrowPolls)/(c.GrowPolls+1), e.maxAvailable())
		return
	}
	e.ready = e.maxAvailable()
	switch e.outcome {
	case OutcomeError:
		e.status = statusError
	case OutcomeCancelled:
		e.status = statusCancelled
	default:
		e.status = statusFinished
	}
}

// maxAvailable returns the number of chunks that become available in the end.
func (e *exportJob) maxAvailable() int {
	switch e.outcome {
	case OutcomeError:
		return min(2, e.chunks-1)
	case OutcomeChunkFailed:
		return e.chunks - 1
	case OutcomeCancelled:
		return e.chunks / 2
	default:
		return e.chunks
	}
}

// chunkID returns the id of the k-th part of the records: 1, 2, 4, 5, 7, … with
// gaps.
func chunkID(k int) int { return k + k/2 + 1 }

// chunkPart is the inverse of chunkID.
func chunkPart(id int) (k int, ok bool) {
	k = (id - 1) * 2 / 3
	for _, c := range []int{k, k + 1} {
		if c >= 0 && chunkID(c) == id {
			return c, true
		}
	}
	return 0, false
}

// availabilityOrder returns the order in which the n parts of an export become
// available.
func (t *Tenable) availabilityOrder(n int) []int {
	parts := make([]int, n)
	for k := range parts {
		parts[k] = k
	}
	g := t.host.Gen()
	slices.SortFunc(parts, func(a, b int) int { return cmp.Compare(g.Hash("tenable order", a), g.Hash("tenable order", b)) })
	return parts
}

// chunkLists returns the ids of available, failed and cancelled chunks. The
// order of the available ones changes with each poll.
func (e *exportJob) chunkLists() (available, failed, cancelled []int) {
	available, failed, cancelled = []int{}, []int{}, []int{}
	for n, k := range e.order {
		id := chunkID(k)
		switch {
		case n < e.ready:
			available = append(available, id)
		case e.status == statusFinished && e.outcome == OutcomeChunkFailed:
			failed = append(failed, id)
		case e.status == statusError || e.status == statusCancelled:
			cancelled = append(cancelled, id)
		}
	}
	if n := len(available); n > 1 {
		k := e.polls % n
		available = append(available[k:n:n], available[:k]...)
	}
	slices.Sort(cancelled)
	return available, failed, cancelled
}

// TenableJob describes one export job.
type TenableJob struct {
	UUID   string
	Stream string
	// Path and Body are those of the request that started the job.
	Path, Body string
	Status     string
	Created    time.Time
	// Foreign is set for jobs that were created by [Tenable.ForeignJob].
	Foreign bool
	Polls   int
	// Reads counts the requests for each chunk with the response 200.
	Reads map[int]int
}

// Jobs returns the export jobs of a stream, oldest first.
func (t *Tenable) Jobs(stream string) []TenableJob {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []TenableJob
	for _, j := range t.order {
		if j.kind.stream != stream {
			continue
		}
		path := j.kind.base
		if j.records == TenableAssetsV2 {
			path = "/assets/v2/export"
		}
		out = append(out, TenableJob{
			UUID: j.uuid, Stream: stream, Path: path, Body: j.body, Status: j.status, Created: j.created,
			Foreign: j.foreign, Polls: j.polls, Reads: maps.Clone(j.reads),
		})
	}
	return out
}

// ExpireChunks makes all existing chunks expire.
func (t *Tenable) ExpireChunks() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range t.order {
		j.expired = true
	}
}

// findExportJob returns the job with an id, or nil if there is none of the
// kind.
func (t *Tenable) findExportJob(k *exportKind, uuid string) *exportJob {
	j := t.jobs[uuid]
	if j == nil || j.kind != k {
		return nil
	}
	return j
}
