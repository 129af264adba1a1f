package vendorsim

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// findingsStatus is the status of jobs for vulnerabilities, compliance findings
// and bulk WAS.
type findingsStatus struct {
	UUID           string         `json:"uuid,omitempty"`
	Status         string         `json:"status"`
	Available      []int          `json:"chunks_available"`
	Failed         []int          `json:"chunks_failed"`
	Cancelled      []int          `json:"chunks_cancelled"`
	Total          *int           `json:"total_chunks,omitempty"`
	AvailableCount *int           `json:"chunks_available_count,omitempty"`
	Empty          *int           `json:"empty_chunks_count,omitempty"`
	Finished       *int           `json:"finished_chunks,omitempty"`
	Filters        map[string]any `json:"filters,omitempty"`
	NumAssets      int            `json:"num_assets_per_chunk,omitempty"`
	NumFindings    int            `json:"num_findings,omitempty"`
	Asset          []string       `json:"asset,omitempty"`
	Created        int64          `json:"created,omitempty"` // Unix time in milliseconds
	Reason         string         `json:"reason,omitempty"`
}

// assetsStatus is the status of jobs for assets.
type assetsStatus struct {
	Status    string `json:"status"`
	Available []int  `json:"chunks_available"`
	Reason    string `json:"reason,omitempty"`
}

// exportStatus serves GET …/{uuid}/status.
func (t *Tenable) exportStatus(w http.ResponseWriter, r *http.Request, k *exportKind) {
	j := t.findExportJob(k, r.PathValue("uuid"))
	if j == nil {
		t.writeExportNotFound(w)
		return
	}
	now := t.host.Now()
	if gap := now.Sub(j.lastPoll); gap < time.Second-50*time.Millisecond {
		t.host.Violate(PolledTooFast, "GET "+k.base+"/{uuid}/status", "%v after the previous poll", gap)
	}
	j.lastPoll = now
	if j.config.StatusLag > 0 {
		j.config.StatusLag--
		t.writeExportNotFound(w)
		return
	}
	j.polls++
	j.advance(now)
	writeJSON(w, http.StatusOK, t.statusResponse(j))
}

// statusResponse returns the response to a status call; the caller holds the
// lock.
func (t *Tenable) statusResponse(j *exportJob) any {
	available, failed, cancelled := j.chunkLists()
	reason := ""
	switch {
	case j.status == statusError:
		reason = "Export could not be completed"
	case len(failed) > 0:
		reason = fmt.Sprintf("%d of %d chunks failed to be processed", len(failed), j.chunks)
	}
	if j.kind.stream == TenableAssets {
		if j.status == statusFinished {
			reason = ""
		}
		return assetsStatus{Status: j.status, Available: available, Reason: reason}
	}
	if j.kind.stream == TenableFindings && j.status == statusProcessing {
		return map[string]string{"status": statusProcessing}
	}
	s := findingsStatus{Status: j.status, Available: available, Failed: failed, Cancelled: cancelled, Reason: reason}
	if j.config.OldStatus {
		return s
	}
	total, n, empty := j.chunks, len(available), 0
	if j.count == 0 && j.config.Empty == EmptyCounted && j.status == statusFinished {
		total, n, empty = 1, 1, 1
	}
	s.UUID = j.uuid
	s.Total, s.AvailableCount, s.Empty, s.Finished = &total, &n, &empty, &n
	s.Filters, s.Created = j.filters, j.created.UnixMilli()
	if j.kind.stream == TenableFindings {
		s.NumFindings = j.size
		s.UUID = ""
	} else {
		s.NumAssets = j.size
	}
	return s
}

