package testserver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The server's credentials.
const (
	S3Key    = "AKIATESTTESTTEST0001"
	S3Secret = "sk-canary-5521/abc+def"
)

// An S3 is a versitygw server over a temporary directory.
type S3 struct {
	Dir  string
	Port int
	Cmd  *exec.Cmd
	done chan struct{}
}

var startS3 = sync.OnceValues(func() (*S3, error) {
	dir, err := os.MkdirTemp("", "s3-*")
	if err != nil {
		return nil, err
	}
	s := &S3{Dir: dir}
	addStop(func() { s.Kill(); removeDir(dir) })
	for _, name := range []string{"root", "sidecar", "iam"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	if s.Port, err = freePort(); err != nil {
		return nil, err
	}
	return s, s.Start()
})

// StartS3 returns the S3 server of this process. The first call starts it.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	s, err := startS3()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Start starts the server and waits until it accepts connections.
func (s *S3) Start() error {
	bin := os.Getenv("COLLECTORD_VERSITYGW")
	if bin == "" {
		var err error
		if bin, err = findProgram("versitygw", filepath.Join(moduleRoot(), "bin")); err != nil {
			return err
		}
	}
	s.Cmd = exec.Command(bin, "--access", S3Key, "--secret", S3Secret, "--port", s.Addr(), "--quiet",
		"--iam-dir", filepath.Join(s.Dir, "iam"), "posix", "--sidecar", filepath.Join(s.Dir, "sidecar"), filepath.Join(s.Dir, "root"))
	if err := s.Cmd.Start(); err != nil {
		return fmt.Errorf("%w: %s", err, installServers)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(s.Cmd, s.done)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for {
		if c, err := net.Dial("tcp", s.Addr()); err == nil {
			return c.Close()
		}
		select {
		case <-s.done:
			return errors.New("versitygw ended: " + s.Cmd.ProcessState.String())
		case <-limit:
			return errors.New("versitygw does not respond")
		case <-tick.C:
		}
	}
}

// Env returns the environment that points AWS programs at this server and at
// nothing else.
func (s *S3) Env() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": S3Key, "AWS_SECRET_ACCESS_KEY": S3Secret, "AWS_SESSION_TOKEN": "", "AWS_REGION": "",
		"AWS_ENDPOINT_URL": "http://" + s.Addr(), "AWS_ENDPOINT_URL_S3": "http://" + s.Addr(), "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	}
}

// Object returns the path of the file of an object, so that a test can read or
// change it. Its parent directory is the bucket.
func (s *S3) Object(bucket, key string) string {
	return filepath.Join(s.Dir, "root", bucket, filepath.FromSlash(key))
}

// Addr returns the server's host and port.
func (s *S3) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Kill kills the server with SIGKILL.
func (s *S3) Kill() {
	if s.Cmd != nil && s.Cmd.Process != nil {
		_ = s.Cmd.Process.Kill()
		<-s.done
	}
}
