package vendorsim

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A feed is the part that vendors of public files have in common: files with an
// ETag and a time, which respond to conditional requests.
type feed struct {
	host *Host

	mu     sync.Mutex
	config FeedBehaviour
	served []ServedFile
}

// A ServedFile is a response of a publisher of files.
type ServedFile struct {
	At   time.Time
	Path string
	ETag string // of the file, also if the response does not have it
	// NotModified means that the client has that file, so that it was not sent.
	NotModified bool
}

// ServedFiles returns all responses so far.
func (f *feed) ServedFiles() []ServedFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.served)
}

func (f *feed) recordServed(one ServedFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.served = append(f.served, one)
}

// FeedBehaviour configures what differs between servers of files.
type FeedBehaviour struct {
	// NoETag leaves out the ETag, and NoTime the Last-Modified.
	NoETag, NoTime bool
	// IgnoreConditions makes the server send files that have not changed.
	IgnoreConditions bool
	// Forbidden makes the response 403, as from a content delivery network that
	// does not accept the client.
	Forbidden bool
	// Version is part of the ETag and of the time. A change of it is an update
	// without other content.
	Version int
	// Form changes the form of the file; each vendor has its own.
	Form string
}

// ChangeBehaviour changes how the server behaves.
func (f *feed) ChangeBehaviour(change func(*FeedBehaviour)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.config)
}

func (f *feed) feedBehaviour() FeedBehaviour {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config
}

// Limits returns no limits: the publishers have announced none.
func (f *feed) Limits() []Limit { return nil }

// serveFile responds with a file, which write writes. The validators of the file
// depend on the numbers of records of the streams, so that they change with it.
func (f *feed) serveFile(w http.ResponseWriter, r *http.Request, contentType string, streams []string, write func(w io.Writer, form string)) {
	config := f.feedBehaviour()
	if config.Forbidden {
		http.Error(w, `{"error":"access denied"}`, http.StatusForbidden)
		return
	}
	etag := fmt.Sprintf("%x", f.host.server.gen.Hash(r.URL.Path+config.Form, config.Version))
	updated := f.host.server.gen.Base.Add(time.Duration(config.Version)*time.Hour - time.Duration(len(config.Form))*time.Minute)
	for _, stream := range streams {
		count := f.host.server.RecordCount(stream)
		etag += fmt.Sprintf("-%d", count)
		updated = updated.Add(-time.Duration(count) * time.Second)
	}
	etag = `"` + etag + `"`
	modified := updated.UTC().Format(http.TimeFormat)
	if !config.NoETag {
		w.Header().Set("ETag", etag)
	}
	if !config.NoTime {
		w.Header().Set("Last-Modified", modified)
	}
	known := !config.NoETag && strings.TrimPrefix(r.Header.Get("If-None-Match"), "W/") == etag ||
		r.Header.Get("If-None-Match") == "" && !config.NoTime && r.Header.Get("If-Modified-Since") == modified
	notModified := known && !config.IgnoreConditions
	f.recordServed(ServedFile{At: f.host.Now(), Path: r.URL.Path, ETag: etag, NotModified: notModified})
	if notModified {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", contentType)
	if isArchive := !strings.Contains(contentType, "json"); isArchive && w.Header().Get("Content-Encoding") == "" {
		w.Header().Set("Content-Encoding", "identity") // it is compressed already
	}
	if r.Method == http.MethodHead {
		return
	}
	write(w, config.Form)
}

// simulatedCVEs is the number of CVEs of each simulated year.
const simulatedCVEs = 3000

// appendSimulatedCVE appends the id of CVE i of all simulated ones, which are of the years
// from 2015 to 2026. Each id occurs once.
func appendSimulatedCVE(dst []byte, i int) []byte {
	dst = AppendInt(append(dst, "CVE-"...), int64(2015+i%12))
	return AppendInt(append(dst, '-'), int64(1000+i/12))
}

// widespreadCVEs is the number of CVEs of each year that a quarter of all findings have.
const widespreadCVEs = 30

// appendFoundCVE appends the id of the CVE of a scanner's finding, whose hash is given.
// Scanners share the widespread ones, which are the first in feeds about CVEs.
func appendFoundCVE(dst []byte, hash uint64) []byte {
	number := hash >> 40 % simulatedCVEs
	if hash>>52%4 == 0 {
		number %= widespreadCVEs
	}
	return appendSimulatedCVE(dst, int(number*12+hash>>33%12))
}
