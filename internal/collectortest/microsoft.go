package collectortest

import (
	"errors"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// A MicrosoftVendor is a simulated product of Microsoft.
type MicrosoftVendor interface {
	vendorsim.Vendor
	ChangeBehaviour(change func(*vendorsim.MicrosoftBehaviour))
}

// A Tenant is a tenant with one of Microsoft's products. Its tests are those that the
// collectors of all of them pass.
type Tenant struct {
	New func() MicrosoftVendor
	// Lists are the streams that are read in pages, and Reports the others.
	Lists, Reports []string
	Open           func(h *Harness) *collector.Collector
}

// Simulate returns a tenant whose streams have the given number of records, and pages of
// at most 40 records. configure may be nil.
func (tn Tenant) Simulate(records int, configure func(*vendorsim.MicrosoftBehaviour)) vendorsim.Options {
	sim := tn.New()
	if configure != nil {
		sim.ChangeBehaviour(configure)
	}
	o := vendorsim.Options{Vendors: []vendorsim.Vendor{sim}, Counts: map[string]int{}, PageLimits: map[string]int{}}
	for _, stream := range tn.Reports {
		o.Counts[stream] = records
	}
	for _, stream := range tn.Lists {
		o.Counts[stream], o.PageLimits[stream] = records, 40
	}
	return o
}

// SimulateSmall returns a tenant for runs with random faults, whose streams have from 20 up
// to most records of about 300 bytes, and pages of at most 12 records.
func (tn Tenant) SimulateSmall(random *rand.Rand, most int) vendorsim.Options {
	o := tn.Simulate(20+random.IntN(most-20), nil)
	o.EdgeEvery, o.RecordBytes = -1, map[string]int{}
	for _, stream := range tn.Reports {
		o.RecordBytes[stream] = 350
	}
	for _, stream := range tn.Lists {
		o.PageLimits[stream], o.RecordBytes[stream] = 12, 300
	}
	return o
}

// TestOutage tests a list during an outage of the vendor.
func (tn Tenant) TestOutage(t *testing.T, stream string) {
	OutageTest{
		Stream: stream,
		Want:   func(h *Harness) []string { return h.Records(stream) },
		Run: func(t *testing.T, test func(h *Harness, s collector.Stream)) {
			Run(t, tn.Simulate(300, nil), func(h *Harness) { test(h, FindStream(h, tn.Open(h), stream)) })
		},
	}.Test(t)
}

// TestPermissions takes the permission for each stream in turn. The error of its check and
// of its extraction must contain the text that want has for it; the checks of the others
// succeed. after is called with each stream at the end; it may be nil.
func (tn Tenant) TestPermissions(t *testing.T, want map[string]string, after func(h *Harness, stream string)) {
	for stream, text := range want {
		t.Run(stream, func(t *testing.T) {
			forbidden := func(b *vendorsim.MicrosoftBehaviour) { b.Forbidden = map[string]bool{stream: true} }
			Run(t, tn.Simulate(10, forbidden), func(h *Harness) {
				for _, s := range tn.Open(h).Streams {
					err := s.Check(h.Context())
					if s.Name != stream {
						if err != nil {
							t.Errorf("check of %s: %v", s.Name, err)
						}
						continue
					}
					for _, err := range []error{err, h.ExtractError(s, time.Hour)} {
						if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), text) {
							t.Errorf("%s: error %v, want %q", s.Name, err, text)
						}
					}
				}
				if after != nil {
					after(h, stream)
				}
				h.AssertNoViolations()
			})
		})
	}
}

// Address returns the address of the vendor.
func (h *Harness) Address() url.URL {
	h.Helper()
	address, err := url.Parse(h.Host.URL())
	if err != nil {
		h.Fatal(err)
	}
	return *address
}
