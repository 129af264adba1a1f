package shared

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/state/statetest"
	"github.com/collectord/collectord/pkg/store/s3"
)

func TestMain(m *testing.M) {
	statetest.RunChild(harness, nil)
	os.Exit(runTests(m))
}

// runTests runs the tests with an S3 server in the environment.
func runTests(m *testing.M) (code int) {
	defer testserver.Stop()
	server, err := testserver.OpenS3()
	if err == nil {
		err = os.Mkdir(filepath.Dir(server.Object(bucketName, "x")), 0o700)
	}
	if err == nil {
		environment := server.Env()
		environment["AWS_CA_BUNDLE"] = "" // reading the machine's costs more than a test
		for name, value := range environment {
			err = errors.Join(err, os.Setenv(name, value))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	testserver.Stop()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

func TestState(t *testing.T) { statetest.Run(t, harness) }

// bucketName is the bucket of all tests. Each has its own prefix.
const bucketName = "state"

// testLease is the lease in most tests.
const testLease = 500 * time.Millisecond

// harness opens states in Postgres and S3 for the tests of package statetest.
var harness = statetest.Harness{
	New:           func(t *testing.T) string { return newTestPlace(t).text(t) },
	Open:          openPlace,
	OpenDirectory: openDirectory,
	OpenTakeOver:  local.OpenTakeOver,
	LocksExpire:   true,
	Store: func(s *state.State) statetest.Store {
		own := s.Backend.(*State)
		return statetest.Store{DB: own.engine.tables(own.engine.db), Snapshots: objectsDir(own), Copies: cacheDir(own.Dir())}
	},
	RemoveGarbage: func(t *testing.T, s *state.State) {
		t.Helper()
		f := s.Backend.(*State).files
		makeOlder(t, objectsDir(s.Backend.(*State)), 25*time.Hour)
		makeOlder(t, cacheDir(s.Dir()), 25*time.Hour)
		f.mu.Lock()
		f.swept = time.Time{}
		f.mu.Unlock()
		if err := f.collectGarbage(t.Context()); err != nil {
			t.Error(err)
		}
	},
}

func openDirectory(ctx context.Context, dir string, o statetest.Options) (*state.State, error) {
	return local.Open(ctx, dir, local.Options{Now: o.Now, Log: o.Log})
}

// objectsDir returns the directory in which the S3 server has the objects of a state.
func objectsDir(s *State) string {
	server, err := testserver.OpenS3()
	if err != nil {
		panic(err)
	}
	return server.Object(bucketName, s.files.prefix)
}

// makeOlder sets the times of all files and directories below a directory.
func makeOlder(t *testing.T, dir string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, at, at)
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// A place is where a state is, and how it is opened.
type place struct {
	Dir, URL, Schema, Prefix, Node string
	Lease                          time.Duration
	Limits                         *testLimits
}

// testLimits are limits as JSON.
type testLimits struct{ Response, Lock, Idle, Command time.Duration }

// newPlace returns a place in a new schema and below a new prefix.
func newTestPlace(t *testing.T) place {
	t.Helper()
	id := uuid.NewString()[:8]
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return place{Dir: filepath.Join(t.TempDir(), "state"), URL: testserver.StartPostgres(t).URL(testserver.Quick, ""),
		Schema: "State " + id, Prefix: "of " + id + "/", Node: host, Lease: testLease}
}

func (p place) text(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// options returns the options of the state at a place.
func (p place) options(o statetest.Options) (Options, error) {
	bucket, err := s3.New(s3.Options{Bucket: bucketName, Key: func(snapshot.Header) string { return "" }})
	options := Options{URL: p.URL, Schema: p.Schema, Bucket: bucket, Prefix: p.Prefix, Node: p.Node, Lease: p.Lease, Cache: 1 << 30, Log: o.Log, now: o.Now}
	if options.Log == nil {
		options.Log = zap.NewNop()
	}
	if l := p.Limits; l != nil {
		options.limits = &limits{response: l.Response, lock: l.Lock, idle: l.Idle, command: l.Command}
	}
	return options, err
}

// openPlace opens the state at a place, which is JSON.
func openPlace(ctx context.Context, text string, o statetest.Options) (*state.State, error) {
	var p place
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, err
	}
	options, err := p.options(o)
	if err != nil {
		return nil, err
	}
	return Open(ctx, p.Dir, options)
}
