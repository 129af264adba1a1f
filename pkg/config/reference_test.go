package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sampleReference returns the part of the reference for the sample collectors.
func sampleReference() string {
	whole := config.Reference(coreSettings(), sampleSections()...)
	return strings.TrimPrefix(whole, config.Reference(coreSettings()))
}

func TestReferenceOfSections(t *testing.T) {
	golden := filepath.Join("testdata", "reference.md")
	got := sampleReference()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; if that is meant, run the test with -update (-want +got):\n%s", golden, diff)
	}
}

// TestDocumentedSettings compares the start of the reference, which is the settings of
// the program itself, with the code.
func TestDocumentedSettings(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "settings.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Reference(coreSettings())
	if got := string(text); !strings.HasPrefix(got, want) {
		t.Errorf("docs/reference/settings.md is out of date (-want +got):\n%s", cmp.Diff(want, got[:min(len(got), len(want))]))
	}
}

// TestReferenceHasEveryVariable: each variable has one row in the reference.
func TestReferenceHasEveryVariable(t *testing.T) {
	doc := config.Reference(coreSettings())
	names := strings.Fields(`TENANCY COLLECTORS STATE_DIR STATE_KEEP LOG_LEVEL LOG_FORMAT
		STORE_FILE STORE_EMPTY STORE_RETRY_MAX_WAIT STORE_ONCE_TIMEOUT STORE_WRITE_TIMEOUT STORE_SPOOL_MAX
		STORE_DUCKDB STORE_DUCKDB_MODE STORE_DUCKDB_VIEWS STORE_DUCKDB_KEEP STORE_DUCKDB_MEMORY STORE_DUCKDB_LOCK_WAIT STORE_FILE_REPAIR
		STORE_POSTGRES_URL STORE_POSTGRES_HOST STORE_POSTGRES_USER STORE_POSTGRES_PASSWORD STORE_POSTGRES_DBNAME
		STORE_POSTGRES_PORT STORE_POSTGRES_SCHEMA STORE_POSTGRES_JSON STORE_POSTGRES_MODE STORE_POSTGRES_VIEWS STORE_POSTGRES_KEEP
		STORE_AWS_S3_BUCKET STORE_AWS_S3_PROFILE STORE_AWS_S3_KEY STORE_AWS_S3_BACKUP STORE_AWS_S3_SSE STORE_AWS_S3_KMS_KEY_ID
		STORE_AWS_S3_ACL STORE_AWS_S3_CHECKSUM STORE_AWS_S3_PATH_STYLE STORE_AWS_S3_REQUEST_PAYER
		RUN_TIMEOUT RUN_IDLE_TIMEOUT RUN_PATIENCE MAX_PARALLEL_RUNS RESTORE_TIMEOUT GUARD_DROP
		SCHEDULE SCHEDULE_TZ SCHEDULE_JITTER SCHEDULE_CATCHUP SCHEDULE_RETRY SHUTDOWN_GRACE DATA_MAX_AGE
		HTTP_LISTEN HTTP_TOKEN HTTP_TOKENS_FILE HTTP_HOSTS HTTP_PREFIX HTTP_WEB_CONFIG_FILE HTTP_PPROF HTTP_SHOW_DATA HTTP_QUERY HTTP_QUERY_MEMORY HTTP_QUERY_PARALLEL HTTP_QUERIES METRICS_TEXTFILE SLACK_WEBHOOK NOTIFY_URLS
		NOTIFY_EVENTS NOTIFY_PAGE_URL
		CLUSTER_POSTGRES_URL CLUSTER_SCHEMA CLUSTER_S3_PREFIX CLUSTER_NODE CLUSTER_LEASE CLUSTER_CACHE CLUSTER_FILES
		TENANCIES_DIR EXEC_DIR CONTROLS CONTROLS_TIMEOUT CONTROLS_MEMORY CONTROLS_DETAIL CONTROLS_KEEP CONTROLS_RESOURCES`)
	for _, name := range names {
		if strings.Count(doc, "\n| `"+name+"` |") != 1 {
			t.Errorf("the reference has no row for %s, or several", name)
		}
	}
	if rows := strings.Count(doc, "\n| `"); rows != len(names) {
		t.Errorf("the reference has %d rows", rows)
	}
}
