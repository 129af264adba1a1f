package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// TestDoubtsOfARun checks where the doubts of a successful run appear: in the summary, the log,
// the status, the metrics, the manifest, and in one notification.
func TestDoubtsOfARun(t *testing.T) {
	t.Parallel()
	snyk := vendorsim.NewSnyk()
	snyk.Forbid(vendorsim.SnykProjects, 1)
	sim := harness.StartVendors(t, map[string]int{vendorsim.SnykOrganizations: 3, vendorsim.SnykProjects: 30}, snyk)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	url, bodies := startWebhook(t)
	textfile := filepath.Join(ws.Dir, "collectord.prom")
	ws.Env["SNYK_SKIP_FORBIDDEN"], ws.Env["SLACK_WEBHOOK"], ws.Env["METRICS_TEXTFILE"] = "true", url, textfile
	const accepted = "snyk_projects: accepted: an organisation that the token may not read was skipped (1)\n"

	ws.AssertResult(ws.Run("--once", "snyk_projects"), harness.ExitOK, accepted, "a doubt about the data was accepted")
	assertNotified(ws, bodies, "snyk_projects succeeded with ", "Accepted: an organisation that the token may not read was skipped (1).")
	ws.AssertResult(ws.Run("status"), harness.ExitOK, accepted)
	metrics, err := os.ReadFile(textfile)
	if err != nil || !strings.Contains(string(metrics), `collectord_last_run_doubts{collector="snyk",stream="snyk_projects",tenancy="default"} 1`+"\n") {
		t.Errorf("the metrics have no doubt: error %v\n%s", err, metrics)
	}
	manifests, err := filepath.Glob(filepath.Join(ws.Dir, "state/snapshots/snyk_projects/*/*/manifest.json"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests %q, error %v", manifests, err)
	}
	text, err := os.ReadFile(manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Doubts []struct {
			Text  string
			Count int
		}
	}
	if err := json.Unmarshal(text, &manifest); err != nil || len(manifest.Doubts) != 1 || manifest.Doubts[0].Count != 1 {
		t.Errorf("doubts of the manifest: %+v, error %v", manifest, err)
	}

	ws.AssertResult(ws.Run("--once", "snyk_projects"), harness.ExitOK, accepted)
	snyk.Forbid(vendorsim.SnykProjects, 99) // none of the three
	result := ws.Run("--once", "snyk_projects")
	ws.AssertResult(result, harness.ExitOK, "snyk_projects")
	if strings.Contains(result.Output(), "accepted") {
		t.Errorf("a run without doubts accepted something:\n%s", result.Output())
	}
	if len(bodies) > 0 {
		t.Errorf("unexpected notification: %s", <-bodies)
	}
}
