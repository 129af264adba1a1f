package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// When a snapshot cannot be removed, the delivery still succeeds, a warning is
// logged, and the next sweep removes it.
func TestSweepFails(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.CollectUsers(1, 5, statetest.TwoSinks)
	f.CollectUsers(2, 6, state.Policy{})
	spool := filepath.Join(f.dir, "spool")
	f.RequireNoError(os.Rename(spool, spool+"-away"))
	f.RequireNoError(os.WriteFile(spool, nil, 0o600))
	f.RequireNoError(statetest.DeliverAll(f.State))
	statetest.AssertEqual(t, "warnings", f.Logs.FilterMessageSnippet("tries again").Len(), 1)
	statetest.AssertEqual(t, "queue", f.QueuedDeliveries(), "")
	f.RequireNoError(os.Remove(spool))
	f.RequireNoError(os.Rename(spool+"-away", spool))
	statetest.AssertEqual(t, "directories", f.CheckStored(), "id-001 id-002")
	f.RequireNoError(f.Sweep(ctx, statetest.KeepHistory))
	statetest.AssertEqual(t, "directories", f.CheckStored(), "id-002")
}
