package e2e_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
)

// notifyEach returns the effect that also sends on requested for each request.
func notifyEach(requested chan<- struct{}, effect vendorsim.Effect) vendorsim.Effect {
	return func(next http.Handler) http.Handler {
		handler := effect(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requested <- struct{}{}
			handler.ServeHTTP(w, r)
		})
	}
}

// TestBadInput checks the message and the exit code of each error, and that nothing is
// stored.
func TestBadInput(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		"no collector": {
			env:  map[string]string{"TIO_ACCESS_KEY": "", "TIO_SECRET_KEY": ""},
			code: harness.ExitSettings,
			want: "set TIO_ACCESS_KEY and TIO_SECRET_KEY",
		},
		"a missing key": {
			env:  map[string]string{"TIO_SECRET_KEY": ""},
			code: harness.ExitSettings,
			want: "set TIO_SECRET_KEY",
		},
		"a misspelled key": {
			env:  map[string]string{"TIO_SECRET_KEY": "", "TIO_SECRET_KYE": "x"},
			code: harness.ExitSettings,
			want: "did you mean TIO_SECRET_KEY?",
		},
		"a missing key of a collector that is named": {
			env:  map[string]string{"TIO_SECRET_KEY": "", "COLLECTORS": "tenable"},
			code: harness.ExitSettings,
			want: "COLLECTORS: tenable is named, but TIO_SECRET_KEY is not set",
		},
		"a malformed number": {
			env:  map[string]string{"MAX_PARALLEL_RUNS": "many"},
			code: harness.ExitSettings,
			want: `MAX_PARALLEL_RUNS: "many" is not a number`,
		},
		"two at once": {
			env:  map[string]string{"MAX_PARALLEL_RUNS": "many", "RUN_TIMEOUT": "soon"},
			code: harness.ExitSettings,
			want: "RUN_TIMEOUT",
		},
		"a misspelled name": {
			env:  map[string]string{"STORE_FLE": "x", "RUN_TIMEOUT": "soon"},
			code: harness.ExitSettings,
			want: "did you mean STORE_FILE?",
		},
		"a wrong URL": {
			env:  map[string]string{"TIO_URL": "cloud.tenable.com"},
			code: harness.ExitSettings,
			want: "TIO_URL",
		},
		"a wrong host": {
			env:  map[string]string{"TIO_URL": "http://127.0.0.1:1"},
			code: harness.ExitPartial,
			want: "connection refused",
		},
		"a wrong path": {
			env:  map[string]string{"TIO_URL": sim.Hosts()[0].URL() + "/nowhere"},
			code: harness.ExitPartial,
			want: "check TIO_URL",
		},
		"a wrong key": {
			env:  map[string]string{"TIO_ACCESS_KEY": "wrong-access-key"},
			code: harness.ExitPartial,
			want: "check TIO_ACCESS_KEY and TIO_SECRET_KEY",
		},
		"a hostile tenancy": {
			env:  map[string]string{"TENANCY": "../x"},
			code: harness.ExitSettings,
			want: "TENANCY",
		},
		"an unusable state": {
			env:  map[string]string{"STATE_DIR": filepath.Join(blocked, "state")},
			code: harness.ExitSettings,
			want: "STATE_DIR",
		},
		"an unwritable path": {
			env:  map[string]string{"STORE_FILE": filepath.Join(blocked, "%TAG.json")},
			args: []string{"tenable_assets"},
			code: harness.ExitPartial,
			want: "STORE_FILE",
		},
		"an unknown variable": {
			env:  map[string]string{"STORE_FILE": "/nowhere/%WHAT.json"},
			code: harness.ExitSettings,
			want: "STORE_FILE",
		},
		"an unknown format": {
			env:  map[string]string{"STORE_FILE": "/nowhere/%TAG.xml"},
			code: harness.ExitSettings,
			want: "STORE_FILE",
		},
		"an unknown stream": {
			args: []string{"tenable_assetts"},
			code: harness.ExitUsage,
			want: `"tenable_assetts" is neither a collector nor a stream`,
		},
		"a collector off": {
			args: []string{"okta"},
			code: harness.ExitSettings,
			want: "set OKTA_DOMAIN and OKTA_TOKEN",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := harness.NewWorkspace(t).UseVendors(sim)
			for name, value := range tc.env {
				ws.Env[name] = value
			}
			e := ws.Run(append([]string{"--once"}, tc.args...)...)
			ws.AssertResult(e, tc.code, tc.want)
			if strings.Contains(e.Output(), "goroutine ") {
				t.Errorf("a stack trace is shown:\n%s", e.Output())
			}
			if files, err := filepath.Glob(ws.Path("source", "*", "*")); err != nil || len(files) > 0 {
				t.Errorf("stored: %v %v", files, err)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"--no-such-flag"}, {"nonsense"}, {"list", "extra"}} {
		ws := harness.NewWorkspace(t)
		ws.AssertResult(ws.Run(args...), harness.ExitUsage, "--help")
	}
}

