package store

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
	"net"
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

// The servers of these tests are real ones. Each is started when the first
// test asks for it and stopped when the last has run.

var stops []func()

const installServers = "run `make test-servers`, which installs what the tests need"

// freePort returns a loopback port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// program finds a server's program by name in the folders, or PATH.
func program(name string, folders ...string) (string, error) {
	for _, dir := range folders {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err == nil && len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: %s", name, installServers)
	}
	return path, nil
}

const (
	pgOwner    = "owner"
	pgPassword = "pw-owner-8814"
	// pgQuick is a role as mighty that is asked for no password, which takes
	// longer than a small delivery.
	pgQuick = "quick"
)

// A pgServer is a Postgres in a temporary folder.
type pgServer struct {
	dir  string
	port int
	cred *syscall.Credential // nil: as this process
	cmd  *exec.Cmd
	done chan struct{}
	// files is the most KiB that a file may have, 0 for any.
	files int
}

var startPostgres = sync.OnceValues(func() (*pgServer, error) { return newPostgres(0) })

// newPostgres starts a server whose files grow to so many KiB, 0 for any.
func newPostgres(files int) (*pgServer, error) {
	s := &pgServer{files: files}
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
	s.dir = dir
	stops = append(stops, func() { s.crash(); os.RemoveAll(dir) })
	if err := s.init(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(context.Background(), s.url(pgOwner, pgPassword))
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(context.Background(), "CREATE ROLE "+pgQuick+" SUPERUSER LOGIN")
	return s, errors.Join(err, conn.Close(context.Background()))
}

// postgres returns the running server.
func postgres(t testing.TB) *pgServer {
	t.Helper()
	s, err := startPostgres()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *pgServer) own(paths ...string) error {
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

func (s *pgServer) init() error {
	initdb, err := program("initdb", "/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	pw := filepath.Join(s.dir, "pw")
	if err := os.WriteFile(pw, []byte(pgPassword), 0o600); err != nil {
		return err
	}
	if err := s.certificates(); err != nil {
		return err
	}
	if err := s.own(s.dir, pw, s.file("server.key"), s.file("server.crt")); err != nil {
		return err
	}
	cmd := exec.Command(initdb, "-D", s.file("data"), "-U", pgOwner, "--pwfile", pw, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	rules, err := os.ReadFile(s.file("data/pg_hba.conf"))
	if err != nil {
		return err
	}
	rules = append([]byte("host all "+pgQuick+" 127.0.0.1/32 trust\n"), rules...)
	if err := os.WriteFile(s.file("data/pg_hba.conf"), rules, 0o600); err != nil {
		return err
	}
	s.port, err = freePort()
	return err
}

func (s *pgServer) file(name string) string { return filepath.Join(s.dir, name) }

// certificates makes the server a certificate that is its own authority.
func (s *pgServer) certificates() error {
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
		os.WriteFile(s.file("server.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644),
		os.WriteFile(s.file("server.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
}

// start starts the server and waits until it answers.
func (s *pgServer) start() error {
	bin, err := program("postgres", "/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(bin, "-D", s.file("data"), "-p", strconv.Itoa(s.port), "-k", s.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=60",
		"-c", "ssl=on", "-c", "ssl_cert_file="+s.file("server.crt"), "-c", "ssl_key_file="+s.file("server.key"),
		"-c", "log_min_duration_statement=-1", "-c", "max_wal_size=2GB")
	if s.files > 0 {
		s.cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$@"`, s.files*2), "sh", bin}, s.cmd.Args[1:]...)
		if s.cmd.Path, err = exec.LookPath("sh"); err != nil {
			return err
		}
	}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(s.cmd, s.done)
	return s.await(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.url(pgOwner, pgPassword))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// await asks until the server answers or has ended.
func (s *pgServer) await(answers func() error) error {
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
			log, _ := os.ReadFile(s.file("log"))
			return fmt.Errorf("postgres ended: %s", log)
		case <-limit:
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// crash stops the server at once, as a failure would.
func (s *pgServer) crash() {
	if s.cmd != nil && s.done != nil {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // "immediate shutdown": no checkpoint, recovery at the next start
		<-s.done
	}
}

func (s *pgServer) url(role, password string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/postgres?sslmode=disable", role, password, s.port)
}

const (
	s3Key    = "AKIATESTTESTTEST0001"
	s3Secret = "sk-canary-5521/abc+def"
)

// An s3Server is a versitygw over a temporary folder.
type s3Server struct {
	dir  string
	port int
	cmd  *exec.Cmd
	done chan struct{}
}

var startS3 = sync.OnceValues(func() (*s3Server, error) {
	dir, err := os.MkdirTemp("", "s3-*")
	if err != nil {
		return nil, err
	}
	s := &s3Server{dir: dir}
	stops = append(stops, func() { s.kill(); os.RemoveAll(dir) })
	for _, name := range []string{"root", "sidecar", "iam"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	return s, s.start()
})

// versitygw returns the running S3 server.
func versitygw(t testing.TB) *s3Server {
	t.Helper()
	s, err := startS3()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *s3Server) start() error {
	bin := os.Getenv("COLLECTORD_VERSITYGW")
	if bin == "" {
		var err error
		if bin, err = program("versitygw", "../../bin"); err != nil {
			return err
		}
	}
	s.cmd = exec.Command(bin, "--access", s3Key, "--secret", s3Secret, "--port", s.addr(), "--quiet",
		"--iam-dir", filepath.Join(s.dir, "iam"), "posix", "--sidecar", filepath.Join(s.dir, "sidecar"), filepath.Join(s.dir, "root"))
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("%w: %s", err, installServers)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(s.cmd, s.done)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for {
		if c, err := net.Dial("tcp", s.addr()); err == nil {
			return c.Close()
		}
		select {
		case <-s.done:
			return errors.New("versitygw ended: " + s.cmd.ProcessState.String())
		case <-limit:
			return errors.New("versitygw does not answer")
		case <-tick.C:
		}
	}
}

func (s *s3Server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// kill ends the server without a chance to tidy up.
func (s *s3Server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}
