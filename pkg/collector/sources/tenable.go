package sources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// tenableSettings switch on Tenable Vulnerability Management.
type tenableSettings struct {
	AccessKey config.Secret `env:"TIO_ACCESS_KEY" required:"true" doc:"Access key of an API key pair."`
	SecretKey config.Secret `env:"TIO_SECRET_KEY" required:"true" doc:"Secret key of the same pair."`
	URL       url.URL       `env:"TIO_URL" envDefault:"https://cloud.tenable.com" doc:"Address of the API; FedRAMP is https://fedcloud.tenable.com."`
	Parallel  int           `env:"TIO_PARALLEL" envDefault:"2" min:"1" max:"4" doc:"Chunks of one export that are fetched at once; the vendor advises few."`
	Vulns     string        `env:"TIO_VULNERABILITIES_FILTER" envDefault:"{\"since\":1,\"state\":[\"OPEN\",\"REOPENED\",\"FIXED\"]}" doc:"Filters of the vulnerability export, as a JSON object. Without since the vendor leaves out what is older than 30 days, without state what is fixed."`
	Assets    string        `env:"TIO_ASSETS_FILTER" envDefault:"{}" doc:"Filters of the asset export, as a JSON object."`
	Findings  string        `env:"TIO_FINDINGS_FILTER" envDefault:"{\"since\":1,\"state\":[\"OPEN\",\"REOPENED\",\"FIXED\"]}" doc:"Filters of the compliance export, as a JSON object."`
	WAS       string        `env:"TIO_WAS_FILTER" envDefault:"{}" doc:"Filter of the web application scan configurations, or of the bulk export with TIO_WAS_EXPORT=v1, as a JSON object."`
	WASExport string        `env:"TIO_WAS_EXPORT" envDefault:"scans" oneof:"scans,v1" doc:"scans: one record per finding of each configuration's last scan, with the scan and its configuration. v1: the vendor's newer bulk export of findings."`
}

// Validate implements config.Validator.
func (s *tenableSettings) Validate() []error {
	errs := object("TIO_VULNERABILITIES_FILTER", s.Vulns)
	errs = append(errs, object("TIO_ASSETS_FILTER", s.Assets)...)
	errs = append(errs, object("TIO_FINDINGS_FILTER", s.Findings)...)
	return append(errs, object("TIO_WAS_FILTER", s.WAS)...)
}

var tenableSource = collector.Define(collector.Info{
	Name:        "tenable",
	Title:       "Tenable Vulnerability Management",
	Docs:        "https://developer.tenable.com/reference/navigate",
	Permissions: "role Basic [16] with Can View on the assets, or Administrator [64]. Without Can View the vendor answers with fewer records and no error.",
	RateLimit:   "Not published; answers 429 with Retry-After are waited out, by all requests of the key pair together. At most TIO_PARALLEL chunks of an export are read at once, one after a 429.",
	Streams: []collector.StreamInfo{
		{
			Name: "tenable_vulnerabilities", Records: "a finding of a vulnerability on an asset",
			Endpoints: []string{"POST /vulns/export", "GET /vulns/export/{uuid}/status", "GET /vulns/export/{uuid}/chunks/{n}"},
			PageSize:  "chunks of 200 assets, half of that after a job that died",
			Notes:     "All states and ages by default, unlicensed assets included; TIO_VULNERABILITIES_FILTER narrows it.",
		},
		{
			Name: "tenable_assets", Records: "an asset (export version 1)",
			Endpoints: []string{"POST /assets/export", "GET /assets/export/{uuid}/status", "GET /assets/export/{uuid}/chunks/{n}", "GET /assets/export/status"},
			PageSize:  "chunks of 1,000 assets",
			Notes:     "Deleted and terminated assets are included for as long as the vendor has them; TIO_ASSETS_FILTER narrows it.",
		},
		{
			Name: "tenable_findings", Records: "a result of a host audit (compliance) check on an asset",
			Endpoints: []string{"POST /compliance/export", "GET /compliance/export/{uuid}/status", "GET /compliance/export/{uuid}/chunks/{n}"},
			PageSize:  "chunks of 5,000 findings",
			Notes:     "All states and ages by default; TIO_FINDINGS_FILTER narrows it.",
		},
		{
			Name: "tenable_was", Records: "a finding of the last finished scan of a web application, with the scan and its configuration",
			Endpoints: []string{"POST /was/v2/configs/search", "POST /was/v2/scans/{id}/vulnerabilities/by-targets/search", "GET /was/v2/scans/{id}/report", "PUT /was/v2/scans/{id}/report", "POST /was/v1/export/vulns (TIO_WAS_EXPORT=v1)"},
			PageSize:  "200 configurations, 200 targets, one report per target",
			Notes:     "Configurations that never ran, or whose last scan is still running, have no findings to read and are skipped. TIO_WAS_EXPORT=v1 reads the vendor's bulk export instead, whose records have another shape.",
		},
	},
}, func(s *tenableSettings, o collector.Options) (*collector.Collector, error) {
	return newTenable(s, o).collector(), nil
})

