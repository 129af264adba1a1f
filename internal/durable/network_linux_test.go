package durable

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNetworkFileSystem: a network file system is known by the number that statfs
// returns; the test replaces that call, since nothing can be mounted.
func TestNetworkFileSystem(t *testing.T) {
	dir := t.TempDir()
	if got := NetworkFileSystem(dir); got != "" {
		t.Errorf("%s is on %s", dir, got)
	}
	real := statfs
	t.Cleanup(func() { statfs = real })
	for _, tt := range []struct {
		name   string
		number int64
		want   string
	}{
		{name: "ext4", number: 0xef53, want: ""},
		{name: "tmpfs", number: 0x01021994, want: ""},
		{name: "overlayfs", number: 0x794c7630, want: ""},
		{name: "NFS", number: 0x6969, want: "NFS"},
		{name: "SMB", number: 0x517b, want: "SMB"},
		{name: "CIFS", number: 0xff534d42, want: "CIFS"},
		{name: "CIFS on a machine with signed 32-bit numbers", number: -0xacb2be, want: "CIFS"},
		{name: "SMB 2", number: 0xfe534d42, want: "SMB"},
		{name: "9p", number: 0x01021997, want: "9p"},
		{name: "sshfs", number: 0x65735546, want: "FUSE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked string
			statfs = func(path string, s *syscall.Statfs_t) error {
				asked, s.Type = path, tt.number
				return nil
			}
			got := NetworkFileSystem(filepath.Join(dir, "not", "there"))
			if first, _, _ := strings.Cut(got, " "); first != tt.want || asked != dir {
				t.Errorf("got %q for %s, want %q for %s", got, asked, tt.want, dir)
			}
		})
	}
}
