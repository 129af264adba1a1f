package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/durable"
)

func writeWhole(temp *os.File) error {
	_, err := temp.WriteString("whole")
	return err
}

func TestReplaceFileThroughLinks(t *testing.T) {
	tests := []struct {
		name   string
		link   func(dir string) error // creates dir/link, and what it needs
		target string                 // below dir
	}{
		{name: "dangling", target: "taken/users.json", link: func(dir string) error {
			return os.Symlink(filepath.Join(dir, "taken/users.json"), filepath.Join(dir, "link"))
		}},
		{name: "dangling and relative", target: "users.json", link: func(dir string) error {
			return os.Symlink("users.json", filepath.Join(dir, "link"))
		}},
		{name: "a link to a dangling link", target: "users.json", link: func(dir string) error {
			return errors.Join(os.Symlink("second", filepath.Join(dir, "link")), os.Symlink("users.json", filepath.Join(dir, "second")))
		}},
		{name: "relative to a directory that is a link", target: "real/users.json", link: func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, "real/sub"), 0o700), os.Symlink("real/sub", filepath.Join(dir, "sub")),
				os.Symlink("sub/inner", filepath.Join(dir, "link")), os.Symlink("../users.json", filepath.Join(dir, "sub/inner")))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tt.link(dir); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time the target exists
				if err := durable.ReplaceFile(filepath.Join(dir, "link"), writeWhole); err != nil {
					t.Fatal(err)
				}
			}
			if fi, err := os.Lstat(filepath.Join(dir, "link")); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
				t.Errorf("the link is gone: %v", err)
			}
			if text, err := os.ReadFile(filepath.Join(dir, tt.target)); err != nil || string(text) != "whole" {
				t.Errorf("its target has %q: %v", text, err)
			}
		})
	}
}

func TestReplaceFileThroughALoop(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("link", link); err != nil {
		t.Fatal(err)
	}
	if err := durable.ReplaceFile(link, writeWhole); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("error %v, want ELOOP", err)
	}
}

// TestReplaceFileKeepsGroup: a process that may not set the owner sets the group,
// if it is in that group.
func TestReplaceFileKeepsGroup(t *testing.T) {
	const user, ours, theirs = 65534, 65534, 4242
	if target := os.Getenv("REPLACE_AS_USER"); target != "" {
		if err := durable.ReplaceFile(target, writeWhole); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		return // only root can start a process of another user
	}
	for name, tt := range map[string]struct {
		groups []uint32
		want   uint32
	}{
		"a member":     {groups: []uint32{theirs}, want: theirs},
		"not a member": {groups: nil, want: ours},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "collectord-group-*") // one that others can enter
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			target := filepath.Join(dir, "users.json")
			self := filepath.Join(dir, "test")
			binary, err := os.ReadFile(os.Args[0])
			if err := errors.Join(err, os.WriteFile(self, binary, 0o755), os.WriteFile(target, nil, 0o640), os.Chmod(target, 0o640),
				os.Chown(target, 0, theirs), os.Chmod(dir, 0o777)); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestReplaceFileKeepsGroup$")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "REPLACE_AS_USER="+target)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: ours, Groups: tt.groups}}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			fi, err := os.Stat(target)
			if err != nil {
				t.Fatal(err)
			}
			if stat := fi.Sys().(*syscall.Stat_t); stat.Uid != user || stat.Gid != tt.want || fi.Mode().Perm() != 0o640 || fi.Size() != 5 {
				t.Errorf("owner %d, group %d, mode %v, %d bytes; want %d, %d, 0640 and 5", stat.Uid, stat.Gid, fi.Mode(), fi.Size(), user, tt.want)
			}
		})
	}
}
