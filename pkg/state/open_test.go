package state

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func init() {
	children = map[string]func([]string) error{
		"open":       openChild,
		"unwritable": unwritableChild,
		"lock":       lockChild,
		"crash":      crashChild,
		"work":       workChild,
		"full":       fullChild,
	}
}

func TestPragmasOnEveryConnection(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range 4 { // all that the pool gives; none is given back before the end
		c, err := f.db.Conn(ctx)
		f.must(err)
		defer c.Close()
		for pragma, wanted := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "15000",
		} {
			var got string
			f.must(c.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got))
			want(t, fmt.Sprint("connection ", i, " ", pragma), got, wanted)
		}
	}
}

// A transaction takes the write lock when it begins, so that none fails when
// it writes after it has read.
func TestTransactionsLockAtOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.must(f.transact(ctx, func(*sql.Tx) error {
		other, err := sql.Open("sqlite", "file:"+filepath.Join(f.dir, databaseName)+"?_pragma=busy_timeout(0)")
		f.must(err)
		defer other.Close()
		_, err = other.Exec(`INSERT INTO notes VALUES ('a', 'b')`)
		if err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("another could write: %v", err)
		}
		return nil
	}))
}

func TestOddPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b", "what?", "50%", "%41", "a#b", "a&b=c", "[x]*", "ünï", `back\slash`, "quote'\"", "+", "file:x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			dir := filepath.Join(root, "x"+name, name)
			f := openIn(t, dir)
			f.users(1, 5, twoSinks)
			// As when the process dies between sealing and recording.
			id, err := f.Begin(ctx, Start{Header: header("okta_users", "acme", 2)})
			f.must(err)
			seal(f, 2, 7)
			found, err := f.Recover(ctx, "okta", twoSinks)
			f.must(err)
			want(t, "completed", len(found.Completed), 1)
			want(t, "last", f.last(), "id-002/7/collected")
			_ = id
			if _, err := os.Stat(filepath.Join(dir, databaseName)); err != nil {
				t.Error(err)
			}
			if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
				t.Errorf("beside it: %v %v", entries, err)
			}
		})
	}
}

func TestFoldersAreOthersBusiness(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 5, twoSinks)
	for _, name := range []string{".", databaseName, "snapshots", "spool", "locks", "snapshots/okta_users/acme"} {
		fi, err := os.Stat(filepath.Join(f.dir, name))
		f.must(err)
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: others may %v", name, fi.Mode())
		}
	}
}

func version(t *testing.T, s *State) (n int) {
	t.Helper()
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	for n := range len(migrations) {
		dir := t.TempDir()
		f := openIn(t, dir)
		want(t, "version", version(t, f.State), len(migrations))
		_, err := f.db.Exec(`DROP TABLE notes`)
		f.must(err)
		for _, table := range []string{"deliveries", "last_known", "snapshots", "runs", "counters", "stored"} {
			_, err := f.db.Exec("DROP TABLE " + table)
			f.must(err)
		}
		_, err = f.db.Exec("PRAGMA user_version = 0")
		f.must(err)
		f.must(f.migrate(ctx, migrations[:n]))
		want(t, "version", version(t, f.State), n)
		f.must(f.migrate(ctx, migrations))
		want(t, "version", version(t, f.State), len(migrations))
		f.users(1, 5, twoSinks)
		want(t, "last", f.last(), "id-001/5/collected")
	}
}

func TestNextUpgrade(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 5, twoSinks)
	next := append(append([]string(nil), migrations...), `ALTER TABLE runs ADD COLUMN more TEXT NOT NULL DEFAULT 'x'`)
	broken := append(append([]string(nil), next...), `CREATE TABLE half (a); ALTER TABLE nothing ADD COLUMN b`)
	if err := f.migrate(ctx, broken); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema %d: ", len(broken))) {
		t.Errorf("a broken step: %v", err)
	}
	want(t, "version after a broken step", version(t, f.State), len(migrations))
	f.must(f.migrate(ctx, next))
	want(t, "version", version(t, f.State), len(next))
	want(t, "last", f.last(), "id-001/5/collected")
	var more string
	f.must(f.db.QueryRow(`SELECT more FROM runs`).Scan(&more))
	want(t, "more", more, "x")

	_, err := Open(ctx, f.dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "newer collectord") || !strings.Contains(err.Error(), filepath.Join(f.dir, databaseName)) {
		t.Errorf("a newer schema: %v", err)
	}
	want(t, "version after a refusal", version(t, f.State), len(next))
}

