package vendorsim

import (
	"archive/zip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Streams of [Intune].
const (
	IntuneDevices            = "intune_managed_devices"
	IntuneConfigurations     = "intune_device_configurations"
	IntuneCompliancePolicies = "intune_device_compliance_policies"
	// IntuneDetectedApps has the rows of the report AppInvRawData. Its records are
	// what is in the rows; [Intune.DetectedApp] returns them as a client stores them.
	IntuneDetectedApps = "intune_detected_apps"
)

// CredentialLeaked is the kind of [Violation] that a client sends the credential of
// an API to another host.
const CredentialLeaked = "credential sent to another host"

// Intune simulates Microsoft Intune in Microsoft Graph. The report of detected apps
// is exported by a job: an archive with a CSV file, on another host.
type Intune struct {
	microsoftAPI

	mu      sync.Mutex
	exports IntuneExports
	jobs    map[string]*intuneJob
	started int
	refused int // downloads
}

// IntuneExports configures export jobs.
type IntuneExports struct {
	// Polls is how often the state of a job is requested before it is completed;
	// negative for none, 2 when zero.
	Polls int
	// Stuck is the number of jobs, from the first, that never end, and Failing the
	// number of those after them that fail.
	Stuck, Failing int
	// ExpiredLinks is the number of downloads, from the first, whose address has
	// expired.
	ExpiredLinks int
	// TwoFiles puts a second file into archives.
	TwoFiles bool
}

// intuneJob is an export job.
type intuneJob struct {
	id, signature string
	columns       []string
	requested     time.Time
	polls, nth    int
	count         int // of records when the job was started
}

// NewIntune returns a simulated tenant for one [Server].
func NewIntune() *Intune {
	return &Intune{microsoftAPI: newMicrosoftAPI(), jobs: map[string]*intuneJob{}}
}

// Name returns "intune".
func (i *Intune) Name() string { return "intune" }

// Env returns the INTUNE_ settings.
func (i *Intune) Env(address string) []string {
	return []string{
		"INTUNE_TENANT_ID=" + MicrosoftTenant, "INTUNE_CLIENT_ID=" + MicrosoftClientID, "INTUNE_CLIENT_SECRET=" + MicrosoftSecret,
		"INTUNE_AUTHORITY_HOST=" + address, "INTUNE_GRAPH_ENDPOINT=" + address, "INTUNE_REPORT_HOSTS=" + storageURL(address).Hostname(),
	}
}

// storageURL returns the address of the host that has the files: another name of the
// same listener.
func storageURL(address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // it is that of a listener
	}
	if u.Port() != "" {
		u.Host = "localhost:" + u.Port()
	} else {
		u.Host = storagePrefix + u.Host
	}
	return u
}

// storagePrefix is before the name of the host that has the files, in memory.
const storagePrefix = "storage."

// ConfigureExports changes the export jobs.
func (i *Intune) ConfigureExports(change func(*IntuneExports)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(&i.exports)
}

// Limits returns "intune".
func (i *Intune) Limits() []Limit {
	return []Limit{{
		Name: "intune", LimitNumbers: LimitNumbers{Max: 2000, Window: 20 * time.Second},
		Match: belowPath("/v1.0/deviceManagement/"), Reject: rejectOData(true),
	}}
}

// Routes returns the API and the files.
func (i *Intune) Routes(h *Host) *http.ServeMux {
	i.scope = func() string { return h.URL() + "/.default" }
	mux := i.newAPIMux(h)
	for path, stream := range map[string]string{
		"managedDevices": IntuneDevices, "deviceConfigurations": IntuneConfigurations, "deviceCompliancePolicies": IntuneCompliancePolicies,
	} {
		mux.HandleFunc("GET /v1.0/deviceManagement/"+path, i.serveList(odataList{stream: stream, pageSize: 1000, topParam: "$top"}))
	}
	mux.HandleFunc("POST /v1.0/deviceManagement/reports/exportJobs", i.requireToken(i.startJob))
	mux.HandleFunc("GET /v1.0/deviceManagement/reports/exportJobs", i.requireToken(i.serveJobs))
	mux.HandleFunc("GET /v1.0/deviceManagement/reports/exportJobs/{id}", i.requireToken(i.serveJob))
	mux.HandleFunc("GET /reports/{id}", i.serveReport)
	return mux
}

// refuseExport responds with 403 if the application lacks the permission.
func (i *Intune) refuseExport(w http.ResponseWriter) bool {
	if !i.isForbidden(IntuneDetectedApps) {
		return false
	}
	writeODataError(w, http.StatusForbidden, "Forbidden", "Application is not authorized to perform this operation.")
	return true
}

