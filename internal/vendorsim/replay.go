package vendorsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Interaction is one recorded request with its response. A recording is a JSON
// array of interactions in the order in which they happened.
type Interaction struct {
	Request struct {
		Method string  `json:"method"`
		Path   string  `json:"path"`
		Query  string  `json:"query"`
		Body   *string `json:"body"`
	} `json:"request"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		// Body is the uncompressed body of the response.
		Body *string `json:"body"`
	} `json:"response"`
}

// Recording is a [Vendor] that responds with recorded traffic.
//
// Responses are served in recorded order per method and path, and the last one
// is repeated. Requests whose query was recorded have their own order, so that
// the pages of a list can be read again. The status of an export job lists only
// chunks that were recorded, and is FINISHED with exactly those after the last
// recorded response. The list of recent jobs of an export is empty if it was
// not recorded. The response to any other request is 404.
type Recording struct {
	mu        sync.Mutex
	sequences map[string]*responseSequence // by "METHOD path" and "METHOD path?query"
	chunks    map[string][]int             // ids of recorded chunks, by path of the job
}

// responseSequence is a sequence of responses.
type responseSequence struct {
	responses []*bufferedResponse
	next      int
}

// LoadRecording reads recordings from files, and from all .json files of
// directories in the order of their names.
func LoadRecording(paths ...string) (*Recording, error) {
	rec := &Recording{sequences: map[string]*responseSequence{}, chunks: map[string][]int{}}
	for _, path := range paths {
		files := []string{path}
		if info, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("load recording: %w", err)
		} else if info.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*.json")); err != nil {
				return nil, fmt.Errorf("load recording: %w", err)
			}
		}
		for _, file := range files {
			if err := rec.loadFile(file); err != nil {
				return nil, err
			}
		}
	}
	if len(rec.sequences) == 0 {
		return nil, fmt.Errorf("load recording: no interactions in %s", strings.Join(paths, ", "))
	}
	return rec, nil
}

// Replay starts a server that responds with recorded traffic. See
// [LoadRecording] for the paths and [Recording] for the rules. Its only host is
// named "replay".
func Replay(paths ...string) (*Server, error) {
	rec, err := LoadRecording(paths...)
	if err != nil {
		return nil, err
	}
	return Start(Options{Vendors: []Vendor{rec}})
}

// loadFile adds the interactions of one file.
func (rec *Recording) loadFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("load recording: %w", err)
	}
	var list []Interaction
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("load recording %s: %w", file, err)
	}
	for _, interaction := range list {
		rec.addInteraction(interaction)
	}
	return nil
}

// transferHeaders describe the recorded transfer, not the response.
var transferHeaders = []string{"Connection", "Content-Encoding", "Content-Length", "Date", "Transfer-Encoding"}

// addInteraction appends an interaction to the sequences of its path and of its
// query.
func (rec *Recording) addInteraction(interaction Interaction) {
	response := &bufferedResponse{code: interaction.Response.Status, header: http.Header{}}
	for name, value := range interaction.Response.Headers {
		if !slices.Contains(transferHeaders, http.CanonicalHeaderKey(name)) {
			response.header.Set(name, value)
		}
	}
	if interaction.Response.Body != nil {
		response.body = []byte(*interaction.Response.Body)
	}
	keys := []string{interaction.Request.Method + " " + interaction.Request.Path}
	if interaction.Request.Query != "" {
		keys = append(keys, keys[0]+"?"+canonicalQuery(interaction.Request.Query))
	}
	for _, key := range keys {
		t := rec.sequences[key]
		if t == nil {
			t = &responseSequence{}
			rec.sequences[key] = t
		}
		t.responses = append(t.responses, response)
	}
	if job, id, ok := chunkPath(interaction.Request.Path); ok && response.code == http.StatusOK && !slices.Contains(rec.chunks[job], id) {
		rec.chunks[job] = append(rec.chunks[job], id)
	}
}

// canonicalQuery returns a query with its parameters sorted.
func canonicalQuery(query string) string {
	values, err := url.ParseQuery(query)
	if err != nil {
		return query
	}
	return values.Encode()
}

// Name returns "replay".
func (rec *Recording) Name() string { return "replay" }

// Specs returns nil: a recording has no generated streams.
func (rec *Recording) Specs(Gen) []Spec { return nil }

// Limits returns nil.
func (rec *Recording) Limits() []Limit { return nil }

// Env returns the settings of the vendors whose paths were recorded.
func (rec *Recording) Env(url string) []string {
	var lines []string
	for _, v := range AllVendors() {
		if rec.hasVendorPath(v.Name()) {
			lines = append(lines, v.Env(url)...)
		}
	}
	return lines
}

// hasVendorPath reports whether a recorded path belongs to a vendor.
func (rec *Recording) hasVendorPath(vendor string) bool {
	for key := range rec.sequences {
		_, path, _ := strings.Cut(key, " ")
		for _, prefix := range vendorPrefixes[vendor] {
			if strings.HasPrefix(path, prefix) {
				return true
			}
		}
	}
	return false
}

// Routes returns the replaying API.
func (rec *Recording) Routes(*Host) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { rec.findResponse(r).writeTo(w) })
	return mux
}

// findResponse returns the response to a request.
func (rec *Recording) findResponse(r *http.Request) *bufferedResponse {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	key := r.Method + " " + r.URL.Path
	t := rec.sequences[key+"?"+r.URL.Query().Encode()]
	if t == nil {
		t = rec.sequences[key]
	}
	job, isStatus := strings.CutSuffix(r.URL.Path, "/status")
	switch {
	case t == nil && isStatus && r.Method == http.MethodGet && rec.hasRecordedJobs(job):
		return jsonResponse(http.StatusOK, `{"exports":[]}`)
	case t == nil:
		return jsonResponse(http.StatusNotFound, string(mustJSON(map[string]string{"error": "not recorded: " + key})))
	}
	response, used := t.responses[min(t.next, len(t.responses)-1)], t.next >= len(t.responses)
	t.next++
	if ids, known := rec.chunks[job]; isStatus && known && response.code == http.StatusOK {
		return &bufferedResponse{code: response.code, header: response.header, body: rewriteJobStatus(response.body, ids, used)}
	}
	return response
}

// hasRecordedJobs reports whether jobs under a path were recorded.
func (rec *Recording) hasRecordedJobs(path string) bool {
	for job := range rec.chunks {
		if strings.HasPrefix(job, path+"/") {
			return true
		}
	}
	return false
}

func jsonResponse(code int, body string) *bufferedResponse {
	return &bufferedResponse{code: code, header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body: []byte(body)}
}
