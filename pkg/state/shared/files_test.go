package shared

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// filesOf returns the files of a state.
func filesOf(f *statetest.Fixture) *files { return f.Backend.(*State).files }

// placesOf returns the places of okta_users in the order of the snapshots.
func placesOf(f *statetest.Fixture) []string {
	f.T.Helper()
	return f.QueryTexts(`SELECT dir FROM snapshots WHERE stream = 'okta_users' ORDER BY dir`)
}

// fileExists reports whether there is a file.
func fileExists(path string) bool { _, err := os.Stat(path); return err == nil }

// Copies in the cache are optional: without them, and when they are damaged, the objects are read.
func TestCopies(t *testing.T) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 50, statetest.TwoSinks)
	queue, err := f.Queue.List(t.Context())
	f.RequireNoError(err)
	dir := filesOf(f).cache.path(placesOf(f)[0])
	f.RequireNoError(os.RemoveAll(cacheDir(f.Dir())))
	statetest.AssertEqual(t, "last without the cache", f.LastKnown(), "id-001/50/collected")
	if !fileExists(dir) {
		t.Error("the snapshot was not copied")
	}
	for name, change := range map[string]func(string) error{
		"flipped": func(path string) error {
			content, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, statetest.FlipBit(content), 0o600))
		},
		"shortened": func(path string) error { return os.Truncate(path, 3) },
		"removed":   os.Remove,
	} {
		f.RequireNoError(change(filepath.Join(dir, recordsName)))
		dropped, err := f.Queue.DropDamaged(t.Context(), queue[0])
		f.RequireNoError(err)
		statetest.AssertEqual(t, name+": dropped", dropped, false)
		statetest.AssertEqual(t, name+": last", f.LastKnown(), "id-001/50/collected")
	}
	statetest.AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3")
}

// A disk that cannot be written says nothing about the snapshot.
func TestDiskErrorIsNoDamage(t *testing.T) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 50, statetest.TwoSinks)
	spool := filepath.Join(f.Dir(), "spool")
	f.RequireNoError(errors.Join(os.RemoveAll(cacheDir(f.Dir())), os.RemoveAll(spool), os.Symlink(filepath.Join(f.Dir(), "missing", "x"), spool)))
	_, _, err := f.Snapshots.LastKnown(t.Context(), "okta_users", "acme")
	if err == nil || snapshot.IsUnusable(err) {
		t.Errorf("error %v, want one that is not about the snapshot", err)
	}
	queue, err := f.Queue.List(t.Context())
	f.RequireNoError(err)
	if dropped, err := f.Queue.DropDamaged(t.Context(), queue[0]); dropped || err == nil {
		t.Errorf("dropped %v, error %v", dropped, err)
	}
	f.RequireNoError(errors.Join(os.Remove(spool), os.Mkdir(spool, 0o700)))
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-001/50/collected")
}

// The cache keeps what fits, and what was used in the last minutes.
func TestCacheTrim(t *testing.T) {
	t.Parallel()
	f := harness.NewState(t)
	for n := 1; n <= 4; n++ {
		f.CollectUsers(n, 500, statetest.TwoSinks)
	}
	c := filesOf(f).cache
	places := placesOf(f)
	use := func(place string, ago time.Duration) {
		t.Helper()
		at := time.Now().Add(-ago)
		f.RequireNoError(os.Chtimes(c.path(place), at, at))
	}
	left := func() string {
		t.Helper()
		var text string
		for _, place := range places {
			text += fmt.Sprint(" ", fileExists(c.path(place)))
		}
		return text
	}
	size := c.listCopies()[0].size
	use(places[0], time.Hour)
	use(places[1], 2*time.Hour)
	use(places[2], 30*time.Minute)
	c.max = 3*size + size/2
	c.trim()
	statetest.AssertEqual(t, "the one that was not used for the longest time goes", left(), " true false true true")
	use(places[0], 5*time.Minute)
	c.max = 0
	c.trim()
	statetest.AssertEqual(t, "those of the last minutes stay", left(), " true false false true")
	sealed, _, err := f.Snapshots.LastKnown(t.Context(), "okta_users", "acme")
	f.RequireNoError(err)
	use(places[3], time.Hour)
	c.trim()
	statetest.AssertEqual(t, "later they go", left(), " true false false false")
	if err := sealed.Verify(t.Context()); !snapshot.IsUnusable(err) {
		t.Errorf("reading a copy that was removed: %v", err)
	}
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-004/500/collected")
	use(places[0], time.Hour)
	f.RequireNoError(f.Sweep(t.Context(), statetest.KeepHistory))
	statetest.AssertEqual(t, "a sweep trims", left(), " false false false true")
	f.CheckStored()
}