// startJob starts an export job.
func (i *Intune) startJob(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ReportName, Format string
		Select             []string
	}
	if i.refuseExport(w) {
		return
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.ReportName != "AppInvRawData" || body.Format != "csv" || len(body.Select) == 0 {
		writeODataError(w, http.StatusBadRequest, "BadRequest", "The report, its format or its columns are not valid.")
		return
	}
	i.mu.Lock()
	n := int(i.host.Unique())
	i.started++
	job := &intuneJob{
		id: "AppInvRawData_" + i.host.Gen().UUID("intune job", n), signature: i.host.Gen().UUID("intune signature", n),
		columns: body.Select, requested: i.host.Now(), nth: i.started, count: i.host.server.RecordCount(IntuneDetectedApps),
	}
	i.jobs[job.id] = job
	i.mu.Unlock() // a response may take hours
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	i.writeJob(w, job, "notStarted")
}

// writeJob writes the state of a job.
func (i *Intune) writeJob(w io.Writer, job *intuneJob, status string) {
	link, expires := "null", job.requested
	if status == "completed" {
		address := storageURL(i.host.URL())
		address.Path, address.RawQuery = "/reports/"+job.id, "sv=2019-07-07&sig="+job.signature
		link, expires = `"`+address.String()+`"`, i.host.Now().Add(time.Hour)
	}
	_, _ = fmt.Fprintf(w, `{"@odata.context":"sim","id":%q,"reportName":"AppInvRawData","filter":null,"select":null,"format":"csv","snapshotId":null,"localizationType":"localizedValuesAsAdditionalColumn","status":%q,"url":%s,"requestDateTime":%q,"expirationDateTime":%q}`,
		job.id, status, link, job.requested.UTC().Format(time.RFC3339Nano), expires.UTC().Format(time.RFC3339Nano))
}

// serveJobs writes the list of jobs, without their addresses.
func (i *Intune) serveJobs(w http.ResponseWriter, _ *http.Request) {
	if i.refuseExport(w) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"@odata.context":"sim","value":[]}`)
}

// serveJob writes the state of one job.
func (i *Intune) serveJob(w http.ResponseWriter, r *http.Request) {
	if i.refuseExport(w) {
		return
	}
	job, status := i.pollJob(r.PathValue("id"))
	if job == nil {
		writeODataError(w, http.StatusNotFound, "ResourceNotFound", "The job does not exist.")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	i.writeJob(w, job, status)
}

// pollJob returns a job, nil if there is none, and its status.
func (i *Intune) pollJob(id string) (job *intuneJob, status string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if job = i.jobs[id]; job == nil {
		return nil, ""
	}
	job.polls++
	needed := i.exports.Polls
	if needed == 0 {
		needed = 2
	}
	switch {
	case job.nth <= i.exports.Stuck, job.polls <= needed:
		return job, "inProgress"
	case job.nth <= i.exports.Stuck+i.exports.Failing:
		return job, "failed"
	}
	return job, "completed"
}

// serveReport writes the archive of a job. Its address authorizes the request.
func (i *Intune) serveReport(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		i.host.Violate(CredentialLeaked, "GET /reports/{id}", "host %s", r.Host)
	}
	i.mu.Lock()
	job := i.jobs[r.PathValue("id")]
	isRefused := job == nil || r.URL.Query().Get("sig") != job.signature
	if i.refused < i.exports.ExpiredLinks {
		i.refused++
		isRefused = true
	}
	twoFiles := i.exports.TwoFiles
	i.mu.Unlock()
	if isRefused {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request. Signed expiry time has passed.</Message></Error>`)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	archive := zip.NewWriter(w)
	i.writeCSV(archive, job, job.id+".csv")
	if twoFiles {
		i.writeCSV(archive, job, "second.csv")
	}
	_ = archive.Close()
}

// writeCSV writes the rows of a job as a file of the archive.
func (i *Intune) writeCSV(archive *zip.Writer, job *intuneJob, name string) {
	file, err := archive.Create(name)
	if err != nil {
		return
	}
	_, _ = io.WriteString(file, "\xef\xbb\xbf")
	rows := csv.NewWriter(file)
	rows.UseCRLF = true
	_ = rows.Write(job.columns)
	values := make([]string, len(job.columns))
	for n := range job.count {
		row := i.detectedApp(n)
		for c, column := range job.columns {
			values[c] = row[column]
		}
		if rows.Write(values) != nil {
			return
		}
	}
	rows.Flush()
}

// detectedApp returns the values of a row.
func (i *Intune) detectedApp(n int) (row map[string]string) {
	if err := json.Unmarshal(i.host.server.Record(IntuneDetectedApps, n), &row); err != nil {
		panic(err) // the templates have text only
	}
	return row
}

