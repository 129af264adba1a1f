package testserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A PgBouncer is a connection pooler before a Postgres server, in transaction
// mode: each transaction may get another one of the pool's server connections.
type PgBouncer struct {
	Port     int
	postgres *Postgres
	dir      string
	cmd      *exec.Cmd
	done     chan struct{}
}

// StartPgBouncer starts a pooler before p with a pool of the given number of
// connections. The only role is Owner. Its other settings are the defaults of
// PgBouncer, unless settings, lines of its file, change them. It ends with the
// test.
func StartPgBouncer(t testing.TB, p *Postgres, pool int, settings ...string) *PgBouncer {
	t.Helper()
	b, err := OpenPgBouncer(p, pool, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// OpenPgBouncer is StartPgBouncer for programs that are not tests. The caller
// calls Stop.
func OpenPgBouncer(p *Postgres, pool int, settings ...string) (*PgBouncer, error) {
	program, err := findProgram("pgbouncer", "/usr/sbin")
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{postgres: p, dir: filepath.Join(p.Dir, "pgbouncer-"+strconv.FormatInt(time.Now().UnixNano(), 36))}
	if b.Port, err = freePort(); err != nil {
		return nil, err
	}
	if err := b.writeSettings(pool, settings); err != nil {
		return nil, err
	}
	b.cmd = exec.Command(program, "-q", filepath.Join(b.dir, "pgbouncer.ini"))
	b.cmd.Dir = b.dir
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred} // it refuses to run as root
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	b.done = make(chan struct{})
	go func() { _ = b.cmd.Wait(); close(b.done) }()
	if err := b.waitUntilReady(); err != nil {
		b.Stop()
		return nil, err
	}
	return b, nil
}

// writeSettings writes the pooler's settings and its list of roles.
func (p *PgBouncer) writeSettings(pool int, more []string) error {
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return err
	}
	settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = plain
auth_file = %[3]s/users.txt
logfile = %[3]s/log
pool_mode = transaction
default_pool_size = %d
%s
`, p.postgres.Port, p.Port, p.dir, pool, strings.Join(more, "\n"))
	roles := fmt.Sprintf("%q %q\n", Owner, Password)
	for name, text := range map[string]string{"pgbouncer.ini": settings, "users.txt": roles} {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		if err := p.postgres.chownToServer(path); err != nil {
			return err
		}
	}
	return p.postgres.chownToServer(p.dir)
}

// waitUntilReady waits until the pooler accepts connections.
func (p *PgBouncer) waitUntilReady() error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for {
		err := p.connectOnce()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			return fmt.Errorf("pgbouncer ended: %s", log)
		case <-limit:
			return fmt.Errorf("pgbouncer does not respond: %w", err)
		case <-tick.C:
		}
	}
}

func (p *PgBouncer) connectOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL(Owner, Password))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// Stop ends the pooler.
func (p *PgBouncer) Stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// URL returns the URL of a connection through the pooler.
func (p *PgBouncer) URL(role, password string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/postgres?sslmode=disable", role, password, p.Port)
}
