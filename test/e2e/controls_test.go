package e2e_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

const exampleControl = `metric_id: agents
title: Assets with a name
category: Assets
slo: [0.5, 0.9]
weight: 1
query: |
  SELECT id::VARCHAR AS resource, 'host' AS resource_type, 1 AS compliance, '=x' AS detail
  FROM {{ ref('tenable_assets') }}
`

// writeControls writes files of controls into the directory of CONTROLS.
func writeControls(t *testing.T, ws *harness.Workspace, files map[string]string) {
	t.Helper()
	ws.Env["CONTROLS"] = ws.Path("controls")
	if err := os.MkdirAll(ws.Path("controls"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(ws.Path("controls/"+name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestControls checks that --once measures controls and delivers their results, and what
// the commands say about them.
func TestControls(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.Env["STORE_FILE"] = ws.Path("out/%TAG.json")
	ws.Env["METRICS_TEXTFILE"] = ws.Path("metrics.prom")
	writeControls(t, ws, map[string]string{"agents.yml": exampleControl})
	ws.AssertResult(ws.Run("check", "--strict"), harness.ExitOK)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK, "control_detail", "control_summary")
	var details, summary []map[string]any
	for name, into := range map[string]*[]map[string]any{"control_detail": &details, "control_summary": &summary} {
		if err := json.Unmarshal([]byte(ws.Content(ws.Path("out/"+name+".json"))), into); err != nil {
			t.Fatal(err)
		}
	}
	if len(details) != 80 || len(summary) != 1 || summary[0]["totalok"] != 80.0 || summary[0]["metric_id"] != "agents" {
		t.Errorf("%d details, summary %v", len(details), summary)
	}
	metrics := ws.Content(ws.Path("metrics.prom"))
	for _, want := range []string{
		`collectord_control_score{category="Assets",control="agents",tenancy="default"} 1`,
		`collectord_control_failed{category="Assets",control="agents",tenancy="default"} 0`,
		`collectord_category_score{category="Assets",tenancy="default"} 1`, `collectord_controls_score{tenancy="default"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics have no %s", want)
		}
	}
	quiet := ws.Run("controls")
	ws.AssertResult(quiet, harness.ExitOK, "agents", "measured", "green")
	if quiet.Stderr != "" {
		t.Errorf("beside the table there is %q", quiet.Stderr)
	}
	ws.Env["LOG_LEVEL"] = "debug"
	ws.AssertResult(ws.Run("controls"), harness.ExitOK, "control measured")
	delete(ws.Env, "LOG_LEVEL")
	ws.AssertResult(ws.Run("controls", "--format", "json"), harness.ExitOK, `"score": 1`, `"total": 80`)
	ws.AssertResult(ws.Run("controls", "agents", "--dry-run", "--detail", "--format", "csv"), harness.ExitOK, "control,resource,", ",host,1,'=x,undefined")
	ws.AssertResult(ws.Run("controls", "agentz"), harness.ExitUsage, `no such control: "agentz"`)
	ws.AssertResult(ws.Run("controls", "--detail"), harness.ExitUsage, "--detail needs --dry-run")
	ws.AssertResult(ws.Run("controls", "--format", "xml"), harness.ExitUsage, "table, csv or json")
	ws.AssertResult(ws.Run("query", "SELECT sum(totalok) / sum(total) AS score FROM control_summary", "--format", "csv"), harness.ExitOK, "score\n1.0\n")

	status := ws.Run("status")
	ws.AssertResult(status, harness.ExitOK, "after runs\n", "control_detail: it has the results of controls")
	if doctor := ws.Run("doctor"); strings.Contains(status.Stdout, "control_detail: off") || strings.Contains(doctor.Stdout, "the stream is off") {
		t.Errorf("streams of results are off:\n%s\n%s", status.Stdout, doctor.Stdout)
	}

	broken := strings.ReplaceAll(exampleControl, "id::VARCHAR", "idd::VARCHAR")
	writeControls(t, ws, map[string]string{
		"agents.yml": broken, "other.yml": strings.NewReplacer("agents", "other", "tenable_assets", "tenable_asset").Replace(exampleControl),
	})
	failed := ws.Run("controls")
	ws.AssertResult(failed, harness.ExitPartial, `agents.yml:7: Binder Error: Referenced column "idd"`, "…", "failed", "agents",
		"other.yml:7: tenable_asset is no stream: did you mean tenable_assets?", "--format json")
	if strings.Contains(failed.Stderr, "Binder Error") {
		t.Errorf("the error of the table is also in the log: %s", failed.Stderr)
	}
	ws.AssertResult(ws.Run("controls", "other", "--dry-run", "--detail"), harness.ExitPartial, "other: failed: other.yml:7: tenable_asset is no stream")
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "other.yml:7: tenable_asset is no stream: did you mean tenable_assets?")
	ws.AssertResult(ws.Run("--once", vendorsim.TenableAssets), harness.ExitPartial, "controls that failed, and keep the score that they had: agents")
	metrics = ws.Content(ws.Path("metrics.prom"))
	for _, want := range []string{
		`collectord_control_score{category="Assets",control="agents",tenancy="default"} 1`,
		`collectord_control_failed{category="Assets",control="agents",tenancy="default"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("after a failure the metrics have no %s", want)
		}
	}
	ws.AssertResult(ws.Run("controls", "--format", "json"), harness.ExitPartial, `"score": 1`, `"state": "failed"`, `not found in FROM clause! Candidate bindings: \"id\"`)
	writeControls(t, ws, map[string]string{"agents.yml": "metric_id: agents\n"})
	ws.AssertResult(ws.Run("controls", "--dry-run"), harness.ExitData, "agents.yml: title is missing", "failed")
	ws.AssertResult(ws.Run("controls", "agents"), harness.ExitData, "agents   Assets    failed  1 ")
	ws.AssertResult(ws.Run("check", "--strict"), harness.ExitSettings, "agents.yml: title is missing")
	ws.Env["CONTROLS_RESOURCES"] = ws.Path("missing.csv")
	ws.AssertResult(ws.Run("check"), harness.ExitSettings, "CONTROLS_RESOURCES: open ")
	ws.Env["CONTROLS"] = ws.Path("missing")
	ws.AssertResult(ws.Run("--once"), harness.ExitSettings, "CONTROLS: ", "want the directory of the files of controls")
	delete(ws.Env, "CONTROLS")
	ws.AssertResult(ws.Run("controls"), harness.ExitSettings, "CONTROLS is not set")
}

// TestControlsOfTheService checks that the service measures the controls after the runs
// at its start, and publishes their scores.
func TestControlsOfTheService(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	ws.Env["HTTP_LISTEN"] = "127.0.0.1:0"
	writeControls(t, ws, map[string]string{"agents.yml": exampleControl})
	ws.Env["CONTROLS_RESOURCES"] = ws.Path("resources.csv")
	harness.WriteFile(t, ws.Path("resources.csv"), "resource,team\na,b\n")
	service := ws.StartService()
	url := service.BaseURL()
	service.WaitForLog("control measured", "agents")
	const want = `collectord_control_score{category="Assets",control="agents",tenancy="default"} 1`
	if _, metrics := service.Request(http.MethodGet, url+"/metrics", ""); !strings.Contains(metrics, want+"\n") {
		t.Errorf("the metrics have no %s", want)
	}

	// A broken file and a broken register are failures of controls, which end with the
	// repair, and no errors of the reload.
	harness.WriteFile(t, ws.Path("controls/agents.yml"), "metric_id: agents\n")
	service.Signal(syscall.SIGHUP)
	service.WaitForLog("a file of controls cannot be used", "agents.yml: title is missing")
	service.WaitForLog(`"stored"`, "control_summary")
	for path, wants := range map[string][]string{
		"/api/v1/controls": {`"state":"failed"`, `"failed_since":"`, `"title":"Assets with a name"`, `"error":"agents.yml: title is missing"`},
		"/controls":        {"agents.yml: title is missing", "Assets with a name"},
		"/controls/agents": {"The file cannot be used: agents.yml: title is missing.", "It has failed since"},
	} {
		for _, want := range wants {
			if _, body := service.Request(http.MethodGet, url+path, ""); !strings.Contains(body, want) {
				t.Errorf("%s does not contain %q: %s", path, want, body)
			}
		}
	}
	if day := ws.StoredRecords("control_summary"); len(day) != 1 || !strings.Contains(day[0], `"weight":1,"indicator":false,"business_unit":"undefined","team":"undefined","location":"undefined","totalok":80,"total":80,"state":"failed"`) {
		t.Errorf("the summary is %s", day)
	}
	harness.WriteFile(t, ws.Path("controls/agents.yml"), exampleControl)
	harness.WriteFile(t, ws.Path("resources.csv"), "name,team\na,b\n")
	service.Signal(syscall.SIGHUP)
	service.WaitForLog("control failed", "the header name,team has no column resource")
	harness.WriteFile(t, ws.Path("resources.csv"), "resource,team\na,b\n")
	service.Signal(syscall.SIGHUP)
	service.WaitForLog("control measured", "agents")
	service.WaitForLog(`"stored"`, "control_summary")
	if _, status := service.Request(http.MethodGet, url+"/api/v1/status", ""); !strings.Contains(status, `"last_reload":{"at":"`) || strings.Contains(status, "not applied") {
		t.Errorf("the status is %s", status)
	}
	if _, controls := service.Request(http.MethodGet, url+"/api/v1/controls", ""); !strings.Contains(controls, `"state":"measured"`) || strings.Contains(controls, `"error"`) {
		t.Errorf("the controls are %s", controls)
	}
	for _, day := range ws.StoredRecords("control_summary") {
		if !strings.Contains(day, `"totalok":80,"total":80,"state":"measured"`) {
			t.Errorf("the summary has %s", day)
		}
	}
}

// TestControlsHistoryIsRestored checks that the days of controls outlive the state
// directory in the backup, and that nothing is measured, which would replace them there,
// while the backup cannot be read.
func TestControlsHistoryIsRestored(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.Env["STORE_FILE"], ws.Env["RESTORE_TIMEOUT"] = ws.Path("out/%TAG.json"), "1s"
	ws.UseS3()
	writeControls(t, ws, map[string]string{"agents.yml": exampleControl})
	ws.AssertResult(ws.Run("--once", vendorsim.TenableAssets), harness.ExitOK)

	ws.RemoveData()
	if err := os.RemoveAll(ws.Path("out")); err != nil {
		t.Fatal(err)
	}
	writeControls(t, ws, map[string]string{"agents.yml": strings.ReplaceAll(exampleControl, "metric_id: agents", "metric_id: renamed")})
	key := ws.Env["AWS_SECRET_ACCESS_KEY"]
	ws.Env["AWS_SECRET_ACCESS_KEY"] = "wrong"
	ws.AssertResult(ws.Run("--once", vendorsim.TenableAssets), harness.ExitPartial, "restore the history of the controls, before which they are not measured: control_summary")
	if _, err := os.Stat(ws.Path("out/control_summary.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a summary without the history: %v", err)
	}

	ws.Env["AWS_SECRET_ACCESS_KEY"] = key
	ws.AssertResult(ws.Run("--once", vendorsim.TenableAssets), harness.ExitOK)
	var summary []struct {
		ID    string  `json:"metric_id"`
		OK    float64 `json:"totalok"`
		State string  `json:"state"`
	}
	if err := json.Unmarshal([]byte(ws.Content(ws.Path("out/control_summary.json"))), &summary); err != nil {
		t.Fatal(err)
	}
	if len(summary) != 2 || summary[0].ID != "agents" || summary[0].OK != 80 || summary[0].State != "measured" || summary[1].ID != "renamed" {
		t.Errorf("the summary is %+v, want the control of before and the new one", summary)
	}
}