// tenable reads one tenant.
type tenable struct {
	tenableSettings
	api   *rest.Client
	notes collector.Notes
	log   *zap.Logger
}

func newTenable(s *tenableSettings, o collector.Options) *tenable {
	auth := rest.StaticHeader{
		Name:  "X-ApiKeys",
		Value: "accessKey=" + s.AccessKey.Reveal() + ";secretKey=" + s.SecretKey.Reveal(),
	}
	t := &tenable{tenableSettings: *s, notes: o.Notes, log: logger(o)}
	t.api = client(s.URL, auth, map[string]rest.Limit{
		"":      {Concurrent: 4},
		"chunk": {Concurrent: s.Parallel},
	}, o)
	t.api.Hints = map[int]string{
		http.StatusUnauthorized: "check TIO_ACCESS_KEY and TIO_SECRET_KEY",
		http.StatusForbidden:    "the user of TIO_ACCESS_KEY needs the role Basic [16] with Can View on the assets, or Administrator [64]",
		http.StatusNotFound:     "check TIO_URL",
	}
	t.api.Classify = classifyTenable
	return t
}

func (t *tenable) collector() *collector.Collector {
	was := t.was
	if t.WASExport == "v1" {
		was = t.export(tenableExport{
			path: "/was/v1/export/vulns", size: "num_assets", most: 50, least: 50, filters: t.WAS,
			extra: map[string]any{"include_unlicensed": true}, bump: "since",
		})
	}
	return &collector.Collector{
		Name: "tenable",
		Streams: []collector.Stream{
			named("tenable_vulnerabilities", t.export(tenableExport{
				path: "/vulns/export", size: "num_assets", most: 200, least: 50, filters: t.Vulns,
				extra: map[string]any{"include_unlicensed": true}, bump: "since",
			})),
			named("tenable_assets", t.export(tenableExport{
				path: "/assets/export", size: "chunk_size", most: 1000, least: 100, filters: t.Assets,
				counted: true,
			})),
			named("tenable_findings", t.export(tenableExport{
				path: "/compliance/export", size: "num_findings", most: 5000, least: 50, filters: t.Findings, bump: "since",
			})),
			named("tenable_was", was),
		},
		Check: func(ctx context.Context) error {
			_, err := t.api.Get(ctx, rest.Request{Path: "/vulns/export/status"})
			return err
		},
	}
}

// classifyTenable knows that a refusal to start the same export twice is no
// rate limit, though it may come as 429: the rate limit's answer is HTML.
func classifyTenable(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status == http.StatusTooManyRequests && isDuplicate(s) {
		return rest.Fatal
	}
	return usual
}

func isDuplicate(s *rest.StatusError) bool {
	return s.Status == http.StatusConflict ||
		s.Status == http.StatusTooManyRequests && strings.HasPrefix(strings.TrimSpace(string(s.Body)), "{")
}

// tenableExport is what differs between the vendor's exports.
type tenableExport struct {
	path        string // of the start; status, chunks and cancel lie below it
	size        string // the member that sets the chunk's size
	most, least int
	filters     string
	extra       map[string]any
	// bump is a filter that can be raised by one without changing the result,
	// which makes a request differ from another's running export; "" for none.
	bump string
	// counted: the chunks' number must be taken from the list of recent jobs,
	// because the job's own status does not tell of chunks that failed.
	counted bool
}

// export extracts by one of the export jobs.
func (t *tenable) export(x tenableExport) func(context.Context, collector.Output) error {
	return func(ctx context.Context, out collector.Output) error {
		return rest.Export{
			Start:  func(ctx context.Context, attempt int) (string, error) { return t.start(ctx, x, attempt) },
			Status: func(ctx context.Context, id string) (rest.JobStatus, error) { return t.status(ctx, x, id) },
			Fetch: func(ctx context.Context, id, chunk string, out collector.Output) error {
				return t.chunk(ctx, x, id, chunk, out)
			},
			Cancel:   func(ctx context.Context, id string) error { return t.cancel(ctx, x, id) },
			Asked:    t.asked(x),
			Parallel: t.Parallel,
		}.Run(ctx, out)
	}
}

