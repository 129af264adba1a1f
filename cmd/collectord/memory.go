package main

import (
	"context"
	"runtime/debug"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/rss"
)

// releaseIdleMemory returns memory to the operating system: once what the start has
// used, and whenever the last running collector has ended.
func (d *daemon) releaseIdleMemory(ctx context.Context) {
	releaseProgramMemory(d.log)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	busy := true // with the start
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wasBusy := busy
		busy = d.isExtracting()
		if busy || !wasBusy {
			continue
		}
		debug.FreeOSMemory()
		releaseProgramMemory(d.log)
	}
}

// isExtracting reports whether an extraction is running.
func (d *daemon) isExtracting() bool {
	return slices.ContainsFunc(d.listTenants(), func(t *tenant) bool { return len(t.active.List()) > 0 })
}

// releaseProgramMemory returns the memory of the program's own file.
func releaseProgramMemory(log *zap.Logger) {
	if err := rss.ReleaseProgramMemory(); err != nil {
		log.Debug("releasing memory", zap.Error(err))
	}
}
