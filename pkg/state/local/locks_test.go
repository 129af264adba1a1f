package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/state"
)

// The error names the owner only if the lock file does.
func TestLockOfUnknownOwner(t *testing.T) {
	t.Parallel()
	f := openState(t)
	lock, err := f.Locks.LockStream("okta_users", "acme")
	f.RequireNoError(err)
	f.RequireNoError(os.WriteFile(filepath.Join(f.dir, "locks", "stream~okta_users~acme"), []byte("{"), 0o600))
	_, err = f.Locks.LockStream("okta_users", "acme")
	if !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "okta_users is being collected by another process") {
		t.Error(err)
	}
	f.RequireNoError(lock.Unlock())
}
