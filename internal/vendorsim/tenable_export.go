package vendorsim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// startExport serves POST …/export. The caller holds the lock.
func (t *Tenable) startExport(w http.ResponseWriter, r *http.Request, k *exportKind, path string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if k.stream == TenableFindings && len(body) == 0 {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	j, err := t.newJob(k, path, string(body))
	if err != nil {
		writeTenableError(w, http.StatusBadRequest, "Bad Request", err.Error())
		return
	}
	if old := t.findDuplicate(j); old != nil {
		switch t.config[k.stream].Duplicates {
		case DuplicateAccepted:
		case DuplicateCancelsOld:
			old.status = statusCancelled
		default:
			t.rejectDuplicate(w, old)
			return
		}
	}
	if t.countRunning() >= t.config[k.stream].MaxJobs {
		writeTenableThrottle(w, "2")
		return
	}
	t.registerJob(j)
	writeJSON(w, http.StatusOK, map[string]string{"export_uuid": j.uuid})
}

// ForeignJob adds a running job of another user, as if that user had posted
// body to the start path of the stream, and returns its id. Later requests with
// equal filters are duplicates of it.
func (t *Tenable) ForeignJob(stream, body string) (uuid string, err error) {
	i := slices.IndexFunc(t.kinds, func(k *exportKind) bool { return k.stream == stream })
	if i < 0 {
		return "", fmt.Errorf("foreign job of %s: no such export", stream)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	j, err := t.newJob(t.kinds[i], t.kinds[i].base, body)
	if err != nil {
		return "", fmt.Errorf("foreign job of %s: %w", stream, err)
	}
	j.foreign = true
	t.registerJob(j)
	return j.uuid, nil
}

// registerJob adds a job and sets its outcome; the caller holds the lock.
func (t *Tenable) registerJob(j *exportJob) {
	c := t.config[j.kind.stream]
	j.outcome = c.Always
	if len(c.Next) > 0 && !j.foreign {
		j.outcome, c.Next = c.Next[0], c.Next[1:]
	}
	j.advance(t.host.Now())
	t.jobs[j.uuid] = j
	t.order = append(t.order, j)
}

// newJob checks a request body and returns a job for it; the caller holds the
// lock.
func (t *Tenable) newJob(k *exportKind, path, body string) (*exportJob, error) {
	req := map[string]any{}
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&req); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New("invalid request payload JSON format")
	}
	j := &exportJob{
		uuid: t.host.Gen().UUID("tenable job", int(t.host.Unique())), kind: k, records: k.stream, body: body,
		config: *t.config[k.stream], created: t.host.Now(), status: statusQueued, reads: map[int]int{},
	}
	if path == "/assets/v2/export" {
		j.records = TenableAssetsV2
	}
	if err := j.setChunkSize(req); err != nil {
		return nil, err
	}
	if err := t.setFilters(j, req); err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(j.filters)
	if err != nil {
		return nil, err
	}
	j.equal = j.records + string(canonical)
	j.count = t.host.Server().RecordCount(j.records)
	j.chunks = (j.count + j.perChunk - 1) / j.perChunk
	if j.count == 0 && (j.config.Empty == EmptyChunk || j.config.Empty == EmptyNull) {
		j.chunks = 1
	}
	j.order = t.availabilityOrder(j.chunks)
	return j, nil
}

// setChunkSize sets the chunk size from a request. A size out of range is
// clamped for findings and an error for assets.
func (e *exportJob) setChunkSize(req map[string]any) error {
	kind := e.kind
	n, given, err := parseIntMember(req, kind.unit)
	if err != nil {
		return err
	}
	switch {
	case !given && kind.fallback == 0:
		return fmt.Errorf("child %q fails because [%q is required]", kind.unit, kind.unit)
	case !given:
		n = kind.fallback
	case kind.stream == TenableAssets && (n < kind.min || n > kind.max):
		return fmt.Errorf("child %q fails because [%q must be between %d and %d]", kind.unit, kind.unit, kind.min, kind.max)
	case kind.stream == TenableAssets && n > 1000 && req["include_resource_tags"] == true:
		return fmt.Errorf("child %q fails because [%q must be at most 1000 with include_resource_tags]", kind.unit, kind.unit)
	}
	e.size = min(max(n, kind.min), kind.max)
	e.perChunk = e.size
	if kind.unit == "num_assets" {
		e.perChunk = e.size * findingsPerAsset
	}
	if e.config.ChunkRecords > 0 {
		e.perChunk = e.config.ChunkRecords
	}
	return nil
}

