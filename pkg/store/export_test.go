package store

import (
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Destination is a sink of the suite for tests of what uses sinks.
type Destination struct {
	Sink
	// Latest and All read it back, see place.
	Latest, All func(h snapshot.Header) []string
	// Stop and Start end the server at once and start it again, where there is
	// one.
	Stop  func()
	Start func() error
}

// Destinations makes an empty file, DuckDB, S3 and Postgres destination.
func Destinations(t *testing.T) map[string]*Destination {
	t.Helper()
	all := map[string]*Destination{}
	for _, h := range []harness{fileHarness("json"), duckHarness(), s3Harness("json"), postgresHarness("json")} {
		sink, p := h.sink(t)
		d := &Destination{
			Sink:   sink,
			Latest: func(h snapshot.Header) []string { return p.latest(t, h) },
			All:    func(h snapshot.Header) []string { return p.all(t, h) },
		}
		if p, ok := p.(pgPlace); ok {
			d.Stop = p.server.crash
			d.Start = func() error {
				if err := p.server.start(); err != nil {
					return err
				}
				p.reconnect()
				return nil
			}
		}
		all[sink.Name()] = d
	}
	return all
}