// Objects and copies that no row has are removed after a day.
func TestGarbage(t *testing.T) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 5, statetest.TwoSinks)
	own := f.Backend.(*State)
	recorded := placesOf(f)[0]
	place := func(n int) string { return newPlace(statetest.NewHeader("okta_users", "acme", n)) }
	old, young, half := place(2), place(3), place(4)
	content := filepath.Join(t.TempDir(), "content")
	f.RequireNoError(os.WriteFile(content, []byte("{}"), 0o600))
	for _, place := range []string{old, young, half} {
		for _, name := range []string{recordsName, manifestName} {
			f.RequireNoError(own.files.bucket.PutFile(t.Context(), own.files.key(place, name), content))
		}
		f.RequireNoError(os.MkdirAll(own.files.cache.path(place), 0o700))
	}
	object := func(place, name string) string { return filepath.Join(objectsDir(own), place, name) }
	makeOlder(t, objectsDir(own), garbageAge+time.Minute)
	makeOlder(t, cacheDir(f.Dir()), garbageAge+time.Minute)
	makeOlder(t, object(young, ""), garbageAge-time.Minute)
	makeOlder(t, object(half, manifestName), garbageAge-time.Minute) // it is being written
	makeOlder(t, own.files.cache.path(young), garbageAge-time.Minute)
	fetched := filepath.Join(f.Dir(), "spool", fetchPrefix+"1")
	fetching := filepath.Join(f.Dir(), "spool", fetchPrefix+"2")
	f.RequireNoError(errors.Join(os.Mkdir(fetched, 0o700), os.Mkdir(fetching, 0o700)))
	makeOlder(t, fetched, garbageAge+time.Minute)
	f.RequireNoError(f.Sweep(t.Context(), statetest.KeepHistory))
	for path, want := range map[string]bool{
		object(old, recordsName): false, object(old, manifestName): false, own.files.cache.path(old): false, fetched: false,
		object(young, recordsName): true, object(young, manifestName): true, own.files.cache.path(young): true, fetching: true,
		object(half, recordsName): true, object(half, manifestName): true,
		object(recorded, recordsName): true, object(recorded, manifestName): true, own.files.cache.path(recorded): true,
	} {
		if fileExists(path) != want {
			t.Errorf("%s is there: %v, want %v", path, fileExists(path), want)
		}
	}
	makeOlder(t, objectsDir(own), garbageAge+time.Minute)
	f.RequireNoError(f.Sweep(t.Context(), statetest.KeepHistory))
	if !fileExists(object(young, recordsName)) {
		t.Error("the bucket was listed twice within a day")
	}
	f.RemoveGarbage()
	f.RequireNoError(os.Remove(fetching))
	f.CheckStored()
}

// What is discarded in a transaction that fails stays.
func TestDiscardOfFailedTransaction(t *testing.T) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 5, statetest.TwoSinks)
	f.RequireNoError(filesOf(f).Discard(placesOf(f)[0]))
	filesOf(f).EmptyTrash()
	f.RequireNoError(os.RemoveAll(cacheDir(f.Dir())))
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-001/5/collected")
	f.RequireNoError(statetest.DeliverAll(f.State))
	f.CollectUsers(2, 5, state.Policy{})
	statetest.AssertEqual(t, "stored", f.CheckStored(), "id-002")
}

