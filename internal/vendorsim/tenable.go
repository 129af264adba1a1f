package vendorsim

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
)

// Streams of [Tenable].
const (
	// TenableVulns are the vulnerability findings of /vulns/export.
	TenableVulns = "tenable_vulnerabilities"
	// TenableAssets are the assets of /assets/export (flat records).
	TenableAssets = "tenable_assets"
	// TenableAssetsV2 are the same assets in the nested form of
	// /assets/v2/export. Their count follows TenableAssets.
	TenableAssetsV2 = "tenable_assets_v2"
	// TenableFindings are the host audit results of /compliance/export.
	TenableFindings = "tenable_findings"
	// TenableWAS are the findings of web application scan reports. Record
	// gives the finding as it stands in its report; [Tenable.WASRecord] gives
	// it with scan and config around it.
	TenableWAS = "tenable_was"
	// TenableWASBulk are the findings of /was/v1/export/vulns.
	TenableWASBulk = "tenable_was_bulk"
)

// Keys that [NewTenable] accepts.
const (
	TenableAccessKey = "sim-access-key"
	TenableSecretKey = "sim-secret-key"
)

// Tenable simulates Tenable Vulnerability Management: the export jobs of
// vulnerabilities, assets, compliance findings and web application findings,
// and the web application scan reports. How jobs behave is set per stream
// with Configure, at any time.
//
// Of the export filters, states, severities, times, licence, deletion and
// asset types select records; other documented names are accepted and echoed
// but do not narrow.
type Tenable struct {
	host    *Host
	model   tenableModel
	kinds   []*exportKind
	reading atomic.Int64 // chunk reads in flight

	mu      sync.Mutex
	revoked bool
	expired bool // alternates between the two forms of 404
	config  map[string]*TenableStream
	jobs    map[string]*exportJob
	order   []*exportJob // oldest first
	reports map[int]int  // report requests since the PUT, by target
	was     *wasIndex
}

// NewTenable returns a simulated Tenable tenant for one [Server].
func NewTenable() *Tenable {
	t := &Tenable{
		config:  map[string]*TenableStream{},
		jobs:    map[string]*exportJob{},
		reports: map[int]int{},
	}
	for _, name := range []string{TenableVulns, TenableAssets, TenableFindings, TenableWAS, TenableWASBulk} {
		t.config[name] = &TenableStream{QueuedPolls: 1, GrowPolls: 3, MaxJobs: 10}
	}
	t.config[TenableVulns].Duplicates = Duplicate409ID
	t.config[TenableWASBulk].Duplicates = Duplicate409ID
	t.config[TenableAssets].Duplicates = Duplicate409Empty
	t.config[TenableFindings].Duplicates = DuplicateAccepted
	return t
}

// Name returns "tenable".
func (t *Tenable) Name() string { return "tenable" }

// Env returns the TIO_ settings.
func (t *Tenable) Env(url string) []string {
	return []string{"TIO_URL=" + url, "TIO_ACCESS_KEY=" + TenableAccessKey, "TIO_SECRET_KEY=" + TenableSecretKey}
}

// Limits returns the limit "tenable", which counts all calls. Its figure is
// not published and so it is off unless [Options.Limits] or [Host.SetLimit]
// sets it; the wait is the 30 seconds of the documented answer.
func (t *Tenable) Limits() []Limit {
	return []Limit{{Name: "tenable", Reject: func(w http.ResponseWriter, _ *http.Request, q Quota) {
		tenableThrottle(w, q.ResetSeconds())
	}}}
}

// tenableThrottle writes the gateway's 429, which is an HTML page.
func tenableThrottle(w http.ResponseWriter, retryAfter string) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Retry-After", retryAfter)
	w.WriteHeader(http.StatusTooManyRequests)
	_, _ = io.WriteString(w, "<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n<body>\r\n<center><h1>429 Too Many Requests</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n")
}

// Configure changes how the export jobs of a stream (and, for [TenableWAS],
// the scan reports) behave. Jobs that exist keep the outcome that they
// started with.
func (t *Tenable) Configure(stream string, change func(*TenableStream)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.config[stream]
	if c == nil {
		panic("vendorsim: tenable has no settings for stream " + stream)
	}
	change(c)
}

