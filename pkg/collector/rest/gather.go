package rest

import (
	"bytes"
	"sync"

	"github.com/collectord/collectord/pkg/collector"
)

// Gathered is an Output in memory, for short lists that lead to the records,
// such as a tenant's organisations. Its zero value is ready.
type Gathered struct {
	mu      sync.Mutex
	records [][]byte
}

// Records returns what was gathered.
func (g *Gathered) Records() [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.records
}

// Page implements collector.Output.
func (g *Gathered) Page() collector.Page { return &gatheredPage{list: g} }

// Reset implements collector.Output.
func (g *Gathered) Reset() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records = nil
	return nil
}

type gatheredPage struct {
	list    *Gathered
	records [][]byte
}

func (p *gatheredPage) Append(record []byte) error {
	p.records = append(p.records, bytes.Clone(record))
	return nil
}

func (p *gatheredPage) Commit() error {
	p.list.mu.Lock()
	defer p.list.mu.Unlock()
	p.list.records = append(p.list.records, p.records...)
	p.records = nil
	return nil
}

func (p *gatheredPage) Discard() { p.records = nil }
