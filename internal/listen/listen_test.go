package listen_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/listen"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		address string
		valid   bool
	}{
		{address: "127.0.0.1:19610", valid: true},
		{address: ":19610", valid: true},
		{address: "unix:/run/collectord/http.sock", valid: true},
		{address: "127.0.0.1"},
		{address: "127.0.0.1:http.sock"},
		{address: "unix:http.sock"},
		{address: "unix:"},
		{address: "unix:/run/" + strings.Repeat("x", 103)},
	} {
		if err := listen.Check(c.address); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.address, err)
		}
	}
}

// TestSocketOfAKilledProcess is replaced, and that of a living one is not.
func TestSocketOfAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "http.sock")
	address := "unix:" + path
	killed, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	killed.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := killed.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listen.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := listen.AddressOf(l); got != address {
		t.Errorf("it listens on %s, want %s", got, address)
	}
	if _, err := listen.Listen(t.Context(), address); err == nil {
		t.Error("a second process listens on the socket of the first")
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host+r.URL.Path) }))
	}()
	client, base, err := listen.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(base + "/-/ready")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "localhost/-/ready" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestNamedPort checks that a port may be the name of a service.
func TestNamedPort(t *testing.T) {
	_, base, err := listen.NewClient("localhost:http")
	if err != nil || base != "http://localhost:80" {
		t.Errorf("%q, %v", base, err)
	}
}

// TestFileIsNotReplaced checks that only sockets are.
func TestFileIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "http.sock")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listen.Listen(t.Context(), "unix:"+path); err == nil {
		t.Errorf("it listens on %v in place of a file", l.Addr())
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
		t.Errorf("the file has %q, %v", text, err)
	}
}
