// Package web serves what collectord tells over HTTP: metrics, health, the API
// and the status page.
package web

import (
	"context"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
)

// A Daemon is the running program, as far as it can be seen and steered over
// HTTP. Its methods may be called from several goroutines and do not block.
type Daemon interface {
	// Standings returns how the schedule of each collector that is on stands,
	// ordered by name.
	Standings() []schedule.Standing
	// Off returns the collectors that are off, ordered by name.
	Off() []Off
	// Running returns the extractions under way.
	Running() []*schedule.Live
	// Alive returns nil while the scheduler's loop goes round.
	Alive() error
	// Ready returns nil when the settings are loaded, the state is open and
	// the restore at the start is over, else what is still to come.
	Ready() error
	// RunNow starts a collector. The error wraps ErrUnknown, ErrRunning or
	// ErrStopping.
	RunNow(collector string) error
	// DeliverNow makes every queued delivery due at once.
	DeliverNow(ctx context.Context) error
	// Reload reads the settings anew; after an error the old ones are in
	// force.
	Reload(ctx context.Context) error
	// LastReload returns when the settings were last read, and what was wrong
	// with them.
	LastReload() (at time.Time, err error)
}

// Off is a collector that is off.
type Off struct {
	Collector, Title string
	// Missing are the variables that would switch it on.
	Missing []string
	// Why says it in words.
	Why string
}

// The refusals of RunNow.
var (
	ErrUnknown  = schedule.ErrUnknown
	ErrRunning  = schedule.ErrRunning
	ErrStopping = schedule.ErrStopping
)
