package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/test/harness"
)

// TestTenancyForget checks that everything of a tenancy is deleted, also while the service
// works for others, and not before its file is gone and the service knows that.
func TestTenancyForget(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	acme := ws.vendorLines(30)
	ws.write("acme", acme...)
	ws.write("globex", ws.vendorLines(70)...)
	s := ws.StartService()
	waitForRecords(ws.Workspace, ws.file("tenable_assets", "acme"))
	waitForRecords(ws.Workspace, ws.file("tenable_assets", "globex"))
	ws.AssertResult(ws.Run("tenancy", "forget", "acme", "--yes"), harness.ExitUsage, "acme.env is its file", "remove that")
	ws.remove("acme")
	ws.AssertResult(ws.Run("tenancy", "forget", "acme", "--yes"), harness.ExitLocked, "a service or a command works for tenancy acme", "reload")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("the tenancy ends", `"tenancy":"acme"`)
	ws.AssertResult(ws.Run("tenancy", "list"), harness.ExitOK, "acme     -           no file  1", "globex   globex.env  ok       1")
	r := ws.Run("tenancy", "forget", "acme")
	ws.AssertResult(r, harness.ExitUsage, "tenancy acme in ", "streams with data", "Backups and destinations keep what they have.", "nothing was deleted: --yes deletes it")
	ws.AssertResult(ws.Run("tenancy", "forget", "acne", "--yes"), harness.ExitUsage, "has nothing of this tenancy; it has acme, globex")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // the last work of the tenancy ends
		if r = ws.Run("tenancy", "forget", "acme", "--yes"); r.Code != harness.ExitLocked || time.Now().After(deadline) {
			break
		}
	}
	ws.AssertResult(r, harness.ExitOK, "deleted\n")
	if found := namedAfter(t, ws.Path("state"), "acme"); len(found) > 1 || len(found) == 1 && filepath.Base(found[0]) != "tenancy~acme" {
		t.Errorf("left: %q", found)
	}
	ws.AssertResult(ws.Run("query", "--tenancy", "globex", "SELECT count(*) AS n FROM tenable_assets"), harness.ExitOK, "70")
	if got := strings.Count(ws.Content(ws.file("tenable_assets", "acme")), `"_tenancy"`); got != 30 {
		t.Errorf("the destination has %d records, want 30", got)
	}
	ws.write("acme", acme...) // it begins again
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("a tenancy begins", `"tenancy":"acme"`)
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// namedAfter returns the files and directories below dir whose names have a part.
func namedAfter(t *testing.T, dir, part string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && strings.Contains(entry.Name(), part) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// oldInstance is a workspace of an instance with one tenancy that has run once.
func oldInstance(t *testing.T, tenancy string, assets int) (*harness.Workspace, []string) {
	t.Helper()
	old := newTenancies(t)
	delete(old.Env, "TENANCIES_DIR")
	lines := old.vendorLines(assets)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		old.Env[name] = value
	}
	old.Env["TENANCY"] = tenancy
	old.AssertResult(old.Run("--once"), harness.ExitOK)
	return old.Workspace, lines
}

