package tenable

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// Bodies of rate limits as JSON. The second one cannot be about an export that
// is started twice, because it responds to other requests.
const (
	jsonThrottle      = `{"statusCode":429,"error":"Too Many Requests","message":"Rate limit exceeded"}`
	duplicateThrottle = `{"statusCode":429,"error":"Too Many Requests","message":"Too many duplicate requests"}`
)

// ownJobs returns the jobs of a stream that the collector started.
func (t *tenant) ownJobs(stream string) []vendorsim.TenableJob {
	var own []vendorsim.TenableJob
	for _, j := range t.vendor.Jobs(stream) {
		if !j.Foreign {
			own = append(own, j)
		}
	}
	return own
}

// assertNotRequested checks that no request was about the job of another
// program.
func (t *tenant) assertNotRequested(uuid string) {
	t.Helper()
	for _, r := range t.Host.Stats().Log {
		if strings.Contains(r.Path, uuid) {
			t.Errorf("another program's job was requested: %s %s", r.Method, r.Path)
		}
	}
}

// failFirstDial makes the first connection to the vendor fail.
func (t *tenant) failFirstDial() {
	transport := t.HTTP.Transport.(*http.Transport)
	dial := transport.DialContext
	var failed atomic.Bool
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !failed.Swap(true) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
		}
		return dial(ctx, network, address)
	}
}

// abort closes the connection without handling the request.
func abort(http.Handler) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// TestTenableLeavesOtherExportsAlone tests that an export of another program
// is not adopted after a start that failed and began nothing.
func TestTenableLeavesOtherExportsAlone(t *testing.T) {
	failStart := func(path string, do vendorsim.Effect) func(t *tenant) {
		return func(t *tenant) { t.Host.Inject(vendorsim.Fault{Method: "POST", Path: path, Do: do}) }
	}
	streams := []struct {
		name, path, body string
		form             vendorsim.DuplicateForm
	}{
		{
			name: vendorsim.TenableVulns, path: "/vulns/export", form: vendorsim.Duplicate409ID,
			body: `{"num_assets":500,"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}}`,
		},
		{
			name: vendorsim.TenableAssets, path: "/assets/export", form: vendorsim.Duplicate429Message,
			body: `{"chunk_size":1000,"filters":{}}`,
		},
		{
			name: vendorsim.TenableFindings, path: "/compliance/export", form: vendorsim.Duplicate429Values,
			body: `{"num_findings":5000,"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}}`,
		},
	}
	for _, s := range streams {
		for name, disturb := range map[string]func(t *tenant){
			"HTML 502":            failStart(s.path, vendorsim.HTML(502)),
			"HTML 503":            failStart(s.path, vendorsim.HTML(503)),
			"connection refused":  (*tenant).failFirstDial,
			"JSON 504":            failStart(s.path, vendorsim.Status(504, `{"statusCode":504}`)),
			"JSON 500":            failStart(s.path, vendorsim.Status(500, `{"error":"x"}`)),
			"connection is reset": failStart(s.path, abort),
		} {
			t.Run(name+"/"+s.name, func(t *testing.T) {
				runTenant(t, map[string]int{s.name: 100}, func(t *tenant) {
					t.vendor.ConfigureStream(s.name, func(c *vendorsim.TenableStream) { c.Duplicates = s.form })
					foreign, err := t.vendor.ForeignJob(s.name, s.body)
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Second)
					disturb(t)
					t.AssertRecords(t.Extract(t.stream(s.name)), t.Records(s.name))
					t.assertNotRequested(foreign)
					if n := len(t.ownJobs(s.name)); n != 1 {
						t.Errorf("%d own jobs, want 1", n)
					}
				})
			})
		}
	}
}

