package vendorsim

import (
	"net/http"
	"strings"
)

// serveHTTP takes a request through the layers that all vendors share:
// counting, latency, the client's manners, rate limits, faults, compression,
// and last the vendor.
func (h *Host) serveHTTP(w http.ResponseWriter, r *http.Request) {
	h.handlers.RLock()
	defer h.handlers.RUnlock()

	_, pattern := h.mux.Handler(r)
	if pattern == "" {
		pattern = r.Method + " (no such path)"
	}
	visit := h.watch.begin(r, pattern)
	defer h.watch.end(visit)
	out := &observer{ResponseWriter: w, watch: &h.watch, visit: visit}

	if !pause(r.Context(), h.server.opts.Latency) {
		return
	}
	var next http.Handler = h.mux
	next = h.server.opts.Gzip.wrap(next)
	next = h.faults.wrap(r, next)
	next, leave := h.enterLimits(out, r, next)
	defer leave()
	next.ServeHTTP(out, r)
	if visit.status == 0 && r.Context().Err() == nil {
		out.WriteHeader(http.StatusOK)
	}
}

// observer counts what goes out and sees the status before the client can
// act on it.
type observer struct {
	http.ResponseWriter
	watch *watch
	visit *visit
}

// WriteHeader notes the status, then sends it.
func (o *observer) WriteHeader(code int) {
	if code >= 200 && o.visit.status == 0 {
		o.watch.answered(o.visit, code, o.Header())
	}
	o.ResponseWriter.WriteHeader(code)
}

// Write counts p, then sends it.
func (o *observer) Write(p []byte) (int, error) {
	if o.visit.status == 0 {
		o.WriteHeader(http.StatusOK)
	}
	o.watch.bytesOut.Add(int64(len(p)))
	return o.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (o *observer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// matchPath reports whether a path fits a pattern, segment by segment: "*"
// and "{name}" stand for one segment, a last "**" for the rest. An empty
// pattern fits every path.
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

// credential returns what identifies the caller: the value of the header in
// which the vendors expect the key. It is compared, never shown.
func credential(r *http.Request) string {
	if v := r.Header.Get("X-Apikeys"); v != "" {
		return v
	}
	return r.Header.Get("Authorization")
}