// A copy that is in progress is not in the way of a cleanup, and several readers wait for one.
// It stops the S3 server, which other tests use: it does not run beside them.
func TestFetchDuringCleanup(t *testing.T) {
	f := harness.NewState(t)
	f.CollectUsers(1, 50, state.Policy{})
	f.RequireNoError(os.RemoveAll(cacheDir(f.Dir())))
	server := testserver.StartS3(t)
	f.RequireNoError(server.Cmd.Process.Signal(syscall.SIGSTOP))
	ended, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	readers.Go(func() {
		if _, _, err := f.Snapshots.LastKnown(ended, "okta_users", "acme"); !errors.Is(err, context.Canceled) {
			t.Errorf("the reader that gave up: %v", err)
		}
	})
	fetching := func() bool {
		found, err := filepath.Glob(filepath.Join(f.Dir(), "spool", fetchPrefix+"*"))
		return err == nil && len(found) > 0
	}
	waitUntil(t, "a copy is in progress", fetching)
	for range 2 {
		readers.Go(func() {
			if _, _, err := f.Snapshots.LastKnown(t.Context(), "okta_users", "acme"); err != nil {
				t.Error(err)
			}
		})
	}
	filesOf(f).EmptyTrash()
	cancel()
	waitUntil(t, "the next reader copies", fetching)
	filesOf(f).EmptyTrash()
	f.RequireNoError(server.Cmd.Process.Signal(syscall.SIGCONT))
	readers.Wait()
	f.CheckStored()
}

// A copy that fails because of this machine's disk says nothing about the snapshot. The test stops
// the S3 server, as the one before.
func TestLostFetchIsNoDamage(t *testing.T) {
	f := harness.NewState(t)
	f.CollectUsers(1, 50, state.Policy{})
	f.RequireNoError(os.RemoveAll(cacheDir(f.Dir())))
	server := testserver.StartS3(t)
	f.RequireNoError(server.Cmd.Process.Signal(syscall.SIGSTOP))
	var reader sync.WaitGroup
	reader.Go(func() {
		if _, _, err := f.Snapshots.LastKnown(t.Context(), "okta_users", "acme"); err == nil || snapshot.IsUnusable(err) {
			t.Errorf("error %v, want one that is not about the snapshot", err)
		}
	})
	var found []string
	waitUntil(t, "a copy is in progress", func() bool {
		var err error
		found, err = filepath.Glob(filepath.Join(f.Dir(), "spool", fetchPrefix+"*"))
		return err == nil && len(found) > 0
	})
	f.RequireNoError(os.RemoveAll(found[0]))
	f.RequireNoError(server.Cmd.Process.Signal(syscall.SIGCONT))
	reader.Wait()
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-001/50/collected")
}

// Without the bucket nothing is lost: a commit fails, reading fails, nothing counts as damaged, and
// what cannot be removed is removed later. It does not run beside other tests.
func TestBucketIsAway(t *testing.T) {
	f := harness.NewState(t)
	f.CollectUsers(1, 50, statetest.TwoSinks)
	f.CollectUsers(2, 51, state.Policy{})
	bucket := filepath.Dir(testserver.StartS3(t).Object(bucketName, "x"))
	f.RequireNoError(os.Rename(bucket, bucket+"-away"))
	f.RequireNoError(os.RemoveAll(cacheDir(f.Dir())))
	if _, err := statetest.CollectSnapshot(f.State, statetest.NewHeader("okta_users", "acme", 3), 5, statetest.TwoSinks); err == nil {
		t.Error("a run without the bucket succeeded")
	}
	if _, _, err := f.Snapshots.LastKnown(t.Context(), "okta_users", "acme"); err == nil || snapshot.IsUnusable(err) {
		t.Errorf("without the bucket: error %v, want none about the snapshot", err)
	}
	found, err := f.Recover(t.Context(), "okta", "acme", statetest.TwoSinks)
	f.RequireNoError(err)
	statetest.AssertEqual(t, "snapshots that cannot be read", len(found.Lost), 2)
	f.RequireNoError(statetest.DeliverAll(f.State))
	if f.Logs.FilterMessageSnippet("tries again").Len() == 0 {
		t.Error("no warning about objects that were not removed")
	}
	f.RequireNoError(os.Rename(bucket+"-away", bucket))
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-002/51/collected")
	statetest.AssertEqual(t, "history", f.Outcomes(), "success success failed")
	f.RequireNoError(f.Sweep(t.Context(), statetest.KeepHistory))
	f.RemoveGarbage()
	statetest.AssertEqual(t, "stored", f.CheckStored(), "id-002")
}
