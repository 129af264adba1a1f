package tenable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// exportKind describes one of the vendor's export APIs.
type exportKind struct {
	// path starts an export; status, chunks and cancel are below it.
	path string
	// sizeMember is the member that sets the size of a chunk, which is between
	// minSize and maxSize.
	sizeMember       string
	maxSize, minSize int
	filters          string
	extra            map[string]any
	// bump is a filter that can be raised by one without changing the result, if
	// it is set. Raising it makes the request differ from another program's
	// running export. "" means that there is no such filter.
	bump string
	// inJobList means that the number of chunks must be read from the list of
	// recent jobs, because the job's own status does not report failed chunks.
	inJobList bool
}

// exportStream returns a stream that is read by an export job.
func (a *account) exportStream(name string, kind exportKind) collector.Stream {
	job := jobClient{account: a, exportKind: kind}
	extract := func(ctx context.Context, out collector.Output) error {
		return rest.Export{
			Start:     job.startExport,
			Status:    job.fetchStatus,
			Fetch:     job.fetchChunk,
			Cancel:    job.cancelExport,
			Selection: job.selection(),
			Parallel:  a.settings.Parallel,
		}.Run(ctx, out)
	}
	return collector.Stream{Name: name, Extract: extract, Check: job.checkPermission}
}

// madeUpID is the id of no job. The vendor responds with 404 to requests for its
// status.
const madeUpID = "00000000-0000-4000-8000-000000000000"

// checkPermission requests the list of the stream's recent jobs or, if only that is
// refused, the status of a job that does not exist. Neither starts a job.
func (j jobClient) checkPermission(ctx context.Context) error {
	_, err := j.api.Get(ctx, rest.Request{Path: j.path + "/status"})
	if !errors.Is(err, collector.ErrForbidden) {
		return err
	}
	_, statusErr := j.api.Get(ctx, rest.Request{Path: j.path + "/" + madeUpID + "/status"})
	if rest.HasStatus(statusErr, http.StatusNotFound) {
		return nil
	}
	return err
}

// jobClient makes the requests of one kind of export.
type jobClient struct {
	*account
	exportKind
}

// selection returns everything that an export's content depends on. Only a
// hash of it is stored, so it may contain the key.
func (j jobClient) selection() string {
	return strings.Join([]string{j.settings.URL.String(), j.settings.AccessKey.Reveal(), j.path, j.filters, fmt.Sprint(j.extra)}, "\x00")
}

// fetchStatus returns a job's state. Lists that the vendor leaves out are empty.
func (j jobClient) fetchStatus(ctx context.Context, id string) (rest.JobStatus, error) {
	response, err := j.api.Get(ctx, rest.Request{Path: j.path + "/" + id + "/status"})
	if err != nil {
		return rest.JobStatus{}, markJobLost(err)
	}
	var ready, failed, cancelled []json.Number
	for name, list := range map[string]*[]json.Number{
		"chunks_available": &ready, "chunks_failed": &failed, "chunks_cancelled": &cancelled,
	} {
		if v := response.Value(name); v != nil {
			if err := json.Unmarshal(v, list); err != nil {
				return rest.JobStatus{}, fmt.Errorf("GET %s/%s/status: %w: %s: %w", j.path, id, collector.ErrIncomplete, name, err)
			}
		}
	}
	var status rest.JobStatus
	for _, n := range ready {
		status.Ready = append(status.Ready, n.String())
	}
	state, reason := response.Text("status"), response.Text("reason")
	switch {
	case state == "ERROR", state == "CANCELLED":
		status.Failed = strings.TrimSpace("it ended as " + state + ". " + reason)
	case len(failed)+len(cancelled) > 0:
		status.Failed = strings.TrimSpace(fmt.Sprintf("%d chunks failed, %d were cancelled. %s", len(failed), len(cancelled), reason))
	case state == "FINISHED":
		status.Done = true
		status.Doubt = j.checkCounts(id, response, len(ready))
		if j.inJobList {
			status.Missing, status.Doubt, err = j.checkRecentJob(ctx, id)
		}
	}
	return status, err
}

// checkCounts returns the doubt about chunk counts that do not add up; "" if
// they do. The vendor counts empty chunks in three ways, so this does not prove
// that something is missing.
func (j jobClient) checkCounts(id string, response *rest.Envelope, ready int) (doubt string) {
	total, ok := response.Count("total_chunks")
	empty, _ := response.Count("empty_chunks_count")
	if ok && int64(ready)+empty < total {
		j.log.Warn("the export's chunks do not add up", zap.String("export", j.path), zap.String("uuid", id),
			zap.Int64("total_chunks", total), zap.Int("chunks_available", ready), zap.Int64("empty_chunks_count", empty))
		return "exports with fewer chunks than declared"
	}
	return ""
}

