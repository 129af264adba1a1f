package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
)

// withS3 points the place at a new bucket and returns where an object lies.
func (p *place) withS3() (object func(key string) string) {
	p.Helper()
	s3 := testserver.StartS3(p)
	for name, value := range s3.Env() {
		p.env[name] = value
	}
	bucket := "b-" + uuid.NewString()
	p.env["STORE_AWS_S3_BUCKET"] = bucket
	if err := os.Mkdir(s3.Object(bucket, ""), 0o700); err != nil {
		p.Fatal(err)
	}
	return func(key string) string { return s3.Object(bucket, key) }
}

// wipe removes everything that this machine has.
func (p *place) wipe() {
	p.Helper()
	for _, name := range []string{"state", "source"} {
		if err := os.RemoveAll(p.file(name)); err != nil {
			p.Fatal(err)
		}
	}
}

// deaden lets the vendor answer nothing but errors.
func deaden(sim *vendorsim.Server) *vendorsim.Injection {
	return sim.Hosts()[0].Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(403, `{"error":"Forbidden"}`)})
}

// TestWipedMachineHasItsDataAgain: file, age and history come back from the
// backup while the vendor is dead.
func TestWipedMachineHasItsDataAgain(t *testing.T) {
	t.Parallel()
	for _, ext := range []string{"json", "json.gz", "ndjson.zst"} {
		t.Run(ext, func(t *testing.T) {
			t.Parallel()
			sim := startVendors(t, smallCounts, smallTenant())
			p := newPlace(t).with(sim)
			object := p.withS3()
			p.env["STORE_AWS_S3_BACKUP"] = "backup/%TAG/%TENANCY." + ext
			p.want(p.run("--once"), 0, "BACKUP", "stored")
			files := p.files(p.file("source"))
			status := p.run("status").stdout
			taken := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`).FindString(status)
			if text := p.content(object("backup/_history/tenable_assets/default.json")); !strings.Contains(text, `"outcome": "success"`) {
				t.Fatalf("history: %s", text)
			}

			p.wipe()
			deaden(sim)
			p.want(p.run("--once"), 3, "restored from the backup", "Basic [16]")
			for path, content := range files {
				if p.content(path) != content {
					t.Errorf("%s is not what it was", path)
				}
			}
			e := p.run("status")
			p.want(e, 0, "restored", taken, "tenable_assets", "Basic [16]")
			if strings.Contains(strings.Split(e.stdout, "\n")[1], "never") {
				t.Errorf("the history is not back:\n%s", e.stdout)
			}
			db, err := duckdb.Open(t.Context(), "", duckdb.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			n := 0
			if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM read_json('`+p.source("tenable_assets")+`')`).Scan(&n); err != nil || n != smallCounts[vendorsim.TenableAssets] {
				t.Errorf("the consumers' query counts %d: %v", n, err)
			}
			p.noHalves()
		})
	}
}

// pythons is a backup as the program before wrote it, with json.dump.
func pythons(tenancy string) string {
	member := `"_tenancy": "` + tenancy + `", "_upload_timestamp": "2026-01-02 03:04:05", "_upload_id": "1f6a7c7e-0000-4000-8000-000000000001"`
	return `[{"id": 1, "name": "\u00e9", "size": 1.0, ` + member + `}, {"id": 2, ` + member + `}]`
}