// findDuplicate returns a running job with the same filters as j, or nil; the
// caller holds the lock.
func (t *Tenable) findDuplicate(j *exportJob) *exportJob {
	for _, old := range t.order {
		old.advance(t.host.Now())
		if old.isRunning() && old.equal == j.equal {
			return old
		}
	}
	return nil
}

// countRunning returns the number of running jobs; the caller holds the lock.
func (t *Tenable) countRunning() int {
	n := 0
	for _, j := range t.order {
		if j.advance(t.host.Now()); j.isRunning() {
			n++
		}
	}
	return n
}

// tenableContainer is the id of the simulated tenant.
const tenableContainer = "c0ffee00-0000-4000-8000-000000000001"

// rejectDuplicate writes the response to a request that duplicates the running
// job old.
func (t *Tenable) rejectDuplicate(w http.ResponseWriter, old *exportJob) {
	switch t.config[old.kind.stream].Duplicates {
	case Duplicate409ID:
		writeJSON(w, http.StatusConflict, map[string]string{
			"active_job_id":  old.uuid,
			"failure_reason": "The export request is in conflict with the ongoing export",
		})
	case Duplicate429Message:
		writeJSON(w, http.StatusTooManyRequests, map[string]any{
			"status": 429,
			"message": "Duplicate export not allowed. Please modify request or wait until existing export is complete (job_uuid=" + old.uuid +
				" container_uuid=" + tenableContainer + " createdAt=" + old.created.UTC().Format(LayoutMillis) + ")",
		})
	case Duplicate429Values:
		parts := []string{"Duplicate export (job_uuid=", " container_uuid=",
			"). not allowed. Please modify request or wait until existing export is complete."}
		whole := parts[0] + old.uuid + parts[1] + tenableContainer + parts[2]
		writeJSON(w, http.StatusTooManyRequests, map[string]any{
			"values": []string{old.uuid, tenableContainer}, "strings": parts, "empty": false,
			"bytes": base64.StdEncoding.EncodeToString([]byte(whole)), "value_count": 2,
		})
	default:
		w.WriteHeader(http.StatusConflict)
	}
}

// cancelExport serves POST …/cancel.
func (t *Tenable) cancelExport(w http.ResponseWriter, r *http.Request, k *exportKind) {
	j := t.findExportJob(k, r.PathValue("uuid"))
	if j == nil {
		t.writeExportNotFound(w)
		return
	}
	if j.advance(t.host.Now()); !j.isRunning() {
		if k.stream == TenableFindings {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "Cannot cancel finished export"})
			return
		}
		writeJSON(w, http.StatusBadRequest, map[string]any{"status": 400, "message": "Cannot cancel a completed job"})
		return
	}
	j.status = statusCancelled
	form := t.config[k.stream].CancelForm
	if form == CancelUsual {
		form = map[string]CancelForm{TenableAssets: CancelNested, TenableVulns: CancelExport}[k.stream]
	}
	switch form {
	case CancelNested:
		writeJSON(w, http.StatusOK, map[string]any{"response": map[string]string{"status": statusCancelled}})
	case CancelExport:
		writeJSON(w, http.StatusOK, map[string]string{"export_uuid": j.uuid, "export_status": statusCancelled})
	default:
		writeJSON(w, http.StatusOK, map[string]string{"status": statusCancelled})
	}
}

// writeExportNotFound writes the response for an unknown or expired job or
// chunk, in one of the vendor's two formats in turn; the caller holds the lock.
func (t *Tenable) writeExportNotFound(w http.ResponseWriter) {
	if t.altNotFound = !t.altNotFound; t.altNotFound {
		writeJSON(w, http.StatusNotFound, map[string]any{"status": 404, "message": "Export expired or not found"})
		return
	}
	writeJSON(w, http.StatusNotFound, map[string]string{"error": "Export expired or not found"})
}
