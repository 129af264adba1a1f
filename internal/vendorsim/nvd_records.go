package vendorsim

import "fmt"

// Specs describes the CVEs.
func (n *NVD) Specs(g Gen) []Spec {
	years := g.Base.Year() - nvdFirstYear + 1
	id := func(dst []byte, r Rec) []byte {
		// The first file also has the CVEs of the years before.
		year := nvdFirstYear + r.Index%years
		if r.Index%years == 0 && r.Index/years%3 == 1 {
			year = 1999
		}
		return fmt.Appendf(dst, "CVE-%d-%04d", year, 1000+r.Index/years)
	}
	return []Spec{{
		Name: NVDCVEs, Count: 2000, Bytes: 2200, HugeBytes: 256 << 10, Templates: nvdTemplates, ID: id,
		Slots: map[string]Slot{
			"id": id,
			"modified": func(dst []byte, r Rec) []byte {
				return n.modifiedAt(r.Index).AppendFormat(dst, nvdLayout)
			},
			"published": func(dst []byte, r Rec) []byte {
				return fmt.Appendf(dst, "%d-03-01T12:15:10.%03d", nvdFirstYear+r.Index%years, r.Hash>>20%1000)
			},
			"score": func(dst []byte, r Rec) []byte { return fmt.Appendf(dst, "%d.%d", r.Hash>>12%10, r.Hash>>24%10) },
		},
	}}
}

// nvdTemplates are the templates of a CVE: analyzed, rejected, and awaiting analysis.
var nvdTemplates = []string{
	`{"id":"<<id>>","sourceIdentifier":"cve@sim.test","published":"<<published>>","lastModified":"<<modified>>","vulnStatus":"Analyzed","cveTags":[],` +
		`"descriptions":[{"lang":"en","value":"<<text>>"},{"lang":"es","value":"Una vulnerabilidad \u00e9n \"]}\""}],` +
		`"metrics":{"cvssMetricV31":[{"source":"nvd@sim.test","type":"Primary","cvssData":{"version":"3.1","baseScore":<<score>>,"baseSeverity":"HIGH"},"exploitabilityScore":3.9}]},` +
		`"weaknesses":[{"source":"nvd@sim.test","type":"Primary","description":[{"lang":"en","value":"CWE-79"}]}],"references":[{"url":"https://sim.test/<<id>>","source":"cve@sim.test"}]<<edge>>}`,
	`{"id":"<<id>>","sourceIdentifier":"cve@sim.test","published":"<<published>>","lastModified":"<<modified>>","vulnStatus":"Rejected","cveTags":[],` +
		`"descriptions":[{"lang":"en","value":"Rejected reason: not used"}],"metrics":{},"references":[]<<edge>>}`,
	`{"id":"<<id>>","sourceIdentifier":"cve@sim.test","published":"<<published>>","lastModified":"<<modified>>","vulnStatus":"Awaiting Analysis","cveTags":[],` +
		`"descriptions":[{"lang":"en","value":"<<text>>"}],"metrics":{},"references":[],"cisaExploitAdd":null<<edge>>}`,
}
