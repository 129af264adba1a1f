// Package web is the HTTP server of the daemon. It serves health checks, metrics, the API and
// the status page.
package web

import (
	"context"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
)

// A Daemon is the running program that a Server shows and controls. Its methods may be called
// concurrently and do not block.
type Daemon interface {
	// Statuses returns the schedule status of each collector that is on, ordered by name.
	Statuses() []schedule.CollectorStatus
	// Disabled returns the collectors that are off, ordered by name.
	Disabled() []DisabledCollector
	// DisabledStreams returns the streams that are off although their collector is on.
	DisabledStreams() []freshness.DisabledStream
	// ActiveRuns returns the running extractions.
	ActiveRuns() []*run.ActiveRun
	// MaxAge returns the DATA_MAX_AGE of a stream; 0 when it is not set.
	MaxAge(stream string) time.Duration
	// Alive returns nil while the scheduler's loop iterates.
	Alive() error
	// Ready returns nil when the settings are loaded, the state is open and the restore at
	// the start is finished, and otherwise an error that names the pending step.
	Ready() error
	// RunNow starts the streams of a collector that are not running, and returns their
	// names. The error wraps schedule.ErrUnknown, schedule.ErrRunning,
	// state.ErrStandby or schedule.ErrStopping.
	RunNow(collector string) (streams []string, err error)
	// RunStreamNow starts one stream. Its errors are those of RunNow.
	RunStreamNow(stream string) error
	// DeliverNow makes every queued delivery due at once.
	DeliverNow(ctx context.Context) error
	// Operator returns the operator of the settings in force.
	Operator() *operation.Operator
	// Reload reloads the settings. Its error says which of them stay as they were.
	Reload(ctx context.Context) error
	// LastReload returns when the settings were last loaded, and the error of that.
	LastReload() (at time.Time, err error)
}

// A DisabledCollector is a collector that is off.
type DisabledCollector struct {
	Collector, Title string
	// Missing are the settings that would switch it on.
	Missing []string
	// Why says why it is off.
	Why string
}
