package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/collectord/collectord/pkg/store"
)

// explainError adds to an error what was tried and what a person can do. The
// result wraps store.ErrRefused when repeating cannot help, and the cause of ctx
// when ctx has ended.
func explainError(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("postgres: %s: %w", tried, context.Cause(ctx))
	}
	hint, refused := classifyError(err)
	switch {
	case errors.Is(err, store.ErrRefused):
		return fmt.Errorf("postgres: %s: %w", tried, err)
	case refused:
		return fmt.Errorf("postgres: %s: %w: %w%s", tried, store.ErrRefused, singleLineError{err}, hint)
	}
	return fmt.Errorf("postgres: %s: %w%s", tried, singleLineError{err}, hint)
}

// A singleLineError is an error with its text on one line: pgx lists the addresses
// that it tried on separate lines.
type singleLineError struct{ error }

func (e singleLineError) Unwrap() error { return e.error }

func (e singleLineError) Error() string {
	return strings.Join(strings.FieldsFunc(e.error.Error(), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

// A sqlStateRule says what a class of SQLSTATE codes, or a single code, means.
type sqlStateRule struct {
	code    string // the code or its beginning; the longest match is used
	refused bool
	hint    string
}

// sqlStateRules classify the server's errors by the appendix "PostgreSQL Error
// Codes" of its manual. Repeating may help for what is not listed: lost
// connections, locks, deadlocks, a full disk, too many connections, a server that
// starts or stops, a standby.
var sqlStateRules = []sqlStateRule{
	{code: "0A", refused: true, hint: ""},
	{code: "0L", refused: true, hint: ""},
	{code: "0P", refused: true, hint: "check STORE_POSTGRES_USER"},
	{code: "22", refused: true, hint: "the table does not accept the values of a snapshot"},
	{code: "23", refused: true, hint: "the table has a constraint that the snapshot violates"},
	{code: "23505", refused: false, hint: ""}, // another writer was faster
	{code: "25006", refused: false, hint: "the server accepts no writes now: it is a standby, or default_transaction_read_only is on"},
	{code: "28", refused: true, hint: "check STORE_POSTGRES_USER, STORE_POSTGRES_PASSWORD and the server's pg_hba.conf"},
	{code: "3D000", refused: true, hint: "create the database or check STORE_POSTGRES_DBNAME"},
	{code: "3F000", refused: true, hint: "check STORE_POSTGRES_SCHEMA"},
	{code: "42", refused: true, hint: ""},
	{code: "42501", refused: true, hint: "grant the role USAGE on the schema, SELECT and INSERT on " + store.LedgerTable + ", INSERT on the table, and for mode replace or a bounded history also SELECT and DELETE"},
	{code: "53300", refused: false, hint: "raise max_connections of the server, or close other connections"},
	{code: "54", refused: true, hint: "the snapshot is beyond a limit of the server"},
}

// A poolerRule says what an error of a connection pooler means. PgBouncer has one
// code for all of them.
type poolerRule struct {
	text    string // is in the message
	refused bool
	hint    string
}

var poolerRules = []poolerRule{
	{text: "unsupported startup parameter", refused: true,
		hint: "remove the parameter from STORE_POSTGRES_URL or PGOPTIONS, or add it to ignore_startup_parameters of the pooler"},
	{text: "no such user", refused: true, hint: "check STORE_POSTGRES_USER and the pooler's list of users (auth_file, auth_query)"},
	{text: "password", refused: true, hint: "check STORE_POSTGRES_USER, STORE_POSTGRES_PASSWORD and the pooler's list of users (auth_file, auth_query)"},
	{text: "database", refused: true, hint: "check STORE_POSTGRES_DBNAME and the pooler's list of databases"},
	{text: "statement pooling", refused: true, hint: "collectord needs transactions: set pool_mode = transaction or session for the database in the pooler"},
	{text: "timeout", refused: false, hint: "the pooler has no free server connection: raise its default_pool_size"},
}

// classifyError returns a hint for the end of the message, and whether repeating
// cannot help.
func classifyError(err error) (hint string, refused bool) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		var rule sqlStateRule
		for _, r := range sqlStateRules {
			if strings.HasPrefix(pg.Code, r.code) && len(r.code) > len(rule.code) {
				rule = r
			}
		}
		for _, r := range poolerRules {
			if pg.Code == "08P01" && strings.Contains(pg.Message, r.text) {
				return store.HintSuffix(r.hint), r.refused
			}
		}
		return store.HintSuffix(rule.hint), rule.refused
	}
	if store.IsCertificateError(err) {
		return store.HintSuffix("check PGSSLROOTCERT, PGSSLMODE and the host's name"), true
	}
	if strings.Contains(err.Error(), "server refused TLS connection") {
		return store.HintSuffix("the server has no TLS: check PGSSLMODE"), true
	}
	return store.HintSuffix(connectAdvice(err)), false
}

// connectAdvice returns what to do about a connection that could not be made, or
// "".
func connectAdvice(err error) string {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return ""
	}
	const check = "check STORE_POSTGRES_HOST and STORE_POSTGRES_PORT, or STORE_POSTGRES_URL"
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return "the name cannot be resolved: " + check + ", and DNS (/etc/resolv.conf)"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return "nothing listens there: " + check + ", and that the server runs and listens on that address (listen_addresses)"
	case errors.Is(err, fs.ErrPermission):
		return "the user of this process may not use the socket: " + check
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no response: " + check + "; a firewall may drop the packets"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection was closed: " + check + ", whether that is a Postgres server, and its log"
	}
	return check + ", the network, and whether a firewall blocks the connection"
}

// isUnstorable reports whether the content of a record is refused.
func isUnstorable(err error) bool {
	var pg *pgconn.PgError
	var depth *depthError
	return errors.As(err, &depth) || errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "54"))
}
