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
func (a *assembly) stateDir() string {
	dir, err := filepath.Abs(a.settings.StateDir)
	if err != nil { // the working directory is gone
		return a.settings.StateDir
	}
	return dir
}

// inspectState opens the state for reading only, for commands that change nothing. The
// error wraps fs.ErrNotExist when there is none.
func (a *assembly) inspectState(ctx context.Context) (err error) {
	a.state, err = local.Inspect(ctx, a.settings.StateDir)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return &missingStateError{a.stateDir()}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: only root and the user of the service can read it", err)
	case errors.Is(err, state.ErrOlder):
		return fmt.Errorf("%w: the next start of the service upgrades it, and so does collectord --once", err)
	case errors.Is(err, state.ErrUnusable):
		return &exitError{exitSettings, err}
	}
	return err
}

// A missingStateError means that the state directory has no state.
type missingStateError struct{ dir string }

func (e *missingStateError) Error() string {
	return fmt.Sprintf("no state in %s (STATE_DIR): nothing has been collected with these settings; "+
		"the state of a service is in /var/lib/collectord: use --env-file with its settings, such as /etc/collectord/collectord.env", e.dir)
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
