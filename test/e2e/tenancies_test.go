package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// tenancies is a workspace whose program has a file for each tenancy.
type tenancies struct {
	*harness.Workspace
	dir string
}

func newTenancies(t *testing.T) *tenancies {
	t.Helper()
	ws := harness.NewWorkspace(t)
	dir := filepath.Join(ws.Dir, "tenancies")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ws.Env["TENANCIES_DIR"] = dir
	return &tenancies{ws, dir}
}

// write writes the file of a tenancy.
func (t *tenancies) write(name string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(t.dir, name+".env"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (t *tenancies) remove(name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(t.dir, name+".env")); err != nil {
		t.Fatal(err)
	}
}

// file returns the path of a stream's file.
func (t *tenancies) file(stream, tenancy string) string {
	return filepath.Join(t.Dir, "source", stream, tenancy+".json")
}

// vendorLines returns the settings of new simulated vendors with a number of assets.
func (t *tenancies) vendorLines(assets int) []string {
	t.Helper()
	sim := harness.StartVendors(t.T, map[string]int{vendorsim.TenableAssets: assets}, harness.NewSmallTenable())
	var lines []string
	for _, h := range sim.Hosts() {
		lines = append(lines, h.Env()...)
	}
	return append(lines, "COLLECTORS=tenable_assets")
}

// TestTenancies checks that each tenancy's data goes to its own files and rows, and that a
// reload adds, changes and ends single tenancies, whatever the files of others have.
func TestTenancies(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	ws.Env["STORE_DUCKDB"] = filepath.Join(ws.Dir, "all.duckdb") // of all tenancies
	acme, globex := ws.vendorLines(30), ws.vendorLines(70)
	ws.write("acme", acme...)
	ws.write("Globex Ltd", globex...)
	ws.write("broken", "TIO_ACCESS_KEY=x", "HTTP_LISTEN=:1")
	s := ws.StartService()
	s.WaitForLog("a tenancy cannot be used", "broken.env", "HTTP_LISTEN: is a setting of the whole program")
	base := s.BaseURL()
	for tenancy, want := range map[string]int{"acme": 30, "Globex Ltd": 70} {
		waitForRecords(ws.Workspace, ws.file("tenable_assets", tenancy))
		text := ws.Content(ws.file("tenable_assets", tenancy))
		if got := strings.Count(text, `"_tenancy":"`+tenancy+`"`); got != want || strings.Count(text, `"_tenancy":`) != want {
			t.Errorf("%s has %d records of its own, want %d", tenancy, got, want)
		}
	}
	for range 2 {
		s.WaitForLog(`"stored"`, `"sink":"duckdb"`)
	}
	_, text := s.Request("GET", base+"/metrics", "")
	for _, line := range []string{
		`collectord_data_records{collector="tenable",stream="tenable_assets",tenancy="acme"} 30`,
		`collectord_data_records{collector="tenable",stream="tenable_assets",tenancy="Globex Ltd"} 70`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}

	ws.remove("acme")
	ws.write("initech", ws.vendorLines(11)...)
	ws.write("Globex Ltd", append(globex, "RUN_TIMEOUT=soon")...)
	ws.write("broken", append(acme, "STORE_FILE="+filepath.Join(ws.Dir, "same", "%TAG.json"))...)
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("some settings were not applied", `"tenancy":"Globex Ltd"`, "RUN_TIMEOUT")
	s.WaitForLog("the tenancy ends", `"tenancy":"acme"`)
	s.WaitForLog("a tenancy begins", `"tenancy":"broken"`)
	waitForRecords(ws.Workspace, ws.file("tenable_assets", "initech"))
	waitForRecords(ws.Workspace, filepath.Join(ws.Dir, "same", "tenable_assets.json"))
	if got := strings.Count(ws.Content(ws.file("tenable_assets", "acme")), `"_tenancy"`); got != 30 {
		t.Errorf("the file of the tenancy that ended has %d records, want 30", got)
	}
	ws.write("twin", append(acme, "STORE_FILE="+filepath.Join(ws.Dir, "same", "%TAG.json"))...)
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("a tenancy cannot be used", "twin.env", "is the same place as that of broken.env", "put %TENANCY into it")
	if _, text = s.Request("GET", base+"/metrics", ""); strings.Contains(text, `tenancy="acme"`) || strings.Count(text, `tenancy="twin"`) != 1 {
		t.Error("there are metrics of data of tenancies that do not work")
	}
	s.Signal(syscall.SIGTERM)
	e := s.Wait()
	ws.AssertResult(e, harness.ExitOK)
	for line := range strings.Lines(e.Stderr) {
		if strings.Contains(line, `"run starts"`) && !strings.Contains(line, `"tenancy":`) {
			t.Errorf("a line without its tenancy: %s", line)
		}
	}
}

// TestTenancyCommands checks the commands beside a service with several tenancies.
func TestTenancyCommands(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	ws.write("acme", ws.vendorLines(30)...)
	ws.write("globex", ws.vendorLines(70)...)
	r := ws.Run("--once")
	ws.AssertResult(r, harness.ExitOK, "# tenancy acme\n", "# tenancy globex\n")
	ws.AssertResult(ws.Run("status", "--tenancy", "globex"), harness.ExitOK, "tenable_assets", "70")
	ws.AssertResult(ws.Run("query", "--tenancy", "acme", "SELECT count(*) AS n FROM tenable_assets"), harness.ExitOK, "30")
	ws.AssertResult(ws.Run("accept", "tenable_assets"), harness.ExitUsage, "there are 2 tenancies: choose one with --tenancy: acme, globex")
	ws.AssertResult(ws.Run("status", "--tenancy", "none"), harness.ExitUsage, `there is no tenancy "none"`)
	ws.AssertResult(ws.Run("status", "--tenancy", ""), harness.ExitUsage, "--tenancy: empty: want the name of a tenancy")
	ws.AssertResult(ws.Run("health", "--tenancy", "acme"), harness.ExitUsage, "--tenancy has no effect here: health is that of the service")
	ws.write("bad", "TIO_ACCESS_KEY=x")
	r = ws.Run("check")
	ws.AssertResult(r, harness.ExitSettings, "# tenancy acme\n", "bad.env: no collector is switched on", "TIO_SECRET_KEY: not set", "tenancy bad: its settings cannot be used")
	ws.Env["TENANCY"] = "all"
	ws.AssertResult(ws.Run("check"), harness.ExitSettings, "TENANCY: has no effect with TENANCIES_DIR")
}