// Another program's database of the same name is left alone.
func TestForeignDatabase(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"tables of its own":   `CREATE TABLE theirs (a)`,
		"a version":           `PRAGMA user_version = 1; CREATE TABLE theirs (a)`,
		"a mark":              `PRAGMA application_id = 7`,
		"a mark and ours":     `CREATE TABLE last_known (a); PRAGMA user_version = 1; PRAGMA application_id = 7`,
		"ours but no version": `CREATE TABLE last_known (a)`,
	} {
		dir := t.TempDir()
		db, err := sql.Open("sqlite", filepath.Join(dir, databaseName))
		if err == nil {
			_, err = db.Exec(change)
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(ctx, dir, Options{}); err == nil || !strings.Contains(err.Error(), "another program's database") {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = s.Close()
			}
		}
	}
}

func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	sound := filepath.Join(t.TempDir(), "state")
	s, err := Open(ctx, sound, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(s, header("okta_users", "acme", 1), 5, twoSinks); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	real, err := os.ReadFile(filepath.Join(sound, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	spoilt := bytes.Clone(real)
	for i := 4096; i < len(spoilt); i++ {
		spoilt[i] ^= 0x5a
	}
	for name, text := range map[string][]byte{
		"text":      []byte(strings.Repeat("this is no database\n", 500)),
		"short":     []byte("no"),
		"truncated": real[:len(real)/2/4096*4096],
		"spoilt":    spoilt,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, databaseName)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(ctx, dir, Options{})
			if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("opened: %v", err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// A cancelled start must not look like damage.
func TestOpenCancelled(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := Open(cancelled, t.TempDir(), Options{})
	if err == nil || errors.Is(err, errDamaged) {
		t.Errorf("got %v", err)
	}
}

func unwritableChild(args []string) error {
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	s, err := Open(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	return s.Close()
}

// others makes a folder that every user may enter and, for the user of
// unwritableChild, has the modes of a used state.
func others(t *testing.T, folders, files os.FileMode) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "state")
	s, err := Open(ctx, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Dir(root), root} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	modes := map[string]os.FileMode{databaseName: files, "locks/open": files, "snapshots": folders, "spool": folders, "locks": folders, "": folders}
	for name, mode := range modes {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	return dir
}

func TestUnwritable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(filepath.Dir(others(t, 0o777, 0o666)), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"missing":            filepath.Join(others(t, 0o555, 0o444), "state"),
		"read-only":          others(t, 0o555, 0o666),
		"read-only database": others(t, 0o777, 0o444),
		"unreadable":         others(t, 0o000, 0o000),
		"a file":             file,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, stderr := child(t, "unwritable", dir)
			if err := cmd.Run(); err == nil {
				t.Fatal("opened")
			}
			for _, words := range []string{"STATE_DIR: ", dir, "must be writable"} {
				if !strings.Contains(stderr.String(), words) {
					t.Errorf("%q is not in: %s", words, stderr)
				}
			}
		})
	}
	cmd, stderr := child(t, "unwritable", others(t, 0o777, 0o666))
	if err := cmd.Run(); err != nil {
		t.Errorf("a writable one: %v: %s", err, stderr)
	}
}

// openChild opens the state when its input ends.
func openChild(args []string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	s, err := Open(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	_, err = collect(s, header("stream_"+args[1], "acme", 1), 3, twoSinks)
	return errors.Join(err, s.Close())
}

func TestOpenFreshFolderAtOnce(t *testing.T) {
	t.Parallel()
	const processes = 4
	for range 2 {
		dir := filepath.Join(t.TempDir(), "state")
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var cmds []*exec.Cmd
		var texts []*bytes.Buffer
		for i := range processes {
			cmd, stderr := child(t, "open", dir, fmt.Sprint(i))
			cmd.Stdin = read
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmds, texts = append(cmds, cmd), append(texts, stderr)
		}
		if err := errors.Join(read.Close(), write.Close()); err != nil {
			t.Fatal(err)
		}
		for i, cmd := range cmds {
			all.Go(func() {
				if err := cmd.Wait(); err != nil {
					t.Errorf("%v: %s", err, texts[i])
				}
			})
		}
		all.Wait()
		f := openIn(t, dir)
		status, err := f.Streams(ctx)
		f.must(err)
		want(t, "streams", len(status), processes)
	}
}
