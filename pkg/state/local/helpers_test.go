package local

import (
	"context"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// harness opens states in directories for the tests of package statetest.
var harness = statetest.Harness{
	New:            func(t *testing.T) string { return filepath.Join(t.TempDir(), "state") },
	Open:           openForTest,
	OpenDirectory:  openForTest,
	OpenTakeOver:   OpenTakeOver,
	RecoversSealed: true,
	Store: func(s *state.State) statetest.Store {
		c := s.Backend.(*State).core
		return statetest.Store{DB: c.db, Snapshots: c.dir}
	},
}

func openForTest(ctx context.Context, dir string, o statetest.Options) (*state.State, error) {
	return Open(ctx, dir, Options{Now: o.Now, Log: o.Log})
}

// children are the functions that tests of this package run in child processes.
var children = map[string]func([]string) error{
	"open":          openChild,
	"unwritable":    unwritableChild,
	"full":          fullChild,
	"open and wait": openAndWaitChild,
}

func TestMain(m *testing.M) {
	statetest.RunChild(harness, children)
	goleak.VerifyTestMain(m)
}

func TestState(t *testing.T) { statetest.Run(t, harness) }

var ctx = context.Background()

// A fixture is a state in a temporary directory.
type fixture struct {
	*statetest.Fixture
	*core
}

// openState opens a new state.
func openState(t *testing.T) *fixture { t.Helper(); return openStateIn(t, harness.New(t)) }

func openStateIn(t *testing.T, dir string) *fixture {
	t.Helper()
	f := harness.OpenState(t, dir)
	return &fixture{f, f.Backend.(*State).core}
}
