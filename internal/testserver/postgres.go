package testserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The server's roles.
const (
	// Owner is a superuser with Password.
	Owner    = "owner"
	Password = "pw-owner-8814"
	// Quick is a superuser without a password. The check of a password takes
	// longer than a small delivery.
	Quick = "quick"
)

// A Postgres is a Postgres server in a temporary directory.
type Postgres struct {
	Dir  string
	Port int
	cred *syscall.Credential // nil means that of this process
	Cmd  *exec.Cmd
	done chan struct{}
	// maxFileKiB is the largest size of a file in KiB. 0 means no limit.
	maxFileKiB int
}

var startPostgres = sync.OnceValues(func() (*Postgres, error) { return NewPostgres(0) })

// NewPostgres starts a separate server. Its files are limited to the given
// number of KiB; 0 means no limit. Stop also stops this server.
func NewPostgres(files int) (*Postgres, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	s.maxFileKiB = files
	if err := s.initDatabase(); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	_, err = s.query("CREATE ROLE " + Quick + " SUPERUSER LOGIN")
	return s, err
}

// newServer returns a server with a directory of its own and a port, which has
// no database yet. Stop stops it and removes the directory.
func newServer() (*Postgres, error) {
	s := &Postgres{}
	if os.Geteuid() == 0 { // Postgres refuses to run as root
		name := "postgres"
		u, err := user.Lookup(name)
		if err != nil {
			// 65534 is the unprivileged user of most systems.
			if u, err = user.LookupId("65534"); err != nil {
				return nil, err
			}
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	dir, err := os.MkdirTemp("", "pg-*")
	if err != nil {
		return nil, err
	}
	s.Dir = dir
	addStop(func() { s.Crash(); removeDir(dir) })
	if err := s.Certificates(); err != nil {
		return nil, err
	}
	if s.Port, err = freePort(); err != nil {
		return nil, err
	}
	return s, s.chownToServer(s.Dir, s.File("server.key"), s.File("server.crt"))
}

// query executes a statement and returns the first column of its last row as
// text; "" when it has none.
func (p *Postgres) query(statement string) (text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL(Owner, Password))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	results, err := conn.PgConn().Exec(ctx, statement).ReadAll()
	if err != nil {
		return "", fmt.Errorf("%s: %w", statement, err)
	}
	for _, result := range results {
		for _, row := range result.Rows {
			text = string(row[0])
		}
	}
	return text, nil
}

// StartPostgres returns the Postgres server of this process. The first call
// starts it.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	s, err := startPostgres()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *Postgres) chownToServer(paths ...string) error {
	if p.cred == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Postgres) initDatabase() error {
	initdb, err := findProgram("initdb", "/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	pw := filepath.Join(p.Dir, "pw")
	if err := os.WriteFile(pw, []byte(Password), 0o600); err != nil {
		return err
	}
	if err := p.chownToServer(pw); err != nil {
		return err
	}
	cmd := exec.Command(initdb, "-D", p.File("data"), "-U", Owner, "--pwfile", pw, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	cmd.Dir = p.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	rules, err := os.ReadFile(p.File("data/pg_hba.conf"))
	if err != nil {
		return err
	}
	rules = append([]byte("host all "+Quick+" 127.0.0.1/32 trust\n"), rules...)
	return os.WriteFile(p.File("data/pg_hba.conf"), rules, 0o600)
}

// File returns the path of a file in the server's directory.
func (p *Postgres) File(name string) string { return filepath.Join(p.Dir, name) }

// Certificates writes a new self-signed certificate of the server and its key.
func (p *Postgres) Certificates() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	plan := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, plan, plan, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(p.File("server.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644),
		os.WriteFile(p.File("server.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
}

// Start starts the server and waits until it accepts connections.
func (p *Postgres) Start() error {
	bin, err := findProgram("postgres", "/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.File("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.Cmd = exec.Command(bin, "-D", p.File("data"), "-p", strconv.Itoa(p.Port), "-k", p.Dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=60",
		"-c", "ssl=on", "-c", "ssl_cert_file="+p.File("server.crt"), "-c", "ssl_key_file="+p.File("server.key"),
		"-c", "log_min_duration_statement=-1", "-c", "max_wal_size=2GB")
	if p.maxFileKiB > 0 {
		p.Cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$@"`, p.maxFileKiB*2), "sh", bin}, p.Cmd.Args[1:]...)
		if p.Cmd.Path, err = exec.LookPath("sh"); err != nil {
			return err
		}
	}
	p.Cmd.Dir, p.Cmd.Stdout, p.Cmd.Stderr = p.Dir, log, log
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	if err := p.Cmd.Start(); err != nil {
		return err
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(p.Cmd, p.done)
	return p.waitUntilReady(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, p.URL(Owner, Password))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// waitUntilReady calls probe until it succeeds. It fails if the server has
// ended.
func (p *Postgres) waitUntilReady(probe func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			log, _ := os.ReadFile(p.File("log"))
			return fmt.Errorf("postgres ended: %s", log)
		case <-limit:
			return fmt.Errorf("postgres does not respond: %w", err)
		case <-tick.C:
		}
	}
}

// Crash stops the server immediately, like a crash.
func (p *Postgres) Crash() {
	if p.Cmd != nil && p.done != nil {
		_ = p.Cmd.Process.Signal(syscall.SIGQUIT) // "immediate shutdown": no checkpoint, recovery at the next start
		<-p.done
	}
}

// URL returns the connection URL of a role.
func (p *Postgres) URL(role, password string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/postgres?sslmode=disable", role, password, p.Port)
}
