package tenable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// Texts of collector.Doubt about the targets of scans.
const (
	doubtGone       = "web application targets that were deleted while they were read"
	doubtNoReport   = "web application targets whose report was not created in time"
	doubtUnreadable = "web application targets whose report cannot be read"
	doubtMiscounted = "web application targets whose report has another number of findings than declared"
	doubtUncounted  = "web application targets without declared numbers of findings"
	doubtNoScan     = "web application targets without a scan"
	doubtNoTargets  = "web application scans whose targets cannot be listed"
)

var (
	errTargetGone  = errors.New("the target was deleted")
	errNoReport    = errors.New("the report was not created in time")
	errMiscounted  = errors.New("the list of targets declares another number of findings")
	errMostMissing = fmt.Errorf("%w: most targets of the web application scans have no findings that can be read", collector.ErrIncomplete)
)

// webAppTarget is one target of a parent scan, which has a scan of its own.
type webAppTarget struct {
	scan     webAppScan
	id       string // of its own scan
	declared int64  // number of findings; negative when it is not declared
}

// recheckedScan is a parent scan whose targets are read again.
type recheckedScan struct {
	scan webAppScan
	// targets has the doubt about each target that is read again, by the id of
	// its scan.
	targets map[string]string
	// all means that all targets are read again, because they could not be
	// listed.
	all bool
}

// webAppReader reads the reports of scans into out. Targets that cannot be read,
// or whose report does not have the declared number of findings, are read a
// second time. What differs then is accepted and counted as a doubt, unless
// nothing was received of most targets.
type webAppReader struct {
	*account
	out      collector.Output
	coverage rest.Coverage // of the targets, each counted when it is read for the first time

	mu      sync.Mutex
	recheck map[string]*recheckedScan
}

func newWebAppReader(a *account, out collector.Output) *webAppReader {
	return &webAppReader{account: a, out: out, coverage: rest.Coverage{Most: errMostMissing}, recheck: map[string]*recheckedScan{}}
}

// readScan reads the targets of one parent scan for the first time.
func (w *webAppReader) readScan(ctx context.Context, scan webAppScan) error {
	targets, err := w.listTargets(ctx, scan)
	if doubt := doubtOfList(err); doubt != "" {
		w.coverage.AddExpected(1)
		return w.addRecheck(scan, "", doubt)
	}
	if err != nil {
		return fmt.Errorf("scan %s: %w", scan.id, err)
	}
	for _, target := range targets {
		if err := w.readTarget(ctx, target); err != nil {
			return fmt.Errorf("scan %s: %w", scan.id, err)
		}
	}
	return nil
}

// readTarget reads the report of a target for the first time.
func (w *webAppReader) readTarget(ctx context.Context, target webAppTarget) error {
	w.coverage.AddExpected(1)
	if target.id == "" {
		w.addMissing(ctx, target.scan.id, "", doubtNoScan)
		return nil
	}
	_, err := w.readReport(ctx, target, requireDeclared(target))
	doubt := doubtOf(err)
	switch {
	case err == nil:
		w.checkDeclared(ctx, target)
		return nil
	case doubt == "":
		return err
	case doubt == doubtNoReport, doubt == doubtUnreadable:
		if err := w.coverage.AddFailure(err); err != nil {
			return err
		}
	}
	return w.addRecheck(target.scan, target.id, doubt)
}

// doubtOfList returns the doubt about a scan whose targets are listed again after
// err; "" if err ends the extraction.
func doubtOfList(err error) string {
	switch {
	case rest.HasStatus(err, http.StatusNotFound):
		return doubtGone
	case rest.HasStatus(err, http.StatusInternalServerError):
		return doubtNoTargets
	}
	return ""
}

// doubtOf returns the doubt about a target whose report is read again after err;
// "" if err ends the extraction.
func doubtOf(err error) string {
	switch {
	case errors.Is(err, errMiscounted):
		return doubtMiscounted
	case errors.Is(err, errTargetGone):
		return doubtGone
	case errors.Is(err, errNoReport):
		return doubtNoReport
	case errors.Is(err, collector.ErrIncomplete), rest.HasStatus(err, http.StatusInternalServerError):
		// The vendor fails at this report, again and again.
		return doubtUnreadable
	}
	return ""
}

// checkDeclared counts a doubt if no number of findings is declared for a target
// that was read.
func (w *webAppReader) checkDeclared(ctx context.Context, target webAppTarget) {
	if target.declared < 0 {
		collector.StatsFrom(ctx).AddDoubt(doubtUncounted, 1)
	}
}