const (
	// listReads is how often the list of recent jobs is read until it agrees
	// with the status of a job.
	listReads = 3
	// listWait is the wait between two reads of the list.
	listWait = 30 * time.Second
)

// checkRecentJob looks up a finished job in the list of recent jobs, which is
// the only source for the number of chunks that an asset export should have. It
// returns what is missing, and what is in doubt because the list does not show
// the job as finished or cannot be read.
func (j jobClient) checkRecentJob(ctx context.Context, id string) (missing, doubt string, err error) {
	for reads := 1; ; reads++ {
		job, err := j.findRecentJob(ctx, id)
		switch {
		case rest.HasStatus(err, http.StatusNotFound, http.StatusForbidden):
			j.log.Warn("the list of recent exports cannot be read", zap.String("export", j.path), zap.String("uuid", id), zap.Error(err))
			return "", "exports whose number of chunks cannot be read", nil
		case err != nil && !errors.Is(err, errNotListed):
			return "", "", err
		case err == nil && job.finished >= job.total:
			return "", "", nil
		}
		if reads >= listReads {
			return j.judgeRecentJob(id, job)
		}
		if err := rest.Sleep(ctx, listWait, "list of recent exports of "+j.path); err != nil {
			return "", "", err
		}
	}
}

// judgeRecentJob returns what is missing in a finished job that has fewer
// chunks in the list of recent jobs than it should have. As long as the job has
// not ended in the list, the list may be older than the job's status.
func (j jobClient) judgeRecentJob(id string, job recentJob) (missing, doubt string, err error) {
	switch job.status {
	case "FINISHED", "ERROR", "CANCELLED":
		return fmt.Sprintf("%d of %d chunks were finished", job.finished, job.total), "", nil
	}
	j.log.Warn("the list of recent exports does not show a finished export as finished", zap.String("export", j.path),
		zap.String("uuid", id), zap.String("status", job.status), zap.Int64("finished_chunks", job.finished), zap.Int64("total_chunks", job.total))
	return "", "exports that are not finished in the list of recent exports", nil
}

// recentJob is an entry of the list of recent jobs.
type recentJob struct {
	status          string
	total, finished int64
	created         int64 // in Unix milliseconds; 0 when it is absent
}

// errNotListed means that a job is not in the list of recent jobs.
var errNotListed = errors.New("the export is not in the list of recent exports")

// findRecentJob looks up a job in the list of recent jobs.
func (j jobClient) findRecentJob(ctx context.Context, id string) (recentJob, error) {
	var job recentJob
	found := false
	readJob := func(_ *rest.Envelope, raw []byte) error {
		if rest.TextOf(rest.Member(raw, "uuid")) == id {
			job = recentJob{
				status: rest.TextOf(rest.Member(raw, "status")),
				total:  countOf(raw, "total_chunks"), finished: countOf(raw, "finished_chunks"),
				created: countOf(raw, "created"),
			}
			found = true
		}
		return nil
	}
	err := j.api.Do(ctx, rest.Request{Path: j.path + "/status"}, func(r *rest.Response) error {
		_, err := rest.Split(r.Body, rest.Shape{Records: "exports", Optional: true}, readJob)
		return err
	})
	if err == nil && !found {
		err = errNotListed
	}
	return job, err
}

// countOf returns the number at path in the object raw; 0 when it is absent.
func countOf(raw []byte, path string) int64 {
	n, _ := strconv.ParseInt(rest.TextOf(rest.Member(raw, path)), 10, 64)
	return n
}

// markJobLost wraps rest.ErrJobLost if err is the status 404.
func markJobLost(err error) error {
	if rest.HasStatus(err, http.StatusNotFound) {
		return fmt.Errorf("%w: %w", rest.ErrJobLost, err)
	}
	return err
}

// fetchChunk reads one chunk, an array of records, whatever its content type.
// The status 404 can mean that the chunk is unknown, or the job.
func (j jobClient) fetchChunk(ctx context.Context, id, chunk string, out collector.Output) error {
	r := rest.Request{Path: j.path + "/" + id + "/chunks/" + chunk, Class: chunkClass}
	_, err := j.api.Fetch(ctx, r, rest.Shape{}, out, nil)
	if rest.HasStatus(err, http.StatusBadRequest) {
		return fmt.Errorf("%w: %w", rest.ErrNotReady, err)
	}
	return markJobLost(err)
}

// cancelExport cancels a running job, so that it does not occupy one of the
// vendor's slots. A finished job cannot be cancelled.
func (j jobClient) cancelExport(ctx context.Context, id string) error {
	_, err := j.api.Get(ctx, rest.Request{Method: http.MethodPost, Path: j.path + "/" + id + "/cancel"})
	return err
}
