package collectortest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// outage makes a vendor unavailable from the nth request on, for a time.
type outage struct {
	nth    int
	length time.Duration

	mu       sync.Mutex
	requests int
	until    time.Time
}

// isActive reports whether the vendor is unavailable now.
func (o *outage) isActive() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.until)
}

// countRequest counts a request, and reports whether the vendor is unavailable
// for it.
func (o *outage) countRequest(*http.Request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.requests++; o.requests == o.nth {
		o.until = time.Now().Add(o.length)
	}
	return time.Now().Before(o.until)
}

// beginOutageAt makes the vendor unavailable for a time when the nth request
// arrives. It responds with 503, or refuses and resets connections.
func (h *Harness) beginOutageAt(nth int, length time.Duration, refuse bool) *vendorsim.Injection {
	o := &outage{nth: nth, length: length}
	effect := vendorsim.Status(http.StatusServiceUnavailable, `{"error":"unavailable"}`)
	if refuse {
		effect = closeConnection
		transport := h.HTTP.Transport.(*http.Transport)
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if o.isActive() {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			return dial(ctx, network, address)
		}
	}
	return h.Host.Inject(vendorsim.Fault{When: o.countRequest, Times: vendorsim.Forever, Do: effect})
}

// closeConnection is an effect that closes the connection without handling the
// request.
func closeConnection(http.Handler) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// served returns how often each request was successful. The requests for a job's
// state are left out, and the page size.
func (h *Harness) served() map[string]int {
	counts := map[string]int{}
	for _, r := range h.Host.Stats().Log {
		if r.Status != http.StatusOK || strings.HasSuffix(r.Path, "/status") {
			continue
		}
		q, _ := url.ParseQuery(r.Query)
		q.Del("limit")
		counts[r.Method+" "+r.Path+"?"+q.Encode()]++
	}
	return counts
}

// An OutageTest tests that the run of a stream survives an outage of its vendor.
type OutageTest struct {
	// Stream is the name of the stream.
	Stream string
	// Run calls test with a simulated vendor and the stream of a new account.
	Run func(t *testing.T, test func(h *Harness, s collector.Stream))
	// Want returns the records that the stream must have.
	Want func(h *Harness) []string
	// CursorsExpire means that the listings that are read when the outage begins
	// start again. Otherwise no response may be requested twice.
	CursorsExpire bool
}

// outageLength is how long an outage lasts.
const outageLength = 10 * time.Minute

// Test makes the vendor unavailable for ten minutes, in a quarter, half and three
// quarters of the stream's requests.
func (o OutageTest) Test(t *testing.T) {
	var requests int
	var undisturbed map[string]int
	var doubts []collector.Doubt
	o.Run(t, func(h *Harness, s collector.Stream) {
		h.AssertRecords(h.Extract(s), o.Want(h))
		requests, undisturbed, doubts = h.Host.Stats().Total, h.served(), h.Stats.Doubts()
	})
	for _, quarter := range []int{1, 2, 3} {
		for _, refuse := range []bool{false, true} {
			nth := max(2, requests*quarter/4)
			if requests == 1 {
				nth = 1
			}
			if nth == 1 && (refuse || quarter > 1) {
				continue // a first request that is refused may have the wrong address
			}
			t.Run(fmt.Sprintf("request %d of %d, refused %v", nth, requests, refuse), func(t *testing.T) {
				o.Run(t, func(h *Harness, s collector.Stream) {
					result := o.testOutage(h, s, nth, refuse, undisturbed)
					if len(result.Doubts) != len(doubts) {
						h.Errorf("doubts %v, without an outage %v", result.Doubts, doubts)
					}
				})
			})
		}
	}
}

func (o OutageTest) testOutage(h *Harness, s collector.Stream, nth int, refuse bool, undisturbed map[string]int) run.Result {
	runs := OpenRuns(h)
	defer runs.Close()
	injected := h.beginOutageAt(nth, outageLength, refuse)
	began := time.Now()
	result := runs.RunStream(s)
	if result.Outcome != state.Success {
		h.Fatalf("outcome %s, error %v; want a success", result.Outcome, result.Err)
	}
	if took := time.Since(began); took < outageLength || took > outageLength+20*time.Minute {
		h.Errorf("the run took %v", took)
	}
	if injected.Hits() == 0 {
		h.Error("no request met the outage")
	}
	h.AssertRecords(runs.LastRecords(o.Stream), o.Want(h))
	served := h.served()
	if !o.CursorsExpire && !maps.Equal(served, undisturbed) {
		h.Errorf("the vendor served\n%v, without an outage\n%v", served, undisturbed)
	}
	for request, n := range served {
		if n > undisturbed[request]+1 {
			h.Errorf("%d successful requests %s, want %d, or one more if the listing starts again", n, request, undisturbed[request])
		}
	}
	h.AssertNoViolations()
	return result
}
