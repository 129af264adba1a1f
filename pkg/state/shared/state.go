// Package shared keeps a state that several machines use: its tables are in Postgres, and the
// sealed snapshots are objects in S3. A machine needs its disk only for snapshots that are
// being written, and for copies of those that it reads.
//
// What is recorded is right by the transactions of Postgres alone: a snapshot exists when its
// row does, and the row of a run can only be ended by the process that still has the lock of
// the stream. Locks are leases: a process that has not said for CLUSTER_LEASE that it is alive
// loses them.
package shared

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/store/s3"
)

// Options are what a shared state is opened with.
type Options struct {
	// URL is that of the database, and Schema the schema of the tables, which is created when
	// it is missing.
	URL, Schema string
	// Bucket stores the snapshots, as objects whose keys begin with Prefix.
	Bucket *s3.Sink
	Prefix string
	// Node is the name of this process in messages, such as the machine's.
	Node string
	// Service reports whether this process is a service, and not a command.
	Service bool
	// Lease is how long this process keeps its locks without saying that it is alive.
	Lease time.Duration
	// Cache is the size in bytes up to which copies of snapshots are kept in the directory.
	Cache int64
	// Log receives what this process does about other ones, and what is tried again later.
	Log *zap.Logger
	// Redact removes secrets from the texts of errors that are kept; nil means that they have
	// none.
	Redact func(string) string

	// now and limits replace the server's clock and defaultLimits in tests.
	now    func() time.Time
	limits *limits
}

// A State is a state in Postgres and S3. It implements [state.Backend].
type State struct {
	*database.State
	engine *engine
	node   *node
	files  *files
	redact func(string) string
}

// Open opens the state and creates what is missing in the database. dir is the directory of
// this machine. The error wraps state.ErrUnusable when a person must fix something.
func Open(ctx context.Context, dir string, o Options) (*state.State, error) {
	s, err := openShared(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	return s.With(s), nil
}

// openShared is Open.
func openShared(ctx context.Context, dir string, o Options) (*State, error) {
	if err := createDirectories(dir); err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	e, err := openEngine(ctx, o)
	if err != nil {
		return nil, err
	}
	if err = e.migrate(ctx); err == nil {
		err = e.checkBucket(ctx)
	}
	if err != nil {
		return nil, errors.Join(e.explainOpen(err), e.db.Close())
	}
	n := newNode(e, o)
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(e.explainOpen(err), e.db.Close())
	}
	return newState(dir, e, n, o), nil
}

// Inspect opens the state for reading only: it creates and migrates nothing. The error wraps
// state.ErrOlder when the tables are older than this program, and fs.ErrNotExist when there
// are none.
func Inspect(ctx context.Context, dir string, o Options) (*state.State, error) {
	e, err := openEngine(ctx, o)
	if err != nil {
		return nil, err
	}
	e.readOnly = true
	if err = e.checkSchema(ctx); err == nil {
		err = e.checkBucket(ctx)
	}
	if err != nil {
		return nil, errors.Join(e.explainOpen(err), e.db.Close())
	}
	s := newState(dir, e, newNode(e, o), o)
	return s.With(s), nil
}

// newState returns the state of an engine and a node.
func newState(dir string, e *engine, n *node, o Options) *State {
	f := newFiles(dir, e, o)
	e.maintain = func(ctx context.Context) error { return errors.Join(n.forgetDead(ctx), f.collectGarbage(ctx)) }
	now := n.now
	if o.now != nil {
		now = o.now
	}
	parts := database.Parts{Dir: dir, DB: e.tables(e.db), Engine: e, Files: f, Locker: n, Now: now, Log: o.Log, Redact: o.Redact}
	return &State{State: database.New(parts), engine: e, node: n, files: f, redact: o.Redact}
}

// ServerTime returns the time of the server's clock, as far as it is known, so that the clocks of
// several machines do not matter.
func (s *State) ServerTime() time.Time { return s.node.now() }

// ExplainOpen returns an error of the database when a service starts, with the setting and what to
// do. It wraps state.ErrUnusable when a person must fix something.
func (s *State) ExplainOpen(err error) error { return s.engine.explainOpen(err) }

// DB returns the connections to the database, and Schema the schema of the tables.
func (s *State) DB() *sql.DB { return s.engine.db }

// Schema returns the schema of the tables.
func (s *State) Schema() string { return s.engine.schema }

// ForgetTenancy implements [state.Backend].
func (s *State) ForgetTenancy(ctx context.Context, tenancy string) error {
	if err := s.State.ForgetTenancy(ctx, tenancy); err != nil {
		return err
	}
	return s.Tasks().forgetTenancy(ctx, tenancy)
}

// Sweep implements [state.Backend].
func (s *State) Sweep(ctx context.Context, keep time.Duration) error {
	return errors.Join(s.State.Sweep(ctx, keep), s.Tasks().deleteBefore(ctx, s.ServerTime().Add(-keep)))
}

// createDirectories creates the directories of this machine.
func createDirectories(dir string) error {
	if err := database.CreateDirectories(dir); err != nil {
		return err
	}
	return os.MkdirAll(cacheDir(dir), 0o700)
}

// Interrupt implements [state.Backend].
func (s *State) Interrupt() { s.engine.servers.interrupt() }

// Close releases all locks and closes the state.
func (s *State) Close() error {
	if s.node.isStarted() {
		s.files.EmptyTrash()
		s.node.stop()
	}
	if err := errors.Join(s.engine.db.Close(), s.files.bucket.Close()); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}
