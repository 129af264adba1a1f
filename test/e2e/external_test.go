package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
)

// writeProgram writes a file of EXEC_DIR, which an executable script is, too.
func writeProgram(ws *harness.Workspace, name, text string) {
	ws.Helper()
	ws.Env["EXEC_DIR"] = ws.Path("exec")
	path := ws.Path("exec", name)
	harness.WriteFile(ws, path, text)
	if strings.HasPrefix(text, "#!") {
		if err := os.Chmod(path, 0o700); err != nil {
			ws.Fatal(err)
		}
	}
}

// guideFile matches a file in the guide: its name, and a block with its text.
var guideFile = regexp.MustCompile("(?m)^`([a-z.]+)`:\n\n```[a-z]+\n((?s:.*?))```$")

// TestGuideCollectors runs the examples of the guide.
func TestGuideCollectors(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile(checkout.Join(t, "docs", "guide", "your-own-collector.md"))
	if err != nil {
		t.Fatal(err)
	}
	ws := harness.NewWorkspace(t)
	files := guideFile.FindAllStringSubmatch(string(guide), -1)
	for _, file := range files {
		writeProgram(ws, file[1], file[2])
	}
	if len(files) != 4 {
		t.Fatalf("the guide has %d files, want 4", len(files))
	}
	ws.AssertResult(ws.Run("list"), harness.ExitOK, "machine ", "machine_accounts", "hr ", "set HR_TOKEN and HR_URL")

	ws.Env["HR_TOKEN"] = "token-of-the-hr-system"
	hr := startHR(t, ws.Env["HR_TOKEN"])
	ws.Env["HR_URL"] = hr.URL
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitOK, "settings are good", "hr_people")
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	assertSameRecords(t, ws.StoredRecords("hr_people"), []string{`{"id": 1, "name": "Ann"}`, `{"id": 2, "name": "Ben"}`})
	assertSameRecords(t, ws.StoredRecords("hr_teams"), []string{`{"id": 7}`})
	passwd := ws.Content("/etc/passwd")
	if n := len(ws.StoredRecords("machine_accounts")); n != strings.Count(passwd, "\n") {
		t.Errorf("%d accounts stored of:\n%s", n, passwd)
	}

	before := ws.Files(ws.Path("source"))
	ws.Env["HR_TOKEN"] = "a-token-that-was-revoked"
	r := ws.Run("--once", "hr")
	ws.AssertResult(r, harness.ExitPartial, "credentials refused", "exit status 77: GET "+hr.URL+"/people: HTTP Error 401")
	for path, content := range before {
		if ws.Content(path) != content {
			t.Errorf("%s has changed", path)
		}
	}
}