// DetectedApp returns row n as a JSON object with the given columns: text with the
// fewest escapes, and line breaks as in the file.
func (i *Intune) DetectedApp(n int, columns []string) string {
	row := i.detectedApp(n)
	var b strings.Builder
	for c, column := range columns {
		separator := ","
		if c == 0 {
			separator = "{"
		}
		value := strings.ReplaceAll(row[column], "\r\n", "\n")
		value = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\x00", `\u0000`).Replace(value)
		b.WriteString(separator + `"` + column + `":"` + value + `"`)
	}
	return b.String() + "}"
}

// Specs describes the devices, their policies and their apps.
func (i *Intune) Specs(g Gen) []Spec {
	at := func(dst []byte, r Rec) []byte {
		return AppendUnix(dst, g.Base.Add(-time.Hour*time.Duration(r.Hash>>16%4000)).Unix(), "Z")
	}
	id := func(kind string) Slot {
		return func(dst []byte, r Rec) []byte { return AppendUUID(dst, g.Hash(kind, r.Index)) }
	}
	number := func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Index)) }
	key := func(dst []byte, r Rec) []byte { return AppendInt(AppendHex(dst, r.Hash, 16), int64(r.Index)) }
	spec := func(name, kind string, count, bytes int, templates ...string) Spec {
		return Spec{Name: name, Count: count, Bytes: bytes, Templates: templates, ID: id(kind), Slots: map[string]Slot{
			"id": id(kind), "n": number, "at": at, "device": id("intune device"), "user": id("intune user"), "key": key,
		}}
	}
	apps := spec(IntuneDetectedApps, "intune app", 2500, 420,
		`{"ApplicationKey":"<<key>>","ApplicationName":"App \"<<n>>\", <<text>>","ApplicationPublisher":"Sim, Inc.","ApplicationShortVersion":"007","ApplicationVersion":"1.10","DeviceId":"<<device>>","DeviceName":"HOST-<<n>>","OSDescription":"Windows","OSVersion":"10.0.26100.1","Platform":"Windows","UserId":"<<user>>","EmailAddress":"u<<n>>@example.test","UserName":""}`,
		`{"ApplicationKey":"<<key>>","ApplicationName":"<<text>>","ApplicationPublisher":"","ApplicationShortVersion":"","ApplicationVersion":"1e-05","DeviceId":"<<device>>","DeviceName":"名-<<n>>","OSDescription":"macOS","OSVersion":"15.1","Platform":"macOS","UserId":"","EmailAddress":"","UserName":"Zoë"}`)
	apps.ID = key
	return []Spec{
		spec(IntuneDevices, "intune device", 1500, 1500,
			`{"id":"<<id>>","userId":"<<user>>","deviceName":"HOST-<<n>>","managedDeviceOwnerType":"company","enrolledDateTime":"<<at>>","lastSyncDateTime":"<<at>>","operatingSystem":"Windows","complianceState":"compliant","jailBroken":"Unknown","managementAgent":"mdm","osVersion":"10.0.26100.1","azureADRegistered":true,"isEncrypted":true,"userPrincipalName":"user<<n>>@example.test","model":"<<text>>","serialNumber":"S<<n>>","totalStorageSpaceInBytes":511101108224,"deviceHealthAttestationState":null,"deviceActionResults":[]<<edge>>}`,
			`{"id":"<<id>>","userId":"","deviceName":"Zoë\u2019s iPhone \"]}\"","managedDeviceOwnerType":"personal","lastSyncDateTime":"<<at>>","operatingSystem":"iOS","complianceState":"noncompliant","isEncrypted":false,"userPrincipalName":"","notes":"<<text>>","deviceActionResults":[{"actionName":"syncDevice","actionState":"done"}]<<edge>>}`),
		spec(IntuneConfigurations, "intune configuration", 40, 900,
			`{"@odata.type":"#microsoft.graph.windows10GeneralConfiguration","id":"<<id>>","displayName":"Configuration <<n>>","description":"<<text>>","createdDateTime":"<<at>>","lastModifiedDateTime":"<<at>>","version":3,"passwordRequired":true<<edge>>}`,
			`{"@odata.type":"#microsoft.graph.iosCustomConfiguration","id":"<<id>>","displayName":"Profile <<n>>","description":null,"lastModifiedDateTime":"<<at>>","version":1,"payload":"<<text>>"<<edge>>}`),
		spec(IntuneCompliancePolicies, "intune policy", 15, 700,
			`{"@odata.type":"#microsoft.graph.windows10CompliancePolicy","id":"<<id>>","displayName":"Policy <<n>>","description":"<<text>>","createdDateTime":"<<at>>","lastModifiedDateTime":"<<at>>","version":2,"bitLockerEnabled":true<<edge>>}`),
		apps,
	}
}
