package rest

import (
	"bytes"
	"sync"

	"github.com/collectord/collectord/pkg/collector"
)

// A MemoryOutput is an Output in memory, for short lists that are needed to
// read the records, such as a tenant's organisations. Its zero value is ready
// to use.
type MemoryOutput struct {
	mu      sync.Mutex
	records [][]byte
}

// Records returns the committed records.
func (m *MemoryOutput) Records() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records
}

// NewBatch implements collector.Output.
func (m *MemoryOutput) NewBatch() collector.Batch { return &memoryBatch{output: m} }

// Reset implements collector.Output.
func (m *MemoryOutput) Reset() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = nil
	return nil
}

type memoryBatch struct {
	output  *MemoryOutput
	records [][]byte
}

func (m *memoryBatch) Append(record []byte) error {
	m.records = append(m.records, bytes.Clone(record))
	return nil
}

func (m *memoryBatch) Commit() error {
	m.output.mu.Lock()
	defer m.output.mu.Unlock()
	m.output.records = append(m.output.records, m.records...)
	m.records = nil
	return nil
}

func (m *memoryBatch) Discard() { m.records = nil }
