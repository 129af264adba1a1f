package vendorsim

import (
	"io"
	"net/http"
	"time"
)

// CISAKEVVulnerabilities is the stream of [CISAKEV].
const CISAKEVVulnerabilities = "cisa_kev_vulnerabilities"

// Forms of the catalogue of [CISAKEV], beside "" for the usual one.
const (
	// CISAKEVCountWrong declares one more vulnerability than there are.
	CISAKEVCountWrong = "count is wrong"
	// CISAKEVNoCount declares no number.
	CISAKEVNoCount = "no count"
)

// CISAKEV simulates the catalogue of known exploited vulnerabilities.
type CISAKEV struct{ feed }

// NewCISAKEV returns a simulated catalogue for one [Server].
func NewCISAKEV() *CISAKEV { return &CISAKEV{} }

// Name returns "cisa_kev".
func (c *CISAKEV) Name() string { return "cisa_kev" }

// Env returns the CISA_KEV settings.
func (c *CISAKEV) Env(url string) []string {
	return []string{"CISA_KEV=true", "CISA_KEV_URL=" + url + "/sites/default/files/feeds/known_exploited_vulnerabilities.json"}
}

// Routes returns the file.
func (c *CISAKEV) Routes(h *Host) *http.ServeMux {
	c.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sites/default/files/feeds/known_exploited_vulnerabilities.json", func(w http.ResponseWriter, r *http.Request) {
		c.serveFile(w, r, "application/json", []string{CISAKEVVulnerabilities}, c.writeCatalogue)
	})
	return mux
}

func (c *CISAKEV) writeCatalogue(w io.Writer, form string) {
	count := c.host.server.RecordCount(CISAKEVVulnerabilities)
	before := `{"title":"CISA Catalog of Known Exploited Vulnerabilities","catalogVersion":"` + c.host.server.gen.Base.Format("2006.01.02") +
		`","dateReleased":"` + c.host.server.gen.Base.Format("2006-01-02T15:04:05.0000Z") + `",`
	declared := count
	if form == CISAKEVCountWrong {
		declared++
	}
	if form != CISAKEVNoCount {
		before += `"count":` + string(AppendInt(nil, int64(declared))) + `,`
	}
	_ = c.host.server.WriteRecords(w, before+`"vulnerabilities":[`, CISAKEVVulnerabilities, indexRange(0, count), "]}\n")
}

// Specs describes the vulnerabilities. One in 25 of the simulated CVEs is known to
// be exploited.
func (c *CISAKEV) Specs(g Gen) []Spec {
	id := func(dst []byte, r Rec) []byte { return appendSimulatedCVE(dst, r.Index*25) }
	date := func(later uint64) Slot {
		return func(dst []byte, r Rec) []byte {
			day := g.Base.Add(-24 * time.Hour * time.Duration(r.Hash>>16%1500)).Add(24 * time.Hour * time.Duration(later))
			return append(dst, day.Format(time.DateOnly)...)
		}
	}
	return []Spec{{
		Name: CISAKEVVulnerabilities, Count: 1400, Bytes: 900, Templates: cisaKEVTemplates, ID: id,
		Slots: map[string]Slot{"id": id, "added": date(0), "due": date(21), "n": func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Hash>>30%300)) }},
	}}
}

// cisaKEVTemplates are the templates of a vulnerability, with and without a known
// campaign.
var cisaKEVTemplates = []string{
	`{"cveID":"<<id>>","vendorProject":"Vendor <<n>>","product":"Product <<n>>","vulnerabilityName":"Vendor <<n>> Product <<n>> Improper Access Control Vulnerability","dateAdded":"<<added>>",` +
		`"shortDescription":"<<text>>","requiredAction":"Apply mitigations per vendor instructions or discontinue use of the product if mitigations are unavailable.","dueDate":"<<due>>",` +
		`"knownRansomwareCampaignUse":"Unknown","notes":"https:\/\/vendor.example\/advisory ; https:\/\/nvd.example\/vuln\/detail\/<<id>>","cwes":["CWE-284"]<<edge>>}`,
	`{"cveID":"<<id>>","vendorProject":"Vendor <<n>>","product":"Product <<n>>","vulnerabilityName":"Vendor <<n>> Product <<n>> Deserialization Vulnerability","dateAdded":"<<added>>",` +
		`"shortDescription":"<<text>>","requiredAction":"Apply updates per vendor instructions.","dueDate":"<<due>>","knownRansomwareCampaignUse":"Known","notes":"","cwes":[]<<edge>>}`,
}
