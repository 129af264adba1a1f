package store

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxName is the longest name that Postgres keeps whole, in bytes.
const maxName = 63

// schemaName is what a schema may be called here. Names are quoted wherever
// they stand in SQL; a name beyond this is a slip or worse.
var schemaName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_$-]*$`)

func checkSchemaName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("postgres: schema %.20q…: %d bytes, Postgres takes %d", name, len(name), maxName)
	case !utf8.ValidString(name) || !schemaName.MatchString(name):
		return fmt.Errorf("postgres: schema %q: want letters, digits, _, $ and -, a letter or _ first", name)
	case strings.HasPrefix(name, "pg_") || name == "information_schema":
		return fmt.Errorf("postgres: schema %q belongs to Postgres itself", name)
	}
	return nil
}

// checkTableName refuses names that Postgres would cut.
func checkTableName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: table name %.80q: want 1 to %d bytes, no NUL", ErrRefused, name, maxName)
	}
	return nil
}

// postgresConfig joins the options with the standard variables.
func postgresConfig(opts PostgresOptions) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(connString(opts))
	if err != nil {
		return nil, fmt.Errorf("postgres: connection settings: %s", parseProblem(err))
	}
	// The password travels beside the string, so that no parser has it in its
	// hands when it complains.
	if opts.Password != "" {
		config.Password = opts.Password
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 30 * time.Second
	}
	// A peer that has vanished is noticed even while nothing is sent.
	config.DialFunc = (&net.Dialer{
		Timeout: config.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6,
		},
	}).DialContext
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "collectord"
	}
	// Else the server takes the bytes for its own encoding's.
	config.RuntimeParams["client_encoding"] = "UTF8"
	// No named prepared statements: a pooler between may hand each
	// transaction another server connection.
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	return config, nil
}

// connString is the URL, or else the single settings as a keyword/value string
// without the password.
func connString(opts PostgresOptions) string {
	if opts.URL != "" {
		return opts.URL
	}
	var fields []string
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, key+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)+"'")
		}
	}
	add("host", opts.Host)
	if opts.Port != 0 {
		add("port", strconv.Itoa(opts.Port))
	}
	add("user", opts.User)
	add("dbname", opts.DBName)
	return strings.Join(fields, " ")
}

// parseProblem says why connection settings cannot be used, without showing
// them: they may hold a password.
func parseProblem(err error) string {
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) {
		return "they cannot be read"
	}
	// What is not about the form is about one setting, such as a missing file
	// of certificates; it stands behind the connection string.
	text := parse.Error()
	at := strings.LastIndex(text, "`: ")
	if at < 0 || strings.Contains(text, "failed to parse as") {
		return "want postgres://user:password@host:5432/dbname, special characters of the password percent-encoded"
	}
	return text[at+3:]
}