// TestTenableLeavesLaterExportsAlone tests that an export of another program is
// not adopted that was started after a gateway has refused ours.
func TestTenableLeavesLaterExportsAlone(t *testing.T) {
	runTenant(t, map[string]int{vendorsim.TenableAssets: 100}, func(t *tenant) {
		t.vendor.ConfigureStream(vendorsim.TenableAssets, func(c *vendorsim.TenableStream) { c.Duplicates = vendorsim.Duplicate429Message })
		foreign := make(chan string, 1)
		t.Host.Inject(vendorsim.Fault{Method: "POST", Path: "/assets/export", Do: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				id, err := t.vendor.ForeignJob(vendorsim.TenableAssets, `{"chunk_size":1000,"filters":{}}`)
				if err != nil {
					t.Error(err)
				}
				foreign <- id
				vendorsim.HTML(502)(next).ServeHTTP(w, r)
			})
		}})
		t.AssertRecords(t.Extract(t.stream("tenable_assets")), t.Records(vendorsim.TenableAssets))
		t.assertNotRequested(<-foreign)
		if n := len(t.ownJobs(vendorsim.TenableAssets)); n != 1 {
			t.Errorf("%d own jobs, want 1", n)
		}
	})
}

// TestTenableAdoptsAfterLostResponses tests that the export is adopted that a
// start without a response has begun, also if another program's export is
// listed.
func TestTenableAdoptsAfterLostResponses(t *testing.T) {
	for name, do := range map[string]vendorsim.Effect{
		"504": vendorsim.LoseResponse(504, `{"statusCode":504}`), "connection is reset": vendorsim.Reset(0),
	} {
		for _, stream := range []string{vendorsim.TenableVulns, vendorsim.TenableFindings} {
			t.Run(name+"/"+stream, func(t *testing.T) {
				runTenant(t, map[string]int{stream: 100}, func(t *tenant) {
					t.vendor.ConfigureStream(stream, func(c *vendorsim.TenableStream) { c.Duplicates = vendorsim.Duplicate409ID })
					if _, err := t.vendor.ForeignJob(stream, `{"filters":{"since":7}}`); err != nil {
						t.Fatal(err)
					}
					time.Sleep(500 * time.Millisecond)
					injected := t.Host.Inject(vendorsim.Fault{Method: "POST", Path: "/*/export", Do: do})
					t.AssertRecords(t.Extract(t.stream(stream)), t.Records(stream))
					if n := len(t.ownJobs(stream)); n != 1 || injected.Hits() != 1 {
						t.Errorf("%d own jobs after %d lost responses, want 1 after 1", n, injected.Hits())
					}
				})
			})
		}
	}
}

// TestTenableRaisesOnlySince tests the request that differs from another
// program's export: only a filter that is set is raised.
func TestTenableRaisesOnlySince(t *testing.T) {
	for _, tc := range []struct{ filters, want string }{
		{filters: `{"since":1}`, want: `{"since":4}`},
		{filters: `{"since":1700000000,"state":["OPEN"]}`, want: `{"since":1700000003,"state":["OPEN"]}`},
		{filters: `{"severity":["critical"]}`, want: `{"severity":["critical"]}`},
		{filters: `{"last_found":1700000000,"state":["OPEN"]}`, want: `{"last_found":1700000000,"state":["OPEN"]}`},
		{filters: `{"since":"1700000000"}`, want: `{"since":"1700000000"}`},
		{filters: `{"since":1.7e9}`, want: `{"since":1.7e9}`},
		{filters: `{"since":0}`, want: `{"since":0}`},
		{filters: `{"since":null}`, want: `{"since":null}`},
	} {
		body, err := exportKind{sizeMember: "num_assets", maxSize: 200, minSize: 50, filters: tc.filters, bump: "since"}.startBody(0, 3)
		if want := `{"filters":` + tc.want + `,"num_assets":200}`; err != nil || string(body) != want {
			t.Errorf("%s: %s %v, want %s", tc.filters, body, err, want)
		}
	}
}

func TestTenableWaitsIfItCannotRaise(t *testing.T) {
	const filters = `{"severity":["critical"]}`
	runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
		foreign, err := t.vendor.ForeignJob(vendorsim.TenableVulns, `{"num_assets":500,"filters":`+filters+`}`)
		if err != nil {
			t.Fatal(err)
		}
		c := t.open(func(s *Settings) { s.Vulns = filters })
		t.Extract(collectortest.FindStream(t, c, "tenable_vulnerabilities"))
		t.assertNotRequested(foreign)
		own := t.ownJobs(vendorsim.TenableVulns)
		if want := `{"filters":` + filters + `,"include_unlicensed":true,"num_assets":200}`; len(own) != 1 || own[0].Body != want {
			t.Errorf("own jobs %+v, want one with the body %s", own, want)
		}
	})
}