// streamConfig returns a copy of the settings of a stream.
func (t *Tenable) streamConfig(stream string) TenableStream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.config[stream]
}

// Revoke makes every further call fail with 401, as after the user's keys
// were replaced.
func (t *Tenable) Revoke() { t.setRevoked(true) }

// Restore takes the keys back into service.
func (t *Tenable) Restore() {
	t.setRevoked(false)
	t.host.Forgive()
}

func (t *Tenable) setRevoked(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked = yes
}

// Routes returns the API.
func (t *Tenable) Routes(h *Host) *http.ServeMux {
	t.host = h
	mux := http.NewServeMux()
	handle := func(pattern, stream string, f http.HandlerFunc) {
		mux.Handle(pattern, t.guard(stream, t.locked(f)))
	}
	t.kinds = exportKinds()
	for _, k := range t.kinds {
		for _, p := range k.startPaths() {
			handle("POST "+p, k.stream, func(w http.ResponseWriter, r *http.Request) { t.startExport(w, r, k, p) })
		}
		handle("GET "+k.base+"/status", k.stream, func(w http.ResponseWriter, _ *http.Request) { t.recentExports(w, k) })
		handle("GET "+k.base+"/{uuid}/status", k.stream, func(w http.ResponseWriter, r *http.Request) { t.exportStatus(w, r, k) })
		mux.Handle("GET "+k.base+"/{uuid}/chunks/{n}", t.guard(k.stream, func(w http.ResponseWriter, r *http.Request) { t.exportChunk(w, r, k) }))
		handle("POST "+k.base+"/{uuid}/cancel", k.stream, func(w http.ResponseWriter, r *http.Request) { t.cancelExport(w, r, k) })
	}
	handle("POST /was/v2/configs/search", TenableWAS, t.wasConfigs)
	handle("POST /was/v2/scans/{scan}/vulnerabilities/by-targets/search", TenableWAS, t.wasTargets)
	mux.Handle("GET /was/v2/scans/{scan}/report", t.guard(TenableWAS, t.wasReport))
	handle("PUT /was/v2/scans/{scan}/report", TenableWAS, t.wasMakeReport)
	handle("/", "", func(w http.ResponseWriter, _ *http.Request) {
		tenableError(w, http.StatusNotFound, "Not Found", "Not Found")
	})
	return mux
}

// locked runs a handler under the lock. Body and answer pass through memory,
// so that a slow client does not hold the lock.
func (t *Tenable) locked(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		t.record(f, r).send(w)
	}
}

// record runs a handler under the lock and returns its answer.
func (t *Tenable) record(f http.HandlerFunc, r *http.Request) *answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return record(f, r)
}

var apiKeys = regexp.MustCompile(`^accessKey=([^;]*); ?secretKey=([^;]*);?$`)

// guard checks the keys before a handler. The stream is the one that
// [TenableStream.Forbidden] refuses; "" for none.
func (t *Tenable) guard(stream string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Uuid", fmt.Sprintf("%032x", t.host.Unique()))
		key := apiKeys.FindStringSubmatch(r.Header.Get("X-Apikeys"))
		t.mu.Lock()
		revoked := t.revoked
		t.mu.Unlock()
		switch {
		case key == nil:
			tenableError(w, http.StatusUnauthorized, "Unauthorized", "Missing authentication")
		case revoked || key[1] != TenableAccessKey || key[2] != TenableSecretKey:
			tenableError(w, http.StatusUnauthorized, "Unauthorized", "Invalid credentials.")
		case stream != "" && t.streamConfig(stream).Forbidden:
			tenableError(w, http.StatusForbidden, "Forbidden", "Insufficient scope")
		default:
			next(w, r)
		}
	})
}

// tenableError writes an error in the platform's usual shape.
func tenableError(w http.ResponseWriter, code int, word, message string) {
	writeJSON(w, code, struct {
		StatusCode int    `json:"statusCode"`
		Error      string `json:"error"`
		Message    string `json:"message"`
	}{code, word, message})
}

// writeJSON writes a small answer.
func writeJSON(w http.ResponseWriter, code int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(code)
	_, _ = w.Write(mustJSON(v))
}
