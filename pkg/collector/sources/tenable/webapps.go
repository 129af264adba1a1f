package tenable

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// webAppScan is the newest finished scan of one configuration. It is a parent
// scan, whose targets were scanned one by one.
type webAppScan struct {
	id          string
	finalizedAt []byte // raw JSON
}

// Texts of collector.Doubt about configurations and their scans.
const (
	doubtNoFinishedScan = "web application configurations that are being scanned for the first time"
	doubtNoHistory      = "web application configurations that are being scanned and whose earlier scans cannot be read"
)

// searchPage is the largest page of a search.
const searchPage = 200

// webAppParallel is how many scans are read at once.
const webAppParallel = 4

// recheckWait is the wait before targets are read again whose report could not
// be read or did not match.
const recheckWait = 30 * time.Second

// extractWebApps reads the findings of each configuration's last finished
// scan, one record per finding, in the shape of the vendor's own Python
// client: {"finding", "parent_scan": {"finalized_at"}, "config": {"config_id",
// "name", "description"}, "scan"}. Each value has the vendor's bytes.
func (a *account) extractWebApps(ctx context.Context, out collector.Output) error {
	scans, running, err := a.listWebAppScans(ctx)
	if err != nil {
		return err
	}
	earlier, err := a.findEarlierScans(ctx, running)
	if err != nil {
		return err
	}
	r := newWebAppReader(a, out)
	if err := rest.EachInParallel(ctx, webAppParallel, append(scans, earlier...), r.readScan); err != nil {
		return err
	}
	if len(r.recheck) > 0 {
		if err := rest.Sleep(ctx, recheckWait, "reports of web application scans"); err != nil {
			return err
		}
		if err := rest.EachInParallel(ctx, webAppParallel, r.recheckedScans(), r.recheckScan); err != nil {
			return err
		}
	}
	return r.coverage.CheckMissing()
}

// checkWebApps requests one configuration.
func (a *account) checkWebApps(ctx context.Context) error {
	r := a.configsRequest("1")
	_, err := a.api.Fetch(ctx, r, rest.Shape{Records: "items"}, &rest.MemoryOutput{}, nil)
	return err
}

// configsRequest returns the request for the first page of configurations.
func (a *account) configsRequest(limit string) rest.Request {
	return rest.Request{
		Method: http.MethodPost, Path: "/was/v2/configs/search", Body: []byte(a.settings.WAS),
		Query: url.Values{"limit": {limit}, "offset": {"0"}},
	}
}

// listWebAppScans returns the last scans of the configurations, and the ids of
// the configurations whose last scan has not finished. The listing is sorted by
// a time that may change while it is read, and has no cursor: a configuration can
// move to a page that was already read, also because another one is deleted. A
// listing of several pages is therefore read twice.
func (a *account) listWebAppScans(ctx context.Context) (scans []webAppScan, running []string, err error) {
	var configs rest.MemoryOutput
	r := a.configsRequest("200")
	read, err := a.search(ctx, r, "config_id", &configs)
	if err != nil {
		return nil, nil, err
	}
	listed := configs.Records()
	if read.Records > searchPage {
		var again rest.MemoryOutput
		if _, err := a.search(ctx, r, "config_id", &again); err != nil {
			return nil, nil, err
		}
		listed = append(listed, again.Records()...)
	}
	neverRan := 0
	seen := map[string]bool{}
	for _, raw := range listed {
		config := rest.TextOf(rest.Member(raw, "config_id"))
		if seen[config] {
			continue
		}
		seen[config] = true
		last := rest.Member(raw, "last_scan")
		switch scan, finished := finishedScan(last); {
		case finished:
			scans = append(scans, scan)
		case last == nil || last.Kind() == 'n':
			neverRan++
		default:
			running = append(running, config)
		}
	}
	if neverRan > 0 {
		a.log.Info("configurations that never ran were skipped", zap.Int("configurations", neverRan))
	}
	return scans, running, nil
}

// finishedScan returns the scan that raw describes, and whether it is finished.
func finishedScan(raw []byte) (webAppScan, bool) {
	if raw == nil {
		return webAppScan{}, false
	}
	scan := webAppScan{id: rest.TextOf(rest.Member(raw, "scan_id")), finalizedAt: rest.Member(raw, "finalized_at")}
	return scan, scan.id != "" && rest.TextOf(scan.finalizedAt) != ""
}

// findEarlierScans returns the newest finished scan of each configuration whose
// last scan is running. Configurations without one are skipped and counted as a
// doubt.
func (a *account) findEarlierScans(ctx context.Context, configs []string) ([]webAppScan, error) {
	var mu sync.Mutex
	var scans []webAppScan
	err := rest.EachInParallel(ctx, webAppParallel, configs, func(ctx context.Context, config string) error {
		scan, doubt, err := a.findEarlierScan(ctx, config)
		if doubt != "" {
			collector.StatsFrom(ctx).AddDoubt(doubt, 1)
		}
		if err != nil || doubt != "" {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		scans = append(scans, scan)
		return nil
	})
	return scans, err
}

// findEarlierScan returns the newest finished scan of a configuration. If there
// is none, it returns a doubt.
func (a *account) findEarlierScan(ctx context.Context, config string) (newest webAppScan, doubt string, err error) {
	var all rest.MemoryOutput
	r := rest.Request{
		Method: http.MethodPost, Path: "/was/v2/configs/" + url.PathEscape(config) + "/scans/search", Body: []byte("{}"),
		Query: url.Values{"limit": {"200"}, "offset": {"0"}},
	}
	isUnreadable := func() bool {
		return rest.HasStatus(err, http.StatusNotFound, http.StatusForbidden, http.StatusInternalServerError)
	}
	if _, err = a.search(ctx, r, "scan_id", &all); isUnreadable() {
		if err := rest.Sleep(ctx, recheckWait, "earlier scans of a web application"); err != nil {
			return webAppScan{}, "", err
		}
		all = rest.MemoryOutput{}
		_, err = a.search(ctx, r, "scan_id", &all)
	}
	if isUnreadable() {
		a.log.Warn("the scans of a configuration that is being scanned cannot be read", zap.String("config_id", config), zap.Error(err))
		return webAppScan{}, doubtNoHistory, nil
	}
	if err != nil {
		return webAppScan{}, "", err
	}
	var end time.Time
	for _, raw := range all.Records() {
		scan, finished := finishedScan(raw)
		if !finished {
			continue
		}
		at, _ := time.Parse(time.RFC3339, rest.TextOf(scan.finalizedAt)) // zero if it is invalid
		if newest.id == "" || at.After(end) {
			newest, end = scan, at
		}
	}
	if newest.id == "" {
		a.log.Warn("a configuration is being scanned and has no finished scan", zap.String("config_id", config))
		return webAppScan{}, doubtNoFinishedScan, nil
	}
	return newest, "", nil
}

// search reads one of the vendor's searches, which page in the same way. key is
// the member that identifies an entry. A search that returns fewer entries than
// declared is read again.
func (a *account) search(ctx context.Context, r rest.Request, key string, out collector.Output) (rest.CompleteRead, error) {
	return a.api.WalkComplete(ctx, rest.Listing{
		Request: r, Shape: rest.Shape{Records: "items"}, Total: "pagination.total",
		Pager: rest.Offset{Param: "offset"}, Stop: rest.AtTotal | rest.AtEmpty,
	}, rest.Reread{Key: source.KeyMember(key)}, out)
}
