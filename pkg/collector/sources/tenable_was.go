package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// wasScan is the last scan of one configuration: a parent, whose targets were
// scanned one by one.
type wasScan struct {
	id          string
	finalizedAt []byte // raw JSON
}

// was reads the findings of each configuration's last finished scan, one
// record per finding, in the shape of the vendor's own Python client:
// {"finding", "parent_scan": {"finalized_at"}, "config": {"config_id",
// "name", "description"}, "scan"}, with each value in the vendor's bytes.
func (t *tenable) was(ctx context.Context, out collector.Output) error {
	scans, err := t.wasScans(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, scan := range scans {
		g.Go(func() error {
			if err := t.wasTargets(ctx, scan, out); err != nil {
				return fmt.Errorf("scan %s: %w", scan.id, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// wasScans lists the scans to read. The listing is sorted by a time that may
// change while it is read, so a configuration can move to a page that was
// read already: the first page is read again at the end.
func (t *tenable) wasScans(ctx context.Context) ([]wasScan, error) {
	var configs rest.Gathered
	r := rest.Request{
		Method: http.MethodPost, Path: "/was/v2/configs/search", Body: []byte(t.WAS),
		Query: url.Values{"limit": {"200"}, "offset": {"0"}},
	}
	n, err := t.api.Walk(ctx, wasListing(r), &configs)
	if err == nil && n > 200 {
		_, err = t.api.Fetch(ctx, r, rest.Shape{Records: "items"}, &configs, nil)
	}
	if err != nil {
		return nil, err
	}
	var scans []wasScan
	seen := map[string]bool{}
	for _, raw := range configs.Records() {
		config := rest.Text(rest.Member(raw, "config_id"))
		scan := wasScan{
			id:          rest.Text(rest.Member(raw, "last_scan.scan_id")),
			finalizedAt: rest.Member(raw, "last_scan.finalized_at"),
		}
		// Without these the configuration never ran, or still runs.
		if !seen[config] && scan.id != "" && rest.Text(scan.finalizedAt) != "" {
			scans = append(scans, scan)
		}
		seen[config] = true
	}
	if skipped := len(seen) - len(scans); skipped > 0 {
		t.log.Info("configurations without a finished scan were skipped", zap.Int("configurations", skipped))
	}
	return scans, nil
}

// wasListing pages as both of the vendor's searches do.
func wasListing(r rest.Request) rest.Listing {
	return rest.Listing{
		Request: r, Shape: rest.Shape{Records: "items"}, Total: "pagination.total",
		Pager: rest.Offset{Param: "offset", Total: "pagination.total", Stop: rest.AtTotal | rest.AtEmpty},
	}
}

// wasTargets reads the reports of one parent scan's targets.
func (t *tenable) wasTargets(ctx context.Context, scan wasScan, out collector.Output) error {
	var targets rest.Gathered
	r := rest.Request{
		Method: http.MethodPost, Path: "/was/v2/scans/" + url.PathEscape(scan.id) + "/vulnerabilities/by-targets/search",
		Query: url.Values{"limit": {"200"}, "offset": {"0"}},
	}
	if _, err := t.api.Walk(ctx, wasListing(r), &targets); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, raw := range targets.Records() {
		target := rest.Text(rest.Member(raw, "scan.scan_id"))
		if target == "" {
			return fmt.Errorf("%s: %w: a target has no scan.scan_id", r.Step(), collector.ErrIncomplete)
		}
		if seen[target] {
			continue
		}
		seen[target] = true
		// The vendor's own count leaves the informational ones out.
		declared := number(raw, "findings.finding_count") + number(raw, "findings.info_vulns")
		if err := t.wasReport(ctx, scan, target, declared, out); err != nil {
			return err
		}
	}
	return nil
}

// number is a member's value; 0 when it is absent.
func number(raw []byte, path string) int64 {
	n, _ := strconv.ParseInt(rest.Text(rest.Member(raw, path)), 10, 64)
	return n
}

// wasReport reads one target's report, which the vendor makes when it is
// first asked for.
func (t *tenable) wasReport(ctx context.Context, scan wasScan, target string, declared int64, out collector.Output) error {
	r := rest.Request{
		Path: "/was/v2/scans/" + url.PathEscape(target) + "/report",
		// The header selects the report's format, on a request without a body.
		Header: http.Header{"Content-Type": {"application/json"}},
	}
	wait := 2 * time.Second
	for asked := false; ; asked = true {
		err := t.wasFindings(ctx, r, scan, declared, out)
		var s *rest.StatusError
		if !errors.As(err, &s) || s.Status != http.StatusNotFound {
			return err
		}
		if wait > 5*time.Minute {
			return fmt.Errorf("%w: the report was not made in time: %w", collector.ErrIncomplete, err)
		}
		if !asked {
			order := r
			order.Method = http.MethodPut
			if err := t.api.Do(ctx, order, func(*rest.Response) error { return nil }); err != nil {
				return err
			}
		}
		if err := rest.Sleep(ctx, wait, "report of scan "+target, false); err != nil {
			return err
		}
		wait *= 2
	}
}

// wasFindings reads a report that is made. The scan and its configuration
// come before the findings; should the vendor change that, the findings are
// kept until both are known.
func (t *tenable) wasFindings(ctx context.Context, r rest.Request, scan wasScan, declared int64, out collector.Output) error {
	var members []byte // the record's end: what is the same for all findings
	var early [][]byte
	var record []byte
	each := func(page collector.Page, e *rest.Envelope, raw []byte) error {
		if e.Records == 0 {
			members, early = wasMembers(e, scan), nil
		}
		if members == nil {
			early = append(early, bytes.Clone(raw))
			return nil
		}
		record = wasRecord(record[:0], raw, members)
		return page.Append(record)
	}
	finish := func(page collector.Page, e *rest.Envelope) error {
		if len(early) > 0 {
			if members = wasMembers(e, scan); members == nil {
				return fmt.Errorf("%s: %w: the report has no config or scan", r.Step(), collector.ErrIncomplete)
			}
		}
		for _, raw := range early {
			record = wasRecord(record[:0], raw, members)
			if err := page.Append(record); err != nil {
				return err
			}
		}
		if int64(e.Records) != declared {
			return fmt.Errorf("%s: %w: the report has %d findings, the list of targets says %d", r.Step(), collector.ErrIncomplete, e.Records, declared)
		}
		return nil
	}
	_, err := t.api.FetchThen(ctx, r, rest.Shape{Records: "findings"}, out, each, finish)
	return err
}

// wasMembers is the part of a record that follows the finding; nil when the
// report's scan or configuration has not been read yet.
func wasMembers(e *rest.Envelope, scan wasScan) []byte {
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

func wasRecord(dst, finding, members []byte) []byte {
	dst = append(dst, `{"finding":`...)
	dst = append(dst, finding...)
	return append(dst, members...)
}
