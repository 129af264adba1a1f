package e2e_test

import (
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/harness"
)

// TestTimersOnOneMachine checks the alerts on two tenancies whose runs do not take place any
// more. A node exporter reads the files of both from one directory. The data of one tenancy
// is late, which nothing but the time shows.
func TestTimersOnOneMachine(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	dir := t.TempDir()
	var workspaces []*harness.Workspace
	for tenancy, maxAge := range map[string]string{"acme": "1h", "other": "1s"} {
		ws := harness.NewWorkspace(t).UseVendors(sim)
		ws.Env["TENANCY"], ws.Env["DATA_MAX_AGE"], ws.Env["SCHEDULE"] = tenancy, maxAge, "off"
		ws.Env["METRICS_TEXTFILE"] = filepath.Join(dir, tenancy+".prom")
		ws.AssertResult(ws.Run("--once"), harness.ExitOK)
		workspaces = append(workspaces, ws)
	}
	exporter := startPrometheusProgram(t, dir, "prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+dir)
	var text string
	waitUntil(t, "the node exporter responds", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, exporter+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		text = string(body)
		return err == nil && response.StatusCode == http.StatusOK
	})
	for _, line := range []string{
		"node_textfile_scrape_error 0",
		`collectord_last_run_success{collector="tenable",stream="tenable_assets",tenancy="acme"} 1`,
		`collectord_last_run_success{collector="tenable",stream="tenable_assets",tenancy="other"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	prom := prometheusAPI{t, startPrometheusWith(t, "alerts-timer.yml", "node", strings.TrimPrefix(exporter, "http://"))}
	want := []string{
		"CollectordDataLate other tenable_assets", "CollectordDataLate other tenable_findings",
		"CollectordDataLate other tenable_vulnerabilities", "CollectordDataLate other tenable_was",
	}
	waitUntil(t, "the alerts on late data fire", func() bool {
		found, err := prom.query(`ALERTS{alertstate="firing"}`, true)
		var firing []string
		for _, labels := range found {
			firing = append(firing, labels["alertname"]+" "+labels["tenancy"]+" "+labels["stream"])
		}
		slices.Sort(firing)
		t.Logf("firing: %q, %v", firing, err)
		return slices.Equal(firing, want)
	})
	for _, ws := range workspaces {
		result := ws.Run("status")
		ws.AssertResult(result, harness.ExitOK)
		if late := strings.Contains(result.Stdout, "tenable_assets: late since 20"); late != (ws.Env["TENANCY"] == "other") {
			t.Errorf("status of %s:\n%s", ws.Env["TENANCY"], result.Stdout)
		}
	}
}