// asked is all that an export's content depends on. The store keeps no more of
// it than a sum, so the key may be a part.
func (t *tenable) asked(x tenableExport) string {
	return strings.Join([]string{t.URL.String(), t.AccessKey.Reveal(), x.path, x.filters, fmt.Sprint(x.extra)}, "\x00")
}

// request is the body of a start. raised is added to the bump filter.
func (x tenableExport) request(attempt, raised int) ([]byte, error) {
	var filters map[string]any
	d := json.NewDecoder(strings.NewReader(x.filters))
	d.UseNumber()
	if err := d.Decode(&filters); err != nil {
		return nil, err
	}
	if raised > 0 {
		since, _ := filters[x.bump].(json.Number)
		n, _ := since.Int64()
		filters[x.bump] = max(n, 1) + int64(raised)
	}
	body := map[string]any{x.size: max(x.least, x.most>>attempt), "filters": filters}
	for name, value := range x.extra {
		body[name] = value
	}
	return json.Marshal(body)
}

// start begins an export. The vendor refuses one whose filters are those of a
// running one. That other one is ours when an earlier start of this run got no
// clear answer, or when it was noted by a run that was cut off; anybody else's
// may show other rights and must not be taken.
func (t *tenable) start(ctx context.Context, x tenableExport, attempt int) (string, error) {
	unclear, raised, failures := false, 0, 0
	for {
		body, err := x.request(attempt, raised)
		if err != nil {
			return "", err
		}
		answer, err := t.api.Get(ctx, rest.Request{Method: http.MethodPost, Path: x.path, Body: body, Once: true})
		if err == nil {
			id := answer.Text("export_uuid")
			if id == "" {
				return "", fmt.Errorf("POST %s: %w: the answer has no export_uuid", x.path, collector.ErrIncomplete)
			}
			return id, t.note(ctx, x, id)
		}
		var s *rest.StatusError
		if !errors.As(err, &s) || !isDuplicate(s) {
			if failures++; failures > 5 || !mayPass(err) || ctx.Err() != nil {
				return "", err
			}
			unclear = true // a start that got no answer may have begun a job
			if err := rest.Sleep(ctx, time.Duration(failures)*2*time.Second, "retry of POST "+x.path, false); err != nil {
				return "", err
			}
			continue
		}
		if id := duplicateID(s.Body); id != "" && (unclear || id == t.noted(ctx, x)) {
			t.log.Info("adopted an export that was begun before", zap.String("export", x.path), zap.String("uuid", id))
			return id, t.note(ctx, x, id)
		}
		if x.bump != "" {
			raised++
			if raised < 20 {
				continue
			}
		}
		t.log.Info("waiting for another program's export with the same filters", zap.String("export", x.path))
		if err := rest.Sleep(ctx, 45*time.Second, "another program's export of "+x.path, false); err != nil {
			return "", err
		}
		raised = 0
	}
}

// mayPass tells failures after which the same start can be tried again.
func mayPass(err error) bool {
	var s *rest.StatusError
	if errors.As(err, &s) {
		return s.Status >= 500 || s.Status == http.StatusRequestTimeout
	}
	return !errors.Is(err, collector.ErrRefused) && !errors.Is(err, context.Canceled)
}

func noteKey(x tenableExport) string { return "tenable export " + x.path }

func (t *tenable) note(ctx context.Context, x tenableExport, id string) error {
	if t.notes == nil {
		return nil
	}
	return t.notes.SetNote(ctx, noteKey(x), id)
}

// noted is the id of the export that an earlier run began and may have left.
func (t *tenable) noted(ctx context.Context, x tenableExport) string {
	if t.notes == nil {
		return ""
	}
	id, err := t.notes.Note(ctx, noteKey(x))
	if err != nil {
		t.log.Warn("reading the noted export", zap.String("export", x.path), zap.Error(err))
	}
	return id
}

var jobUUID = regexp.MustCompile(`job_uuid=([0-9a-fA-F-]{36})`)

// duplicateID reads the running job's id from any of the forms in which the
// vendor refuses a duplicate; "" when it is not told.
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

