package doctor

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// The kinds of probes.
const (
	KindCollector   = "collector"
	KindStream      = "stream"
	KindDestination = "destination"
	KindState       = "state"
)

// A Probe checks whether one collector, stream or destination can be used.
type Probe struct {
	// Kind is KindCollector, KindStream, KindDestination or KindState.
	Kind string
	Name string
	// IsPublic means that a collector reads public data, so that its success says
	// nothing about credentials.
	IsPublic bool
	// Check makes the requests of the probe.
	Check func(context.Context) error
	// Describe, when it is not nil, describes what Check found out; "" for
	// nothing.
	Describe func() string
	// Streams are the probes of the streams of a collector. They run after Check
	// has succeeded.
	Streams []*Probe
	// Inspect, when it is not nil, returns what else is worth knowing. It is
	// called after Check has succeeded.
	Inspect func(context.Context) ([]Observation, error)
	// Err is the result of Check, Observations that of Inspect; RunProbes sets
	// them.
	Err          error
	Observations []Observation
}

// An Observation is something that does not keep a collector or a destination from
// working, and is worth knowing.
type Observation struct {
	// Text says what was found, Advice what to do about it.
	Text, Advice string
}

// Ran returns the probe and, if they ran, those of its streams.
func (p *Probe) Ran() []*Probe {
	if p.Err != nil {
		return []*Probe{p}
	}
	return append([]*Probe{p}, p.Streams...)
}

// RunProbes runs all probes at the same time, each check and each inspection no
// longer than limit, and then those of streams, and sets their results. watch,
// when it is not nil, returns the context of a probe that is not one of a stream.
func RunProbes(ctx context.Context, limit time.Duration, probes []*Probe, watch func(context.Context, *Probe) context.Context) {
	var all sync.WaitGroup
	for _, p := range probes {
		all.Go(func() {
			p.run(ctx, limit, watch)
			if p.Err == nil {
				RunProbes(ctx, limit, p.Streams, nil)
			}
		})
	}
	all.Wait()
}

// run runs the check of the probe and then its inspection, each no longer than
// limit.
func (p *Probe) run(ctx context.Context, limit time.Duration, watch func(context.Context, *Probe) context.Context) {
	cause := fmt.Errorf("the check took longer than %v", limit)
	checking, cancel := context.WithTimeoutCause(ctx, limit, cause)
	defer cancel()
	if watch != nil {
		checking = watch(checking, p)
	}
	if p.Err = p.Check(checking); p.Err != nil || p.Inspect == nil {
		return
	}
	inspecting, cancel := context.WithTimeoutCause(ctx, limit, cause)
	defer cancel()
	p.inspect(inspecting)
}

// inspect sets the observations of the probe. An error is one.
func (p *Probe) inspect(ctx context.Context) {
	found, err := p.Inspect(ctx)
	if err != nil {
		found = append(found, Observation{Text: fmt.Sprintf("it was not examined completely: %v", err)})
	}
	p.Observations = found
}

// probeTimeout bounds each probe: a person waits for the result, and a server
// that has not responded by then is worth reporting.
const probeTimeout = 10 * time.Second

// Network runs the probes and returns the findings about the network and the
// access of each, and about this machine's clock.
func Network(ctx context.Context, probes []*Probe) []Finding {
	journeys := map[*Probe]*Journey{}
	for _, p := range probes {
		journeys[p] = &Journey{}
	}
	RunProbes(ctx, probeTimeout, probes, func(ctx context.Context, p *Probe) context.Context { return journeys[p].Watch(ctx) })
	var findings []Finding
	for _, p := range probes {
		if f, ok := journeys[p].Finding(p.Kind+" "+p.Name, "network", p.Err, time.Now()); ok {
			findings = append(findings, f)
		}
		findings = append(findings, access(p))
		for _, s := range p.Ran()[1:] {
			findings = append(findings, streamAccess(p, s))
		}
		for _, o := range p.Observations {
			findings = append(findings, Finding{Group: p.Kind + " " + p.Name, Check: "content", Result: Warning, Text: o.Text, Advice: o.Advice})
		}
	}
	if f, ok := clockAgainstAny(ctx, probes, journeys); ok {
		findings = append(findings, f)
	}
	return findings
}

// Summary returns text, followed by what a successful Check found out.
func (p *Probe) Summary(text string) string {
	if p.Describe == nil {
		return text
	}
	if found := p.Describe(); found != "" {
		return text + " (" + found + ")"
	}
	return text
}

// access returns the finding about the result of a probe.
func access(p *Probe) Finding {
	f := Finding{Group: p.Kind + " " + p.Name, Check: "access", Result: OK, Text: "it accepts the credentials"}
	switch {
	case p.Kind == KindDestination:
		f.Text = "it can be written to"
	case p.IsPublic:
		f.Text = "the address responds"
	}
	if p.Err != nil {
		return f.failed("%v", p.Err)
	}
	f.Text = p.Summary(f.Text)
	return f
}

// streamAccess returns the finding about the result of the probe s of a stream of
// the collector p.
func streamAccess(p, s *Probe) Finding {
	f := Finding{Group: p.Kind + " " + p.Name, Check: s.Name, Result: OK, Text: "the credentials may read it"}
	if p.IsPublic {
		f.Text = "it can be read"
	}
	if s.Err != nil {
		return f.failed("%v", s.Err)
	}
	return f
}

// clockAgainstAny compares this machine's clock with that of the first server
// that reports its time. ok is false when none does.
func clockAgainstAny(ctx context.Context, probes []*Probe, journeys map[*Probe]*Journey) (f Finding, ok bool) {
	client := &http.Client{
		Timeout:       probeTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, p := range probes {
		address := journeys[p].Address()
		if address == "" {
			continue
		}
		if f, ok := ClockAgainst(ctx, client, address); ok {
			return f, true
		}
	}
	return Finding{}, false
}
