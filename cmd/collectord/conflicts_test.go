package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readTenancyFiles returns the configuration of a program with the files of tenancies, by
// their names. "DIR" in shared settings and files is the directory of the test.
func readTenancyFiles(t *testing.T, dir string, shared []string, files map[string]string) (*configuration, error) {
	t.Helper()
	tenancies := filepath.Join(dir, "tenancies")
	if err := os.MkdirAll(tenancies, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		text = "OKTA_DOMAIN=acme.okta.com\nOKTA_TOKEN=s3cr3t-okta\n" + strings.ReplaceAll(text, "DIR", dir)
		if err := os.WriteFile(filepath.Join(tenancies, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{"TENANCIES_DIR=" + tenancies, "STATE_DIR=" + filepath.Join(dir, "state"), "STORE_FILE=" + filepath.Join(dir, "out/%TAG/%TENANCY.json")}
	for _, line := range shared {
		environ = append([]string{strings.ReplaceAll(line, "DIR", dir)}, environ...)
	}
	return readConfiguration(settingSources{environ: environ, envFile: os.DevNull})
}

// TestConflicts checks which tenancies are refused because one would replace the data of
// another or of the service, and that the error of one does not name the other.
func TestConflicts(t *testing.T) {
	t.Parallel()
	const bucket = "STORE_AWS_S3_BUCKET=data"
	for name, tc := range map[string]struct {
		shared   []string
		acme     string // of acme.env
		globex   string // of globex.env
		want     string // a part of the error of globex, as the operator sees it; "" for none
		isShared bool   // whether acme is refused, too
	}{
		"paths of their own":         {},
		"one path after expansion":   {globex: "STORE_FILE=DIR/out/%TAG/acme.json", want: "%TAG/acme.json\" is the same place as that of acme.env: one would replace the data of the other: choose another place for one of them", isShared: true},
		"a part of the name":         {globex: "TENANCY=me\nSTORE_FILE=DIR/out/%TAG/ac%TENANCY.json", want: "choose another place for one of them", isShared: true},
		"another sign":               {globex: "STORE_FILE='DIR/out/$TAG/acme.json'", want: "acme.env", isShared: true},
		"points in the path":         {globex: "STORE_FILE=DIR/./x/../out//%TAG/acme.json", want: "acme.env", isShared: true},
		"a symbolic link":            {globex: "STORE_FILE=DIR/link/%TAG/acme.json", want: "acme.env", isShared: true},
		"one path without variable":  {shared: []string{"STORE_FILE=DIR/%TAG.json"}, want: "put %TENANCY into it", isShared: true},
		"a file for each snapshot":   {shared: []string{"STORE_FILE=DIR/%TAG/%UUID.json"}},
		"one DuckDB file":            {shared: []string{"STORE_DUCKDB=DIR/all.duckdb"}},
		"a DuckDB file in its place": {acme: "STORE_FILE=DIR/a/%TENANCY.%TAG.json", globex: "STORE_DUCKDB=DIR/a/acme.%TAG.json", want: "STORE_DUCKDB: ", isShared: true},
		"one key":                    {shared: []string{bucket, "STORE_AWS_S3_KEY=%TAG.json"}, want: "STORE_AWS_S3_KEY: \"%TAG.json\" is the same place as that of acme.env", isShared: true},
		"keys of their own":          {shared: []string{bucket, "STORE_AWS_S3_KEY=s/%TAG/%TENANCY.json"}},
		"the key of a backup":        {shared: []string{bucket}, globex: "STORE_AWS_S3_KEY=backup/%TAG/acme.json", want: "STORE_AWS_S3_KEY: \"backup/%TAG/acme.json\" is the same place as that of acme.env", isShared: true},
		"a key in another bucket":    {shared: []string{bucket}, globex: "STORE_AWS_S3_BUCKET=own\nSTORE_AWS_S3_KEY=backup/%TAG/acme.json"},
		"the snapshots of the state": {globex: "STORE_FILE=DIR/state/snapshots/%TAG.json", want: "is snapshots in STATE_DIR, where the service has its state: choose another place"},
		"the database of the state":  {globex: "STORE_DUCKDB=DIR/x/../state/collectord.db", want: "is collectord.db in STATE_DIR"},
		"beside the state":           {globex: "STORE_FILE=DIR/state/source/%TAG.json"},
		"one name":                   {globex: "TENANCY=acme", want: `TENANCY: "acme" is also the name of acme.env: want different names`, isShared: true},
		"one name but for case":      {globex: "TENANCY=Acme", want: `TENANCY: "Acme" is, but for upper and lower case or the coding of accents, also the name of acme.env`, isShared: true},
		"one name but for accents":   {acme: "TENANCY=caf\u00e9", globex: "TENANCY=cafe\u0301", want: `also the name of acme.env`, isShared: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, sub := range []string{"out", "state"} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(filepath.Join(dir, "out"), filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			c, err := readTenancyFiles(t, dir, tc.shared, map[string]string{"acme.env": tc.acme, "globex.env": tc.globex})
			if err != nil {
				t.Fatal(err)
			}
			byFile := map[string]*tenancyFile{}
			for _, one := range c.tenancies {
				byFile[one.file] = one
			}
			acme, globex := byFile["acme.env"], byFile["globex.env"]
			if (acme.err != nil) != tc.isShared || (globex.err != nil) != (tc.want != "") {
				t.Fatalf("errors %v and %v", acme.err, globex.err)
			}
			if tc.want != "" && !strings.Contains(globex.refusal().Error(), tc.want) {
				t.Errorf("got %v\nwant %s", globex.refusal(), tc.want)
			}
			if tc.isShared && (strings.Contains(globex.err.Error(), "acme.env") || !strings.Contains(globex.err.Error(), unnamed)) {
				t.Errorf("the error for those who see globex alone: %v", globex.err)
			}
		})
	}
}

// TestGoneFile checks that a file that was removed after the directory was read differs from a
// link that leads nowhere.
func TestGoneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "nothing"), filepath.Join(dir, "link.env")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"gone.env": true, "link.env": false} {
		if got := (&tenancyFile{file: name}).isGone(dir); got != want {
			t.Errorf("%s is gone: %v", name, got)
		}
	}
}

// TestConflictOfMany checks that the error names some of many tenancies only.
func TestConflictOfMany(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for _, name := range strings.Fields("a b c d e f") {
		files[name+".env"] = ""
	}
	c, err := readTenancyFiles(t, t.TempDir(), []string{"STORE_FILE=DIR/%TAG.json"}, maps.Clone(files))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.tenancies[0].refusal().Error(); !strings.Contains(got, "as that of b.env, c.env, d.env and 2 more files: ") {
		t.Errorf("got %s", got)
	}
}
