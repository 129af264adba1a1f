// Package tenable reads the exports and the web application scans of Tenable
// Vulnerability Management.
package tenable

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of Tenable Vulnerability Management.
type Settings struct {
	AccessKey config.Secret `env:"TIO_ACCESS_KEY" required:"true" doc:"Access key of an API key pair."`
	SecretKey config.Secret `env:"TIO_SECRET_KEY" required:"true" doc:"Secret key of the same pair."`
	URL       url.URL       `env:"TIO_URL" envDefault:"https://cloud.tenable.com" doc:"Address of the API; FedRAMP is https://fedcloud.tenable.com."`
	Parallel  int           `env:"TIO_PARALLEL" envDefault:"2" min:"1" max:"4" doc:"Number of chunks of one export that are fetched at once; the vendor recommends a small number."`
	Vulns     string        `env:"TIO_VULNERABILITIES_FILTER" envDefault:"{\"since\":1,\"state\":[\"OPEN\",\"REOPENED\",\"FIXED\"]}" doc:"Filters of the vulnerability export, as a JSON object. Without since the vendor leaves out findings older than 30 days; without state it leaves out fixed ones."`
	Assets    string        `env:"TIO_ASSETS_FILTER" envDefault:"{}" doc:"Filters of the asset export, as a JSON object."`
	Findings  string        `env:"TIO_FINDINGS_FILTER" envDefault:"{\"since\":1,\"state\":[\"OPEN\",\"REOPENED\",\"FIXED\"]}" doc:"Filters of the compliance export, as a JSON object."`
	WAS       string        `env:"TIO_WAS_FILTER" envDefault:"{}" doc:"Filter of the web application scan configurations, or with TIO_WAS_EXPORT=v1 the filters of the bulk export, as a JSON object. An empty object selects everything. Any other filter of the bulk export needs since and state, without which the vendor leaves out findings older than 30 days and fixed ones."`
	WASExport string        `env:"TIO_WAS_EXPORT" envDefault:"scans" oneof:"scans,v1" doc:"scans: one record per finding of each configuration's last scan, with the scan and its configuration. v1: the vendor's newer bulk export of findings."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	return source.NonNil(
		source.CheckObject("TIO_VULNERABILITIES_FILTER", s.Vulns),
		source.CheckObject("TIO_ASSETS_FILTER", s.Assets),
		source.CheckObject("TIO_FINDINGS_FILTER", s.Findings),
		source.CheckObject("TIO_WAS_FILTER", s.WAS),
	)
}

// allFindings are the filters that select the findings of all states and ages.
const allFindings = `{"since":1,"state":["OPEN","REOPENED","FIXED"]}`

// bulkFilter returns the filters of the bulk export of web application findings.
// An empty object selects all findings, as it selects all configurations. The
// vendor itself would leave out fixed findings and those older than 30 days.
func (s *Settings) bulkFilter() string {
	var filters map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.WAS), &filters); err == nil && len(filters) == 0 {
		return allFindings
	}
	return s.WAS
}

// Definition describes Tenable Vulnerability Management.
var Definition = source.Define(collector.Info{
	Name:        "tenable",
	Title:       "Tenable Vulnerability Management",
	Docs:        "https://developer.tenable.com/reference/navigate",
	Permissions: "role Basic [16] with Can View on the assets, or Administrator [64]. Without Can View the vendor returns fewer records and no error.",
	RateLimit:   "Not published. After a 429 all requests of the key pair wait as Retry-After says. At most TIO_PARALLEL chunks of an export are fetched at once, one after a 429.",
	Streams: []collector.StreamInfo{
		{
			Name: "tenable_vulnerabilities", Records: "a finding of a vulnerability on an asset",
			Optional:  []string{"asset.hostname", "asset.uuid", "plugin.cve", "plugin.exploit_available", "plugin.has_patch", "plugin.publication_date", "first_found", "last_found", "last_fixed"},
			Endpoints: []string{"POST /vulns/export", "GET /vulns/export/{uuid}/status", "GET /vulns/export/{uuid}/chunks/{n}"},
			PageSize:  "chunks of 200 assets, half of that after a failed job",
			Notes:     "By default all states and ages, including unlicensed assets; TIO_VULNERABILITIES_FILTER narrows the selection. While another program's export with the same filters is running, since is raised by some seconds; if the filter has no since, the run waits.",
		},
		{
			Name: "tenable_assets", Records: "an asset (export version 1)",
			Optional:  []string{"first_seen", "last_seen", "deleted_at", "terminated_at", "has_agent", "last_authenticated_scan_date"},
			Endpoints: []string{"POST /assets/export", "GET /assets/export/{uuid}/status", "GET /assets/export/{uuid}/chunks/{n}", "GET /assets/export/status"},
			PageSize:  "chunks of 1,000 assets",
			Notes:     "Deleted and terminated assets are included as long as the vendor keeps them; TIO_ASSETS_FILTER narrows the selection. The number of chunks is compared with the list of recent exports. If the list cannot be read, or does not show the export as finished within a minute, the export is accepted and that is counted as a doubt.",
		},
		{
			Name: "tenable_findings", Records: "a result of a host audit (compliance) check on an asset",
			Endpoints: []string{"POST /compliance/export", "GET /compliance/export/{uuid}/status", "GET /compliance/export/{uuid}/chunks/{n}"},
			PageSize:  "chunks of 5,000 findings",
			Notes:     "By default all states and ages; TIO_FINDINGS_FILTER narrows the selection.",
		},
		{
			Name: "tenable_was", Records: "a finding of the last finished scan of a web application, with the scan and its configuration",
			Endpoints:   []string{"POST /was/v2/configs/search", "POST /was/v2/configs/{id}/scans/search", "POST /was/v2/scans/{id}/vulnerabilities/by-targets/search", "GET /was/v2/scans/{id}/report", "PUT /was/v2/scans/{id}/report", "POST /was/v1/export/vulns (TIO_WAS_EXPORT=v1)"},
			PageSize:    "200 configurations, 200 targets, one report per target",
			Permissions: "a license that includes Web App Scanning",
			Notes:       "Configurations that never ran are skipped. While a configuration is being scanned, its newest finished scan is read; if there is none, that is counted as a doubt. A list of several pages of configurations is read twice, because it moves while it is read. A target whose report cannot be read, or has another number of findings than declared, is read again after 30 s, and so are the targets of a scan that cannot be listed. What then differs is accepted and counted as a doubt; the run fails if nothing can be read of most targets. TIO_WAS_EXPORT=v1 reads the vendor's bulk export instead, whose records have another shape.",
		},
	},
}, openAccount)

// account is what one API key pair can access.
type account struct {
	settings Settings
	api      *rest.Client
	notes    collector.Notes
	log      *zap.Logger
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	auth := rest.StaticHeader{
		Name:  "X-ApiKeys",
		Value: "accessKey=" + s.AccessKey.Reveal() + ";secretKey=" + s.SecretKey.Reveal(),
	}
	a := &account{settings: *s, notes: o.Notes, log: source.Logger(o)}
	a.api = source.NewClient(s.URL, "TIO_URL", auth, map[string]rest.Limit{
		"":         {Concurrent: 4},
		chunkClass: {Concurrent: s.Parallel},
	}, o)
	a.api.Hints = map[int]string{
		http.StatusUnauthorized: "check TIO_ACCESS_KEY and TIO_SECRET_KEY",
		http.StatusForbidden:    "the user of TIO_ACCESS_KEY needs the role Basic [16] with Can View on the assets, or Administrator [64]",
	}
	a.api.Classify = classifyStatus
	return a, nil
}

// chunkClass is the endpoint class of the requests for chunks.
const chunkClass = "chunk"

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	includeUnlicensed := map[string]any{"include_unlicensed": true}
	web := a.forWebApps()
	webApps := collector.Stream{Name: "tenable_was", Extract: web.extractWebApps, Check: web.checkWebApps}
	if a.settings.WASExport == "v1" {
		webApps = web.exportStream("tenable_was", exportKind{
			path: bulkPath, sizeMember: "num_assets", maxSize: 50, minSize: 50,
			filters: a.settings.bulkFilter(), extra: includeUnlicensed, bump: "since",
		})
	}
	return []collector.Stream{
		a.exportStream("tenable_vulnerabilities", exportKind{
			path: "/vulns/export", sizeMember: "num_assets", maxSize: 200, minSize: 50,
			filters: a.settings.Vulns, extra: includeUnlicensed, bump: "since",
		}),
		a.exportStream("tenable_assets", exportKind{
			path: "/assets/export", sizeMember: "chunk_size", maxSize: 1000, minSize: 100,
			filters: a.settings.Assets, inJobList: true,
		}),
		a.exportStream("tenable_findings", exportKind{
			path: "/compliance/export", sizeMember: "num_findings", maxSize: 5000, minSize: 50,
			filters: a.settings.Findings, bump: "since",
		}),
		webApps,
	}
}

// forWebApps returns the account with the hints for web application scanning, which
// is licensed apart.
func (a *account) forWebApps() *account {
	web, api := *a, *a.api
	api.Hints = maps.Clone(a.api.Hints)
	api.Hints[http.StatusForbidden] = "the license must include Web App Scanning, and the user of TIO_ACCESS_KEY needs the role Basic [16] with Can View on the scans, or Administrator [64]"
	web.api = &api
	return &web
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error {
	_, err := a.api.Get(ctx, rest.Request{Path: "/vulns/export/status"})
	return err
}

// classifyStatus separates the refusal to start the same export twice, which
// can also be a 429, from a rate limit.
func classifyStatus(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if isDuplicate(s) {
		return rest.Fatal
	}
	return usual
}
