package e2e_test

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

// simulated returns the records of a stream as the vendor has them.
func simulated[T any](m *migrant, stream string) (records []T) {
	m.Helper()
	for i := range m.sim.RecordCount(stream) {
		records = append(records, decoded[T](m, m.sim.Record(stream, i)))
	}
	return records
}

func decoded[T any](m *migrant, raw []byte) (record T) {
	m.Helper()
	if err := json.Unmarshal(raw, &record); err != nil {
		m.Fatal(err)
	}
	return record
}

// verdict returns the line of a metric for a resource.
func verdict(resource string, good bool) string {
	if good {
		return resource + " 1"
	}
	return resource + " 0"
}

func (m *migrant) expectedHosts() (lines []string) {
	type host struct {
		ID   string `json:"device_id"`
		Name string `json:"hostname"`
	}
	type vulnerability struct {
		AID, Status string
		CVE         struct{ Severity string }
	}
	chosen, err := m.falcon.Select(`cve.id:!['']+last_seen_within:'14'`)
	if err != nil {
		m.Fatal(err)
	}
	open := map[string]bool{}
	for _, i := range chosen {
		v := decoded[vulnerability](m, m.sim.Record(vendorsim.CrowdStrikeVulns, i))
		if (v.Status == "open" || v.Status == "reopen") && (v.CVE.Severity == "HIGH" || v.CVE.Severity == "CRITICAL") {
			open[v.AID] = true
		}
	}
	for _, h := range simulated[host](m, vendorsim.CrowdStrikeHosts) {
		lines = append(lines, verdict(h.Name, !open[h.ID]))
	}
	slices.Sort(lines)
	return lines
}

func (m *migrant) expectedAssets() (lines []string) {
	type asset struct {
		ID        string
		Hostnames []string
		Deleted   *string `json:"deleted_at"`
	}
	type finding struct {
		Asset           struct{ UUID string }
		State, Severity string
	}
	open := map[string]bool{}
	for _, f := range simulated[finding](m, vendorsim.TenableVulns) {
		if f.State != "FIXED" && (f.Severity == "high" || f.Severity == "critical") {
			open[f.Asset.UUID] = true
		}
	}
	for _, a := range simulated[asset](m, vendorsim.TenableAssets) {
		if a.Deleted == nil {
			lines = append(lines, verdict(a.Hostnames[0], !open[a.ID]))
		}
	}
	slices.Sort(lines)
	return lines
}

type simulatedUser struct {
	Status    string
	LastLogin *time.Time
	Profile   struct{ Login string }
}

func (m *migrant) expectedLogins() (lines []string) {
	since := time.Now().AddDate(0, 0, -90)
	for _, u := range simulated[simulatedUser](m, vendorsim.OktaUsers) {
		if u.Status == "ACTIVE" {
			lines = append(lines, verdict(u.Profile.Login, u.LastLogin != nil && u.LastLogin.After(since)))
		}
	}
	slices.Sort(lines)
	return lines
}

func (m *migrant) expectedTrained() (lines []string) {
	type enrollment struct {
		User      struct{ Email string }
		Completed *time.Time `json:"completion_date"`
	}
	since := time.Now().AddDate(0, 0, -365)
	trained := map[string]bool{}
	for _, e := range simulated[enrollment](m, vendorsim.KnowBe4Enrollments) {
		if e.Completed != nil && e.Completed.After(since) {
			trained[e.User.Email] = true
		}
	}
	for _, u := range simulated[simulatedUser](m, vendorsim.OktaUsers) {
		if u.Status == "ACTIVE" {
			lines = append(lines, verdict(u.Profile.Login, trained[u.Profile.Login]))
		}
	}
	slices.Sort(lines)
	return lines
}

func (m *migrant) expectedProjects() (lines []string) {
	type project struct {
		ID         string
		Attributes struct{ Name string }
	}
	type issue struct {
		Attributes struct {
			Status   string
			Severity string `json:"effective_severity_level"`
		}
		Relationships struct {
			Item struct{ Data struct{ ID string } } `json:"scan_item"`
		}
	}
	open := map[string]bool{}
	for _, i := range simulated[issue](m, vendorsim.SnykIssues) {
		if a := i.Attributes; a.Status == "open" && (a.Severity == "high" || a.Severity == "critical") {
			open[i.Relationships.Item.Data.ID] = true
		}
	}
	for _, p := range simulated[project](m, vendorsim.SnykProjects) {
		lines = append(lines, verdict(p.Attributes.Name, !open[p.ID]))
	}
	slices.Sort(lines)
	return lines
}
