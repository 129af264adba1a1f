package local

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

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/state/statetest"
)

func TestPragmasOnEveryConnection(t *testing.T) {
	t.Parallel()
	f := openState(t)
	for i := range 4 { // the size of the pool; all stay in use until the end
		c, err := f.db.Conn(ctx)
		f.RequireNoError(err)
		defer c.Close()
		for pragma, value := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "15000",
		} {
			var got string
			f.RequireNoError(c.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got))
			statetest.AssertEqual(t, fmt.Sprint("connection ", i, " ", pragma), got, value)
		}
	}
}

// A transaction takes the write lock when it begins. Otherwise it could fail when it
// writes after a read.
func TestTransactionsLockImmediately(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.RequireNoError(f.inTransaction(ctx, func(database.DB) error {
		other, err := sql.Open("sqlite", "file:"+filepath.Join(f.dir, databaseName)+"?_pragma=busy_timeout(0)")
		f.RequireNoError(err)
		defer other.Close()
		_, err = other.Exec(`INSERT INTO notes VALUES ('a', 'b', 'c')`)
		if err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("another connection could write: %v", err)
		}
		return nil
	}))
}

func TestUnusualPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b", "what?", "50%", "%41", "a#b", "a&b=c", "[x]*", "ünï", `back\slash`, "quote'\"", "+", "file:x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			dir := filepath.Join(root, "x"+name, name)
			f := openStateIn(t, dir)
			f.CollectUsers(1, 5, statetest.TwoSinks)
			// As if the process had died between sealing and recording.
			id, err := f.Runs.Begin(ctx, state.RunStart{Header: statetest.NewHeader("okta_users", "acme", 2)})
			f.RequireNoError(err)
			sealUnrecorded(f.Fixture, 2, 7)
			found, err := f.Recover(ctx, "okta", "acme", statetest.TwoSinks)
			f.RequireNoError(err)
			statetest.AssertEqual(t, "completed runs", len(found.Completed), 1)
			statetest.AssertEqual(t, "last", f.LastKnown(), "id-002/7/collected")
			_ = id
			if _, err := os.Stat(filepath.Join(dir, databaseName)); err != nil {
				t.Error(err)
			}
			if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
				t.Errorf("entries beside the directory: %v, error %v", entries, err)
			}
		})
	}
}

func TestDirectoriesArePrivate(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.CollectUsers(1, 5, statetest.TwoSinks)
	for _, name := range []string{".", databaseName, "snapshots", "spool", "locks", "snapshots/okta_users/acme"} {
		fi, err := os.Stat(filepath.Join(f.dir, name))
		f.RequireNoError(err)
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v allows access to others", name, fi.Mode())
		}
	}
}

func schemaVersion(t *testing.T, s *core) (n int) {
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
		f := openStateIn(t, dir)
		statetest.AssertEqual(t, "version", schemaVersion(t, f.core), len(migrations))
		_, err := f.db.Exec(`DROP TABLE notes`)
		f.RequireNoError(err)
		for _, table := range []string{"deliveries", "last_known", "snapshots", "runs", "counters", "stored", "undelivered", "sinks", "controls", "control_days"} {
			_, err := f.db.Exec("DROP TABLE " + table)
			f.RequireNoError(err)
		}
		_, err = f.db.Exec("PRAGMA user_version = 0")
		f.RequireNoError(err)
		f.RequireNoError(f.migrate(ctx, migrations[:n]))
		statetest.AssertEqual(t, "version", schemaVersion(t, f.core), n)
		f.RequireNoError(f.migrate(ctx, migrations))
		statetest.AssertEqual(t, "version", schemaVersion(t, f.core), len(migrations))
		f.CollectUsers(1, 5, statetest.TwoSinks)
		statetest.AssertEqual(t, "last", f.LastKnown(), "id-001/5/collected")
	}
}

func TestNextUpgrade(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.CollectUsers(1, 5, statetest.TwoSinks)
	next := append(append([]string(nil), migrations...), `ALTER TABLE runs ADD COLUMN more TEXT NOT NULL DEFAULT 'x'`)
	broken := append(append([]string(nil), next...), `CREATE TABLE half (a); ALTER TABLE nothing ADD COLUMN b`)
	if err := f.migrate(ctx, broken); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema %d: ", len(broken))) {
		t.Errorf("broken migration: %v", err)
	}
	statetest.AssertEqual(t, "version after a broken migration", schemaVersion(t, f.core), len(migrations))
	f.RequireNoError(f.migrate(ctx, next))
	statetest.AssertEqual(t, "version", schemaVersion(t, f.core), len(next))
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-001/5/collected")
	var more string
	f.RequireNoError(f.db.QueryRow(`SELECT more FROM runs`).Scan(&more))
	statetest.AssertEqual(t, "more", more, "x")

	_, err := openDirectory(ctx, f.dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "newer collectord") || !strings.Contains(err.Error(), filepath.Join(f.dir, databaseName)) {
		t.Errorf("newer schema: %v", err)
	}
	statetest.AssertEqual(t, "version after the refused Open", schemaVersion(t, f.core), len(next))
}