// startHR starts a server with the people and teams of the guide, in pages.
func startHR(t *testing.T, token string) *httptest.Server {
	t.Helper()
	pages := map[string]string{
		"/people":   `{"items": [{"id": 1, "name": "Ann"}], "next": "%s/people/2"}`,
		"/people/2": `{"items": [{"id": 2, "name": "Ben"}], "next": null}`,
		"/teams":    `{"items": [{"id": 7}], "next": null}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, found := pages[r.URL.Path]
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		case !found:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = fmt.Fprint(w, strings.ReplaceAll(page, "%s", "http://"+r.Host))
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// tapYAML describes a tap that prints the messages in the file of its configuration.
const tapYAML = `name: crm
command: [./tap.sh]
protocol: singer
streams: [{name: crm_users, tap_stream: users}, {name: crm_locations, tap_stream: locations}]
variables: [CRM_TOKEN]
singer: {config: {token: "${CRM_TOKEN}"}, catalog: catalog.json}
`

// tapScript prints messages in the forms of the specification, a part of which depends on
// the state of the tap, and logs to standard error as taps do.
const tapScript = `#!/bin/sh
cat "$2" >&2; echo >&2
echo 'INFO METRIC: {"type": "counter", "metric": "record_count", "value": 2, "tags": {"endpoint": "users"}}' >&2
cat <<'END'
{"type": "SCHEMA", "stream": "users", "key_properties": ["id"], "schema": {"required": ["id"], "type": "object", "properties": {"id": {"type": "integer"}}}}
{"type": "RECORD", "stream": "users", "record": {"id": 1,   "name": "Chris"}, "time_extracted": "2026-11-20T16:45:33.000Z"}
{"type": "RECORD", "stream": "users", "record": {"id": 2, "name": "Mike", "size": 1.0}}
{"type": "SCHEMA", "stream": "locations", "key_properties": ["id"], "schema": {"type": "object", "properties": {"id": {"type": "integer"}}}}
END
test ! -e "$(dirname "$0")/half" || { echo "the connection was closed: $(cat "$2")" >&2; exit 1; }
cat <<'END'
{"type": "RECORD", "stream": "locations", "record": {"id": 1, "name": "Philadelphia"}}
{"type": "STATE", "value": {"users": 2, "locations": 1}}
END
`

// TestTapIsStoredWhole: the messages of a Singer tap are stored whole, in all destinations.
// A tap that dies half way stores nothing, and the secrets that it prints are not shown. A
// new machine has the data of its last good run.
func TestTapIsStoredWhole(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	ws.UseS3()
	ws.Env["STORE_DUCKDB"], ws.Env["CRM_TOKEN"] = ws.Path("security.duckdb"), "secret-of-the-crm"
	writeProgram(ws, "crm.yaml", tapYAML)
	writeProgram(ws, "tap.sh", tapScript)
	writeProgram(ws, "catalog.json", `{"streams": [{"tap_stream_id": "users", "stream": "users", "schema": {}}, {"tap_stream_id": "locations", "stream": "locations", "schema": {}}]}`)
	assertWhole := func() {
		t.Helper()
		assertSameRecords(t, ws.StoredRecords("crm_users"), []string{`{"id": 1,   "name": "Chris"}`, `{"id": 2, "name": "Mike", "size": 1.0}`})
		assertSameRecords(t, ws.StoredRecords("crm_locations"), []string{`{"id": 1, "name": "Philadelphia"}`})
		if users, locations := ws.DuckDBRows("crm_users"), ws.DuckDBRows("crm_locations"); users != 2 || locations != 1 {
			t.Errorf("DuckDB has %d and %d rows", users, locations)
		}
	}
	r := ws.Run("--once")
	ws.AssertResult(r, harness.ExitOK, `{\"token\":\"[redacted]\"}`, "INFO METRIC")
	assertWhole()
	files := ws.Files(ws.Path("source"))

	harness.WriteFile(t, ws.Path("exec", "half"), "")
	const failure = `exit status 1: the connection was closed: {\"token\":\"[redacted]\"}: nothing of its output is used`
	ws.AssertResult(ws.Run("--once"), harness.ExitPartial, failure)
	assertWhole()
	ws.AssertNoPartialFiles()
	status := ws.Run("status")
	ws.AssertResult(status, harness.ExitOK, "crm_users", "crm_locations", "the connection was closed")

	ws.RemoveData()
	ws.AssertResult(ws.Run("--once"), harness.ExitPartial, "restored from the backup", failure)
	for path, content := range files {
		if ws.Content(path) != content {
			t.Errorf("%s has changed", path)
		}
	}
	ws.AssertResult(ws.Run("query", "--format", "csv", "SELECT name FROM crm_locations"), harness.ExitOK, "Philadelphia")
}

// TestExternalProblems: problems of the files are shown by check with what to do, and do not
// keep status from showing what is known.
func TestExternalProblems(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	const machine = "name: machine\ncommand: [./machine.sh]\nstreams: [{name: machine_accounts}]\n"
	writeProgram(ws, "machine.yaml", machine)
	writeProgram(ws, "machine.sh", "#!/bin/sh\necho '{\"id\": 1}'\necho '{\"_end\": {\"machine_accounts\": 1}}'\n")
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "machine_accounts", "collected")
	ws.AssertResult(ws.Run("__complete", "--once", "mach"), harness.ExitOK, "machine_accounts")

	ws.Env["SCHEDULE"] = "sometimes"
	ws.AssertResult(ws.Run("status"), harness.ExitSettings, `SCHEDULE: "sometimes"`, "This is what the state has", "machine_accounts", "collected")
	delete(ws.Env, "SCHEDULE")

	writeProgram(ws, "machine.yaml", machine+"timeout: never\n")
	const problem = `EXEC_DIR: machine.yaml:4: timeout is "never"`
	r := ws.Run("status")
	ws.AssertResult(r, harness.ExitSettings, problem, "machine_accounts", "collected", "unknown, because the settings have problems")
	if strings.Index(r.Stdout, problem) > strings.Index(r.Stdout, "machine_accounts") {
		t.Errorf("the problem is not above the table:\n%s", r.Stdout)
	}
	var status struct {
		Settings *string `json:"settings_error"`
		Streams  []struct {
			Stream  string `json:"stream"`
			Records int    `json:"records"`
		} `json:"streams"`
	}
	r = ws.Run("status", "--json")
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil || status.Settings == nil || !strings.Contains(*status.Settings, problem) ||
		len(status.Streams) != 1 || status.Streams[0].Records != 1 {
		t.Errorf("error %v, document %s", err, r.Stdout)
	}
	ws.AssertResult(ws.Run("--once"), harness.ExitSettings, problem)

	writeProgram(ws, "machine.yaml", machine+"working_directory: /no/such/directory\n")
	writeProgram(ws, "crm.yaml", tapYAML)
	writeProgram(ws, "tap.sh", tapScript)
	writeProgram(ws, "hr.yaml.txt", machine)
	ws.Env["CRM_TOKEN"] = "secret-of-the-crm"
	const missing, catalog = "working_directory: /no/such/directory does not exist: create it", "catalog.json does not exist: let the tap write it with --discover"
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "machine.yaml: "+missing, catalog, "hr.yaml.txt is not read")
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitPartial, "machine: "+missing, "crm: catalog: ")
	ws.AssertResult(ws.Run("--once"), harness.ExitPartial, "machine: "+missing, "crm: catalog: ")
}

