package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/collectord/collectord/pkg/store"
)

// maxName is the longest name that Postgres keeps whole, in bytes.
const maxName = 63

// schemaName matches the names of schemas that are accepted. Names are quoted in
// SQL; a name with other characters is probably a mistake.
var schemaName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_$-]*$`)

// checkSchemaName returns an error for names of schemas that are not accepted.
func checkSchemaName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("postgres: schema %.20q…: %d bytes, Postgres allows %d", name, len(name), maxName)
	case !utf8.ValidString(name) || !schemaName.MatchString(name):
		return fmt.Errorf("postgres: schema %q: want letters, digits, _, $ and -, a letter or _ first", name)
	case strings.HasPrefix(name, "pg_") || name == "information_schema":
		return fmt.Errorf("postgres: schema %q belongs to Postgres itself", name)
	}
	return nil
}

// checkTableName returns an error for names that Postgres would truncate.
func checkTableName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: table name %.80q: want 1 to %d bytes, no NUL", store.ErrRefused, name, maxName)
	}
	return nil
}

// ParseURL returns the configuration of connections to a database, for other uses than
// storing snapshots, as New has it. Errors name setting, and do not show the URL.
func ParseURL(setting, url string) (*pgx.ConnConfig, error) {
	config, err := connConfig(Options{URL: url, urlSetting: setting})
	if err != nil {
		return nil, fmt.Errorf("%s: %s", setting, strings.TrimPrefix(strings.TrimPrefix(err.Error(), setting+": "), "postgres: "))
	}
	return config, nil
}

// connConfig combines the options with the standard variables.
func connConfig(opts Options) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(connString(opts))
	if err != nil {
		problem := parseProblem(err)
		if strings.Contains(problem, "sslmode is invalid") {
			return nil, sslModeError(opts)
		}
		return nil, fmt.Errorf("postgres: connection settings: %s", problem)
	}
	// The password is not part of the string, so that no error of the parser
	// can show it.
	if opts.Password != "" {
		config.Password = opts.Password
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 30 * time.Second
	}
	// Keep-alives detect a lost peer also while nothing is sent.
	config.DialFunc = (&net.Dialer{
		Timeout: config.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6,
		},
	}).DialContext
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "collectord"
	}
	// Without it the server reads the bytes in its own encoding.
	config.RuntimeParams["client_encoding"] = "UTF8"
	// No named prepared statements, whatever the URL asks for: a connection
	// pooler may use another server connection for each transaction, see inTx.
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	return config, nil
}

// connString returns the URL or, if there is none, the other options as a
// keyword/value string without the password.
func connString(opts Options) string {
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

// parseProblem returns why connection settings cannot be used, without showing
// them, since they may hold a password.
func parseProblem(err error) string {
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) {
		return "they cannot be read"
	}
	// If the form is correct, the error is about one setting, such as a
	// missing file of certificates. It follows the connection string.
	text := parse.Error()
	at := strings.LastIndex(text, "`: ")
	if at < 0 || strings.Contains(text, "failed to parse as") {
		return "want postgres://user:password@host:5432/dbname, special characters of the password percent-encoded"
	}
	return text[at+3:]
}

// sslModeError returns the error for a mode that Postgres does not know, with the
// variable that it is from.
func sslModeError(opts Options) error {
	const want = "want disable, allow, prefer, require, verify-ca or verify-full"
	if u, err := url.Parse(opts.URL); err == nil && u.Query().Has("sslmode") {
		return fmt.Errorf("%s: sslmode is not known: %s", cmp.Or(opts.urlSetting, "STORE_POSTGRES_URL"), want)
	}
	if mode := os.Getenv("PGSSLMODE"); mode != "" {
		return fmt.Errorf("PGSSLMODE: %q is not known: %s", mode, want)
	}
	return fmt.Errorf("postgres: sslmode of PGSERVICE is not known: %s", want)
}
