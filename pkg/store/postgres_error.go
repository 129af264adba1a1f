package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// postgresError says what was tried, what the server said and what to do, and
// wraps ErrRefused when repeating cannot help. What ctx ended comes back as
// ctx's error.
func postgresError(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("postgres: %s: %w", tried, context.Cause(ctx))
	}
	hint, refused := postgresHint(err)
	switch {
	case errors.Is(err, ErrRefused):
		return fmt.Errorf("postgres: %s: %w", tried, err)
	case refused:
		return fmt.Errorf("postgres: %s: %w: %w%s", tried, ErrRefused, oneLine{err}, hint)
	}
	return fmt.Errorf("postgres: %s: %w%s", tried, oneLine{err}, hint)
}

// oneLine is an error whose text stands on one line: pgx lists the addresses
// that it tried on lines of their own.
type oneLine struct{ error }

func (e oneLine) Unwrap() error { return e.error }

func (e oneLine) Error() string {
	return strings.Join(strings.FieldsFunc(e.error.Error(), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

// A postgresRule says what a class of SQLSTATE, or one of them, means.
type postgresRule struct {
	code    string // the code or its beginning; the longest that fits counts
	refused bool
	hint    string
}

// postgresRules sort the server's errors after its manual's appendix
// "PostgreSQL Error Codes". What is not listed may pass by itself: lost
// connections, locks, deadlocks, no room, too many connections, a server that
// starts or stops, a standby.
var postgresRules = []postgresRule{
	{"0A", true, ""},
	{"0L", true, ""},
	{"0P", true, "check STORE_POSTGRES_USER"},
	{"22", true, "the table does not take what snapshots hold"},
	{"23", true, "the table has a constraint that snapshots break"},
	{"23505", false, ""}, // another writer was quicker
	{"25006", false, "the server takes no writes now: it is a standby, or default_transaction_read_only is on"},
	{"28", true, "check STORE_POSTGRES_USER, STORE_POSTGRES_PASSWORD and the server's pg_hba.conf"},
	{"3D000", true, "make the database or check STORE_POSTGRES_DBNAME"},
	{"3F000", true, "check STORE_POSTGRES_SCHEMA"},
	{"42", true, ""},
	{"42501", true, "grant the role USAGE on the schema, SELECT and INSERT on " + ledgerName + ", INSERT on the table, and for mode replace or a bounded history also SELECT and DELETE"},
	{"54", true, "the snapshot is beyond a limit of the server"},
}

// postgresHint sorts an error.
func postgresHint(err error) (hint string, refused bool) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		var rule postgresRule
		for _, r := range postgresRules {
			if strings.HasPrefix(pg.Code, r.code) && len(r.code) > len(rule.code) {
				rule = r
			}
		}
		return prefixed(rule.hint), rule.refused
	}
	if isCertificate(err) {
		return prefixed("check PGSSLROOTCERT, PGSSLMODE and the host's name"), true
	}
	if strings.Contains(err.Error(), "server refused TLS connection") {
		return prefixed("the server has no TLS: check PGSSLMODE"), true
	}
	return "", false
}

func prefixed(hint string) string {
	if hint == "" {
		return ""
	}
	return ": " + hint
}

// isCertificate tells whether a TLS handshake failed for a certificate.
func isCertificate(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	return errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) || errors.As(err, &verification)
}

// isUnstorable tells whether the server refused what a record holds.
func isUnstorable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "54"))
}