// hangScript is a program that starts a process in another session, writes the ids of both
// and the path of its directory, and hangs. It ignores SIGTERM.
const hangScript = `#!/bin/sh
trap '' TERM
cd "$TMPDIR"
echo '{"id": 1}'
setsid sh -c 'echo $$ >"$1/child.new"; mv "$1/child.new" "$1/child"; exec sleep 100000' sh "$(dirname "$0")" &
pwd >"$(dirname "$0")/scratch"
echo $$ >"$(dirname "$0")/program.new"; mv "$(dirname "$0")/program.new" "$(dirname "$0")/program"
while :; do sleep 100000; done
`

// waitForPID waits for a file with the id of a process and returns it.
func waitForPID(ws *harness.Workspace, name string) int {
	ws.Helper()
	for deadline := time.Now().Add(harness.HangLimit); ; {
		if pid, err := strconv.Atoi(strings.TrimSpace(ws.Content(ws.Path("exec", name)))); err == nil {
			return pid
		}
		if time.Now().After(deadline) {
			ws.Fatalf("the program does not write %s", name)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// requireEnded waits until there is no process with that id. One whose parent does not
// notice its end, as without an init process, is a zombie.
func requireEnded(ws *harness.Workspace, pid int) {
	ws.Helper()
	isRunning := func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && !strings.Contains(string(text), ") Z ")
	}
	for deadline := time.Now().Add(harness.HangLimit); isRunning(); {
		if time.Now().After(deadline) {
			ws.Fatalf("the process %d has not ended", pid)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestHangingProgramEndsWithTheService: nothing of a program is left after the service is
// stopped or killed.
func TestHangingProgramEndsWithTheService(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *harness.Service){
		"killed": func(s *harness.Service) {
			s.Signal(syscall.SIGKILL)
			s.Wait()
		},
		"stopped": func(s *harness.Service) {
			s.Signal(syscall.SIGTERM)
			s.AssertResult(s.Wait(), harness.ExitOK, "stream cancelled")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := harness.NewWorkspace(t)
			ws.Env["SHUTDOWN_GRACE"], ws.Env["TMPDIR"] = "0s", ws.Path("tmp")
			if err := os.Mkdir(ws.Path("tmp"), 0o700); err != nil {
				t.Fatal(err)
			}
			writeProgram(ws, "slow.yaml", "name: slow\ncommand: [./slow.sh]\nstreams: [{name: slow_things}]\nstop_timeout: 1s\n")
			writeProgram(ws, "slow.sh", hangScript)
			s := ws.StartService()
			program, child := waitForPID(ws, "program"), waitForPID(ws, "child")
			end(s)
			requireEnded(ws, program)
			requireEnded(ws, child)
			scratch := strings.TrimSpace(ws.Content(ws.Path("exec", "scratch")))
			for deadline := time.Now().Add(harness.HangLimit); ; {
				if _, err := os.Stat(scratch); os.IsNotExist(err) && strings.HasPrefix(scratch, ws.Path("tmp")) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the directory of the program %s was not removed", scratch)
				}
				time.Sleep(20 * time.Millisecond)
			}
			if _, err := os.Stat(ws.SourceFile("slow_things")); !os.IsNotExist(err) {
				t.Errorf("records were stored: %v", err)
			}
		})
	}
}

// TestHangingProgramIsTimedOut: a program that hangs fails its run by the timeout of its file.
func TestHangingProgramIsTimedOut(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	writeProgram(ws, "slow.yaml", "name: slow\ncommand: [sleep, '100000']\nstreams: [{name: slow_things}]\ntimeout: 1s\n")
	ws.AssertResult(ws.Run("--once"), harness.ExitPartial,
		"slow_things  timeout", "the program took longer than its timeout, 1s: raise timeout in slow.yaml")
}

// listYAML describes a program that prints one record, and the number of its run.
const listYAML = `name: NAME
command: [sh, -c, 'echo "{\"text\": \"TEXT\"}"; echo "{\"_end\": {\"NAME_list\": 1}}"']
streams: [{name: NAME_list}]
`

func listFile(name, text string) string {
	return strings.NewReplacer("NAME", name, "TEXT", text).Replace(listYAML)
}

// TestReloadReadsFiles: a reload reads new, changed and removed files of EXEC_DIR, and keeps
// the collector of a file that has a problem.
func TestReloadReadsFiles(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	ws.Env["SCHEDULE"] = "0 0 1 1 *"
	writeProgram(ws, "a.yaml", listFile("alpha", "first"))
	writeProgram(ws, "b.yaml", listFile("beta", "first"))
	s := ws.StartService()
	base := s.BaseURL()
	waitForRecords(ws, ws.SourceFile("alpha_list"))
	waitForRecords(ws, ws.SourceFile("beta_list"))
	reload := func(texts ...string) {
		t.Helper()
		s.Signal(syscall.SIGHUP)
		s.WaitForLog(append([]string{`"settings reloaded"`}, texts...)...)
	}

	writeProgram(ws, "c.yaml", listFile("gamma", "first"))
	writeProgram(ws, "a.yaml", "name: alpha\ncomand: []\n")
	if err := os.Remove(ws.Path("exec", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	reload("c.yaml", "b.yaml")
	s.WaitForLog("some settings were not applied", "EXEC_DIR: a.yaml:2: unknown key comand: did you mean command?")
	waitForRecords(ws, ws.SourceFile("gamma_list"))
	for stream, on := range map[string]bool{"alpha_list": true, "beta_list": false, "gamma_list": true} {
		_, text := s.Request("GET", base+"/metrics", "")
		if got := strings.Contains(text, `collectord_stream_enabled{collector="`+strings.TrimSuffix(stream, "_list")+`",stream="`+stream+`",tenancy="default"} 1`); got != on {
			t.Errorf("%s is on: %v, want %v", stream, got, on)
		}
	}

	writeProgram(ws, "a.yaml", listFile("alpha", "second"))
	reload(`"changed":["a.yaml"]`)
	s.Signal(syscall.SIGUSR1)
	for deadline := time.Now().Add(harness.HangLimit); !strings.Contains(ws.Content(ws.SourceFile("alpha_list")), "second"); {
		if time.Now().After(deadline) {
			t.Fatalf("the changed file is not used: %s", ws.Content(ws.SourceFile("alpha_list")))
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// TestExternalCollectorsLikeOthers: commands and settings treat them as those of vendors.
func TestExternalCollectorsLikeOthers(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	writeProgram(ws, "a.yaml", listFile("alpha", "first"))
	writeProgram(ws, "b.yaml", listFile("beta", "first"))
	ws.Env["COLLECTORS"], ws.Env["SCHEDULE_ALPHA"] = "-beta", "@every 6h"
	ws.AssertResult(ws.Run("list"), harness.ExitOK, "alpha_list", "COLLECTORS excludes it")
	ws.AssertResult(ws.Run("check", "--strict"), harness.ExitOK, "@every 6h")
	ws.AssertResult(ws.Run("--once", "alfa_list"), harness.ExitUsage, "did you mean alpha_list?")

	if err := os.Chmod(ws.Path("exec", "a.yaml"), 0o660); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "EXEC_DIR: a.yaml: its group can change "+ws.Path("exec", "a.yaml"))
	if err := os.Chmod(ws.Path("exec", "a.yaml"), 0o606); err != nil {
		t.Fatal(err)
	}
	writeProgram(ws, "c.yaml", listFile("okta", "first"))
	r := ws.Run("doctor", "--json")
	ws.AssertResult(r, harness.ExitSettings, "EXEC_DIR: a.yaml: anyone on this machine can change", "EXEC_DIR: c.yaml: the name okta is used by collectord itself")
	if !json.Valid([]byte(r.Stdout)) {
		t.Errorf("not JSON: %s", r.Stdout)
	}
	ws.AssertResult(ws.Run("--once"), harness.ExitSettings, "EXEC_DIR: a.yaml: anyone on this machine can change", "EXEC_DIR: c.yaml: the name okta")
}

// TestExternalCollectorUnderSystemd: the sandbox of the unit lets programs run, with their
// limits and with a credential.
func TestExternalCollectorUnderSystemd(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	m := harness.StartSystemd(ws)
	secret := ws.Path("secret")
	if err := os.WriteFile(secret, []byte("secret-of-the-unit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	writeProgram(ws, "box.yaml", "name: box\ncommand: [./box.sh]\nstreams: [{name: box_facts}]\nvariables: [BOX_TOKEN]\nmemory: 128MiB\n")
	writeProgram(ws, "box.sh", `#!/bin/sh
echo "the token is $BOX_TOKEN" >&2
: >"$TMPDIR/file" || exit 1
echo "{\"length\": ${#BOX_TOKEN}, \"limit\": \"$(ulimit -d)\"}"
echo '{"_end": {"box_facts": 1}}'
`)
	m.InstallUnit("LoadCredential=BOX_TOKEN:" + secret)
	m.MustSystemctl("start", harness.Unit)
	m.WaitUntil("the program's record is stored", func() bool { return strings.HasPrefix(ws.Content(ws.SourceFile("box_facts")), "[") })
	assertSameRecords(t, ws.StoredRecords("box_facts"), []string{`{"length": 18, "limit": "131072"}`})
	m.MustSystemctl("stop", harness.Unit)
	if log := ws.Content(m.LogFile); !strings.Contains(log, "the token is [redacted]") || strings.Contains(log, "secret-of-the-unit") {
		t.Errorf("the log:\n%s", log)
	}
}
