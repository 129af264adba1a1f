package e2e_test

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// refuseWebApps makes a tenant without a license for web application scanning.
func refuseWebApps(v *vendorsim.Tenable, refused bool) {
	v.ConfigureStream(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) { s.Forbidden = refused })
}

// TestStreamWithoutLicense checks that a stream that the vendor refuses fails alone, that
// the error and `check --connect` say how to do without it, and that without it nothing
// fails and its data stays.
func TestStreamWithoutLicense(t *testing.T) {
	t.Parallel()
	vendor := harness.NewSmallTenable()
	sim := harness.StartVendors(t, harness.SmallCounts, vendor)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	records := len(ws.StoredRecords("tenable_was"))
	refuseWebApps(vendor, true)

	const advice = "COLLECTORS=-tenable_was"
	ws.AssertResult(ws.Run("--once"), harness.ExitPartial, "1 of 4 streams has no new snapshot",
		"the license must include Web App Scanning", "or do without this stream: "+advice)
	for _, stream := range []string{"tenable_vulnerabilities", "tenable_assets", "tenable_findings"} {
		ws.AssertResult(ws.Run("--once", stream), harness.ExitOK, stream)
	}
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitPartial,
		"collector    tenable                 ok", "stream       tenable_vulnerabilities ok", "stream       tenable_findings        ok",
		"stream       tenable_was             tenable was: POST /was/v2/configs/search: 403 Forbidden", advice,
		"1 of 7 checks failed")

	ws.Env["COLLECTORS"] = "tenable,-tenable_was"
	sim.Hosts()[0].ResetStats()
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	for request := range sim.Hosts()[0].Stats().Requests {
		if strings.Contains(request, "/was/") {
			t.Errorf("a request for the stream that is off: %s", request)
		}
	}
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "collector    tenable (3 of 4 streams)",
		"stream       tenable_assets          0 0 * * * UTC, next ", "stream       tenable_was             off: COLLECTORS excludes it")
	if r := ws.Run("check", "--connect"); r.Code != harness.ExitOK || strings.Contains(r.Output(), "403 Forbidden") {
		t.Errorf("exit code %d:\n%s", r.Code, r.Output())
	}
	ws.AssertResult(ws.Run("list"), harness.ExitOK, "off    tenable_was", "COLLECTORS excludes it")
	if r := ws.Run("status"); !strings.Contains(r.Stdout, "tenable_was: off: COLLECTORS excludes it") || strings.Contains(r.Stdout, "403 Forbidden") {
		t.Errorf("the status of a stream that is off:\n%s", r.Output())
	}
	if r := ws.Run("doctor"); strings.Contains(r.Stdout, "FAILED") || !strings.Contains(r.Stdout, "the stream is off: COLLECTORS excludes it") {
		t.Errorf("the findings about a stream that is off:\n%s", r.Output())
	}
	ws.AssertResult(ws.Run("--once", "tenable_was"), harness.ExitSettings, "tenable_was: the stream is off: COLLECTORS excludes it")
	ws.AssertResult(ws.Run("--once", "tenable"), harness.ExitOK)
	ws.AssertResult(ws.Run("query", "--format", "csv", "SELECT count(*) AS n FROM tenable_was"), harness.ExitOK, "30")
	if n := len(ws.StoredRecords("tenable_was")); n != records || records != 30 {
		t.Errorf("the file of the stream that is off has %d records, want %d", n, records)
	}

	refuseWebApps(vendor, false)
	ws.Env["COLLECTORS"] = "tenable_was"
	ws.AssertResult(ws.Run("--once"), harness.ExitOK, "tenable_was")
	ws.Env["COLLECTORS"], ws.Env["TIO_SECRET_KEY"] = "", ""
	if r := ws.Run("status"); !strings.Contains(r.Stdout, "tenable_was: off: set TIO_SECRET_KEY") || strings.Count(r.Stdout, " off\n") != 4 {
		t.Errorf("the status of the streams of a collector that is off:\n%s", r.Output())
	}
	ws.Env["COLLECTORS"] = "tenable_wass"
	ws.AssertResult(ws.Run("check"), harness.ExitSettings, `"tenable_wass" is neither a collector nor a stream: did you mean tenable_was?`)
}

