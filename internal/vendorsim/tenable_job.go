package vendorsim

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Status words of export jobs.
const (
	statusQueued     = "QUEUED"
	statusProcessing = "PROCESSING"
	statusReady      = "READY"
	statusFinished   = "FINISHED"
	statusError      = "ERROR"
	statusCancelled  = "CANCELLED"
)

// jobTime is the age at which a job is done even when nobody polls it.
const jobTime = 10 * time.Minute

// exportKind is what differs between the four export APIs.
type exportKind struct {
	stream      string
	base        string // path prefix of status, chunks and cancel
	unit        string // member of the body that sets the chunk size
	min, max    int
	fallback    int // chunk size when the body names none; 0: required
	contentType string
	chunkLife   time.Duration
}

func exportKinds() []*exportKind {
	const day = 24 * time.Hour
	return []*exportKind{
		{TenableVulns, "/vulns/export", "num_assets", 50, 5000, 50, "application/octet-stream", day},
		{TenableAssets, "/assets/export", "chunk_size", 100, 10000, 0, "application/json;charset=utf-8", day},
		{TenableFindings, "/compliance/export", "num_findings", 50, 10000, 5000, "application/octet-stream", 3 * day},
		{TenableWASBulk, "/was/v1/export/vulns", "num_assets", 50, 5000, 50, "application/octet-stream", day},
	}
}

// startPaths are the paths on which a job of the kind starts.
func (k *exportKind) startPaths() []string {
	if k.stream == TenableAssets {
		return []string{k.base, "/assets/v2/export"}
	}
	return []string{k.base}
}

// exportJob is one export. The lock of Tenable guards it.
type exportJob struct {
	uuid     string
	kind     *exportKind
	records  string // stream whose records it serves
	filters  map[string]any
	equal    string // filters in canonical form
	body     string
	size     int // of a chunk, in the unit of the kind
	perChunk int // records
	count    int // records of the stream when the job was made
	chunks   int
	order    []int            // of revelation
	match    func(i int) bool // nil: all records
	config   TenableStream    // when the job was made
	outcome  Outcome
	foreign  bool
	created  time.Time

	status   string
	ready    int // chunks available, in order of revelation
	polls    int
	lastPoll time.Time
	reads    map[int]int
	expired  bool
}

// running reports whether the job holds one of the places.
func (j *exportJob) running() bool {
	return j.status == statusQueued || j.status == statusProcessing || j.status == statusReady
}

// advance brings the job to where it stands after its polls and at its age.
func (j *exportJob) advance(now time.Time) {
	if !j.running() {
		return
	}
	c := j.config
	step := j.polls - c.QueuedPolls
	if now.Sub(j.created) > jobTime {
		step = c.GrowPolls + 1
	}
	switch {
	case step <= 0:
		j.status, j.ready = statusQueued, 0
		if j.kind.stream == TenableFindings {
			j.status = statusProcessing
		}
		return
	case j.outcome == OutcomeStuck:
		j.status, j.ready = statusProcessing, j.chunks/2
		return
	case step <= c.GrowPolls:
		j.status = statusProcessing
		if j.kind.stream == TenableFindings && c.Ready {
			j.status = statusReady
		}
		j.ready = min((j.chunks*step+c.GrowPolls)/(c.GrowPolls+1), j.most())
		return
	}
	j.ready = j.most()
	switch j.outcome {
	case OutcomeError:
		j.status = statusError
	case OutcomeCancelled:
		j.status = statusCancelled
	default:
		j.status = statusFinished
	}
}

// most is the number of chunks that ever become available.
func (j *exportJob) most() int {
	switch j.outcome {
	case OutcomeError:
		return min(2, j.chunks-1)
	case OutcomeChunkFailed:
		return j.chunks - 1
	case OutcomeCancelled:
		return j.chunks / 2
	default:
		return j.chunks
	}
}

// chunkID is the id of the k-th part of the records: 1, 2, 4, 5, 7, … with
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

// revelation returns the order in which the parts of an export of n chunks
// become available.
func (t *Tenable) revelation(n int) []int {
	parts := make([]int, n)
	for k := range parts {
		parts[k] = k
	}
	g := t.host.Gen()
	slices.SortFunc(parts, func(a, b int) int { return cmp.Compare(g.Hash("tenable order", a), g.Hash("tenable order", b)) })
	return parts
}

// lists returns the ids of available, failed and cancelled chunks. The
// available ones come in another order at each poll.
func (j *exportJob) lists() (available, failed, cancelled []int) {
	available, failed, cancelled = []int{}, []int{}, []int{}
	for n, k := range j.order {
		id := chunkID(k)
		switch {
		case n < j.ready:
			available = append(available, id)
		case j.status == statusFinished && j.outcome == OutcomeChunkFailed:
			failed = append(failed, id)
		case j.status == statusError || j.status == statusCancelled:
			cancelled = append(cancelled, id)
		}
	}
	if n := len(available); n > 1 {
		k := j.polls % n
		available = append(available[k:n:n], available[:k]...)
	}
	slices.Sort(cancelled)
	return available, failed, cancelled
}

// TenableJob is what the simulator knows of one export job.
type TenableJob struct {
	UUID   string
	Stream string
	// Path is the path of the request that started it, Body its body.
	Path, Body string
	Status     string
	Created    time.Time
	// Foreign is set for jobs made by [Tenable.ForeignJob].
	Foreign bool
	Polls   int
	// Reads counts the requests for each chunk that were answered with 200.
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

// ExpireChunks lets all chunks that exist now expire.
func (t *Tenable) ExpireChunks() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range t.order {
		j.expired = true
	}
}

// find returns the job of a kind.
func (t *Tenable) find(k *exportKind, uuid string) *exportJob {
	j := t.jobs[uuid]
	if j == nil || j.kind != k {
		return nil
	}
	return j
}