// TestTenancyImport checks the way from one service for each tenancy to one for all.
func TestTenancyImport(t *testing.T) {
	t.Parallel()
	old, lines := oldInstance(t, "acme", 30)
	ws := newTenancies(t)
	ws.write("globex", ws.vendorLines(70)...)
	s := ws.StartService()
	waitForRecords(ws.Workspace, ws.file("tenable_assets", "globex"))
	service := old.StartService()
	service.WaitForLog(`"ready"`)
	ws.AssertResult(ws.Run("tenancy", "import", old.Path("state")), harness.ExitLocked, "has the state open: stop the instance first")
	service.Signal(syscall.SIGTERM)
	old.AssertResult(service.Wait(), harness.ExitOK)

	ws.AssertResult(ws.Run("tenancy", "import", ws.Path("state")), harness.ExitUsage, "is the state directory (STATE_DIR) of these settings")
	ws.AssertResult(ws.Run("tenancy", "import", ws.Dir), harness.ExitUsage, "it has no state")
	ws.AssertResult(ws.Run("tenancy", "import", "--tenancy", "none", old.Path("state")), harness.ExitUsage, "nothing of tenancy \"none\"; it has acme")
	r := ws.Run("tenancy", "import", old.Path("state"))
	ws.AssertResult(r, harness.ExitOK, "# tenancy acme\n", "tenable_assets", "imported", "no file in", "was not changed")
	ws.AssertResult(ws.Run("tenancy", "import", old.Path("state")), harness.ExitOK, "imported before")
	ws.write("acme", append(lines, "SCHEDULE=0 0 1 1 *", "SCHEDULE_CATCHUP=false")...) // nothing runs by itself
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("a tenancy begins", `"tenancy":"acme"`)
	ws.AssertResult(ws.Run("status", "--tenancy", "acme"), harness.ExitOK, "tenable_assets", "30")
	const idOf = "SELECT _upload_id, count(*) AS n FROM tenable_assets GROUP BY ALL"
	before, after := old.Run("query", "--format", "csv", idOf), ws.Run("query", "--tenancy", "acme", "--format", "csv", idOf)
	if before.Stdout != after.Stdout || !strings.Contains(after.Stdout, ",30\n") {
		t.Errorf("before %q, after %q", before.Stdout, after.Stdout)
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// TestTenancyImportWithQueue checks that queued deliveries are not lost unnoticed.
func TestTenancyImportWithQueue(t *testing.T) {
	t.Parallel()
	old, _ := oldInstance(t, "acme", 30)
	old.Env["STORE_FILE"] = filepath.Join(old.Dir, "blocked", "%TAG.json")
	harness.WriteFile(t, filepath.Join(old.Dir, "blocked"), "a file in place of the directory")
	old.Run("--once")
	ws := newTenancies(t)
	ws.write("globex", ws.vendorLines(70)...)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	ws.AssertResult(ws.Run("tenancy", "import", old.Path("state")), harness.ExitUsage, "queued: call `collectord deliver`", "--without-queue")
	ws.AssertResult(ws.Run("tenancy", "import", "--without-queue", old.Path("state")), harness.ExitOK, "imported", "queued")
}

// TestTenancyCommandsKilled kills import and forget at many moments: what was interrupted
// can be repeated, and is then complete.
func TestTenancyCommandsKilled(t *testing.T) {
	t.Parallel()
	old, lines := oldInstance(t, "acme", 3000)
	ws := newTenancies(t)
	ws.write("globex", ws.vendorLines(70)...)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	const count = "SELECT count(*) AS n FROM tenable_assets"
	killed := 0
	for i := range 6 {
		killed += killAfter(ws.Workspace, time.Duration(20+i*14)*time.Millisecond, "tenancy", "import", old.Path("state"))
		ws.AssertResult(ws.Run("tenancy", "import", old.Path("state")), harness.ExitOK)
		ws.write("acme", lines...)
		ws.AssertResult(ws.Run("query", "--tenancy", "acme", count), harness.ExitOK, "3000")
		ws.remove("acme")
		killed += killAfter(ws.Workspace, time.Duration(20+i*14)*time.Millisecond, "tenancy", "forget", "acme", "--yes")
		if r := ws.Run("tenancy", "forget", "acme", "--yes"); r.Code != harness.ExitOK && !strings.Contains(r.Output(), "has nothing of this tenancy") {
			t.Fatal(r.Output())
		}
		if found := namedAfter(t, filepath.Join(ws.Path("state"), "snapshots"), "acme"); len(found) > 0 {
			t.Fatalf("left: %q", found)
		}
		if r := ws.Run("tenancy", "list"); strings.Contains(r.Stdout, "acme") {
			t.Fatal(r.Stdout)
		}
	}
	if killed == 0 {
		t.Error("no command was killed before its end")
	}
	old.AssertResult(old.Run("query", count), harness.ExitOK, "3000")
}

// killAfter starts a command and kills it after some time. It returns 1 if it had not ended.
func killAfter(ws *harness.Workspace, after time.Duration, args ...string) int {
	ws.Helper()
	cmd, wait := ws.Start(args...)
	time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	if r := wait(); r.Code == harness.ExitOK {
		return 0
	} else if cmd.ProcessState.Exited() {
		ws.Fatal(fmt.Sprint(args, r.Output()))
	}
	return 1
}

// TestQueryOfTenancies checks that a query reads all tenancies, or the one that was chosen.
func TestQueryOfTenancies(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	ws.AssertResult(ws.Run("query", "SELECT 1"), harness.ExitSettings, "has no file NAME.env")
	ws.write("acme", ws.vendorLines(30)...)
	ws.write("globex", ws.vendorLines(70)...)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	const perTenancy = "SELECT _tenancy, count(*) AS n FROM tenable_assets GROUP BY ALL ORDER BY 1"
	if r := ws.Run("query", "--format", "csv", perTenancy); r.Stdout != "_tenancy,n\nacme,30\nglobex,70\n" {
		t.Errorf("all: %s", r.Output())
	}
	if r := ws.Run("query", "--format", "csv", "--tenancy", "globex", perTenancy); r.Stdout != "_tenancy,n\nglobex,70\n" {
		t.Errorf("globex: %s", r.Output())
	}
	harness.WriteFile(t, ws.Path("query.sql"), perTenancy)
	out := ws.Path("result.parquet")
	ws.AssertResult(ws.Run("query", "-f", ws.Path("query.sql"), "--format", "parquet", "-o", out), harness.ExitOK)
	if text := ws.Content(out); !strings.Contains(text, "acme") || !strings.Contains(text, "globex") {
		t.Error("the Parquet file does not have both tenancies")
	}
	ws.write("globex", "TIO_ACCESS_KEY=x") // what cannot be used has data all the same
	if r := ws.Run("query", "--format", "json", "SELECT count(*) AS n FROM tenable_assets"); !strings.Contains(r.Stdout, `"n":100`) {
		t.Errorf("with a bad file: %s", r.Output())
	}
	ws.remove("globex")
	if r := ws.Run("query", "--format", "csv", perTenancy); r.Stdout != "_tenancy,n\nacme,30\n" {
		t.Errorf("without a file: %s", r.Output())
	}
	terminal := ws.StartInTerminal("query")
	terminal.Expect("SQL over the last-known data of 1 stream")
	terminal.Type("SELECT count(*) AS n FROM tenable_assets;\r")
	terminal.Expect("30", "(1 row")
	terminal.Type(".tables\r")
	terminal.Expect("tenable_assets", "30")
	terminal.Type("\x04")
	ws.AssertResult(terminal.Wait(), harness.ExitOK)

	ws.write("globex", "TIO_ACCESS_KEY=x")
	damageSnapshots(t, filepath.Join(ws.Path("state"), "snapshots"), "globex")
	ws.AssertResult(ws.Run("query", perTenancy), harness.ExitFailed, "tenancy globex: ", "the next run of the stream replaces it; --without leaves a tenancy out")
	if r := ws.Run("query", "--format", "csv", "--without", "globex", perTenancy); r.Stdout != "_tenancy,n\nacme,30\n" {
		t.Errorf("without globex: %s", r.Output())
	}
	ws.AssertResult(ws.Run("query", "--without", "none", perTenancy), harness.ExitUsage, `there is no tenancy "none"`)
	ws.AssertResult(ws.Run("query", "--without", "acme,globex", perTenancy), harness.ExitUsage, "no tenancy is left")
	ws.AssertResult(ws.Run("query", "--tenancy", "acme", "--without", "globex", perTenancy), harness.ExitUsage, "there is one tenancy")
}

// damageSnapshots replaces the files of the snapshots whose paths have a part.
func damageSnapshots(t *testing.T, dir, part string) {
	t.Helper()
	damaged := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, part) {
			return err
		}
		damaged++
		if strings.HasSuffix(path, ".parquet") {
			return os.Remove(path)
		}
		return os.WriteFile(path, []byte("damaged"), 0o600)
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d files, %v", damaged, err)
	}
}
