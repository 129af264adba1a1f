package rest

import (
	"context"
	"fmt"
	"sync"

	"github.com/collectord/collectord/pkg/collector"
)

// A Coverage counts the parts of an extraction, such as the reports of scans, that
// are missing from it. Each missing part is a doubt. An extraction of which most
// parts are missing fails. Its methods may be called from several goroutines.
type Coverage struct {
	// Most is the error if most parts are missing.
	Most error

	mu       sync.Mutex
	expected int
	missing  int
	failures int
}

// maxFailures is the number of parts that could not be read from which an extraction
// ends if they are most of the parts so far, because each may take minutes.
const maxFailures = 20

// AddExpected counts parts that are read or missing in the end. n may be negative.
func (c *Coverage) AddExpected(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expected += n
}

// AddMissing counts a part of which nothing was received, with a doubt.
func (c *Coverage) AddMissing(ctx context.Context, doubt string) {
	collector.StatsFrom(ctx).AddDoubt(doubt, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missing++
}

// AddFailure counts a part that could not be read because of err, and will be tried
// again. It returns an error if there are too many.
func (c *Coverage) AddFailure(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures++
	if c.failures >= maxFailures && 2*c.failures > c.expected {
		return fmt.Errorf("%w: %d of %d, the last one: %w", c.Most, c.failures, c.expected, err)
	}
	return nil
}

// CheckMissing returns an error if nothing was received of most parts.
func (c *Coverage) CheckMissing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if 2*c.missing > c.expected {
		return fmt.Errorf("%w: %d of %d", c.Most, c.missing, c.expected)
	}
	return nil
}
