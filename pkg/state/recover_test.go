package state

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/snapshot"
)

func TestRecoverResultLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	RecoverResult{}.Log(log)
	if logs.Len() > 0 {
		t.Errorf("%d lines for an empty result", logs.Len())
	}
	RecoverResult{Spools: 1, Interrupted: 1, Completed: make([]CommitResult, 2), Reclaimed: make([]CommitResult, 3), Lost: []error{snapshot.ErrDamaged}}.Log(log)
	if errors := logs.FilterLevelExact(zap.ErrorLevel).Len(); logs.Len() != 7 || errors != 1 {
		t.Errorf("%d lines and %d errors, want 7 and 1", logs.Len(), errors)
	}
}