// status reads a job's state. Lists that the vendor leaves out are empty.
func (t *tenable) status(ctx context.Context, x tenableExport, id string) (rest.JobStatus, error) {
	answer, err := t.api.Get(ctx, rest.Request{Path: x.path + "/" + id + "/status"})
	if err != nil {
		return rest.JobStatus{}, lost(err)
	}
	var lists struct {
		Ready     []json.Number `json:"chunks_available"`
		Failed    []json.Number `json:"chunks_failed"`
		Cancelled []json.Number `json:"chunks_cancelled"`
	}
	for name, list := range map[string]*[]json.Number{
		"chunks_available": &lists.Ready, "chunks_failed": &lists.Failed, "chunks_cancelled": &lists.Cancelled,
	} {
		if v := answer.Value(name); v != nil {
			if err := json.Unmarshal(v, list); err != nil {
				return rest.JobStatus{}, fmt.Errorf("GET %s/%s/status: %w: %s: %w", x.path, id, collector.ErrIncomplete, name, err)
			}
		}
	}
	var s rest.JobStatus
	for _, n := range lists.Ready {
		s.Ready = append(s.Ready, n.String())
	}
	state, reason := answer.Text("status"), answer.Text("reason")
	switch {
	case state == "ERROR", state == "CANCELLED":
		s.Dead = strings.TrimSpace("it ended as " + state + ". " + reason)
	case len(lists.Failed)+len(lists.Cancelled) > 0:
		s.Dead = strings.TrimSpace(fmt.Sprintf("%d chunks failed, %d were cancelled. %s", len(lists.Failed), len(lists.Cancelled), reason))
	case state == "FINISHED":
		s.Done = true
		t.warnOfCounts(x, id, answer, len(lists.Ready))
		s.Missing, err = t.missing(ctx, x, id)
	}
	return s, err
}

// warnOfCounts reports counts that do not add up. The vendor counts empty
// chunks in three ways, so this is no proof that something is missing.
func (t *tenable) warnOfCounts(x tenableExport, id string, answer *rest.Envelope, ready int) {
	total, ok := answer.Count("total_chunks")
	empty, _ := answer.Count("empty_chunks_count")
	if ok && int64(ready)+empty < total {
		t.log.Warn("the export's chunks do not add up", zap.String("export", x.path), zap.String("uuid", id),
			zap.Int64("total_chunks", total), zap.Int("chunks_available", ready), zap.Int64("empty_chunks_count", empty))
	}
}

// missing looks a finished job up in the list of recent jobs, the only place
// that tells how many chunks an asset export should have had.
func (t *tenable) missing(ctx context.Context, x tenableExport, id string) (string, error) {
	if !x.counted {
		return "", nil
	}
	var job struct{ total, finished int64 }
	found := false
	err := t.api.Do(ctx, rest.Request{Path: x.path + "/status"}, func(r *rest.Response) error {
		_, err := rest.Split(r.Body, rest.Shape{Records: "exports", Optional: true}, func(_ *rest.Envelope, raw []byte) error {
			if rest.Text(rest.Member(raw, "uuid")) != id {
				return nil
			}
			job.total, _ = strconv.ParseInt(rest.Text(rest.Member(raw, "total_chunks")), 10, 64)
			job.finished, _ = strconv.ParseInt(rest.Text(rest.Member(raw, "finished_chunks")), 10, 64)
			found = true
			return nil
		})
		return err
	})
	var s *rest.StatusError
	if errors.As(err, &s) && s.Status == http.StatusNotFound {
		return "", nil // the list is not offered; the job's own status has to do
	}
	if err != nil {
		return "", err
	}
	if found && job.finished < job.total {
		return fmt.Sprintf("%d of %d chunks were finished", job.finished, job.total), nil
	}
	return "", nil
}

// lost turns "not found" into the toolkit's word for it.
func lost(err error) error {
	var s *rest.StatusError
	if errors.As(err, &s) && s.Status == http.StatusNotFound {
		return fmt.Errorf("%w: %w", rest.ErrJobLost, err)
	}
	return err
}

// chunk reads one chunk, an array of records, whatever its content type.
func (t *tenable) chunk(ctx context.Context, x tenableExport, id, chunk string, out collector.Output) error {
	r := rest.Request{Path: x.path + "/" + id + "/chunks/" + chunk, Class: "chunk"}
	_, err := t.api.Fetch(ctx, r, rest.Shape{}, out, nil)
	var s *rest.StatusError
	if errors.As(err, &s) && s.Status == http.StatusBadRequest {
		return fmt.Errorf("%w: %w", rest.ErrNotReady, err)
	}
	return lost(err)
}

// cancel frees the job's place at the vendor. A job that has finished cannot
// be cancelled, and needs not be.
func (t *tenable) cancel(ctx context.Context, x tenableExport, id string) error {
	_, err := t.api.Get(ctx, rest.Request{Method: http.MethodPost, Path: x.path + "/" + id + "/cancel"})
	return err
}
