package run

import "github.com/collectord/collectord/pkg/collector"

// A Job is a collector and the streams of it to run.
type Job struct {
	Collector *collector.Collector
	// Streams are the names of the streams; empty means all of the collector's.
	Streams []string
}

// streams returns the streams to run, in the collector's order.
func (j Job) streams() []collector.Stream {
	if len(j.Streams) == 0 {
		return j.Collector.Streams
	}
	var chosen []collector.Stream
	for _, s := range j.Collector.Streams {
		for _, name := range j.Streams {
			if s.Name == name {
				chosen = append(chosen, s)
			}
		}
	}
	return chosen
}

// StreamNames returns the names of the streams to run, in the collector's order.
func (j Job) StreamNames() []string { return namesOfStreams(j.streams()) }
