package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/store"
)

// jobs opens the collectors that are on, or of them those that names chooses:
// a collector's name stands for all of its streams.
func (a *app) jobs(names []string) ([]schedule.Job, error) {
	on, settings := a.active()
	if len(on) == 0 {
		return nil, none(a.sources, a.sections)
	}
	if err := a.known(names); err != nil {
		return nil, err
	}
	var jobs []schedule.Job
	for i, s := range on {
		streams, chosen := choose(s, names)
		if !chosen {
			continue
		}
		c, err := s.Open(settings[i], collector.Options{
			Version: version, Log: a.log.With(zap.String("collector", s.Name)), Notes: a.notes,
		})
		if err != nil {
			return nil, &exitError{exitSettings, fmt.Errorf("%s: %w", s.Name, err)}
		}
		jobs = append(jobs, schedule.Job{Collector: c, Streams: streams})
	}
	return jobs, nil
}

// choose tells which streams of s the names choose; none means all of them.
func choose(s collector.Source, names []string) (streams []string, chosen bool) {
	if len(names) == 0 || slices.Contains(names, s.Name) {
		return nil, true
	}
	for _, stream := range s.Streams {
		if slices.Contains(names, stream.Name) {
			streams = append(streams, stream.Name)
		}
	}
	return streams, len(streams) > 0
}

// sourceOf is the place among the sources of the one that name, a collector's
// or a stream's, chooses; -1 for none.
func (a *app) sourceOf(name string) int {
	return slices.IndexFunc(a.sources, func(s collector.Source) bool {
		_, chosen := choose(s, []string{name})
		return chosen
	})
}

// known refuses names that choose nothing.
func (a *app) known(names []string) error {
	for _, name := range names {
		i := a.sourceOf(name)
		if i < 0 {
			var all []string
			for _, s := range a.sources {
				all = append(all, s.Name)
			}
			return usage(fmt.Errorf("%q is no collector and no stream; the collectors are %s; `collectord list` shows the streams", name, strings.Join(all, ", ")))
		}
		if !a.sections[i].Active {
			_, why := stateOf(a.sections[i])
			return &exitError{exitSettings, fmt.Errorf("%s: the collector %s is off: %s", name, a.sources[i].Name, why)}
		}
	}
	return nil
}

// closeSinks closes what sinks opened; a failure there is worth a line, since
// what was stored is stored.
func closeSinks(sinks []store.Sink, log *zap.Logger) {
	var errs []error
	for _, s := range sinks {
		if err := s.Close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name(), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		log.Warn("closing destinations", zap.Error(err))
	}
}
