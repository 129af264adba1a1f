package durable

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceFileRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "users.json")
	dead := filepath.Join(dir, ".users.json.collectord-1-0")
	own := filepath.Join(dir, fmt.Sprintf(".users.json.collectord-%d-0", os.Getpid()))
	living := filepath.Join(dir, ".users.json.collectord-2-0")
	others := filepath.Join(dir, ".users.json.old.collectord-1-0")
	for _, name := range []string{dead, own, living, others} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := os.Open(living)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := lockFile(held); err != nil {
		t.Fatal(err)
	}
	write := func(temp *os.File) error {
		_, err := temp.WriteString("whole")
		return err
	}
	if err := ReplaceFile(target, write); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{living, others, target} {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("it was removed: %v", err)
		}
	}
	for _, name := range []string{dead, own} {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s was not removed", name)
		}
	}
}
