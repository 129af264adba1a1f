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

// Interaction is one recorded request with its answer. A recording is a JSON
// array of them in the order in which they happened.
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
		// Body is the text of the answer, not compressed.
		Body *string `json:"body"`
	} `json:"response"`
}

// Recording is a [Vendor] that answers from recorded traffic.
//
// It answers in recorded order per method and path, and repeats the last
// answer. Requests whose query was recorded have an order of their own, so
// that the pages of a list can be read again. The status of an export job
// lists only chunks that were recorded, and once the recorded answers are used
// up it is FINISHED with exactly those. The list of recent jobs of an export
// that was recorded without one is empty. Anything else is answered with 404.
type Recording struct {
	mu     sync.Mutex
	tracks map[string]*track // by "METHOD path" and "METHOD path?query"
	chunks map[string][]int  // recorded chunk ids, by path of the job
}

// track is a sequence of answers.
type track struct {
	answers []*answer
	next    int
}

// LoadRecording reads recordings from files, and from all .json files of
// folders in order of their names.
func LoadRecording(paths ...string) (*Recording, error) {
	rec := &Recording{tracks: map[string]*track{}, chunks: map[string][]int{}}
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
			if err := rec.load(file); err != nil {
				return nil, err
			}
		}
	}
	if len(rec.tracks) == 0 {
		return nil, fmt.Errorf("load recording: no interactions in %s", strings.Join(paths, ", "))
	}
	return rec, nil
}

// Replay starts a server that answers from recordings; see [LoadRecording]
// for the paths and [Recording] for the rules. Its one host is named
// "replay".
func Replay(paths ...string) (*Server, error) {
	rec, err := LoadRecording(paths...)
	if err != nil {
		return nil, err
	}
	return Start(Options{Vendors: []Vendor{rec}})
}

// load reads one file.
func (rec *Recording) load(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("load recording: %w", err)
	}
	var list []Interaction
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("load recording %s: %w", file, err)
	}
	for _, x := range list {
		rec.add(x)
	}
	return nil
}

// hopHeaders describe the recorded transfer, not the answer.
var hopHeaders = []string{"Connection", "Content-Encoding", "Content-Length", "Date", "Transfer-Encoding"}

// add appends an interaction to the tracks that it belongs to.
func (rec *Recording) add(x Interaction) {
	a := &answer{code: x.Response.Status, header: http.Header{}}
	for name, value := range x.Response.Headers {
		if !slices.Contains(hopHeaders, http.CanonicalHeaderKey(name)) {
			a.header.Set(name, value)
		}
	}
	if x.Response.Body != nil {
		a.body = []byte(*x.Response.Body)
	}
	keys := []string{x.Request.Method + " " + x.Request.Path}
	if x.Request.Query != "" {
		keys = append(keys, keys[0]+"?"+sortQuery(x.Request.Query))
	}
	for _, key := range keys {
		t := rec.tracks[key]
		if t == nil {
			t = &track{}
			rec.tracks[key] = t
		}
		t.answers = append(t.answers, a)
	}
	if job, id, ok := chunkPath(x.Request.Path); ok && a.code == http.StatusOK && !slices.Contains(rec.chunks[job], id) {
		rec.chunks[job] = append(rec.chunks[job], id)
	}
}

// sortQuery spells a query in one way.
func sortQuery(query string) string {
	values, err := url.ParseQuery(query)
	if err != nil {
		return query
	}
	return values.Encode()
}

// Name returns "replay".
func (rec *Recording) Name() string { return "replay" }

// Specs returns nothing: a recording has no generated streams.
func (rec *Recording) Specs(Gen) []Spec { return nil }

// Limits returns nothing.
func (rec *Recording) Limits() []Limit { return nil }

// Env returns the settings of the vendors whose paths were recorded.
func (rec *Recording) Env(url string) []string {
	var lines []string
	for _, v := range All() {
		if rec.speaks(v.Name()) {
			lines = append(lines, v.Env(url)...)
		}
	}
	return lines
}

// speaks reports whether a recorded path is one of a vendor's.
func (rec *Recording) speaks(vendor string) bool {
	for key := range rec.tracks {
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
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { rec.find(r).send(w) })
	return mux
}

// find returns the answer to a request.
func (rec *Recording) find(r *http.Request) *answer {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	key := r.Method + " " + r.URL.Path
	t := rec.tracks[key+"?"+r.URL.Query().Encode()]
	if t == nil {
		t = rec.tracks[key]
	}
	job, isStatus := strings.CutSuffix(r.URL.Path, "/status")
	switch {
	case t == nil && isStatus && r.Method == http.MethodGet && rec.hasJobs(job):
		return jsonAnswer(http.StatusOK, `{"exports":[]}`)
	case t == nil:
		return jsonAnswer(http.StatusNotFound, string(mustJSON(map[string]string{"error": "not recorded: " + key})))
	}
	a, used := t.answers[min(t.next, len(t.answers)-1)], t.next >= len(t.answers)
	t.next++
	if ids, known := rec.chunks[job]; isStatus && known && a.code == http.StatusOK {
		return &answer{code: a.code, header: a.header, body: narrowStatus(a.body, ids, used)}
	}
	return a
}

// hasJobs reports whether jobs under a path were recorded.
func (rec *Recording) hasJobs(path string) bool {
	for job := range rec.chunks {
		if strings.HasPrefix(job, path+"/") {
			return true
		}
	}
	return false
}

func jsonAnswer(code int, body string) *answer {
	return &answer{code: code, header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body: []byte(body)}
}
