package storetest

import (
	"context"
	"sync"
)

// A Memory is a store.Memory of this process.
type Memory struct {
	mu    sync.Mutex
	texts map[string]string
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{texts: map[string]string{}} }

// Note implements store.Memory.
func (m *Memory) Note(_ context.Context, key string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.texts[key], nil
}

// SwapNote implements store.Memory.
func (m *Memory) SwapNote(_ context.Context, key, old, text string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.texts[key] != old {
		return false, nil
	}
	m.texts[key] = text
	return true, nil
}