// recentExports serves GET …/status, which lists the newest thousand jobs of a
// kind.
func (t *Tenable) recentExports(w http.ResponseWriter, k *exportKind) {
	now := t.host.Now()
	list := []any{}
	for i := len(t.order) - 1; i >= 0 && len(list) < 1000; i-- {
		j := t.order[i]
		if j.kind != k || now.Sub(j.created) > 3*24*time.Hour {
			continue
		}
		j.advance(now)
		entry := t.recentEntry(j)
		if lag := &t.config[k.stream].ListLag; *lag > 0 && j.status == statusFinished {
			*lag--
			entry["status"], entry["finished_chunks"] = statusProcessing, max(0, j.ready-1)
		}
		list = append(list, entry)
	}
	writeJSON(w, http.StatusOK, map[string]any{"exports": list})
}

// recentEntry returns the entry of a job in the list of recent jobs; the caller
// holds the lock.
func (t *Tenable) recentEntry(j *exportJob) map[string]any {
	entry := map[string]any{
		"uuid": j.uuid, "status": j.status, "total_chunks": j.chunks, "finished_chunks": j.ready,
		"created": j.created.UnixMilli(), "filters": j.filters,
	}
	switch j.kind.stream {
	case TenableAssets:
		// Only here the filters are a string.
		text, err := json.Marshal(j.filters)
		if err != nil {
			panic(err) // the filters came from JSON
		}
		entry["filters"] = string(text)
		entry["num_assets_per_chunk"] = j.size
	case TenableFindings:
		entry["num_findings"] = j.size
	default:
		entry["num_assets_per_chunk"] = j.size
	}
	return entry
}

// maxParallelReads is the largest number of simultaneous chunk reads of known
// clients, including the vendor's own.
const maxParallelReads = 4

// exportChunk serves GET …/{uuid}/chunks/{n}. The records are written without
// the lock, because a slow client would hold it.
func (t *Tenable) exportChunk(w http.ResponseWriter, r *http.Request, k *exportKind) {
	var j *exportJob
	var part int
	refusal := t.captureLocked(func(w http.ResponseWriter, r *http.Request) { j, part = t.findChunk(w, r, k) }, r)
	if j == nil {
		refusal.writeTo(w)
		return
	}
	if n := t.activeReads.Add(1); n > maxParallelReads {
		t.host.Violate(TooManyAtOnce, "GET "+k.base+"/{uuid}/chunks/{n}", "%d chunk reads at once", n)
	}
	defer t.activeReads.Add(-1)
	w.Header().Set("Content-Type", k.contentType)
	if j.count == 0 {
		body := "[]"
		if j.config.Empty == EmptyNull {
			body = "null"
		}
		_, _ = io.WriteString(w, body)
		return
	}
	_ = t.host.Server().WriteRecords(w, "[", j.records, j.indices(part), "]")
}

// findChunk returns the job and the part of the requested chunk, and counts the
// read. If the chunk cannot be read, it writes the response and returns nil.
func (t *Tenable) findChunk(w http.ResponseWriter, r *http.Request, k *exportKind) (*exportJob, int) {
	j := t.findExportJob(k, r.PathValue("uuid"))
	if j == nil || j.expired || t.host.Now().Sub(j.created) > k.chunkLife {
		t.writeExportNotFound(w)
		return nil, 0
	}
	id, err := strconv.Atoi(r.PathValue("n"))
	part, ok := chunkPart(id)
	if err != nil || !ok || part >= j.chunks {
		t.writeExportNotFound(w)
		return nil, 0
	}
	if !slices.Contains(j.order[:j.ready], part) {
		writeTenableError(w, http.StatusBadRequest, "Bad Request", "Chunk is not ready for download")
		return nil, 0
	}
	if j.config.ChunkLag > 0 {
		j.config.ChunkLag--
		t.writeExportNotFound(w)
		return nil, 0
	}
	j.reads[id]++
	return j, part
}

// indices yields the indices of the records of one part of the export.
func (e *exportJob) indices(part int) iter.Seq[int] {
	from, to := part*e.perChunk, min((part+1)*e.perChunk, e.count)
	if e.config.Overlap && to < e.count {
		to++
	}
	if e.match == nil {
		return indexRange(from, to)
	}
	return func(yield func(int) bool) {
		for i := from; i < to; i++ {
			if e.match(i) && !yield(i) {
				return
			}
		}
	}
}