// TestCheckNamesEveryRefusedStream checks that `check --connect` and doctor report all
// streams without a permission, of several vendors.
func TestCheckNamesEveryRefusedStream(t *testing.T) {
	t.Parallel()
	falcon, snyk, okta := vendorsim.NewCrowdStrike(), vendorsim.NewSnyk(), vendorsim.NewOkta()
	sim := harness.StartVendors(t, map[string]int{
		vendorsim.CrowdStrikeHosts: 20, vendorsim.CrowdStrikeVulns: 20, vendorsim.SnykOrganizations: 2,
		vendorsim.SnykMembers: 10, vendorsim.SnykProjects: 10, vendorsim.SnykIssues: 10, vendorsim.OktaUsers: 10,
	}, falcon, snyk, okta)
	falcon.Configure(func(c *vendorsim.CrowdStrikeConfig) {
		c.Forbidden = map[string]bool{vendorsim.CrowdStrikeVulns: true, vendorsim.CrowdStrikeZTA: true}
	})
	snyk.Forbid(vendorsim.SnykMembers)
	okta.ChangeBehaviour(func(b *vendorsim.OktaBehaviour) { b.Forbidden = true })
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["COLLECTORS"] = "crowdstrike,snyk_members,snyk_issues,okta_users"
	for _, args := range [][]string{{"check", "--connect"}, {"doctor"}} {
		r := ws.Run(args...)
		ws.AssertResult(r, harness.ExitPartial,
			"the scope Vulnerabilities (Spotlight): read", "COLLECTORS=crowdstrike,snyk_members,snyk_issues,okta_users,-crowdstrike_vulnerabilities",
			"the scope Zero Trust Assessment: read", "COLLECTORS=crowdstrike,snyk_members,snyk_issues,okta_users,-crowdstrike_zero_trust_assessment",
			"the owner of SNYK_TOKEN needs the right", "COLLECTORS=crowdstrike,snyk_issues,okta_users",
			"the role Read-only Administrator", "COLLECTORS=crowdstrike,snyk_members,snyk_issues")
		if strings.Contains(r.Stdout, "snyk_projects") && args[0] == "check" && !strings.Contains(r.Stdout, "off: COLLECTORS does not name it") {
			t.Errorf("snyk_projects is not shown as off:\n%s", r.Stdout)
		}
		if args[0] == "check" && !strings.Contains(r.Output(), "4 of 11 checks failed") {
			t.Errorf("the summary:\n%s", r.Output())
		}
		if all := "COLLECTORS=crowdstrike,snyk_issues,-crowdstrike_vulnerabilities,-crowdstrike_zero_trust_assessment\n"; args[0] == "check" && !strings.Contains(r.Output(), all) {
			t.Errorf("no advice for all streams together:\n%s", r.Output())
		}
	}
	ws.Env["COLLECTORS"] = "okta_users"
	if r := ws.Run("check", "--connect"); r.Code != harness.ExitPartial || strings.Contains(r.Output(), "do without") {
		t.Errorf("the advice for the only stream, exit code %d:\n%s", r.Code, r.Output())
	}
}

// streamStatus is a stream in the response of /api/v1/status.
type streamStatus struct {
	Stream, Schedule, Freshness, Why, Next string
	On, Overdue                            bool
}

// readStreams returns the streams in the response of /api/v1/status.
func readStreams(s *harness.Service, url string) map[string]streamStatus {
	s.Helper()
	status, body := s.Request("GET", url+"/api/v1/status", "")
	var response struct{ Streams []streamStatus }
	if err := json.Unmarshal([]byte(body), &response); err != nil || status != 200 {
		s.Fatalf("%d %v %s", status, err, body)
	}
	streams := map[string]streamStatus{}
	for _, one := range response.Streams {
		streams[one.Stream] = one
	}
	return streams
}

// TestServiceRunsStreamsAlone checks the schedules of streams, the request that runs one
// stream, and that a reload switches a stream off and moves another.
func TestServiceRunsStreamsAlone(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-the-test"
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["HTTP_TOKEN"], ws.Env["SCHEDULE"], ws.Env["SCHEDULE_CATCHUP"] = token, "off", "false"
	ws.WriteEnvFile("COLLECTORS=tenable", "SCHEDULE_TENABLE=0 0 1 1 *", "SCHEDULE_TENABLE_WAS=@every 1s")
	s := ws.StartService()
	url := s.BaseURL()
	s.WaitForLog("run starts", `"streams":1`, `"trigger":"schedule"`)
	s.WaitForLog(`"stored"`, `"tenable_was"`)
	streams := readStreams(s, url)
	if got := streams["tenable_was"]; got.Schedule != "@every 1s" || !got.On || got.Next == "" {
		t.Errorf("tenable_was: %+v", got)
	}
	if got := streams["tenable_assets"]; got.Schedule != "0 0 1 1 *" || !strings.Contains(got.Next, "-01-01T00:00:00Z") {
		t.Errorf("tenable_assets: %+v", got)
	}

	if status, body := s.Request("POST", url+"/api/v1/streams/tenable_assets/run", token); status != 202 || !strings.Contains(body, "tenable_assets") {
		t.Errorf("%d %s", status, body)
	}
	s.WaitForLog(`"stored"`, `"tenable_assets"`)
	if got := readStreams(s, url)["tenable_findings"]; got.Freshness != "never" {
		t.Errorf("tenable_findings: %+v", got)
	}

	ws.WriteEnvFile("COLLECTORS=tenable,-tenable_was", "SCHEDULE_TENABLE=off", "SCHEDULE_TENABLE_FINDINGS=@every 1s")
	if status, body := s.Request("POST", url+"/-/reload", token); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	s.WaitForLog(`"stored"`, `"tenable_findings"`)
	streams = readStreams(s, url)
	if got := streams["tenable_was"]; got.On || got.Why != "COLLECTORS excludes it" || got.Overdue || got.Next != "" {
		t.Errorf("tenable_was: %+v", got)
	}
	if got := streams["tenable_assets"]; got.Schedule != "off" || got.Freshness != "off" || !got.On {
		t.Errorf("tenable_assets: %+v", got)
	}
	for path, want := range map[string]int{"/api/v1/streams/tenable_was/run": 404, "/api/v1/streams/tenable/run": 404} {
		if status, body := s.Request("POST", url+path, token); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	_, body := s.Request("GET", url+"/metrics", "")
	if !strings.Contains(body, `collectord_stream_enabled{collector="tenable",stream="tenable_was",tenancy="default"} 0`) ||
		strings.Contains(body, `collectord_data_late{collector="tenable",stream="tenable_was"`) {
		t.Errorf("metrics of the stream that is off:\n%s", body)
	}
	ws.WriteEnvFile("COLLECTORS=tenable", "SCHEDULE_TENABLE_WAS=never")
	if status, body := s.Request("POST", url+"/-/reload", token); status != 422 || !strings.Contains(body, "SCHEDULE_TENABLE_WAS") {
		t.Errorf("%d %s", status, body)
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK, `"stopped"`)
}
