// Package storetest has the tests that every destination passes.
//
// A destination's own tests describe it in a [Harness] and call [Run]. Their
// TestMain calls [Main], which lets the suite run the destination in processes
// of their own: as another user, with a limit on the size of files, or to
// measure its memory.
package storetest

import (
	"fmt"
	"testing"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// A Harness describes one kind of sink to the suite.
type Harness struct {
	// Name names the subtests.
	Name string
	// New returns a sink that stores in a new, empty place, and the place.
	New func(t *testing.T) (store.Sink, Place)
	// KeepsHistory is true for a sink that holds several snapshots of a
	// stream.
	KeepsHistory bool
	// Expect returns how the sink stores a record; nil means byte for byte.
	Expect func(record string) string
	// Breakages are conditions under which a write fails, by name.
	Breakages map[string]Breakage
	// NewBehindProxy is New with a proxy in front of the server; nil for a
	// sink without a server.
	NewBehindProxy func(t *testing.T) (store.Sink, Place, *faultproxy.Proxy)
	// CommitText is part of the last thing that the sink sends for a
	// snapshot, see faultproxy.Fault.CutReplyTo.
	CommitText string
	// Child names a sink and a new, empty place for a Job.
	Child func(t *testing.T) (sink, place string)
	// MaxMemory bounds the peak memory in bytes of a process that stores a
	// million records.
	MaxMemory int64
	// Serial is true for a sink that is configured by environment variables,
	// so that its tests cannot run in parallel.
	Serial bool
}

// A Place is where a sink stores.
type Place interface {
	// Latest returns the records of the newest snapshot of the stream and
	// tenancy of h, in any order; nil when there is none.
	Latest(t *testing.T, h snapshot.Header) []string
	// All returns the records of every snapshot of the stream and tenancy of
	// h, in any order; nil when there is none.
	All(t *testing.T, h snapshot.Header) []string
}

// A Breakage is a condition under which a write fails.
type Breakage struct {
	// Refused says that the error wraps store.ErrRefused.
	Refused bool
	// Write writes s under the condition, and ends the condition. It returns
	// the error's text, "" for no error, and whether the error wrapped
	// store.ErrRefused.
	Write func(t *testing.T, p Place, s *snapshot.Snapshot) (problem string, refused bool)
}

// Run runs the suite with each of the harnesses.
func Run(t *testing.T, harnesses ...Harness) {
	for _, h := range harnesses {
		t.Run(h.Name, func(t *testing.T) {
			if !h.Serial {
				t.Parallel()
			}
			t.Run("whole", h.testWhole)
			t.Run("twice is once", h.testTwice)
			t.Run("refill", h.testRefill)
			t.Run("newer and other", h.testNewer)
			t.Run("empty", h.testEmpty)
			t.Run("awkward content", h.testAwkward)
			t.Run("large content", h.testLarge)
			t.Run("damaged", h.testDamaged)
			t.Run("cancelled", h.testCancelled)
			t.Run("old or new", h.testOldOrNew)
			t.Run("overtaken", h.testOvertaken)
			t.Run("check", h.testCheck)
			if h.NewBehindProxy != nil {
				t.Run("dead server", h.testDeadServer)
				t.Run("cut midway", h.testCutMidway)
				t.Run("response lost", h.testResponseLost)
				t.Run("slow server", h.testSlowServer)
				t.Run("hanging server", h.testHangingServer)
			}
			for name, b := range h.Breakages {
				t.Run(name, func(t *testing.T) { h.testBreakage(t, b) })
			}
		})
	}
}

// RunMillion stores a million records, or fewer with the race detector, in a
// process of its own for each harness, and compares its peak memory with the
// harness's MaxMemory.
func RunMillion(t *testing.T, harnesses ...Harness) {
	s := SealEach(t, Header(1), million, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i) })
	for _, h := range harnesses {
		t.Run(h.Name, func(t *testing.T) {
			sink, place := h.Child(t)
			res := Job{Sink: sink, Place: place, Snapshots: []string{s.Dir()}}.Run(t)
			t.Logf("%d records of %d bytes with %d MB", million, s.Bytes/million, res.PeakMemory>>20)
			if res.Problem != "" || res.PeakMemory > h.MaxMemory {
				t.Errorf("peak %d MB, limit %d MB: %s", res.PeakMemory>>20, h.MaxMemory>>20, res.Problem)
			}
		})
	}
}