// Open refuses another program's database of the same name.
func TestForeignDatabase(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"own tables":                          `CREATE TABLE theirs (a)`,
		"own version":                         `PRAGMA user_version = 1; CREATE TABLE theirs (a)`,
		"other application ID":                `PRAGMA application_id = 7`,
		"other application ID with our table": `CREATE TABLE last_known (a); PRAGMA user_version = 1; PRAGMA application_id = 7`,
		"our table without a version":         `CREATE TABLE last_known (a)`,
	} {
		dir := t.TempDir()
		db, err := sql.Open("sqlite", filepath.Join(dir, databaseName))
		if err == nil {
			_, err = db.Exec(change)
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if s, err := openDirectory(ctx, dir, Options{}); err == nil || !strings.Contains(err.Error(), "another program's database") {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = s.Close()
			}
		}
	}
}

func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	intact := filepath.Join(t.TempDir(), "state")
	s, err := openDirectory(ctx, intact, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statetest.CollectSnapshot(s.With(s), statetest.NewHeader("okta_users", "acme", 1), 5, statetest.TwoSinks); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(intact, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	garbled := bytes.Clone(content)
	for i := 4096; i < len(garbled); i++ {
		garbled[i] ^= 0x5a
	}
	for name, text := range map[string][]byte{
		"text":      []byte(strings.Repeat("this is no database\n", 500)),
		"short":     []byte("no"),
		"truncated": content[:len(content)/2/4096*4096],
		"garbled":   garbled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, databaseName)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := openDirectory(ctx, dir, Options{})
			if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want errDamaged with the path", err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// A cancelled Open is not reported as damage.
func TestOpenCancelled(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := openDirectory(cancelled, t.TempDir(), Options{})
	if err == nil || errors.Is(err, errDamaged) {
		t.Errorf("error %v", err)
	}
}

// unwritableChild opens the state as an unprivileged user.
func unwritableChild(args []string) error {
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	s, err := openDirectory(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	return s.Close()
}

// newStateForOtherUser creates a state in a directory that every user may enter, and
// gives its files and directories the modes.
func newStateForOtherUser(t *testing.T, directories, files os.FileMode) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "state")
	s, err := openDirectory(ctx, dir, Options{})
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
	modes := map[string]os.FileMode{databaseName: files, "locks/open": files, "snapshots": directories, "spool": directories, "locks": directories, "": directories}
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
	file := filepath.Join(filepath.Dir(newStateForOtherUser(t, 0o777, 0o666)), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"missing":            filepath.Join(newStateForOtherUser(t, 0o555, 0o444), "state"),
		"read-only":          newStateForOtherUser(t, 0o555, 0o666),
		"read-only database": newStateForOtherUser(t, 0o777, 0o444),
		"unreadable":         newStateForOtherUser(t, 0o000, 0o000),
		"a file":             file,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, stderr := statetest.NewChild(t, "unwritable", dir)
			if err := cmd.Run(); err == nil {
				t.Fatal("Open succeeded")
			}
			remedy := "must be writable"
			if dir == file {
				remedy = "cannot be used: mkdir " + dir + ": not a directory: want a directory, not a file"
			}
			for _, words := range []string{"STATE_DIR: ", dir, remedy} {
				if !strings.Contains(stderr.String(), words) {
					t.Errorf("error %s does not contain %q", stderr, words)
				}
			}
		})
	}
	cmd, stderr := statetest.NewChild(t, "unwritable", newStateForOtherUser(t, 0o777, 0o666))
	if err := cmd.Run(); err != nil {
		t.Errorf("writable directory: %v: %s", err, stderr)
	}
}

// openChild opens the state when its input ends, so that several can start at once.
func openChild(args []string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	s, err := openDirectory(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	_, err = statetest.CollectSnapshot(s.With(s), statetest.NewHeader("stream_"+args[1], "acme", 1), 3, statetest.TwoSinks)
	return errors.Join(err, s.Close())
}

func TestOpenNewDirectoryConcurrently(t *testing.T) {
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
			cmd, stderr := statetest.NewChild(t, "open", dir, fmt.Sprint(i))
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
		f := openStateIn(t, dir)
		status, err := f.Streams(ctx)
		f.RequireNoError(err)
		statetest.AssertEqual(t, "streams", len(status), processes)
	}
}
