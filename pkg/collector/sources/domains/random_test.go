package domains

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// randomDomains are the domains of runs with random faults.
var randomDomains = []string{
	vendorsim.DomainComplete, vendorsim.DomainParked, vendorsim.DomainExpired, vendorsim.DomainMisnamed, vendorsim.DomainGone, vendorsim.DomainBroken,
}

// TestDomainsUnderRandomFaults: what a look-up could not read is null and is in the
// errors of the record; everything else is as without faults.
func TestDomainsUnderRandomFaults(t *testing.T) {
	var usual sync.Map // the records without faults by stream, by Harness
	collectortest.FaultyVendor{
		Options: func(*rand.Rand) vendorsim.Options {
			return vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewDomains()}}
		},
		Open: func(h *collectortest.Harness, random *rand.Rand) *collector.Collector {
			names := slices.Clone(randomDomains)
			random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			c := openDomains(h, strings.Join(names[:1+random.IntN(3)], ","), nil)
			records := map[string][]string{}
			for _, s := range c.Streams {
				records[s.Name] = h.Extract(s)
			}
			usual.Store(h, records)
			return c
		},
		MaxSkip: 8,
		Indices: func(h *collectortest.Harness, stream string) (all []int) {
			records, _ := usual.Load(h)
			for i := range records.(map[string][]string)[stream] {
				all = append(all, i)
			}
			return all
		},
		IndexOf: func(h *collectortest.Harness, stream, record string, kinds []string) (int, error) {
			records, _ := usual.Load(h)
			return indexOfDomain(records.(map[string][]string)[stream], record, kinds)
		},
		// TLS connections that are being closed wait for their peer for some seconds.
		Settle: time.Minute,
	}.TestRandomFaults(t)
}

// indexOfDomain returns which domain a record is about. It fails unless each member is as
// in the record without faults, or null, and errors says so.
func indexOfDomain(usual []string, record string, kinds []string) (int, error) {
	var got map[string]any
	if err := json.Unmarshal([]byte(record), &got); err != nil {
		return 0, err
	}
	for i, text := range usual {
		var want map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			return 0, err
		}
		if want["domain"] != got["domain"] {
			continue
		}
		unread := 0
		for name, value := range want {
			switch {
			case name == "errors", reflect.DeepEqual(got[name], value):
			case got[name] == nil, name == "dmarc_name" && got["dmarc"] == nil:
				unread++
			case name == "registered" && got[name] == false && slices.Contains(kinds, "404"): // which is how a registry says so
				return i, nil
			default:
				return 0, fmt.Errorf("%s is %v, want %v or null", name, got[name], value)
			}
		}
		if len(got) != len(want) || unread > 0 && reflect.DeepEqual(got["errors"], want["errors"]) {
			return 0, fmt.Errorf("%d members are null that are %v without faults, and errors is the same", unread, text)
		}
		return i, nil
	}
	return 0, fmt.Errorf("DOMAINS has no domain %v", got["domain"])
}
