package vendorsim

import (
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// NVDCVEs is the stream of [NVD].
const NVDCVEs = "nvd_cves"

// NVDKey is the API key that [NewNVD] accepts.
const NVDKey = "sim-nvd-key"

const (
	nvdAPIPath  = "/rest/json/cves/2.0"
	nvdFilePath = "/feeds/json/cve/2.0"
	// maxNVDPage is the largest page size.
	maxNVDPage = 2000
	// maxNVDWindow is the longest period of modifications.
	maxNVDWindow = 120 * 24 * time.Hour
	// nvdFirstYear is the year of the first file.
	nvdFirstYear = 2002
	nvdLayout    = "2006-01-02T15:04:05.000"
)

// NVD simulates the vulnerabilities of the National Vulnerability Database: its API and
// its yearly files. Both need no key; with one, the limit is higher.
type NVD struct {
	host *Host

	mu       sync.Mutex
	config   NVDBehaviour
	modified map[int]time.Time // CVEs that were modified, by index
	filed    map[int][]byte    // what the files have of CVEs that were modified since
	fileEnd  int               // how many CVEs the files have; 0 for all
}

// NVDBehaviour configures what can differ.
type NVDBehaviour struct {
	// NoCurrentFile means that the file of the current year does not exist yet.
	NoCurrentFile bool
	// WrongSum makes the descriptions of this many requests those of other files.
	WrongSum int
	// ModifyAfter modifies CVE 0 after this many pages of the API, once.
	ModifyAfter int
}

// NewNVD returns a simulated database for one [Server].
func NewNVD() *NVD { return &NVD{modified: map[int]time.Time{}, filed: map[int][]byte{}} }

// Name returns "nvd".
func (n *NVD) Name() string { return "nvd" }

// Env returns the NVD settings.
func (n *NVD) Env(url string) []string {
	return []string{"NVD=true", "NVD_API_KEY=" + NVDKey, "NVD_ENDPOINT=" + url + nvdAPIPath, "NVD_FEEDS=" + url + nvdFilePath}
}

// ChangeBehaviour changes how the database behaves.
func (n *NVD) ChangeBehaviour(change func(*NVDBehaviour)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.config)
}

// Modify modifies CVE i at a time. The files have its earlier form.
func (n *NVD) Modify(i int, at time.Time) {
	before := n.host.server.Record(NVDCVEs, i)
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.filed[i]; !known {
		n.filed[i] = before
	}
	n.modified[i] = at
}

// Add adds a CVE at a time. The files do not have it.
func (n *NVD) Add(at time.Time) {
	count := n.host.server.RecordCount(NVDCVEs)
	n.mu.Lock()
	if n.fileEnd == 0 {
		n.fileEnd = count
	}
	n.modified[count] = at
	n.mu.Unlock()
	n.host.server.SetCount(NVDCVEs, count+1)
}

// Publish writes the files again, with all CVEs as they are.
func (n *NVD) Publish() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fileEnd = 0
	clear(n.filed)
}

// Limits returns the limits "nvd" without a key and "nvd-key" with one.
func (n *NVD) Limits() []Limit {
	limit := func(name string, most int, withKey bool) Limit {
		return Limit{
			Name: name, LimitNumbers: LimitNumbers{Max: most, Window: 30 * time.Second},
			Match: func(r *http.Request) bool {
				return strings.HasPrefix(r.URL.Path, nvdAPIPath) && (r.Header.Get("apiKey") != "") == withKey
			},
			Reject: func(w http.ResponseWriter, _ *http.Request, _ Quota) {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, "Request forbidden by administrative rules.")
			},
		}
	}
	return []Limit{limit("nvd", 5, false), limit("nvd-key", 50, true)}
}

// Routes returns the API and the files.
func (n *NVD) Routes(h *Host) *http.ServeMux {
	n.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+nvdAPIPath, n.serveCVEs)
	mux.HandleFunc("GET "+nvdFilePath+"/{file}", n.serveFile)
	return mux
}

// refuseNVD refuses a request with a reason in a header.
func refuseNVD(w http.ResponseWriter, reason string) {
	w.Header().Set("message", reason)
	w.WriteHeader(http.StatusNotFound)
}

// serveCVEs writes a page of the CVEs that were modified in a window, or of all.
func (n *NVD) serveCVEs(w http.ResponseWriter, r *http.Request) {
	if key := r.Header.Get("apiKey"); key != "" && !n.host.acceptsKey(key, NVDKey) {
		refuseNVD(w, "Invalid apiKey.")
		return
	}
	q := r.URL.Query()
	from, to, all, reason := parseNVDWindow(q.Get("lastModStartDate"), q.Get("lastModEndDate"))
	size, start := maxNVDPage, 0
	var err error
	if q.Has("resultsPerPage") {
		if size, err = strconv.Atoi(q.Get("resultsPerPage")); err != nil || size < 1 || size > maxNVDPage {
			reason = "resultsPerPage parameter is invalid."
		}
	}
	if q.Has("startIndex") {
		if start, err = strconv.Atoi(q.Get("startIndex")); err != nil || start < 0 {
			reason = "startIndex parameter is invalid."
		}
	}
	if reason != "" {
		refuseNVD(w, reason)
		return
	}
	size = n.host.PageLimit(NVDCVEs, size)
	var found []int
	for i := range n.host.server.RecordCount(NVDCVEs) {
		if at := n.modifiedAt(i); all || !at.Before(from) && !at.After(to) {
			found = append(found, i)
		}
	}
	page := found[min(start, len(found)):min(start+size, len(found))]
	w.Header().Set("Content-Type", "application/json")
	n.writeList(w, page, len(page), start, len(found), nil)
	n.countPage(to)
}