// addMissing counts a target of which nothing was received.
func (w *webAppReader) addMissing(ctx context.Context, scan, target, doubt string) {
	w.coverage.AddMissing(ctx, doubt)
	w.log.Warn(doubt, zap.String("parent_scan_id", scan), zap.String("scan_id", target))
}

// addRecheck remembers that a target of a scan is read again, or all of them if
// target is "". doubt says why.
func (w *webAppReader) addRecheck(scan webAppScan, target, doubt string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	again := w.recheck[scan.id]
	if again == nil {
		again = &recheckedScan{scan: scan, targets: map[string]string{}}
		w.recheck[scan.id] = again
	}
	again.all = again.all || target == ""
	again.targets[target] = doubt
	return nil
}

// recheckedScans returns the scans whose targets are read again.
func (w *webAppReader) recheckedScans() []*recheckedScan {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.recheck))
}

// recheckScan reads the targets of a scan for the second time.
func (w *webAppReader) recheckScan(ctx context.Context, again *recheckedScan) error {
	listed, err := w.listTargets(ctx, again.scan)
	missing := doubtGone
	if err != nil {
		if missing = doubtOfList(err); missing == "" {
			return fmt.Errorf("scan %s: %w", again.scan.id, err)
		}
	}
	if again.all && err == nil {
		delete(again.targets, "")
		w.coverage.AddExpected(len(listed) - 1)
		for _, target := range listed {
			again.targets[target.id] = doubtGone
		}
	}
	for id, doubt := range again.targets {
		i := slices.IndexFunc(listed, func(t webAppTarget) bool { return t.id == id })
		if i < 0 {
			w.addMissing(ctx, again.scan.id, id, missing)
			continue
		}
		if err := w.recheckTarget(ctx, listed[i], doubt); err != nil {
			return fmt.Errorf("scan %s: %w", again.scan.id, err)
		}
	}
	return nil
}

// recheckTarget reads the report of a target for the second time, and accepts
// it as it is. doubt says what was wrong the first time.
func (w *webAppReader) recheckTarget(ctx context.Context, target webAppTarget, doubt string) error {
	if target.id == "" {
		w.addMissing(ctx, target.scan.id, "", doubtNoScan)
		return nil
	}
	read := w.readReport
	if doubt == doubtNoReport {
		read = w.readFindings // it was waited for
	}
	findings, err := read(ctx, target, nil)
	if rest.HasStatus(err, http.StatusNotFound) {
		err = errNoReport
	}
	switch doubt := doubtOf(err); {
	case doubt != "":
		w.log.Warn("a report cannot be read", zap.String("scan_id", target.id), zap.Error(err))
		w.addMissing(ctx, target.scan.id, target.id, doubt)
		return nil
	case err != nil:
		return err
	case findings == 0 && target.declared > 0:
		w.addMissing(ctx, target.scan.id, target.id, doubtMiscounted)
		return nil
	}
	w.checkDeclared(ctx, target)
	if target.declared >= 0 && findings != target.declared {
		collector.StatsFrom(ctx).AddDoubt(doubtMiscounted, 1)
		w.log.Warn(doubtMiscounted, zap.String("parent_scan_id", target.scan.id), zap.String("scan_id", target.id),
			zap.Int64("findings", findings), zap.Int64("declared", target.declared))
	}
	return nil
}

// listTargets returns the targets of a parent scan, each once.
func (w *webAppReader) listTargets(ctx context.Context, scan webAppScan) ([]webAppTarget, error) {
	var listed rest.MemoryOutput
	r := rest.Request{
		Method: http.MethodPost, Path: "/was/v2/scans/" + url.PathEscape(scan.id) + "/vulnerabilities/by-targets/search",
		Query: url.Values{"limit": {"200"}, "offset": {"0"}},
	}
	if _, err := w.search(ctx, r, "scan.scan_id", &listed); err != nil {
		return nil, err
	}
	var targets []webAppTarget
	seen := map[string]bool{}
	for _, raw := range listed.Records() {
		target := webAppTarget{scan: scan, id: rest.TextOf(rest.Member(raw, "scan.scan_id")), declared: declaredFindings(raw)}
		if target.id == "" || !seen[target.id] {
			targets = append(targets, target)
		}
		seen[target.id] = true
	}
	return targets, nil
}

// declaredFindings returns how many findings an entry of the list of targets
// declares; -1 if it does not. The vendor's own count leaves out the
// informational findings.
func declaredFindings(raw []byte) int64 {
	sum := int64(0)
	for _, path := range []string{"findings.finding_count", "findings.info_vulns"} {
		if rest.TextOf(rest.Member(raw, path)) == "" {
			return -1
		}
		sum += countOf(raw, path)
	}
	return sum
}

