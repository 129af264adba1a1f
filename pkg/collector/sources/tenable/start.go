package tenable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// startPaths are the paths that start exports.
var startPaths = []string{"/vulns/export", "/assets/export", "/compliance/export", bulkPath}

// bulkPath starts the bulk export of web application findings.
const bulkPath = "/was/v1/export/vulns"

// startBody returns the body of a request that starts an export. raised is
// added to the bump filter.
func (e exportKind) startBody(attempt, raised int) ([]byte, error) {
	filters, err := e.parseFilters()
	if err != nil {
		return nil, err
	}
	if value, ok := e.bumpValue(); ok && raised > 0 {
		filters[e.bump] = value + int64(raised)
	}
	body := map[string]any{e.sizeMember: max(e.minSize, e.maxSize>>attempt), "filters": filters}
	for name, value := range e.extra {
		body[name] = value
	}
	return json.Marshal(body)
}

// parseFilters returns the filters, with numbers as they are written.
func (e exportKind) parseFilters() (map[string]any, error) {
	var filters map[string]any
	d := json.NewDecoder(strings.NewReader(e.filters))
	d.UseNumber()
	return filters, d.Decode(&filters)
}

// bumpValue returns the value of the bump filter, and whether it can be raised.
// A filter that is not set cannot: with it the vendor would export other
// records. The vendor treats 0 as not set.
func (e exportKind) bumpValue() (int64, bool) {
	filters, err := e.parseFilters()
	if err != nil {
		return 0, false
	}
	number, _ := filters[e.bump].(json.Number)
	value, err := number.Int64()
	return value, err == nil && value > 0
}

const (
	// longestStartWait bounds the wait after a start that failed.
	longestStartWait = 30 * time.Second
	// maxUnclear is how many starts at most may have started an export without a
	// clear response. Each of them may occupy one of the vendor's few slots.
	maxUnclear = 6
	// maxRaised bounds how far the bump filter is raised.
	maxRaised = 20
	// duplicateWait is the wait for another program's export to end.
	duplicateWait = 45 * time.Second
)

// startState is the state of one call of startExport.
type startState struct {
	jobClient
	attempt int
	// unclearSince is when the first request was sent that failed, but may have
	// started an export; zero when there is none.
	unclearSince time.Time
	unclear      int // number of such requests
	raised       int // added to the bump filter
	period       rest.RetryPeriod
}

// startExport starts an export and returns its id. The vendor refuses to
// start an export while one with the same filters is running. The running one
// is ours if a run recorded its id, or if it was created after an attempt of
// this call that failed without a clear response. Any other one may have been
// started with other permissions and must not be used.
func (j jobClient) startExport(ctx context.Context, attempt int) (string, error) {
	s := startState{jobClient: j, attempt: attempt, period: rest.RetryPeriod{First: 2 * time.Second, Longest: longestStartWait}}
	for {
		id, err := s.postStart(ctx)
		if err == nil {
			return id, j.recordID(ctx, id)
		}
		var refusal *rest.StatusError
		if !errors.As(err, &refusal) || !isDuplicate(refusal) {
			if err := s.waitAfterFailure(ctx, err); err != nil {
				return "", err
			}
			continue
		}
		if id := duplicateID(refusal.Body); id != "" && s.ownsExport(ctx, id, refusal) {
			j.log.Info("adopted an export that was started before", zap.String("export", j.path), zap.String("uuid", id))
			return id, j.recordID(ctx, id)
		}
		if err := s.avoidDuplicate(ctx); err != nil {
			return "", err
		}
	}
}

// postStart makes one request that starts an export, and returns the export's
// id.
func (s *startState) postStart(ctx context.Context) (string, error) {
	body, err := s.startBody(s.attempt, s.raised)
	if err != nil {
		return "", err
	}
	var sent atomic.Int64 // in Unix nanoseconds; 0 if the request was not sent
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { sent.Store(0) },
		WroteHeaders: func() { sent.Store(time.Now().UnixNano()) },
	})
	response, err := s.api.Get(traced, rest.Request{Method: http.MethodPost, Path: s.path, Body: body, Once: true})
	if err != nil {
		if at := sent.Load(); at != 0 && mayHaveStarted(err) {
			s.unclear++
			if s.unclearSince.IsZero() {
				s.unclearSince = time.Unix(0, at)
			}
		}
		return "", err
	}
	id := response.Text("export_uuid")
	if id == "" {
		return "", fmt.Errorf("POST %s: %w: the response has no export_uuid", s.path, collector.ErrIncomplete)
	}
	return id, nil
}

// mayHaveStarted reports whether a request that was sent and failed with err
// may have started an export. A gateway that responds with an HTML page to say
// that its backend is not available has not reached it.
func mayHaveStarted(err error) bool {
	var s *rest.StatusError
	if !errors.As(err, &s) {
		return true
	}
	switch s.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return !bytes.HasPrefix(bytes.TrimSpace(s.Body), []byte("<"))
	}
	return s.Status >= 500 || s.Status == http.StatusRequestTimeout
}

// waitAfterFailure waits before a start that failed with err is repeated. It
// returns err if the start cannot be repeated. Starts that may have worked are
// few, and spread over the retry time.
func (s *startState) waitAfterFailure(ctx context.Context, err error) error {
	wait, again := s.period.NextWait(ctx, err)
	if !again || !isRetryableStart(err) || s.unclear >= maxUnclear || ctx.Err() != nil {
		return err
	}
	if s.unclear > 1 {
		wait = max(wait, collector.RetryTime(ctx)/(maxUnclear-1))
	}
	return rest.Sleep(ctx, wait, "retry of POST "+s.path)
}

