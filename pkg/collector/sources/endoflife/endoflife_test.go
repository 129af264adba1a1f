package endoflife

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// openProducts opens the collector of the simulated API.
func openProducts(h *collectortest.Harness) *collector.Collector {
	h.Helper()
	a, err := openAccount(&Settings{On: true, URL: h.Host.URL()}, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP = h.HTTP
	return source.NewCollector("endoflife", a)
}

// productList returns the feed for one of its streams.
func productList(stream string) collectortest.Feed {
	f := collectortest.Feed{
		Options: func() vendorsim.Options {
			return vendorsim.Options{
				Vendors: []vendorsim.Vendor{vendorsim.NewEndOfLife()},
				Counts:  map[string]int{vendorsim.EOLProducts: 40, vendorsim.EOLReleases: 101},
			}
		},
		Open: openProducts, Stream: stream, Requests: 1, Path: productsPath, Setting: "ENDOFLIFE_URL",
	}
	if stream == vendorsim.EOLReleases {
		f.Want = releases
	}
	return f
}

// releases returns the releases as the collector stores them.
func releases(h *collectortest.Harness) (all []string) {
	for i := range h.Sim.RecordCount(vendorsim.EOLReleases) {
		all = append(all, string(h.Host.Vendor().(*vendorsim.EndOfLife).ReleaseRecord(i)))
	}
	return all
}

func TestProducts(t *testing.T) { productList(vendorsim.EOLProducts).Test(t) }

func TestReleases(t *testing.T) { productList(vendorsim.EOLReleases).Test(t) }

func TestProductsUnderRandomFaults(t *testing.T) {
	productList(vendorsim.EOLReleases).TestUnderRandomFaults(t)
}

// TestStreamsShareTheRequest: streams that run together make one request, also when
// it has to be repeated, and fail together.
func TestStreamsShareTheRequest(t *testing.T) {
	for _, tc := range []struct {
		name         string
		fault        *vendorsim.Fault
		form         string
		wantRequests int
		wantText     string
	}{
		{name: "usual", wantRequests: 1},
		{name: "repeated", fault: &vendorsim.Fault{Times: 2, Do: vendorsim.CutBody(vendorsim.Half)}, wantRequests: 3},
		{name: "refused", fault: &vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(410, "{}")}, wantRequests: 1, wantText: "410"},
		{name: "total is wrong", form: vendorsim.EndOfLifeTotalWrong, wantRequests: 1, wantText: `the list has 40 products and declares 41 (total)`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, productList(vendorsim.EOLProducts).Options(), func(h *collectortest.Harness) {
				if tc.fault != nil {
					h.Host.Inject(*tc.fault)
				}
				h.Host.Vendor().(*vendorsim.EndOfLife).ChangeBehaviour(func(b *vendorsim.FeedBehaviour) { b.Form = tc.form })
				c := openProducts(h)
				outputs := [2]*collectortest.Spool{collectortest.NewSpool(t), collectortest.NewSpool(t)}
				var errs [2]error
				var all sync.WaitGroup
				for i, s := range c.Streams {
					all.Go(func() {
						errs[i] = s.Extract(collector.WithStats(collector.WithRetryTime(h.Context(), 15*time.Minute), new(collector.Stats)), outputs[i])
					})
				}
				all.Wait()
				h.AssertRequests(tc.wantRequests)
				for i, want := range [2][]string{h.Records(vendorsim.EOLProducts), releases(h)} {
					if tc.wantText == "" && errs[i] == nil {
						h.AssertRecords(outputs[i].Records(), want)
						continue
					}
					if errs[i] == nil || tc.wantText == "" || !strings.Contains(errs[i].Error(), tc.wantText) {
						t.Errorf("error %v, want %q", errs[i], tc.wantText)
					}
					if tc.form != "" && !errors.Is(errs[i], collector.ErrIncomplete) {
						t.Errorf("error %v, want %v", errs[i], collector.ErrIncomplete)
					}
				}
			})
		})
	}
}

func TestSettings(t *testing.T) {
	collectortest.AssertProblem(t, (&Settings{URL: "mirror.example"}).Validate(), "")
	collectortest.AssertProblem(t, (&Settings{URL: "ftp://mirror.example"}).Validate(), "ENDOFLIFE_URL")
}
