package testserver

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A PostgresPair is a Postgres server and a standby to which it streams its
// transactions, asynchronously.
type PostgresPair struct {
	Primary, Standby *Postgres
}

// StartPostgresPair starts a pair of its own for a test, at the end of which both
// servers stop.
func StartPostgresPair(t testing.TB) *PostgresPair {
	t.Helper()
	p, err := openPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Primary.Crash(); p.Standby.Crash() })
	return p
}

func openPair() (*PostgresPair, error) {
	primary, err := NewPostgres(0)
	if err != nil {
		return nil, err
	}
	standby, err := newServer()
	if err != nil {
		return nil, err
	}
	p := &PostgresPair{primary, standby}
	if err := standby.copyFrom(primary); err != nil {
		return nil, err
	}
	if err := standby.Start(); err != nil {
		return nil, err
	}
	return p, p.waitUntilCaughtUp()
}

// copyFrom fills the directory of the server with a copy of a running one, and
// the settings with which it follows it.
func (p *Postgres) copyFrom(primary *Postgres) error {
	program, err := findProgram("pg_basebackup", "/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "-h", "127.0.0.1", "-p", strconv.Itoa(primary.Port), "-U", Owner,
		"-D", p.File("data"), "--write-recovery-conf", "--checkpoint", "fast", "--no-sync")
	cmd.Env = append(os.Environ(), "PGPASSWORD="+Password)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	cmd.Dir = p.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	return nil
}

// waitUntilCaughtUp waits until the standby has all transactions of the primary.
func (p *PostgresPair) waitUntilCaughtUp() error {
	written, err := p.Primary.query("SELECT pg_current_wal_lsn()")
	if err != nil {
		return err
	}
	return p.Standby.waitUntilTrue("SELECT pg_last_wal_replay_lsn() >= '" + written + "'")
}

// waitUntilTrue waits until a query returns true.
func (p *Postgres) waitUntilTrue(query string) error {
	return p.waitUntilReady(func() error {
		text, err := p.query(query)
		if err == nil && text != "t" {
			err = fmt.Errorf("%s: %q, want true", query, text)
		}
		return err
	})
}

// HoldReplication ends the replication when the standby has all transactions so
// far: those that follow are lost when the standby is promoted.
func (p *PostgresPair) HoldReplication(t testing.TB) {
	t.Helper()
	err := p.waitUntilCaughtUp()
	if err == nil {
		_, err = p.Standby.query("ALTER SYSTEM SET primary_conninfo = ''")
	}
	if err == nil {
		_, err = p.Standby.query("SELECT pg_reload_conf()")
	}
	if err == nil {
		err = p.Primary.waitUntilTrue("SELECT count(*) = 0 FROM pg_stat_replication")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FailOver kills the primary and promotes the standby.
func (p *PostgresPair) FailOver(t testing.TB) {
	t.Helper()
	p.Primary.Crash()
	p.Promote(t)
}

// Promote makes the standby a primary, and waits until it accepts writes.
func (p *PostgresPair) Promote(t testing.TB) {
	t.Helper()
	promoted, err := p.Standby.query("SELECT pg_promote(true, 60)")
	if err == nil && promoted != "t" {
		err = fmt.Errorf("pg_promote: %s, want true", promoted)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// StartAsStandby starts a server that was stopped as one that accepts no writes.
func (p *Postgres) StartAsStandby(t testing.TB) {
	t.Helper()
	signal := p.File("data/standby.signal")
	err := os.WriteFile(signal, nil, 0o600)
	if err == nil {
		err = p.chownToServer(signal)
	}
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FailoverURL returns the URL of a role that names both servers and connects to the one
// that accepts writes.
func (p *PostgresPair) FailoverURL(role, password string) string {
	return ReadWriteURL(role, password, p.Primary.Address(), p.Standby.Address())
}

// Address returns the server's host and port.
func (p *Postgres) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }

// ReadWriteURL returns the URL of a role that names several servers, or proxies
// before them, and connects to the first one that accepts writes.
func ReadWriteURL(role, password string, addresses ...string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable&target_session_attrs=read-write", role, password, strings.Join(addresses, ","))
}

// SetSynchronous makes each commit of the primary wait until a standby has it.
func (p *PostgresPair) SetSynchronous(t testing.TB) {
	t.Helper()
	_, err := p.Primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
	if err == nil {
		_, err = p.Primary.query("SELECT pg_reload_conf()")
	}
	if err == nil {
		err = p.Primary.waitUntilTrue("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// RefuseWrites makes new transactions of a server read-only, also those of open
// connections.
func (p *Postgres) RefuseWrites(t testing.TB) {
	t.Helper()
	_, err := p.query("ALTER SYSTEM SET default_transaction_read_only = on")
	if err == nil {
		_, err = p.query("SELECT pg_reload_conf()")
	}
	if err == nil {
		err = p.waitUntilTrue("SELECT current_setting('transaction_read_only')::boolean")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// CountConnections returns the number of client connections of a server, without
// the one that asks.
func (p *Postgres) CountConnections(t testing.TB) int {
	t.Helper()
	text, err := p.query("SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