func TestListAndCheck(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.Run("list"), harness.ExitOK, "tenable", "tenable_was", "on", "okta", "set OKTA_DOMAIN and OKTA_TOKEN")
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "settings are good", "destination  file")
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitOK, "collector    tenable", "ok")
	if requests := sim.Hosts()[0].Stats().Requests; sim.Hosts()[0].Stats().Total != 5 || requests["GET /vulns/export/status"] != 2 {
		t.Errorf("check made other requests than one for the credentials and one for each stream: %v", requests)
	}
	ws.Env["STORE_FLE"] = "x"
	warned := []string{"settings can be used, with warnings", "collector    tenable", "STORE_FLE", "did you mean STORE_FILE?"}
	ws.AssertResult(ws.Run("check"), harness.ExitOK, warned...)
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitOK, append(warned, "collector    tenable ", "ok")...)
	ws.AssertResult(ws.Run("check", "--strict"), harness.ExitSettings, warned...)
	delete(ws.Env, "STORE_FLE")
	ws.Env["TIO_SECRET_KEY"] = "a-secret-that-is-wrong"
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitPartial, "check TIO_ACCESS_KEY and TIO_SECRET_KEY", "1 of 3 checks failed")
	ws.AssertResult(ws.Run("version"), harness.ExitOK, "collectord devel")
	ws.AssertResult(ws.Run("--version"), harness.ExitOK, "collectord devel")
	ws.AssertResult(ws.Run("--help"), harness.ExitOK, "Exit codes")
}

// TestSettingsFromFiles checks that .env, --env-file and NAME_FILE are read.
func TestSettingsFromFiles(t *testing.T) {
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	write := func(name, text string) string {
		path := ws.Path(name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := "TIO_ACCESS_KEY=" + ws.Env["TIO_ACCESS_KEY"] + "\nTIO_SECRET_KEY_FILE=" + write("key", "\ufeff"+ws.Env["TIO_SECRET_KEY"]+"\n") +
		"\nSTORE_FILE=./out/$TAG/$TENANCY.json\nTENANCY="
	write(".env", text+"acme\n")
	extra := write("extra.env", text+"other\n")
	delete(ws.Env, "TIO_ACCESS_KEY")
	delete(ws.Env, "TIO_SECRET_KEY")
	delete(ws.Env, "STORE_FILE")
	for tenancy, args := range map[string][]string{"acme": nil, "other": {"--env-file", extra}} {
		ws.AssertResult(ws.Run(append([]string{"--once", "tenable_assets"}, args...)...), harness.ExitOK, "success")
		if _, err := os.Stat(ws.Path("out", "tenable_assets", tenancy+".json")); err != nil {
			t.Error(err)
		}
	}
}

// TestExampleSettings loads the example environments.
func TestExampleSettings(t *testing.T) {
	examples, err := filepath.Glob(checkout.Join(t, "configs", "*.env"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("%v, %v", examples, err)
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		if err != nil || bytes.Contains(text, []byte("\r")) {
			t.Fatalf("%s: %v", example, err)
		}
		ws := harness.NewWorkspace(t)
		ws.Env = map[string]string{}
		// With the permissions that a user would set.
		if err := os.WriteFile(filepath.Join(ws.Dir, ".env"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		ws.AssertResult(ws.Run("check"), harness.ExitOK, "settings are good")
	}
}