// TestRestoresOtherProgramsBackups: without metadata the records say whose
// they are.
func TestRestoresOtherProgramsBackups(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	object := p.withS3()
	write(t, object("backup/okta_users/default.json"), pythons("default"))
	p.want(p.run("restore", "okta_users"), 0, "restored", "2026-01-02 03:04:05Z", "put back")
	var records []map[string]any
	if err := json.Unmarshal([]byte(p.content(p.source("okta_users"))), &records); err != nil || len(records) != 2 {
		t.Fatalf("%v: %v", records, err)
	}
	if records[0]["_vendor_tenancy"] != nil || records[0]["_upload_id"] != "1f6a7c7e-0000-4000-8000-000000000001" {
		t.Errorf("%v", records[0])
	}
	if !strings.Contains(p.content(p.source("okta_users")), `{"id": 1, "name": "\u00e9", "size": 1.0, `) {
		t.Error("the record's own bytes have changed")
	}
	p.want(p.run("status"), 0, "okta_users", "2026-01-02 03:04:05Z", "restored")
	p.want(p.run("restore", "okta"), 0, "current")
	p.want(p.run("restore", "okta_users", "--to", p.file("elsewhere")), 0, "restored")
	if !bytes.Equal([]byte(p.content(p.file("elsewhere", "okta_users", "default.json"))), []byte(p.content(p.source("okta_users")))) {
		t.Error("--to wrote something else")
	}
	if left, err := filepath.Glob(p.file("elsewhere", ".*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
	p.want(p.run("restore", "nonsense"), 2, "is no collector and no stream")
	delete(p.env, "STORE_AWS_S3_BUCKET")
	p.want(p.run("restore"), 78, "STORE_AWS_S3_BUCKET")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUnsoundBackupsAreRefused: each in words, kept nowhere, and the run goes
// on.
func TestUnsoundBackupsAreRefused(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	object := p.withS3()
	key := object("backup/tenable_assets/default.json")
	p.want(p.run("--once", "tenable_assets"), 0)
	good := p.content(key)
	other := object("backup/tenable_was/default.json")
	for _, c := range []struct {
		name, says string
		change     func()
	}{
		{"truncated", "file ends before", func() { overwrite(t, key, good[:len(good)/2]) }},
		{"records missing", "it has 79 records, written with 80", func() { overwrite(t, key, "[\n"+good[strings.Index(good, ",\n")+2:]) }},
		{"a changed value", "SHA-256", func() { overwrite(t, key, strings.Replace(good, `"has_agent":`, `"has_agenT":`, 1)) }},
		{"noise", "not a sound backup", func() { overwrite(t, key, strings.Repeat("\x00\xff", 500)) }},
		{"HTML", "not a sound backup", func() { overwrite(t, key, "<html><body>Service unavailable</body></html>") }},
		{"an error as JSON", "want an array", func() { overwrite(t, key, `{"error":"x"}`) }},
		{"without metadata, foreign", "no _tenancy", func() { replace(t, key, `[{"id":1}]`) }},
		{"without metadata, another tenancy", `tenancy "umbrella"`, func() { replace(t, key, pythons("umbrella")) }},
		{"without metadata, empty", "is empty and does not say whose", func() { replace(t, key, `[]`) }},
	} {
		c.change()
		p.wipe()
		e := p.run("restore", "tenable_assets")
		p.want(e, 3, c.says, "refused")
		if t.Failed() {
			t.Fatalf("%s", c.name)
		}
		for _, pattern := range []string{"source/*/*", "state/snapshots/*/*/*", "state/spool/.restore/*/*"} {
			if got, err := filepath.Glob(p.file(pattern)); err != nil || len(got) > 0 {
				t.Errorf("%s: kept: %v %v", c.name, got, err)
			}
		}
		p.noHalves()
	}
	p.env["METRICS_TEXTFILE"] = p.file("collectord.prom")
	p.want(p.run("--once", "tenable_assets"), 0, "the backup is refused", "success")
	if text := p.content(p.file("collectord.prom")); !strings.Contains(text, `collectord_restore_outcome{collector="tenable",outcome="refused",stream="tenable_assets"} 1`) {
		t.Errorf("metrics: %s", text)
	}
	if p.content(key) == "[]" {
		t.Error("the refused backup is still there")
	}

	// Another stream's backup under this one's key.
	for _, place := range []string{"/root/", "/sidecar/"} { // content and metadata
		from, to := strings.Replace(key, "/root/", place, 1), strings.Replace(other, "/root/", place, 1)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	p.want(p.run("restore", "tenable_was"), 3, `it is of stream "tenable_assets", want "tenable_was"`)
}

// overwrite changes an object's content and leaves its metadata.
func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts another object in its place.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	sidecar := strings.Replace(path, "/root/", "/sidecar/", 1)
	if err := os.RemoveAll(sidecar); err != nil {
		t.Fatal(err)
	}
	write(t, path, text)
}

// TestOldBackupReplacesNothing: neither newer local data by the backup nor a
// newer backup by an old snapshot.
func TestOldBackupReplacesNothing(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	object := p.withS3()
	p.want(p.run("--once", "tenable_assets"), 0)
	source := p.content(p.source("tenable_assets"))
	replace(t, object("backup/tenable_assets/default.json"), pythons("default"))
	p.want(p.run("restore", "tenable_assets"), 0, "current")
	if p.content(p.source("tenable_assets")) != source {
		t.Error("the file has changed")
	}
	future := strings.ReplaceAll(pythons("default"), "2026-01-02 03:04:05", time.Now().UTC().Add(30*time.Minute).Format("2006-01-02 15:04:05"))
	key := object("backup/tenable_assets/default.json")
	replace(t, key, future)
	later := time.Now().Add(30 * time.Minute)
	if err := os.Chtimes(key, later, later); err != nil {
		t.Fatal(err)
	}
	p.env["STORE_FILE"] = "off"
	p.want(p.run("restore", "tenable_assets"), 0, "restored")
	p.want(p.run("--once", "tenable_assets"), 0, "the backup is newer than the snapshot and stays")
	if p.content(key) != future {
		t.Error("a newer backup was replaced")
	}
}

// TestUnreachableBackupDelaysLittle: an S3 that never answers costs the time
// limit, and the run goes on.
func TestUnreachableBackupDelaysLittle(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.withS3()
	p.env["AWS_ENDPOINT_URL_S3"] = "http://" + silent.Addr().String()
	p.env["RESTORE_TIMEOUT"], p.env["STORE_ONCE_TIMEOUT"] = "1s", "1s"
	began := time.Now()
	p.want(p.run("--once", "tenable_assets"), 3, "not restored within RESTORE_TIMEOUT, 1s", "success", "STORE_ONCE_TIMEOUT, 1s, is over", "1 delivery stays queued")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := len(p.stored("tenable_assets")); n != smallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records", n)
	}
}

// TestQueueOfARemovedDestinationCanBeDropped: it is told and given up by hand.
func TestQueueOfARemovedDestinationCanBeDropped(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.withS3()
	p.env["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:1"
	p.env["STORE_ONCE_TIMEOUT"] = "1s"
	p.want(p.run("--once", "tenable_assets"), 3, "1 delivery stays queued")
	p.want(p.run("drop", "backup"), 2, "is configured")
	delete(p.env, "STORE_AWS_S3_BUCKET")
	p.want(p.run("status"), 0, "backup: 1 deliveries wait", "collectord drop backup")
	p.want(p.run("drop", "backup"), 0, "deliveries given up: 1")
	if e := p.run("status"); strings.Contains(e.all(), "drop backup") {
		t.Errorf("still queued:\n%s", e.all())
	}
}

// TestBackupSettings: a template that a new machine could not find, or that
// cannot be restored from, is refused.
func TestBackupSettings(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"backup/%YYYY/%TAG.json": "a new machine could not know the key",
		"backup/all.json":        "has no %TAG",
		"backup/%TAG.parquet":    "cannot be restored from Parquet",
		"backup/%TAG.xml":        "want a name ending in",
	} {
		p := newPlace(t).with(startVendors(t, smallCounts, smallTenant()))
		p.env["STORE_AWS_S3_BUCKET"], p.env["STORE_AWS_S3_BACKUP"] = "b", text
		p.want(p.run("check"), 78, "STORE_AWS_S3_BACKUP", says)
	}
}