// TestTenableJSONRateLimit tests that a 429 with JSON is a rate limit unless it
// refuses a duplicate.
func TestTenableJSONRateLimit(t *testing.T) {
	for _, tc := range []struct {
		name, stream, method, path, requests string
		times, wantRequests                  int
	}{
		{
			name: "start", stream: vendorsim.TenableVulns, method: "POST", path: "/vulns/export", times: 60,
			requests: "POST /vulns/export", wantRequests: 61,
		},
		{
			name: "status", stream: vendorsim.TenableVulns, method: "GET", path: "/vulns/export/*/status", times: 2,
			requests: "POST /vulns/export", wantRequests: 1,
		},
		{
			name: "chunk", stream: vendorsim.TenableVulns, method: "GET", path: "/vulns/export/*/chunks/*", times: 2,
			requests: "GET /vulns/export/{uuid}/chunks/{n}", wantRequests: 7,
		},
		{
			name: "list", stream: vendorsim.TenableAssets, method: "GET", path: "/assets/export/status", times: 2,
			requests: "GET /assets/export/status", wantRequests: 3,
		},
		{
			name: "report", stream: vendorsim.TenableWAS, method: "GET", path: "/was/v2/scans/*/report", times: 2,
			requests: "GET /was/v2/scans/{scan}/report", wantRequests: 9,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runTenant(t, map[string]int{tc.stream: 100}, func(t *tenant) {
				t.vendor.ConfigureStream(tc.stream, smallChunks)
				body := duplicateThrottle
				if tc.name == "start" {
					body = jsonThrottle
				}
				t.Host.Inject(vendorsim.Fault{Method: tc.method, Path: tc.path, Times: tc.times,
					Do: vendorsim.Status(429, body, "Retry-After", "30")})
				began := time.Now()
				c := t.open(func(s *Settings) { s.Parallel = 1 })
				got := t.Extract(collectortest.FindStream(t, c, tc.stream))
				want := t.Records(tc.stream)
				if tc.stream == vendorsim.TenableWAS {
					want = t.webAppRecords()
				}
				t.AssertRecords(got, want)
				if n := t.Host.Stats().Requests[tc.requests]; n != tc.wantRequests {
					t.Errorf("%d requests %s, want %d", n, tc.requests, tc.wantRequests)
				}
				if took := time.Since(began); tc.name != "report" && took < time.Duration(tc.times)*30*time.Second {
					t.Errorf("took %v, less than the vendor asked for", took)
				}
			})
		})
	}
}

// TestTenableNotFoundPasses tests that a 404 for a chunk or a job that exists
// costs only time.
func TestTenableNotFoundPasses(t *testing.T) {
	for name, fault := range map[string]vendorsim.Fault{
		"chunk once":        {Path: "/vulns/export/*/chunks/4", Times: 1},
		"chunk three times": {Path: "/vulns/export/*/chunks/4", Times: 3},
		"first status":      {Path: "/vulns/export/*/status", Times: 3},
		"later status":      {Path: "/vulns/export/*/status", From: 3, Times: 2},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.ConfigureStream(vendorsim.TenableVulns, smallChunks)
				fault.Do = vendorsim.Status(404, `{"statusCode":404,"error":"Not Found","message":"not found"}`)
				injected := t.Host.Inject(fault)
				t.AssertRecords(t.Extract(t.stream("tenable_vulnerabilities")), t.Records(vendorsim.TenableVulns))
				requests := t.Host.Stats().Requests
				wantChunks := 5
				if strings.HasPrefix(name, "chunk") {
					wantChunks += fault.Times
				}
				if chunks := requests["GET /vulns/export/{uuid}/chunks/{n}"]; requests["POST /vulns/export"] != 1 || chunks != wantChunks {
					t.Errorf("requests %v, want one start and %d chunks", requests, wantChunks)
				}
				if injected.Hits() != fault.Times {
					t.Errorf("%d requests met the fault, want %d", injected.Hits(), fault.Times)
				}
				t.AssertNoViolations()
			})
		})
	}
}

