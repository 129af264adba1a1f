package main

import (
	"errors"

	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
)

// newOperator returns the operator of the settings, with the opened destinations.
func (a *assembly) newOperator(opened []store.Sink) *operation.Operator {
	o := &operation.Operator{
		State: a.state, Tenancy: a.settings.Tenancy, Policy: a.policy(opened), Destinations: sinks.Names(), Log: a.log,
	}
	for _, section := range a.definitions {
		for _, stream := range section.Streams {
			o.Streams = append(o.Streams, stream.Name)
		}
	}
	return o
}

// Operator implements web.Daemon.
func (t *tenant) Operator() *operation.Operator {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.assembly.newOperator(t.parts.sinks)
	o.Queued = t.deliverer.RetryNow
	return o
}

// operationError returns the error of an operation with the exit code of its command.
func operationError(err error) error {
	switch {
	case errors.Is(err, state.ErrLocked):
		return &exitError{exitLocked, err}
	case errors.As(err, new(*operation.RefusedError)):
		return usageError(err)
	}
	return err
}
