package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

// TestRefusals compares every refusal with its exact text.
func TestRefusals(t *testing.T) {
	const (
		duration = ": want a duration of 1s or more such as 90s, 15m, 6h or 7d"
		size     = ": want a size such as 512MB or 10GiB"
		keep     = ": want a number of snapshots such as 10, or an age such as 30d; unset keeps all"
		tenancy  = ": want a name such as default or acme-eu"
		pgURL    = "STORE_POSTGRES_URL: the value is not a Postgres URL: want postgres://user:password@host:5432/dbname, with %, / and @ in the password written as %25, %2F and %40"
	)
	tests := []struct {
		environ string // entries separated by ;
		want    []string
	}{
		{"TENANCY= ", []string{`TENANCY: " " is empty` + tenancy}},
		{"TENANCY=a/b", []string{`TENANCY: "a/b" has a path separator` + tenancy}},
		{`TENANCY=a\b`, []string{`TENANCY: "a\\b" has a path separator` + tenancy}},
		{"TENANCY=a\x00b", []string{"TENANCY: the value has a NUL byte"}},
		{"TENANCY=a\nb", []string{`TENANCY: "a\nb" has a control character` + tenancy}},
		{"TENANCY=a\x7f", []string{`TENANCY: "a\x7f" has a control character` + tenancy}},
		{"TENANCY=a\xff", []string{`TENANCY: "a\xff" has a control character` + tenancy}},
		{"TENANCY=.a", []string{`TENANCY: ".a" begins with a dot` + tenancy}},
		{"TENANCY=..", []string{`TENANCY: ".." begins with a dot` + tenancy}},
		{"TENANCY=a..b", []string{`TENANCY: "a..b" has two dots in a row` + tenancy}},
		{"TENANCY=" + strings.Repeat("a", 129), []string{"TENANCY: is 129 bytes long: want at most 128"}},
		{"TENANCY=" + strings.Repeat("a", 128), nil},

		{"COLLECTORS=,", []string{`COLLECTORS: "," is empty: want names of collectors and streams, such as tenable,-tenable_was`}},
		{"COLLECTORS=tenble", []string{`COLLECTORS: "tenble" is neither a collector nor a stream: did you mean tenable?`}},
		{"COLLECTORS=sentinel", []string{`COLLECTORS: "sentinel" is neither a collector nor a stream: want some of crowdstrike, tenable, okta and feed, or their streams`}},
		{"COLLECTORS=tenable", []string{"COLLECTORS: tenable is named, but TIO_ACCESS_KEY and TIO_SECRET_KEY are not set"}},

		{"STATE_DIR=a\x00", []string{"STATE_DIR: the value has a NUL byte"}},
		{"STATE_KEEP=90", []string{`STATE_KEEP: "90" is not a duration` + duration}},
		{"STATE_KEEP=0d", []string{`STATE_KEEP: "0d" is out of range` + duration}},
		{"STATE_KEEP=-1h", []string{`STATE_KEEP: "-1h" is out of range` + duration}},
		{"STATE_KEEP=1d-1h", []string{`STATE_KEEP: "1d-1h" is out of range` + duration}},
		{"STATE_KEEP=106752d", []string{`STATE_KEEP: "106752d" is out of range` + duration}},
		{"STATE_KEEP=106751d24h", []string{`STATE_KEEP: "106751d24h" is out of range` + duration}},
		{"STATE_KEEP=d", []string{`STATE_KEEP: "d" is not a duration` + duration}},
		{"STATE_KEEP=1.5d", []string{`STATE_KEEP: "1.5d" is not a duration` + duration}},
		{"LOG_LEVEL=loud", []string{`LOG_LEVEL: "loud" is not known: want debug, info, warn or error`}},
		{"LOG_FORMAT=xml", []string{`LOG_FORMAT: "xml" is not known: want auto, console or json`}},

		{"STORE_FILE=a\x00", []string{"STORE_FILE: the value has a NUL byte"}},
		{"STORE_FILE= ", []string{`STORE_FILE: " " is empty: want a path with variables such as %TAG, or off`}},
		{"STORE_EMPTY=maybe", []string{`STORE_EMPTY: "maybe" is neither true nor false: want true or false (also 1, 0, yes, no, on, off)`}},
		{"STORE_RETRY_MAX_WAIT=0s", []string{`STORE_RETRY_MAX_WAIT: "0s" is out of range` + duration}},
		{"STORE_ONCE_TIMEOUT=soon", []string{`STORE_ONCE_TIMEOUT: "soon" is not a duration` + duration}},
		{"STORE_SPOOL_MAX=lots", []string{`STORE_SPOOL_MAX: "lots" is not a size` + size}},
		{"STORE_SPOOL_MAX=0", []string{`STORE_SPOOL_MAX: "0" is out of range` + size}},
		{"STORE_SPOOL_MAX=8EiB", []string{`STORE_SPOOL_MAX: "8EiB" is out of range` + size}},
		{"STORE_SPOOL_MAX=-1GB", []string{`STORE_SPOOL_MAX: "-1GB" is not a size` + size}},

		{"STORE_DUCKDB=a\x00", []string{"STORE_DUCKDB: the value has a NUL byte"}},
		{"STORE_DUCKDB_MODE=merge", []string{`STORE_DUCKDB_MODE: "merge" is not known: want append or replace`}},
		{"STORE_DUCKDB_KEEP=0", []string{`STORE_DUCKDB_KEEP: "0" would keep nothing` + keep}},
		{"STORE_DUCKDB_KEEP=-3", []string{`STORE_DUCKDB_KEEP: "-3" would keep nothing` + keep}},
		{"STORE_DUCKDB_KEEP=0d", []string{`STORE_DUCKDB_KEEP: "0d" would keep nothing` + keep}},
		{"STORE_DUCKDB_KEEP=all", []string{`STORE_DUCKDB_KEEP: "all" is neither a number nor an age` + keep}},
		{"STORE_DUCKDB_MEMORY=big", []string{`STORE_DUCKDB_MEMORY: "big" is not a size` + size}},
		{"STORE_DUCKDB_LOCK_WAIT=-1s", []string{`STORE_DUCKDB_LOCK_WAIT: "-1s" is out of range: want a duration such as 90s, 15m, 6h or 7d`}},

		{"STORE_POSTGRES_URL=mysql://u:p@h/d", []string{pgURL}},
		{"STORE_POSTGRES_URL=postgres://u:p%ss@h/d", []string{pgURL}},
		{"STORE_POSTGRES_URL=postgres://u:abc@tail@h/d", []string{pgURL}},
		{"STORE_POSTGRES_URL=postgres://u:abc@start/tail@h/d", []string{pgURL}},
		{"STORE_POSTGRES_URL=postgres://u:a%40b@h/d?application_name=a@b@c", nil},
		{"STORE_POSTGRES_URL=postgres:///d", []string{pgURL}},
		{"STORE_POSTGRES_URL=host=h dbname=d", []string{pgURL}},
		{"STORE_POSTGRES_URL=postgres://h/d;STORE_POSTGRES_HOST=h;STORE_POSTGRES_PASSWORD=secret", []string{
			"STORE_POSTGRES_HOST: set, and STORE_POSTGRES_URL is too: keep one of the two",
			"STORE_POSTGRES_PASSWORD: set, and STORE_POSTGRES_URL is too: keep one of the two",
		}},
		{"STORE_POSTGRES_HOST=h;STORE_POSTGRES_USER=u", nil},
		{"STORE_POSTGRES_PASSWORD=secret", nil},
		{"STORE_POSTGRES_PORT=54x", []string{`STORE_POSTGRES_PORT: "54x" is not a number: want 1 to 65535`}},
		{"STORE_POSTGRES_PORT=0", []string{`STORE_POSTGRES_PORT: "0" is out of range: want 1 to 65535`}},
		{"STORE_POSTGRES_PORT=65536", []string{`STORE_POSTGRES_PORT: "65536" is out of range: want 1 to 65535`}},
		{"STORE_POSTGRES_PORT=99999999999999999999", []string{`STORE_POSTGRES_PORT: "99999999999999999999" is out of range: want 1 to 65535`}},
		{"STORE_POSTGRES_SCHEMA=a\x00", []string{"STORE_POSTGRES_SCHEMA: the value has a NUL byte"}},
		{"STORE_POSTGRES_SCHEMA= ", []string{"STORE_POSTGRES_SCHEMA: the name is empty: want 1 to 63 bytes"}},
		{"STORE_POSTGRES_SCHEMA=" + strings.Repeat("ü", 32), []string{"STORE_POSTGRES_SCHEMA: the name is too long: want 1 to 63 bytes"}},
		{"STORE_POSTGRES_SCHEMA=a\xff", []string{"STORE_POSTGRES_SCHEMA: the name is not UTF-8: want 1 to 63 bytes"}},
		{"STORE_POSTGRES_SCHEMA=" + strings.Repeat("a", 63), nil},
		{"STORE_POSTGRES_JSON=xml", []string{`STORE_POSTGRES_JSON: "xml" is not known: want json or jsonb`}},
		{"STORE_POSTGRES_VIEWS=no", []string{`STORE_POSTGRES_VIEWS: "no" is not known: want on, typed or off`}},
		{"STORE_POSTGRES_MODE=merge", []string{`STORE_POSTGRES_MODE: "merge" is not known: want append or replace`}},
		{"STORE_POSTGRES_KEEP=x", []string{`STORE_POSTGRES_KEEP: "x" is neither a number nor an age` + keep}},

		{"STORE_AWS_S3_KEY=k", nil},
		{"STORE_AWS_S3_BUCKET=s3://b", []string{`STORE_AWS_S3_BUCKET: "s3://b" is not the name of a bucket: want one without s3:// and spaces`}},
		{"STORE_AWS_S3_SSE=none", []string{`STORE_AWS_S3_SSE: "none" is not known: want AES256 or aws:kms`}},
		{"STORE_AWS_S3_KMS_KEY_ID=k", []string{"STORE_AWS_S3_KMS_KEY_ID: set, but STORE_AWS_S3_SSE is not aws:kms: set both, or neither"}},

		{"HTTP_LISTEN=foo", []string{`HTTP_LISTEN: "foo" is not an address with a port: want an address such as 127.0.0.1:19610 or :19610, a socket such as unix:/run/collectord/http.sock, or off`}},
		{"HTTP_LISTEN=127.0.0.1:99999", []string{`HTTP_LISTEN: "127.0.0.1:99999" is not an address with a port: want an address such as 127.0.0.1:19610 or :19610, a socket such as unix:/run/collectord/http.sock, or off`}},
		{"HTTP_TOKEN=0123456789abcde", []string{"HTTP_TOKEN: the value is too short: want 16 or more characters, such as the output of: openssl rand -hex 32"}},
		{"HTTP_TOKEN=0123456789abcde\t\r", []string{"HTTP_TOKEN: the value is too short: want 16 or more characters, such as the output of: openssl rand -hex 32"}},
		{"HTTP_TOKEN=0123456789abcdef", nil},
		{"HTTP_PREFIX=/collectord/", nil},
		{"HTTP_PREFIX=collectord", []string{`HTTP_PREFIX: "collectord" is not a path: want a path such as /collectord`}},
		{"HTTP_PREFIX=/a/../b", []string{`HTTP_PREFIX: "/a/../b" is not a path: want a path such as /collectord`}},
		{"HTTP_PREFIX=/streams/x", []string{`HTTP_PREFIX: "/streams/x" begins as a path of the server itself: want another one, such as /collectord`}},
		{"HTTP_LISTEN=Off", nil},
		{"HTTP_LISTEN=[::1]:http", nil},
		{"HTTP_LISTEN=unix:/run/x.sock", nil},
		{"HTTP_LISTEN=unix:x.sock", []string{`HTTP_LISTEN: "unix:x.sock" cannot be used: the path of the socket is not absolute: want an address such as 127.0.0.1:19610 or :19610, a socket such as unix:/run/collectord/http.sock, or off`}},
		{"HTTP_LISTEN=unix:/", []string{`HTTP_LISTEN: "unix:/" cannot be used: the path of the socket is that of a directory: want an address such as 127.0.0.1:19610 or :19610, a socket such as unix:/run/collectord/http.sock, or off`}},
		{"NOTIFY_EVENTS=late, reload", nil},
		{"NOTIFY_EVENTS=late,rain", []string{`NOTIFY_EVENTS: "rain" is no kind of event: want some of failure, late, destination, restore, reload, doubt, control`}},
		{"NOTIFY_PAGE_URL=collectord.example.com", []string{`NOTIFY_PAGE_URL: "collectord.example.com" is not the URL of a page: want one such as https://collectord.example.com/`}},
		{"RUN_TIMEOUT=12", []string{`RUN_TIMEOUT: "12" is not a duration` + duration}},
		{"RUN_IDLE_TIMEOUT=0", []string{`RUN_IDLE_TIMEOUT: "0" is out of range` + duration}},
		{"RUN_PATIENCE=0s", []string{`RUN_PATIENCE: "0s" is out of range` + duration}},
		{"RUN_PATIENCE=15", []string{`RUN_PATIENCE: "15" is not a duration` + duration}},
		{"RESTORE_TIMEOUT=x", []string{`RESTORE_TIMEOUT: "x" is not a duration` + duration}},
		{"MAX_PARALLEL_RUNS=0", []string{`MAX_PARALLEL_RUNS: "0" is out of range: want 1 or more`}},
		{"MAX_PARALLEL_RUNS=8.5", []string{`MAX_PARALLEL_RUNS: "8.5" is not a number: want 1 or more`}},
		{"GUARD_DROP=101", []string{`GUARD_DROP: "101" is out of range: want 0 to 100, or off`}},
		{"GUARD_DROP=-1", []string{`GUARD_DROP: "-1" is out of range: want 0 to 100, or off`}},
		{"GUARD_DROP=10%", []string{`GUARD_DROP: "10%" is not a percentage: want 0 to 100, or off`}},
		{"GUARD_DROP=0", nil},
		{"SCHEDULE_RETRY=-1", []string{`SCHEDULE_RETRY: "-1" is out of range: want 0 or more, or unlimited`}},
		{"SCHEDULE_RETRY=often", []string{`SCHEDULE_RETRY: "often" is not a number: want 0 or more, or unlimited`}},
		{"SCHEDULE_RETRY=99999999999999999999", []string{`SCHEDULE_RETRY: "99999999999999999999" is out of range: want 0 or more, or unlimited`}},
		{"SCHEDULE_RETRY=0", nil},

		{"TIO_CHUNK=9", []string{`TIO_CHUNK: "9" is out of range: want 50 to 5000`}},
		{"TIO_RATE=0", []string{`TIO_RATE: "0" is out of range: want 0.1 or more`}},
		{"TIO_RATE=NaN", []string{`TIO_RATE: "NaN" is out of range: want 0.1 or more`}},
		{"TIO_TIMEOUT=8d", []string{`TIO_TIMEOUT: "8d" is out of range: want a duration of 1m to 7d such as 90s, 15m, 6h or 7d`}},
		{"TIO_BUFFER=1", []string{`TIO_BUFFER: "1" is out of range: want a size of 1KiB to 1GiB such as 512MB or 10GiB`}},
		{"TIO_URL=cloud.tenable.com", []string{`TIO_URL: "cloud.tenable.com" is not a URL: want a URL such as https://example.com`}},
		{"TIO_URL=ftp://u:p@h", []string{`TIO_URL: "ftp://[redacted]@h" is not a URL: want a URL such as https://example.com`}},
		{"TIO_CHUNK=" + strings.Repeat("ü", 200), []string{`TIO_CHUNK: "` + strings.Repeat("ü", 100) + `"... is not a number: want 50 to 5000`}},
		{"TIO_ACCESS_KEY=abcd;TIO_SECRET_KEY=abcd", []string{"TIO_SECRET_KEY: the same as TIO_ACCESS_KEY ([redacted]): want the other half of the pair"}},
		{"TIO_ACCESS_KEY=abcd;TIO_SECRET_KEY=efgh;TIO_CHUNK=55", []string{"TIO_CHUNK: 55 is not round: want tens"}},
		{"TIO_ACCESS_KEY=abcd;TIO_SECRET_KEY=efgh;TIO_CHUNK=5", []string{`TIO_CHUNK: "5" is out of range: want 50 to 5000`}},
	}
	for _, tt := range tests {
		t.Run(tt.environ, func(t *testing.T) {
			l := loadSource(t, config.Source{Environ: strings.Split(tt.environ, ";")})
			if diff := cmp.Diff(tt.want, l.problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, ".env", "RUN_TIMEOUT=never\nTIO_CHUNK=x\n")
	l := loadSource(t, config.Source{Dir: dir, Environ: []string{
		"TENANCY=../x", "STORE_POSTGRES_PORT=54x", "STORE_AWS_S3_KEY=k", "COLLECTORS=okta,tenable,nope",
		"TIO_SECRET_KEY=s", "FALCON_CLIENT_ID=id", "OKTA_TOKEN_FILE=/nonexistent/token",
	}})
	want := []string{
		`OKTA_TOKEN_FILE: "/nonexistent/token": no such file or directory: want a readable file that holds the value of OKTA_TOKEN`,
		`STORE_POSTGRES_PORT: "54x" is not a number: want 1 to 65535`,
		`RUN_TIMEOUT: "never" is not a duration: want a duration of 1s or more such as 90s, 15m, 6h or 7d`,
		`TIO_CHUNK: "x" is not a number: want 50 to 5000`,
		`TENANCY: "../x" has a path separator: want a name such as default or acme-eu`,
		`COLLECTORS: "nope" is neither a collector nor a stream: want some of crowdstrike, tenable, okta and feed, or their streams`,
		"COLLECTORS: tenable is named, but TIO_ACCESS_KEY is not set",
		"COLLECTORS: okta is named, but OKTA_DOMAIN and OKTA_ID are not set",
	}
	if diff := cmp.Diff(want, l.problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestIncompleteDestinationsAreOff: a destination of which a part is not set is off,
// with a warning.
func TestIncompleteDestinationsAreOff(t *testing.T) {
	tests := []struct{ environ, want string }{
		{environ: "STORE_POSTGRES_USER=u;STORE_POSTGRES_DBNAME=d;STORE_POSTGRES_HOST=", want: "STORE_POSTGRES_HOST: not set, but STORE_POSTGRES_USER and STORE_POSTGRES_DBNAME are: Postgres is off: set it, or none"},
		{environ: "STORE_POSTGRES_PASSWORD=secret", want: "STORE_POSTGRES_HOST: not set, but STORE_POSTGRES_PASSWORD is: Postgres is off: set it, or none"},
		{environ: "STORE_AWS_S3_KEY=k", want: "STORE_AWS_S3_BUCKET: not set, but STORE_AWS_S3_KEY is: S3 is off: set both, or neither"},
	}
	for _, tt := range tests {
		t.Run(tt.environ, func(t *testing.T) {
			l := loadWithoutProblems(t, config.Source{Environ: strings.Split(tt.environ, ";")})
			if diff := cmp.Diff([]string{tt.want}, l.warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if l.postgres.On() || l.s3.Bucket != "" {
				t.Error("the destination is on")
			}
		})
	}
}
