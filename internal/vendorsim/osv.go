package vendorsim

import (
	"archive/zip"
	"io"
	"net/http"
	"time"
)

// OSVVulnerabilities is the stream of [OSV].
const OSVVulnerabilities = "osv_vulnerabilities"

// Forms of the archives of [OSV], beside "" for the usual one.
const (
	// OSVDamaged has an entry whose content does not match its checksum.
	OSVDamaged = "damaged"
	// OSVGarbage has bytes after the end of the archive.
	OSVGarbage = "garbage"
	// OSVMissing serves no archive of the ecosystem npm.
	OSVMissing = "missing"
)

// osvEcosystems are the simulated ecosystems. The records belong to them in turn.
var osvEcosystems = []string{"PyPI", "npm", "Rocky Linux"}

// OSV simulates the archives of vulnerabilities of open source packages.
type OSV struct{ feed }

// NewOSV returns simulated archives for one [Server].
func NewOSV() *OSV { return &OSV{} }

// Name returns "osv".
func (o *OSV) Name() string { return "osv" }

// Env returns the OSV settings.
func (o *OSV) Env(url string) []string {
	return []string{"OSV_ECOSYSTEMS=PyPI,npm,Rocky Linux", "OSV_URL=" + url}
}

// Routes returns the archives.
func (o *OSV) Routes(h *Host) *http.ServeMux {
	o.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{ecosystem}/all.zip", func(w http.ResponseWriter, r *http.Request) {
		for n, name := range osvEcosystems {
			if name == r.PathValue("ecosystem") && (name != "npm" || o.feedBehaviour().Form != OSVMissing) {
				o.serveFile(w, r, "application/zip", []string{OSVVulnerabilities}, func(w io.Writer, form string) { o.writeArchive(w, form, n) })
				return
			}
		}
		w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>")
	})
	return mux
}

// writeArchive writes the archive of the nth ecosystem.
func (o *OSV) writeArchive(w io.Writer, form string, n int) {
	out := &corruptWriter{w: w, corrupt: form == OSVDamaged}
	z := zip.NewWriter(out)
	var record []byte
	for i := n; i < o.host.server.RecordCount(OSVVulnerabilities); i += len(osvEcosystems) {
		// Some are compressed, which takes most of the time.
		header := &zip.FileHeader{Name: o.host.server.RecordID(OSVVulnerabilities, i) + ".json", Method: []uint16{zip.Store, zip.Deflate}[i/3%7/6]}
		f, err := z.CreateHeader(header)
		if err != nil {
			return
		}
		record = o.host.server.AppendRecord(record[:0], OSVVulnerabilities, i)
		if _, err := f.Write(record); err != nil {
			return
		}
	}
	_ = z.Close()
	if form == OSVGarbage {
		_, _ = io.WriteString(w, "garbage")
	}
}

// corruptWriter changes one byte of an archive, in the content of its first entry.
type corruptWriter struct {
	w       io.Writer
	corrupt bool
	written int
}

func (c *corruptWriter) Write(p []byte) (int, error) {
	const at = 100
	if c.corrupt && c.written <= at && at < c.written+len(p) {
		p = append([]byte(nil), p...)
		p[at-c.written] ^= 0x55
	}
	c.written += len(p)
	return c.w.Write(p)
}

// Ecosystem returns the ecosystem of a record.
func (o *OSV) Ecosystem(i int) string { return osvEcosystems[i%len(osvEcosystems)] }

// StoredRecord returns a record with its ecosystem, as the collector stores it.
func (o *OSV) StoredRecord(i int) []byte {
	record := o.host.server.Record(OSVVulnerabilities, i)
	return append(record[:len(record)-1], `,"_ecosystem":"`+o.Ecosystem(i)+`"}`...)
}

// Specs describes the vulnerabilities.
func (o *OSV) Specs(g Gen) []Spec {
	id := func(dst []byte, r Rec) []byte {
		return AppendInt(append(dst, []string{"PYSEC-2026-", "GHSA-sim-", "RLSA-2026:"}[r.Index%3]...), int64(r.Index))
	}
	return []Spec{{
		Name: OSVVulnerabilities, Count: 3000, Bytes: 1500, HugeBytes: 128 << 10, ID: id, Templates: osvTemplates,
		Slots: map[string]Slot{
			"id":        id,
			"ecosystem": func(dst []byte, r Rec) []byte { return append(dst, o.Ecosystem(r.Index)...) },
			"cve":       func(dst []byte, r Rec) []byte { return appendSimulatedCVE(dst, int(r.Hash>>20%(13*simulatedCVEs))) },
			"modified": func(dst []byte, r Rec) []byte {
				return AppendUnix(dst, g.Base.Add(-time.Duration(r.Hash>>18%(900*24*3600))*time.Second).Unix(), ".123456Z")
			},
		},
	}}
}

// osvTemplates are the templates of a vulnerability: usual, and withdrawn.
var osvTemplates = []string{
	`{"id":"<<id>>","summary":"Improper input validation","details":"<<text>>","aliases":["<<cve>>"],"modified":"<<modified>>","published":"<<modified>>","schema_version":"1.7.3",` +
		`"references":[{"type":"ADVISORY","url":"https://advisory.example/<<id>>"}],"affected":[{"package":{"name":"example","ecosystem":"<<ecosystem>>","purl":"pkg:generic/example"},` +
		`"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.10"}]}],"versions":["1.0","1.1"],"database_specific":{"source":"https://advisory.example"}}],` +
		`"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]<<edge>>}`,
	`{"id":"<<id>>","details":"<<text>>","modified":"<<modified>>","withdrawn":"<<modified>>","schema_version":"1.7.3","affected":[]<<edge>>}`,
}