// TestTenableLostJobs tests that a job which stays unknown is replaced, and that
// the jobs after it are not started in a hurry.
func TestTenableLostJobs(t *testing.T) {
	runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
		t.Host.Inject(vendorsim.Fault{Path: "/vulns/export/*/status", Times: vendorsim.Forever, Do: vendorsim.Status(404, `{"statusCode":404}`)})
		began := time.Now()
		err := t.ExtractError(t.stream("tenable_vulnerabilities"), 12*time.Hour)
		if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "gave up after 3 jobs") {
			t.Errorf("error %v", err)
		}
		// Three jobs of a minute, and waits of 30 s and two minutes.
		if took := time.Since(began); took < 330*time.Second || took > 7*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// TestTenableAssetsList tests the list of recent exports, which is the only
// source for the number of chunks of an asset export.
func TestTenableAssetsList(t *testing.T) {
	const notFinished, unreadable = "exports that are not finished in the list of recent exports", "exports whose number of chunks cannot be read"
	for _, tc := range []struct {
		name       string
		lag        int
		status     int // of the list; 0 for 200
		wantDoubts map[string]int64
		wantReads  int
	}{
		{name: "current", wantReads: 1},
		{name: "lags twice", lag: 2, wantReads: 3},
		{name: "lags", lag: 100, wantDoubts: map[string]int64{notFinished: 1}, wantReads: 3},
		{name: "forbidden", status: 403, wantDoubts: map[string]int64{unreadable: 1}, wantReads: 1},
		{name: "not there", status: 404, wantDoubts: map[string]int64{unreadable: 1}, wantReads: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableAssets: 100}, func(t *tenant) {
				t.vendor.ConfigureStream(vendorsim.TenableAssets, func(s *vendorsim.TenableStream) {
					smallChunks(s)
					s.ListLag = tc.lag
				})
				if tc.status != 0 {
					t.Host.Inject(vendorsim.Fault{Path: "/assets/export/status", Times: vendorsim.Forever, Do: vendorsim.Status(tc.status, `{}`)})
				}
				got, doubts := t.extractWithDoubts(t.stream("tenable_assets"))
				t.AssertRecords(got, t.Records(vendorsim.TenableAssets))
				t.assertDoubts(doubts, tc.wantDoubts)
				requests := t.Host.Stats().Requests
				if reads := requests["GET /assets/export/status"]; requests["POST /assets/export"] != 1 || reads != tc.wantReads {
					t.Errorf("requests %v, want one start and %d reads of the list", requests, tc.wantReads)
				}
			})
		})
	}
}

// TestTenableChunksThatDoNotAddUp tests an export that is finished with fewer
// chunks than it declares, none of which failed.
func TestTenableChunksThatDoNotAddUp(t *testing.T) {
	for name, tc := range map[string]struct {
		empty      string
		wantDoubts map[string]int64
	}{
		"one chunk less":      {empty: `"empty_chunks_count":0`, wantDoubts: map[string]int64{"exports with fewer chunks than declared": 1}},
		"the chunk was empty": {empty: `"empty_chunks_count":1`},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.ConfigureStream(vendorsim.TenableVulns, smallChunks)
				t.Host.Inject(vendorsim.Fault{Path: "/vulns/export/*/status", Times: vendorsim.Forever, Do: vendorsim.Rewrite(func(body []byte) []byte {
					return []byte(strings.NewReplacer(`"total_chunks":5`, `"total_chunks":6`, `"empty_chunks_count":0`, tc.empty).Replace(string(body)))
				})})
				got, doubts := t.extractWithDoubts(t.stream("tenable_vulnerabilities"))
				t.AssertRecords(got, t.Records(vendorsim.TenableVulns))
				t.assertDoubts(doubts, tc.wantDoubts)
			})
		})
	}
}
