package collector

import (
	"context"
	"slices"
	"sync"
)

// A Group is the streams that one run extracts at the same time. Streams that come from
// one source, such as the output of one program, read it once by means of it. Its methods
// may be called from several goroutines.
type Group struct {
	streams []string
	ends    map[string]*streamEnd
}

// A streamEnd is the end of one stream's run.
type streamEnd struct {
	once sync.Once
	over chan struct{}
}

// NewGroup returns the group of the streams with the given names.
func NewGroup(streams ...string) *Group {
	g := &Group{streams: slices.Clone(streams), ends: map[string]*streamEnd{}}
	for _, name := range streams {
		g.ends[name] = &streamEnd{over: make(chan struct{})}
	}
	return g
}

// Streams returns the names of the streams.
func (g *Group) Streams() []string { return slices.Clone(g.streams) }

// EndStream records that the run of a stream of the group has ended. It may be called again.
func (g *Group) EndStream(name string) {
	end := g.ends[name]
	end.once.Do(func() { close(end.over) })
}

// Ended returns a channel that is closed when the run of a stream of the group has ended,
// also if it failed before it began to extract.
func (g *Group) Ended(name string) <-chan struct{} { return g.ends[name].over }

type groupKey struct{}

// WithGroup returns a copy of ctx for the extractions of a group.
func WithGroup(ctx context.Context, g *Group) context.Context {
	return context.WithValue(ctx, groupKey{}, g)
}

// GroupFrom returns the group of ctx; nil if it has none, and the stream is extracted alone.
func GroupFrom(ctx context.Context) *Group {
	g, _ := ctx.Value(groupKey{}).(*Group)
	return g
}
