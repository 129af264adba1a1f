package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// stateDir returns the absolute path of the state directory.
func (c *configuration) stateDir() string {
	dir, err := filepath.Abs(c.settings.StateDir)
	if err != nil { // the working directory is gone
		return c.settings.StateDir
	}
	return dir
}

// openForReading opens the state for reading only.
func (a *assembly) openForReading(ctx context.Context) (*state.State, error) {
	if a.hasSharedState() {
		return a.inspectSharedState(ctx)
	}
	return local.Inspect(ctx, a.settings.StateDir)
}

// inspectState opens the state for reading only, for commands that change nothing. The
// error wraps fs.ErrNotExist when there is none.
func (a *assembly) inspectState(ctx context.Context) (err error) {
	a.state, err = a.openForReading(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return &missingStateError{a.describeState()}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: only root and the user of the service can read it", err)
	case errors.Is(err, state.ErrOlder):
		return fmt.Errorf("%w: the next start of the service upgrades it, and so does collectord --once", err)
	case errors.Is(err, state.ErrUnusable):
		return &exitError{exitSettings, err}
	}
	return err
}

// A missingStateError means that there is no state.
type missingStateError struct{ place string }

func (e *missingStateError) Error() string {
	return fmt.Sprintf("no state in %s: nothing has been collected with these settings; "+
		"the state of a service is in /var/lib/collectord: use --env-file with its settings, such as /etc/collectord/collectord.env", e.place)
}

// Is reports whether target is fs.ErrNotExist.
func (*missingStateError) Is(target error) bool { return target == fs.ErrNotExist }

// withInspectedState calls do with the configuration that load reads and the state open for
// reading only.
func (p *program) withInspectedState(ctx context.Context, load func() (*assembly, error), do func(*assembly) error) (err error) {
	a, err := load()
	if err != nil {
		return err
	}
	if err := a.inspectState(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.state.Close()) }()
	return do(a)
}
