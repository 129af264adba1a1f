package vendorsim

import (
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Streams of [MDE].
const (
	MDEMachines               = "mde_machines"
	MDEMachineVulnerabilities = "mde_machine_vulnerabilities"
	MDEVulnerabilities        = "mde_vulnerabilities"
)

// mdeScope is the scope of tokens for Defender for Endpoint.
const mdeScope = "https://api.securitycenter.windows.com/.default"

// MDE simulates Microsoft Defender for Endpoint. Machines and vulnerabilities are
// paged with $top and $skip and have no links. The vulnerabilities of machines are
// paged with links, which have the older name of the API's host.
type MDE struct {
	microsoftAPI
	removed atomic.Int64 // machines from the first on that were removed
}

// NewMDE returns a simulated tenant for one [Server].
func NewMDE() *MDE {
	m := &MDE{microsoftAPI: newMicrosoftAPI()}
	m.scope = func() string { return mdeScope }
	m.linkHost = "https://api.securitycenter.microsoft.com"
	return m
}

// Name returns "mde".
func (m *MDE) Name() string { return "mde" }

// Env returns the MDE_ settings.
func (m *MDE) Env(url string) []string {
	return []string{
		"MDE_TENANT_ID=" + MicrosoftTenant, "MDE_CLIENT_ID=" + MicrosoftClientID, "MDE_CLIENT_SECRET=" + MicrosoftSecret,
		"MDE_AUTHORITY_HOST=" + url, "MDE_ENDPOINT=" + url,
	}
}

// RemoveMachines removes the first n machines, as when their retention ends while a
// client reads. The machines after them move to lower positions.
func (m *MDE) RemoveMachines(n int) { m.removed.Store(int64(n)) }

// Limits returns the limits of minutes and hours of the listings, "mde-minute" and
// "mde-hour", and of the vulnerabilities of machines, "mde-export-minute" and
// "mde-export-hour".
func (m *MDE) Limits() []Limit {
	exports := belowPath("/api/machines/SoftwareVulnerabilitiesByMachine")
	listings := func(r *http.Request) bool { return belowPath("/api/")(r) && !exports(r) }
	return []Limit{
		{Name: "mde-minute", LimitNumbers: LimitNumbers{Max: 100, Window: time.Minute}, Match: listings, Reject: rejectOData(true)},
		{Name: "mde-hour", LimitNumbers: LimitNumbers{Max: 1500, Window: time.Hour}, Match: listings, Reject: rejectOData(true)},
		{Name: "mde-export-minute", LimitNumbers: LimitNumbers{Max: 30, Window: time.Minute}, Match: exports, Reject: rejectOData(true)},
		{Name: "mde-export-hour", LimitNumbers: LimitNumbers{Max: 1000, Window: time.Hour}, Match: exports, Reject: rejectOData(true)},
	}
}

// Routes returns the API.
func (m *MDE) Routes(h *Host) *http.ServeMux {
	mux := m.newAPIMux(h)
	mux.HandleFunc("GET /api/machines", m.serveSkipped(MDEMachines, 10_000))
	mux.HandleFunc("GET /api/vulnerabilities", m.serveSkipped(MDEVulnerabilities, 8_000))
	mux.HandleFunc("GET /api/machines/SoftwareVulnerabilitiesByMachine", m.serveList(odataList{
		stream: MDEMachineVulnerabilities, pageSize: 200_000, topParam: "pageSize",
	}))
	return mux
}

// serveSkipped returns the handler of a collection that is paged with $top and $skip.
// A tenant without machines has the status 404.
func (m *MDE) serveSkipped(stream string, most int) http.HandlerFunc {
	return m.requireToken(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		skip, _ := strconv.Atoi(q.Get("$skip"))
		size := m.host.PageLimit(stream, most)
		top, err := strconv.Atoi(q.Get("$top"))
		if err == nil {
			size = min(size, top)
		}
		first := 0
		if stream == MDEMachines {
			first = int(m.removed.Load())
		}
		count := m.host.server.RecordCount(stream)
		switch {
		case m.isForbidden(stream):
			writeODataError(w, http.StatusForbidden, "Forbidden", "Application context: required roles are missing.")
			return
		case q.Has("$top") && (err != nil || top < 1 || top > most):
			writeODataError(w, http.StatusBadRequest, "BadRequest", "$top is limited to "+strconv.Itoa(most))
			return
		case stream == MDEMachines && count == 0:
			writeODataError(w, http.StatusNotFound, "ResourceNotFound", "No machines were found.")
			return
		}
		var records []int
		for i := first + skip; i < min(count, first+skip+size); i++ {
			records = append(records, i)
		}
		w.Header().Set("Content-Type", "application/json; odata.metadata=minimal")
		_ = m.host.server.WriteRecords(w, `{"@odata.context":"sim","value":[`, stream, slices.Values(records), "]}")
	})
}

