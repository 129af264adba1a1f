package systemd

import (
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestStartingExtendsTheTimeout checks that the timeout of a start is extended until the
// start has ended, and not afterwards.
func TestStartingExtendsTheTimeout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	var want []string
	synctest.Test(t, func(t *testing.T) {
		n := NewNotifier(zap.NewNop())
		started := n.Starting("working")
		want = append(want, "STATUS=working\nEXTEND_TIMEOUT_USEC=60000000")
		time.Sleep(31 * time.Second)
		want = append(want, "EXTEND_TIMEOUT_USEC=60000000", "EXTEND_TIMEOUT_USEC=60000000")
		started()
		started()
		time.Sleep(time.Minute)
		n.Ready("fine")
		want = append(want, "READY=1\nSTATUS=fine")
	})
	for _, message := range want {
		buffer := make([]byte, 1024)
		n, err := socket.Read(buffer)
		if err != nil || string(buffer[:n]) != message {
			t.Errorf("message %q, %v, want %q", buffer[:n], err, message)
		}
	}
}