// reportRequest returns the request for the report of a target.
func reportRequest(target webAppTarget) rest.Request {
	return rest.Request{
		Path: "/was/v2/scans/" + url.PathEscape(target.id) + "/report",
		// The header selects the report's format, on a request without a body.
		Header: http.Header{"Content-Type": {"application/json"}},
	}
}

// requireDeclared returns a check that a report has the declared number of
// findings; nil if none is declared.
func requireDeclared(target webAppTarget) func(findings int64) error {
	if target.declared < 0 {
		return nil
	}
	return func(findings int64) error {
		if findings != target.declared {
			return errMiscounted
		}
		return nil
	}
}

// readReport reads the report of one target like readFindings. The vendor
// creates a report when it is first requested.
func (w *webAppReader) readReport(ctx context.Context, target webAppTarget, check func(findings int64) error) (int64, error) {
	wait := 2 * time.Second
	for requested := false; ; requested = true {
		findings, err := w.readFindings(ctx, target, check)
		if !rest.HasStatus(err, http.StatusNotFound) {
			return findings, err
		}
		if wait > 5*time.Minute {
			return 0, errNoReport
		}
		if !requested {
			if err := w.createReport(ctx, target); err != nil {
				return 0, err
			}
		}
		if err := rest.Sleep(ctx, wait, "report of scan "+target.id); err != nil {
			return 0, err
		}
		wait *= 2
	}
}

// createReport requests that the report of a target is created.
func (w *webAppReader) createReport(ctx context.Context, target webAppTarget) error {
	r := reportRequest(target)
	r.Method = http.MethodPut
	err := w.api.Do(ctx, r, func(*rest.Response) error { return nil })
	if rest.HasStatus(err, http.StatusNotFound) {
		return errTargetGone
	}
	return err
}

// readFindings reads a report that exists and returns the number of its
// findings. check is called with that number before the findings are kept; it
// may be nil. The scan and its configuration come before the findings. If the
// vendor changes that, the findings are kept in memory until both are known.
func (w *webAppReader) readFindings(ctx context.Context, target webAppTarget, check func(findings int64) error) (int64, error) {
	r := reportRequest(target)
	var suffix []byte // the end of each record, which is the same for all findings
	var early [][]byte
	var record []byte
	onRecord := func(batch collector.Batch, e *rest.Envelope, finding []byte) error {
		if e.Records == 0 {
			suffix, early = recordSuffix(e, target.scan), nil
		}
		if suffix == nil {
			early = append(early, bytes.Clone(finding))
			return nil
		}
		record = appendRecord(record[:0], finding, suffix)
		return batch.Append(record)
	}
	atEnd := func(batch collector.Batch, e *rest.Envelope) error {
		if len(early) > 0 {
			if suffix = recordSuffix(e, target.scan); suffix == nil {
				return fmt.Errorf("%s: %w: the report has no config or scan", r.Step(), collector.ErrIncomplete)
			}
		}
		for _, finding := range early {
			record = appendRecord(record[:0], finding, suffix)
			if err := batch.Append(record); err != nil {
				return err
			}
		}
		if check == nil {
			return nil
		}
		return check(int64(e.Records))
	}
	e, err := w.api.FetchThen(ctx, r, rest.Shape{Records: "findings"}, w.out, onRecord, atEnd)
	if err != nil {
		return 0, err
	}
	return int64(e.Records), nil
}

// recordSuffix returns the part of a record that follows the finding; nil when
// the report's scan or configuration has not been read yet.
func recordSuffix(e *rest.Envelope, scan webAppScan) []byte {
	target, config := e.Value("scan"), e.Value("config")
	if target == nil || config == nil {
		return nil
	}
	b := append([]byte(`,"parent_scan":{"finalized_at":`), scan.finalizedAt...)
	b = append(b, `},"config":{`...)
	for i, name := range [...]string{"config_id", "name", "description"} {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `"`+name+`":`...)
		if v := rest.Member(config, name); v != nil {
			b = append(b, v...)
		} else {
			b = append(b, "null"...)
		}
	}
	b = append(b, `},"scan":`...)
	b = append(b, target...)
	return append(b, '}')
}

// appendRecord appends the record of a finding to dst.
func appendRecord(dst, finding, suffix []byte) []byte {
	dst = append(dst, `{"finding":`...)
	dst = append(dst, finding...)
	return append(dst, suffix...)
}