// Specs describes the machines and the vulnerabilities.
func (m *MDE) Specs(g Gen) []Spec {
	at := func(dst []byte, r Rec) []byte {
		return AppendUnix(dst, g.Base.Add(-time.Hour*time.Duration(r.Hash>>16%4000)).Unix(), ".7791856Z")
	}
	machine := func(dst []byte, r Rec) []byte {
		i := int(r.Hash >> 20 % 900)
		return AppendHex(AppendHex(dst, g.Hash("mde machine", i), 16), uint64(i), 8)
	}
	own := func(dst []byte, r Rec) []byte {
		return AppendHex(AppendHex(dst, g.Hash("mde machine", r.Index), 16), uint64(r.Index), 8)
	}
	cve := func(dst []byte, r Rec) []byte { return AppendInt(append(dst, "CVE-2025-"...), int64(1000+r.Index)) }
	number := func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Index)) }
	found := func(dst []byte, r Rec) []byte {
		return number(append(machine(dst, r), "_microsoft_edge_10.0.17763.1637_CVE-2025-"...), r)
	}
	slots := map[string]Slot{"machine": machine, "own": own, "cve": cve, "found": found, "at": at, "n": number}
	spec := func(name string, count, bytes int, id Slot, templates ...string) Spec {
		return Spec{Name: name, Count: count, Bytes: bytes, Templates: templates, Slots: slots, ID: id}
	}
	return []Spec{
		spec(MDEMachines, 900, 900, own,
			`{"id":"<<own>>","computerDnsName":"host<<n>>.example.test","firstSeen":"<<at>>","lastSeen":"<<at>>","osPlatform":"Windows11","version":"24H2","osProcessor":"x64","lastIpAddress":"172.17.230.209","osBuild":26100,"healthStatus":"Active","rbacGroupId":140,"rbacGroupName":"The-A-Team \"]}\"","riskScore":"Low","exposureLevel":"Medium","isAadJoined":true,"aadDeviceId":null,"machineTags":["<<text>>"]<<edge>>}`,
			`{"id":"<<own>>","computerDnsName":"host<<n>>.example.test","firstSeen":"<<at>>","lastSeen":"0001-01-01T00:00:00","osPlatform":"Linux","version":null,"osBuild":null,"healthStatus":"Inactive","rbacGroupId":0,"rbacGroupName":null,"riskScore":"None","exposureLevel":"None","isAadJoined":null,"machineTags":["<<text>>"]<<edge>>}`),
		spec(MDEMachineVulnerabilities, 3000, 1000, found,
			`{"id":"<<found>>","deviceId":"<<machine>>","rbacGroupName":"Unassigned","deviceName":"host.example.test","osPlatform":"Windows11","osVersion":"10.0.26100.1","softwareVendor":"microsoft","softwareName":"edge","softwareVersion":"10.0.17763.1637","cveId":"<<cve>>","vulnerabilitySeverityLevel":"High","cvssScore":8.8,"diskPaths":["C:\\Program Files\\Edge\\<<text>>"],"registryPaths":[],"lastSeenTimestamp":"2026-02-27 10:13:34","firstSeenTimestamp":"2025-12-30 11:07:15","exploitabilityLevel":"NoExploit","recommendationReference":"va-_-microsoft-_-edge","securityUpdateAvailable":true<<edge>>}`,
			`{"id":"<<found>>","deviceId":"<<machine>>","rbacGroupName":"hhh","softwareVendor":"microsoft","softwareName":".net_framework","softwareVersion":"4.0.0.0","cveId":null,"vulnerabilitySeverityLevel":null,"diskPaths":[],"registryPaths":["SOFTWARE\\Microsoft\\<<text>>"],"securityUpdateAvailable":false<<edge>>}`),
		spec(MDEVulnerabilities, 1200, 900, cve,
			`{"id":"<<cve>>","name":"<<cve>>","description":"<<text>>","severity":"Medium","cvssV3":4.3,"cvssVector":"CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H","exposedMachines":<<n>>,"publishedOn":"<<at>>","updatedOn":"<<at>>","publicExploit":false,"exploitVerified":false,"exploitInKit":false,"exploitTypes":[],"exploitUris":[],"cveSupportability":"supported","epss":0.00043<<edge>>}`),
	}
}