// isRetryableStart reports whether the same start can be tried again after err.
func isRetryableStart(err error) bool {
	var s *rest.StatusError
	if errors.As(err, &s) {
		return s.Status >= 500 || s.Status == http.StatusRequestTimeout
	}
	return !errors.Is(err, collector.ErrRefused) && !errors.Is(err, context.Canceled)
}

// avoidDuplicate prepares the next start while another program's export with
// the same filters is running: the next start differs in the bump filter, or is
// made later.
func (s *startState) avoidDuplicate(ctx context.Context) error {
	if _, ok := s.bumpValue(); ok && s.raised+1 < maxRaised {
		s.raised++
		return nil
	}
	s.log.Info("waiting for another program's export with the same filters", zap.String("export", s.path))
	s.raised = 0
	return rest.Sleep(ctx, duplicateWait, "another program's export of "+s.path)
}

// ownsExport reports whether the running export that refusal is about was
// started by this collector. An export that is older than our first unclear
// request was not.
func (s *startState) ownsExport(ctx context.Context, id string, refusal *rest.StatusError) bool {
	if id == s.recordedID(ctx) {
		return true
	}
	if s.unclearSince.IsZero() {
		return false
	}
	offset := clockOffset(refusal.Header) // before any other request
	created, err := s.creationTime(ctx, id, refusal.Body)
	if err != nil {
		s.log.Warn("reading when a running export was created", zap.String("export", s.path), zap.String("uuid", id), zap.Error(err))
		return false
	}
	// The vendor's clock may differ from ours. Its times may have no fractions
	// of a second.
	sent := s.unclearSince.Add(offset).Truncate(time.Second)
	return !created.Before(sent)
}

// clockOffset returns how far the vendor's clock is ahead, by a response that
// has just arrived; 0 when it is not known.
func clockOffset(h http.Header) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Until(date)
}

var createdAt = regexp.MustCompile(`createdAt=([0-9T:.Z+-]+)`)

// creationTime returns when an export was created: by the refusal of a
// duplicate, the list of recent jobs or the export's own status. It is an error
// if none of them says so.
func (j jobClient) creationTime(ctx context.Context, id string, refusal []byte) (time.Time, error) {
	if m := createdAt.FindSubmatch(refusal); m != nil {
		return time.Parse(time.RFC3339, string(m[1]))
	}
	job, err := j.findRecentJob(ctx, id)
	if err == nil && job.created > 0 {
		return time.UnixMilli(job.created), nil
	}
	response, err := j.api.Get(ctx, rest.Request{Path: j.path + "/" + id + "/status"})
	if err != nil {
		return time.Time{}, err
	}
	created, ok := response.Count("created")
	if !ok {
		return time.Time{}, errors.New("the vendor does not say when the export was created")
	}
	return time.UnixMilli(created), nil
}

// noteKey is the key of the note that holds the id of the last export.
func (e exportKind) noteKey() string { return "tenable export " + e.path }

// recordID stores the id of a running export, so that a later run can adopt it.
func (j jobClient) recordID(ctx context.Context, id string) error {
	if j.notes == nil {
		return nil
	}
	return j.notes.SetNote(ctx, j.noteKey(), id)
}

// recordedID returns the id of the last export that a run has started; ""
// when there is none.
func (j jobClient) recordedID(ctx context.Context) string {
	if j.notes == nil {
		return ""
	}
	id, err := j.notes.Note(ctx, j.noteKey())
	if err != nil {
		j.log.Warn("reading the id of the last export", zap.String("export", j.path), zap.Error(err))
	}
	return id
}

// isDuplicate reports whether s refuses to start an export because one with
// the same filters is running. The refusal can have the status 429, which is a
// rate limit otherwise.
func isDuplicate(s *rest.StatusError) bool {
	if !isStart(s) {
		return false
	}
	switch s.Status {
	case http.StatusConflict:
		return true
	case http.StatusTooManyRequests:
		return duplicateID(s.Body) != "" || bytes.Contains(bytes.ToLower(s.Body), []byte("duplicate"))
	}
	return false
}

// isStart reports whether s is the response to a request that starts an export.
func isStart(s *rest.StatusError) bool {
	method, path := s.Request()
	if method != http.MethodPost {
		return false
	}
	for _, p := range startPaths {
		if strings.HasSuffix(path, p) {
			return true
		}
	}
	return false
}

var jobUUID = regexp.MustCompile(`job_uuid=([0-9a-fA-F-]{36})`)

// duplicateID returns the running job's id from any of the forms in which the
// vendor refuses a duplicate; "" when the body does not contain it.
func duplicateID(body []byte) string {
	var d struct {
		Active  string   `json:"active_job_id"`
		Values  []string `json:"values"`
		Strings []string `json:"strings"`
	}
	if json.Unmarshal(body, &d) == nil {
		if d.Active != "" {
			return d.Active
		}
		if len(d.Values) > 0 && len(d.Strings) > 0 && strings.HasPrefix(d.Strings[0], "Duplicate export") {
			return d.Values[0]
		}
	}
	if m := jobUUID.FindSubmatch(body); m != nil {
		return string(m[1])
	}
	return ""
}