// parseNVDWindow returns the ends of a window, or why they are refused.
func parseNVDWindow(start, end string) (from, to time.Time, all bool, reason string) {
	if start == "" && end == "" {
		return from, to, true, ""
	}
	from, err1 := time.Parse(nvdLayout, start)
	to, err2 := time.Parse(nvdLayout, end)
	switch {
	case err1 != nil || err2 != nil:
		reason = "The lastModStartDate and lastModEndDate parameters are invalid."
	case to.Before(from) || to.Sub(from) > maxNVDWindow:
		reason = "The date range must be at most 120 days."
	}
	return from, to, false, reason
}

// countPage modifies a CVE if that was configured for this page.
func (n *NVD) countPage(end time.Time) {
	n.mu.Lock()
	isDue := n.config.ModifyAfter == 1
	n.config.ModifyAfter--
	n.mu.Unlock()
	if isDue {
		n.Modify(0, end.Add(time.Second))
	}
}

// writeList writes a list of CVEs; those in other in another form.
func (n *NVD) writeList(w io.Writer, indices []int, perPage, start, total int, other map[int][]byte) {
	_, _ = fmt.Fprintf(w, `{"resultsPerPage":%d,"startIndex":%d,"totalResults":%d,"format":"NVD_CVE","version":"2.0","timestamp":"%s","vulnerabilities":[`,
		perPage, start, total, n.host.server.gen.Base.Format(nvdLayout))
	var item []byte
	for i, index := range indices {
		item = item[:0]
		if i > 0 {
			item = append(item, ',')
		}
		item = append(item, `{"cve":`...)
		if record := other[index]; record != nil {
			item = append(item, record...)
		} else {
			item = n.host.server.AppendRecord(item, NVDCVEs, index)
		}
		if _, err := w.Write(append(item, '}')); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, "]}\n")
}

// serveFile writes the file of a year, or its description.
func (n *NVD) serveFile(w http.ResponseWriter, r *http.Request) {
	name, isMeta := strings.CutSuffix(r.PathValue("file"), ".meta")
	if !isMeta {
		name = strings.TrimSuffix(name, ".json.gz")
	}
	year, err := strconv.Atoi(strings.TrimPrefix(name, "nvdcve-2.0-"))
	current := n.host.server.opts.Base.Year()
	n.mu.Lock()
	isMissing := err != nil || year < nvdFirstYear || year > current || year == current && n.config.NoCurrentFile
	isWrong := isMeta && n.config.WrongSum > 0
	if isWrong {
		n.config.WrongSum--
	}
	n.mu.Unlock()
	switch {
	case isMissing:
		http.NotFound(w, r)
	case isMeta:
		n.serveMeta(w, year, isWrong)
	default:
		w.Header().Set("Content-Type", "application/x-gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is valid
		n.writeFile(z, year)
		_ = z.Close()
	}
}

// serveMeta writes the description of the file of a year.
func (n *NVD) serveMeta(w http.ResponseWriter, year int, isWrong bool) {
	sum := sha256.New()
	size := &byteCounter{}
	n.writeFile(io.MultiWriter(sum, size), year)
	if isWrong {
		_, _ = sum.Write([]byte("x"))
	}
	_, _ = fmt.Fprintf(w, "lastModifiedDate:%s\r\nsize:%d\r\nzipSize:1\r\ngzSize:1\r\nsha256:%X\r\n",
		n.host.server.gen.Base.Format("2006-01-02T15:04:05-05:00"), size.n, sum.Sum(nil))
}

// byteCounter is a writer that counts.
type byteCounter struct{ n int }

func (b *byteCounter) Write(p []byte) (int, error) { b.n += len(p); return len(p), nil }

// writeFile writes the content of the file of a year.
func (n *NVD) writeFile(w io.Writer, year int) {
	n.mu.Lock()
	count, other := n.fileEnd, make(map[int][]byte, len(n.filed))
	for i, record := range n.filed {
		other[i] = record
	}
	n.mu.Unlock()
	if count == 0 {
		count = n.host.server.RecordCount(NVDCVEs)
	}
	years := n.host.server.opts.Base.Year() - nvdFirstYear + 1
	var indices []int
	for i := year - nvdFirstYear; i < count; i += years {
		indices = append(indices, i)
	}
	n.writeList(w, slices.Clip(indices), len(indices), 0, len(indices), other)
}

// modifiedAt returns when CVE i was last modified: one in seven within six days before
// the present time of the data.
func (n *NVD) modifiedAt(i int) time.Time {
	n.mu.Lock()
	at, found := n.modified[i]
	n.mu.Unlock()
	if found {
		return at
	}
	hash := n.host.server.mustStream(NVDCVEs).recAt(i).Hash
	age := time.Duration(hash>>16%8000) * 24 * time.Hour
	if i%7 == 0 {
		age = time.Duration(hash>>16%(6*24)) * time.Hour
	}
	at = n.host.server.gen.Base.Add(-age - time.Hour)
	// A CVE may be published some weeks before the year of its id, and no earlier.
	first := nvdFirstYear + i%(n.host.server.opts.Base.Year()-nvdFirstYear+1)
	if earliest := time.Date(first-1, time.December, 3, 0, 0, 0, 0, time.UTC); at.Before(earliest) {
		at = earliest.Add(time.Duration(hash>>20%28*24) * time.Hour)
	}
	return at
}
