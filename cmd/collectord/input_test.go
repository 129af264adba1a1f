package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

// telling sends on asked whenever the effect hits a request.
func telling(asked chan<- struct{}, effect vendorsim.Effect) vendorsim.Effect {
	return func(next http.Handler) http.Handler {
		hit := effect(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			hit.ServeHTTP(w, r)
		})
	}
}

// TestBadInput: one clear line each, the right exit code, nothing stored.
func TestBadInput(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		code int
		says string
	}{
		"no collector":        {map[string]string{"TIO_ACCESS_KEY": "", "TIO_SECRET_KEY": ""}, nil, 78, "set TIO_ACCESS_KEY and TIO_SECRET_KEY"},
		"a missing key":       {map[string]string{"TIO_SECRET_KEY": ""}, nil, 78, "TIO_SECRET_KEY: not set, but TIO_ACCESS_KEY is"},
		"a malformed number":  {map[string]string{"MAX_PARALLEL_RUNS": "many"}, nil, 78, `MAX_PARALLEL_RUNS: "many" is not a number`},
		"two at once":         {map[string]string{"MAX_PARALLEL_RUNS": "many", "RUN_TIMEOUT": "soon"}, nil, 78, "RUN_TIMEOUT"},
		"a misspelled name":   {map[string]string{"STORE_FLE": "x", "RUN_TIMEOUT": "soon"}, nil, 78, "did you mean STORE_FILE?"},
		"a wrong URL":         {map[string]string{"TIO_URL": "cloud.tenable.com"}, nil, 78, "TIO_URL"},
		"a wrong host":        {map[string]string{"TIO_URL": "http://127.0.0.1:1"}, nil, 3, "connection refused"},
		"a wrong path":        {map[string]string{"TIO_URL": sim.Hosts()[0].URL() + "/nowhere"}, nil, 3, "check TIO_URL"},
		"a wrong key":         {map[string]string{"TIO_ACCESS_KEY": "wrong-access-key"}, nil, 3, "check TIO_ACCESS_KEY and TIO_SECRET_KEY"},
		"a hostile tenancy":   {map[string]string{"TENANCY": "../x"}, nil, 78, "TENANCY"},
		"an unusable state":   {map[string]string{"STATE_DIR": filepath.Join(blocked, "state")}, nil, 78, "STATE_DIR"},
		"an unwritable path":  {map[string]string{"STORE_FILE": filepath.Join(blocked, "%TAG.json")}, []string{"tenable_assets"}, 3, "STORE_FILE"},
		"an unknown variable": {map[string]string{"STORE_FILE": "/nowhere/%WHAT.json"}, nil, 78, "STORE_FILE"},
		"an unknown format":   {map[string]string{"STORE_FILE": "/nowhere/%TAG.xml"}, nil, 78, "STORE_FILE"},
		"an unknown stream":   {nil, []string{"tenable_assetts"}, 2, `"tenable_assetts" is no collector and no stream`},
		"a collector off":     {nil, []string{"okta"}, 78, "set OKTA_DOMAIN and OKTA_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t).with(sim)
			for name, value := range tc.env {
				p.env[name] = value
			}
			e := p.run(append([]string{"--once"}, tc.args...)...)
			p.want(e, tc.code, tc.says)
			if strings.Contains(e.all(), "goroutine ") {
				t.Errorf("a stack trace is shown:\n%s", e.all())
			}
			if files, err := filepath.Glob(p.file("source", "*", "*")); err != nil || len(files) > 0 {
				t.Errorf("stored: %v %v", files, err)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"--no-such-flag"}, {"nonsense"}, {"list", "extra"}} {
		p := newPlace(t)
		p.want(p.run(args...), 2, "--help")
	}
}

func TestListAndCheck(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.want(p.run("list"), 0, "tenable", "tenable_was", "on", "okta", "set OKTA_DOMAIN and OKTA_TOKEN")
	p.want(p.run("check"), 0, "settings are good", "destination  file")
	p.want(p.run("check", "--connect"), 0, "collector    tenable", "ok")
	if n := sim.Hosts()[0].Stats().Total; n != 1 {
		t.Errorf("check asked %d times", n)
	}
	p.env["STORE_FLE"] = "x"
	if e := p.run("check"); strings.Contains(e.all(), "good") {
		t.Error("a misspelled name passes for good")
	} else {
		p.want(e, 78, "collector    tenable", "STORE_FLE", "did you mean STORE_FILE?")
	}
	delete(p.env, "STORE_FLE")
	p.env["TIO_SECRET_KEY"] = "a-secret-that-is-wrong"
	p.want(p.run("check", "--connect"), 3, "check TIO_ACCESS_KEY and TIO_SECRET_KEY", "1 of 2 cannot be used")
	p.want(p.run("version"), 0, "collectord devel")
	p.want(p.run("--version"), 0, "collectord devel")
	p.want(p.run("--help"), 0, "Exit codes")
}

// TestSettingsFromFiles: .env, --env-file and NAME_FILE reach the program.
func TestSettingsFromFiles(t *testing.T) {
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	write := func(name, text string) string {
		path := p.file(name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(".env", "TIO_ACCESS_KEY="+p.env["TIO_ACCESS_KEY"]+"\nSTORE_FILE=./out/$TAG/$TENANCY.json\nTENANCY=acme\n")
	extra := write("extra.env", "TIO_SECRET_KEY_FILE="+write("key", p.env["TIO_SECRET_KEY"]+"\n")+"\nTENANCY=other\n")
	delete(p.env, "TIO_ACCESS_KEY")
	delete(p.env, "TIO_SECRET_KEY")
	delete(p.env, "STORE_FILE")
	p.want(p.run("--once", "--env-file", extra, "tenable_assets"), 0, "success")
	if _, err := os.Stat(p.file("out", "tenable_assets", "acme.json")); err != nil {
		t.Error(err)
	}
}
