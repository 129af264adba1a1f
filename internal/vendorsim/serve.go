package vendorsim

import (
	"net/http"
	"strings"
)

// serveHTTP passes a request through the layers that all vendors share:
// counting, checks of the client's behavior, latency, rate limits, faults and
// compression. The last layer is the vendor.
func (h *Host) serveHTTP(w http.ResponseWriter, r *http.Request) {
	h.handlers.RLock()
	defer h.handlers.RUnlock()

	_, pattern := h.mux.Handler(r)
	if pattern == "" {
		pattern = r.Method + " (no such path)"
	}
	visit := h.monitor.beginRequest(r, pattern)
	defer h.monitor.endRequest(visit)
	out := &observer{ResponseWriter: w, monitor: &h.monitor, request: visit}

	if !sleepContext(r.Context(), h.server.opts.Latency) {
		return
	}
	var next http.Handler = h.mux
	next = h.server.opts.Gzip.compressResponses(next)
	next = h.faults.applyFaults(r, next)
	next, leave := h.applyLimits(out, r, next)
	defer leave()
	next.ServeHTTP(out, r)
	if visit.status == 0 && r.Context().Err() == nil {
		out.WriteHeader(http.StatusOK)
	}
}

// observer counts the bytes that are sent and records the status before the
// client can act on it.
type observer struct {
	http.ResponseWriter
	monitor *monitor
	request *activeRequest
}

// WriteHeader records the status, then sends it.
func (o *observer) WriteHeader(code int) {
	if code >= 200 && o.request.status == 0 {
		o.monitor.recordStatus(o.request, code, o.Header())
	}
	o.ResponseWriter.WriteHeader(code)
}

// Write counts p, then sends it.
func (o *observer) Write(p []byte) (int, error) {
	if o.request.status == 0 {
		o.WriteHeader(http.StatusOK)
	}
	o.monitor.bytesOut.Add(int64(len(p)))
	return o.ResponseWriter.Write(p)
}

// Unwrap returns the wrapped writer, for http.ResponseController.
func (o *observer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// matchPath reports whether a path matches a pattern, segment by segment: "*"
// and "{name}" stand for one segment, a last "**" for the rest. An empty
// pattern matches every path.
func matchPath(pattern, path string) bool {
	if pattern == "" || pattern == path {
		return true
	}
	for {
		p, prest, pmore := strings.Cut(pattern, "/")
		s, srest, smore := strings.Cut(path, "/")
		if p == "**" {
			return true
		}
		if p != s && p != "*" && !(strings.HasPrefix(p, "{") && strings.HasSuffix(p, "}")) {
			return false
		}
		if !pmore || !smore {
			return pmore == smore
		}
		pattern, path = prest, srest
	}
}

// callerCredential returns the value of the header in which the vendors expect
// the credential. It is compared but never printed.
func callerCredential(r *http.Request) string {
	if v := r.Header.Get("X-Apikeys"); v != "" {
		return v
	}
	return r.Header.Get("Authorization")
}
