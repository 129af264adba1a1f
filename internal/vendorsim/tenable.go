package vendorsim

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
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
	// returns the finding as it is in its report; [Tenable.WASRecord] returns
	// it together with its scan and config.
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
// and the reports of web application scans. ConfigureStream sets how the jobs
// of a stream behave, at any time.
//
// The export filters for states, severities, times, licence, deletion and asset
// types select records. Other documented filters are accepted and echoed but
// select nothing.
type Tenable struct {
	host        *Host
	model       tenableModel
	kinds       []*exportKind
	activeReads atomic.Int64 // chunk reads in progress

	mu          sync.Mutex
	revoked     bool
	altNotFound bool // selects one of the two forms of 404 in turn
	config      map[string]*TenableStream
	jobs        map[string]*exportJob
	order       []*exportJob // oldest first
	reports     map[int]int  // report requests since the PUT, by target
	shifts      int          // configs that moved to the front of their list
	webApps     *webAppIndex
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

// Limits returns the limit "tenable", which counts all calls. Its number is not
// published, so it is off unless [Options.Limits] or [Host.SetLimit] sets it.
func (t *Tenable) Limits() []Limit {
	return []Limit{{Name: "tenable", Reject: func(w http.ResponseWriter, _ *http.Request, q Quota) {
		writeTenableThrottle(w, q.ResetSeconds())
	}}}
}

// writeTenableThrottle writes the gateway's 429, which is an HTML page.
func writeTenableThrottle(w http.ResponseWriter, retryAfter string) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Retry-After", retryAfter)
	w.WriteHeader(http.StatusTooManyRequests)
	_, _ = io.WriteString(w, "<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n<body>\r\n<center><h1>429 Too Many Requests</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n")
}

// ConfigureStream changes how the export jobs of a stream (and, for
// [TenableWAS], the scan reports) behave. Existing jobs keep the configuration
// with which they started. It panics if the stream has no configuration.
func (t *Tenable) ConfigureStream(stream string, change func(*TenableStream)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.config[stream]
	if c == nil {
		panic("vendorsim: tenable has no configuration for stream " + stream)
	}
	change(c)
}

// streamConfig returns a copy of the configuration of a stream.
func (t *Tenable) streamConfig(stream string) TenableStream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.config[stream]
}

// Revoke makes all later calls fail with 401, as if the user's keys had been
// replaced.
func (t *Tenable) Revoke() { t.setKeysRevoked(true) }

// Restore makes the keys valid again after Revoke.
func (t *Tenable) Restore() {
	t.setKeysRevoked(false)
	t.host.Forgive()
}

func (t *Tenable) setKeysRevoked(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked = yes
}

// Routes returns the API.
func (t *Tenable) Routes(h *Host) *http.ServeMux {
	t.host = h
	mux := http.NewServeMux()
	handle := func(pattern, stream string, f http.HandlerFunc) {
		mux.Handle(pattern, t.requireAPIKeys(stream, t.withLock(f)))
	}
	t.kinds = exportKinds()
	for _, k := range t.kinds {
		for _, p := range k.startPaths() {
			handle("POST "+p, k.stream, func(w http.ResponseWriter, r *http.Request) { t.startExport(w, r, k, p) })
		}
		handle("GET "+k.base+"/status", k.stream, func(w http.ResponseWriter, _ *http.Request) { t.recentExports(w, k) })
		handle("GET "+k.base+"/{uuid}/status", k.stream, func(w http.ResponseWriter, r *http.Request) { t.exportStatus(w, r, k) })
		mux.Handle("GET "+k.base+"/{uuid}/chunks/{n}",
			t.requireAPIKeys(k.stream, func(w http.ResponseWriter, r *http.Request) { t.exportChunk(w, r, k) }))
		handle("POST "+k.base+"/{uuid}/cancel", k.stream, func(w http.ResponseWriter, r *http.Request) { t.cancelExport(w, r, k) })
	}
	handle("POST /was/v2/configs/search", TenableWAS, t.serveWebAppConfigs)
	handle("POST /was/v2/configs/{config}/scans/search", TenableWAS, t.serveWebAppScans)
	handle("POST /was/v2/scans/{scan}/vulnerabilities/by-targets/search", TenableWAS, t.serveWebAppTargets)
	mux.Handle("GET /was/v2/scans/{scan}/report", t.requireAPIKeys(TenableWAS, t.serveWebAppReport))
	handle("PUT /was/v2/scans/{scan}/report", TenableWAS, t.createWebAppReport)
	handle("/", "", func(w http.ResponseWriter, _ *http.Request) {
		writeTenableError(w, http.StatusNotFound, "Not Found", "Not Found")
	})
	return mux
}

// withLock runs a handler under the lock. Request body and response are
// buffered in memory, so that a slow client does not hold the lock.
func (t *Tenable) withLock(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has disconnected
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		t.captureLocked(f, r).writeTo(w)
	}
}

// captureLocked runs a handler under the lock and returns its response.
func (t *Tenable) captureLocked(f http.HandlerFunc, r *http.Request) *bufferedResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	return captureResponse(f, r)
}

var apiKeys = regexp.MustCompile(`^accessKey=([^;]*); ?secretKey=([^;]*);?$`)

// requireAPIKeys checks the keys of a request before next handles it, and
// [TenableStream.Forbidden] of the stream unless that is "".
func (t *Tenable) requireAPIKeys(stream string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Uuid", fmt.Sprintf("%032x", t.host.Unique()))
		key := apiKeys.FindStringSubmatch(r.Header.Get("X-Apikeys"))
		t.mu.Lock()
		revoked := t.revoked
		t.mu.Unlock()
		switch {
		case key == nil:
			writeTenableError(w, http.StatusUnauthorized, "Unauthorized", "Missing authentication")
		case revoked || key[1] != TenableAccessKey || !t.host.acceptsKey(key[2], TenableSecretKey):
			writeTenableError(w, http.StatusUnauthorized, "Unauthorized", "Invalid credentials.")
		case stream != "" && t.streamConfig(stream).Forbidden && strings.HasPrefix(r.URL.Path, "/was/v2/"):
			writeWebAppError(w, http.StatusForbidden, "OPERATION_FORBIDDEN", "The operation is not allowed.")
		case stream != "" && t.streamConfig(stream).Forbidden:
			writeTenableError(w, http.StatusForbidden, "Forbidden", "Insufficient scope")
		default:
			next(w, r)
		}
	})
}

// writeTenableError writes an error in the platform's usual format.
func writeTenableError(w http.ResponseWriter, code int, word, message string) {
	writeJSON(w, code, struct {
		StatusCode int    `json:"statusCode"`
		Error      string `json:"error"`
		Message    string `json:"message"`
	}{StatusCode: code, Error: word, Message: message})
}

// writeJSON writes v as a JSON response.
func writeJSON(w http.ResponseWriter, code int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(code)
	_, _ = w.Write(mustJSON(v))
}
