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
	// Owner may do everything, with Password.
	Owner    = "owner"
	Password = "pw-owner-8814"
	// Quick is a role as mighty that is asked for no password, which takes
	// longer than a small delivery.
	Quick = "quick"
)

// A Postgres is a Postgres in a temporary folder.
type Postgres struct {
	Dir  string
	Port int
	cred *syscall.Credential // nil: as this process
	Cmd  *exec.Cmd
	done chan struct{}
	// files is the most KiB that a file may have, 0 for any.
	files int
}

var startPostgres = sync.OnceValues(func() (*Postgres, error) { return NewPostgres(0) })

// NewPostgres starts a server of its own whose files grow to so many KiB, 0
// for any. Stop stops it, too.
func NewPostgres(files int) (*Postgres, error) {
	s := &Postgres{files: files}
	if os.Geteuid() == 0 { // Postgres refuses to run as root
		name := "postgres"
		u, err := user.Lookup(name)
		if err != nil {
			if u, err = user.Lookup("nobody"); err != nil {
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
	atEnd(func() { s.Crash(); removeDir(dir) })
	if err := s.init(); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(context.Background(), s.URL(Owner, Password))
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(context.Background(), "CREATE ROLE "+Quick+" SUPERUSER LOGIN")
	return s, errors.Join(err, conn.Close(context.Background()))
}

// StartPostgres returns the process's Postgres server, started when it is first
// asked for.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	s, err := startPostgres()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Postgres) own(paths ...string) error {
	if s.cred == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Postgres) init() error {
	initdb, err := program("initdb", "/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	pw := filepath.Join(s.Dir, "pw")
	if err := os.WriteFile(pw, []byte(Password), 0o600); err != nil {
		return err
	}
	if err := s.Certificates(); err != nil {
		return err
	}
	if err := s.own(s.Dir, pw, s.File("server.key"), s.File("server.crt")); err != nil {
		return err
	}
	cmd := exec.Command(initdb, "-D", s.File("data"), "-U", Owner, "--pwfile", pw, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	cmd.Dir = s.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	rules, err := os.ReadFile(s.File("data/pg_hba.conf"))
	if err != nil {
		return err
	}
	rules = append([]byte("host all "+Quick+" 127.0.0.1/32 trust\n"), rules...)
	if err := os.WriteFile(s.File("data/pg_hba.conf"), rules, 0o600); err != nil {
		return err
	}
	s.Port, err = freePort()
	return err
}

// File is a file in the server's folder.
func (s *Postgres) File(name string) string { return filepath.Join(s.Dir, name) }

// Certificates makes the server a certificate that is its own authority.
func (s *Postgres) Certificates() error {
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
		os.WriteFile(s.File("server.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644),
		os.WriteFile(s.File("server.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
}

// Start starts the server and waits until it answers.
func (s *Postgres) Start() error {
	bin, err := program("postgres", "/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.File("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.Cmd = exec.Command(bin, "-D", s.File("data"), "-p", strconv.Itoa(s.Port), "-k", s.Dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=60",
		"-c", "ssl=on", "-c", "ssl_cert_file="+s.File("server.crt"), "-c", "ssl_key_file="+s.File("server.key"),
		"-c", "log_min_duration_statement=-1", "-c", "max_wal_size=2GB")
	if s.files > 0 {
		s.Cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$@"`, s.files*2), "sh", bin}, s.Cmd.Args[1:]...)
		if s.Cmd.Path, err = exec.LookPath("sh"); err != nil {
			return err
		}
	}
	s.Cmd.Dir, s.Cmd.Stdout, s.Cmd.Stderr = s.Dir, log, log
	s.Cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	if err := s.Cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(s.Cmd, s.done)
	return s.await(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.URL(Owner, Password))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// await asks until the server answers or has ended.
func (s *Postgres) await(answers func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for {
		err := answers()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			log, _ := os.ReadFile(s.File("log"))
			return fmt.Errorf("postgres ended: %s", log)
		case <-limit:
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// Crash stops the server at once, as a failure would.
func (s *Postgres) Crash() {
	if s.Cmd != nil && s.done != nil {
		_ = s.Cmd.Process.Signal(syscall.SIGQUIT) // "immediate shutdown": no checkpoint, recovery at the next start
		<-s.done
	}
}

// URL is the connection URL of a role.
func (s *Postgres) URL(role, password string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/postgres?sslmode=disable", role, password, s.Port)
}
