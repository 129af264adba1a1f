package nvd

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

const apiPath, filesPath = "/rest/json/cves/2.0", "/feeds/json/cve/2.0"

// fileCount is the number of yearly files of the simulated database.
const fileCount = 25

// openNVD sets the clock to the time of the simulated data and opens the collector.
func openNVD(h *collectortest.Harness, key string) *collector.Collector {
	h.Helper()
	time.Sleep(max(0, time.Until(vendorsim.DefaultBase.Add(time.Hour))))
	s := Settings{
		On: true, Key: config.Secret(key), Endpoint: h.Host.URL() + apiPath, Feeds: h.Host.URL() + filesPath,
	}
	a, err := openAccount(&s, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP, a.files.HTTP = h.HTTP, h.HTTP
	return source.NewCollector("nvd", a)
}

// openCVEs opens the collector and returns its stream.
func openCVEs(h *collectortest.Harness) collector.Stream {
	h.Helper()
	return collectortest.FindStream(h, openNVD(h, vendorsim.NVDKey), "nvd_cves")
}

// simulateNVD returns a database whose pages have at most 40 CVEs.
func simulateNVD(count int) (*vendorsim.NVD, vendorsim.Options) {
	sim := vendorsim.NewNVD()
	return sim, vendorsim.Options{
		Vendors: []vendorsim.Vendor{sim}, Counts: map[string]int{vendorsim.NVDCVEs: count},
		RecordBytes: map[string]int{vendorsim.NVDCVEs: 700}, PageLimits: map[string]int{vendorsim.NVDCVEs: 40},
	}
}

// rebuildRequests is the number of requests of a run that reads the files of a database
// with 1050 CVEs: 150 of them were modified within the last week, and a few more by
// chance.
const rebuildRequests = 1 + 4 + 2*fileCount

func TestNVDUnderFaults(t *testing.T) {
	// The third request for a file is for the content of the first one.
	for name, path := range map[string]string{"api": apiPath, "files": filesPath + "/*"} {
		t.Run(name, func(t *testing.T) {
			p := collectortest.PagedStream{
				Options:    func() vendorsim.Options { _, o := simulateNVD(1050); return o },
				Open:       openCVEs,
				Want:       func(h *collectortest.Harness) []string { return h.Records(vendorsim.NVDCVEs) },
				Path:       path,
				Requests:   rebuildRequests,
				Credential: "401", Permission: "403", Secret: vendorsim.NVDKey,
				Parallel: true, // the statuses 403 and 404 have another meaning here
			}
			own := map[string]vendorsim.Fault{}
			if name == "api" {
				own["403 without a wait"] = vendorsim.Fault{Times: 3, Do: vendorsim.Status(403, "Request forbidden by administrative rules.", "Retry-After", "0")}
			}
			p.TestPassing(t, own)
			p.TestLasting(t)
		})
	}
}

// TestRunsOfADatabase checks what each of several runs requests and stores.
func TestRunsOfADatabase(t *testing.T) {
	sim, options := simulateNVD(1050)
	collectortest.Run(t, options, func(h *collectortest.Harness) {
		stream := openCVEs(h)
		runs := collectortest.OpenRuns(h)
		defer runs.Close()
		requests := 0
		runOnce := func(what string, outcome state.Outcome, more int) {
			t.Helper()
			result := runs.RunStream(stream)
			if result.Outcome != outcome {
				t.Fatalf("%s: outcome %s, error %v, want %s", what, result.Outcome, result.Err, outcome)
			}
			h.AssertRecords(runs.LastRecords(vendorsim.NVDCVEs), h.Records(vendorsim.NVDCVEs))
			requests += more
			h.AssertRequests(requests)
		}
		runOnce("first run", state.Success, rebuildRequests)
		// The last day is read again. What the API has is the same.
		runOnce("nothing modified", state.Unchanged, 1)
		sim.Modify(10, time.Now())
		sim.Modify(11, time.Now())
		sim.Add(time.Now())
		time.Sleep(time.Hour)
		runOnce("two modified, one new", state.Success, 1)
		runOnce("nothing modified again", state.Unchanged, 1)
		time.Sleep(20 * 24 * time.Hour)
		runOnce("after a pause, nothing modified", state.Unchanged, 1)
		sim.Modify(10, time.Now())
		time.Sleep(time.Minute)
		runOnce("modified again after the pause", state.Success, 1)
		time.Sleep(11 * 24 * time.Hour)
		// The files do not have what was modified 31 days ago: only the API does.
		result := runs.RunStream(stream)
		if result.Outcome != state.Success {
			t.Fatalf("rebuild: outcome %s, error %v", result.Outcome, result.Err)
		}
		if n := h.Host.Stats().Total - requests; n < 2*fileCount {
			t.Errorf("%d requests, want those of a rebuild", n)
		}
	})
}

// TestOtherAddressesReadAll checks that a snapshot from other addresses is not continued.
func TestOtherAddressesReadAll(t *testing.T) {
	_, options := simulateNVD(200)
	collectortest.Run(t, options, func(h *collectortest.Harness) {
		stream := openCVEs(h)
		runs := collectortest.OpenRuns(h)
		defer runs.Close()
		first := runs.RunStream(stream)
		s := Settings{On: true, Endpoint: h.Host.URL() + apiPath, Feeds: h.Host.URL() + filesPath + "/"}
		a, err := openAccount(&s, collector.Options{Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		a.api.HTTP, a.files.HTTP = h.HTTP, h.HTTP
		a.selection = "others"
		other := runs.RunStream(a.Streams()[0])
		for _, result := range []run.Result{first, other} {
			if result.Outcome != state.Success || result.Requests < 2*fileCount {
				t.Errorf("outcome %s, error %v, %d requests", result.Outcome, result.Err, result.Requests)
			}
		}
	})
}

// TestModifiedWhileRead checks that a list that moves while it is read is read again.
func TestModifiedWhileRead(t *testing.T) {
	sim, options := simulateNVD(1050)
	collectortest.Run(t, options, func(h *collectortest.Harness) {
		stream := openCVEs(h)
		sim.ChangeBehaviour(func(b *vendorsim.NVDBehaviour) { b.ModifyAfter = 2 })
		got := h.Extract(stream)
		ids := map[string]bool{}
		for _, record := range got {
			ids[rest.TextOf(rest.Member([]byte(record), "id"))] = true
		}
		if len(got) != 1050 || len(ids) != 1050 {
			t.Errorf("%d records with %d ids, want 1050", len(got), len(ids))
		}
		h.AssertRequests(rebuildRequests + 3) // three pages were read in vain
	})
}

// TestFileThatIsReplaced checks that a file is read again with its new description, and
// that one that never matches fails the run.
func TestFileThatIsReplaced(t *testing.T) {
	for _, tc := range []struct {
		name  string
		wrong int
		want  string
	}{
		{name: "once", wrong: 2},
		{name: "for good", wrong: 1000, want: "not the one that its .meta file describes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim, options := simulateNVD(100)
			collectortest.Run(t, options, func(h *collectortest.Harness) {
				stream := openCVEs(h)
				sim.ChangeBehaviour(func(b *vendorsim.NVDBehaviour) { b.WrongSum = tc.wrong })
				if tc.want == "" {
					h.AssertRecords(h.Extract(stream), h.Records(vendorsim.NVDCVEs))
					return
				}
				err := h.ExtractError(stream, time.Hour)
				if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want %q", err, tc.want)
				}
			})
		})
	}
}

// TestNoFileOfTheYear checks that the run at the start of a year, without the file of
// that year, reads its CVEs from the API.
func TestNoFileOfTheYear(t *testing.T) {
	sim, options := simulateNVD(fileCount * 4)
	collectortest.Run(t, options, func(h *collectortest.Harness) {
		stream := openCVEs(h)
		sim.ChangeBehaviour(func(b *vendorsim.NVDBehaviour) { b.NoCurrentFile = true })
		var want []string
		for i, record := range h.Records(vendorsim.NVDCVEs) {
			if i%fileCount == fileCount-1 { // of the year without a file
				sim.Modify(i, time.Date(2025, 12, 12, 3, 4, 5, 0, time.UTC).AddDate(0, 0, i%30))
				record = string(h.Sim.Record(vendorsim.NVDCVEs, i))
			}
			want = append(want, record)
		}
		h.AssertRecords(h.Extract(stream), want)
	})
}

// TestFaultyFiles checks which contents of a file are refused.
func TestFaultyFiles(t *testing.T) {
	for _, tc := range []struct {
		name, content, want string
	}{
		{name: "CVE of another year", content: `{"totalResults":1,"vulnerabilities":[{"cve":{"id":"CVE-2011-0001"}}]}`, want: "CVE-2011-0001 is in the file of 2010"},
		{name: "id of another form", content: `{"totalResults":1,"vulnerabilities":[{"cve":{"id":"VU-2010"}}]}`, want: "VU-2010 is in the file of 2010"},
		{name: "CVE twice", content: `{"totalResults":2,"vulnerabilities":[{"cve":{"id":"CVE-2010-1"}},{"cve":{"id":"CVE-2010-1"}}]}`, want: "CVE-2010-1 twice"},
		{name: "no id", content: `{"totalResults":1,"vulnerabilities":[{"cve":{"ID":"CVE-2010-1"}}]}`, want: "no cve.id"},
		{name: "fewer than declared", content: `{"totalResults":2,"vulnerabilities":[{"cve":{"id":"CVE-2010-1"}}]}`, want: "1 of 2 declared CVEs"},
		{name: "early year", content: `{"totalResults":1,"vulnerabilities":[{"cve":{"id":"CVE-1999-1"}}]}`, want: "CVE-1999-1 is in the file of 2010"},
	} {
		meta, err := parseMeta(strings.NewReader(describeFile(tc.content)))
		if err != nil {
			t.Fatal(err)
		}
		err = readYearFile(strings.NewReader(tc.content), meta, 2010, changes{}, func([]byte) error { return nil })
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestParseMeta(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		wantErr    bool
	}{
		{name: "whole", text: describeFile("x")},
		{name: "no size", text: "sha256:" + strings.Repeat("0A", 32), wantErr: true},
		{name: "no sum", text: "size:12", wantErr: true},
		{name: "short sum", text: "size:12\nsha256:0A", wantErr: true},
		{name: "page", text: "<html>", wantErr: true},
	} {
		meta, err := parseMeta(strings.NewReader(tc.text))
		if (err != nil) != tc.wantErr || err == nil && meta.size != 1 {
			t.Errorf("%s: %+v, error %v", tc.name, meta, err)
		}
	}
}

// TestNVDRequests checks the requests of the API without a key and with one.
func TestNVDRequests(t *testing.T) {
	for _, key := range []string{"", vendorsim.NVDKey} {
		_, options := simulateNVD(1050)
		collectortest.Run(t, options, func(h *collectortest.Harness) {
			stream := collectortest.FindStream(h, openNVD(h, key), "nvd_cves")
			began := time.Now()
			h.Extract(stream)
			h.AssertRequests(rebuildRequests)
			var queries []string
			for _, r := range h.Host.Stats().Log {
				if r.Path == apiPath {
					queries = append(queries, r.Query)
				}
			}
			end := began.UTC().Format("2006-01-02T15:04:05.000")
			start := began.UTC().Add(-8 * 24 * time.Hour).Format("2006-01-02T15:04:05.000")
			want := fmt.Sprintf("lastModStartDate=%s&lastModEndDate=%s&resultsPerPage=2000&startIndex=40", start, end)
			if len(queries) != 4 || queries[1] != want {
				t.Errorf("queries %q, want the second to be %q", queries, want)
			}
		})
	}
}

// TestNVDCheck checks what the smallest requests say about the settings.
func TestNVDCheck(t *testing.T) {
	_, options := simulateNVD(10)
	collectortest.Run(t, options, func(h *collectortest.Harness) {
		for _, tc := range []struct {
			key  string
			want string
		}{
			{key: ""}, {key: vendorsim.NVDKey}, {key: "wrong", want: `check NVD_API_KEY, and NVD_ENDPOINT, which is http://nvd.localhost/rest/json/cves/2.0: the API's reason: "Invalid apiKey."`},
		} {
			c := openNVD(h, tc.key)
			for _, err := range []error{c.Check(h.Context()), c.Streams[0].Check(h.Context())} {
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("key %q: error %v, want %q", tc.key, err, tc.want)
				}
			}
		}
		h.AssertNoViolations()
	})
}

// TestNVDRefusals: the errors of a check that a proxy or the limit of the API refuses
// say what to do.
func TestNVDRefusals(t *testing.T) {
	for _, tc := range []struct {
		path   string
		status int
		want   []string
	}{
		{"/feeds/**", 401, []string{"GET /feeds/", "401 Unauthorized: the files are public", "check NVD_FEEDS, which is http"}},
		{"/rest/**", 403, []string{"GET /rest/json/cves/2.0: the check took longer than 30s after ", "the last: 403 Forbidden: the API refuses more requests for now", "check NVD_ENDPOINT, which is http"}},
	} {
		_, options := simulateNVD(10)
		collectortest.Run(t, options, func(h *collectortest.Harness) {
			h.Host.Inject(vendorsim.Fault{Path: tc.path, Times: vendorsim.Forever, Do: vendorsim.Status(tc.status, "")})
			probe := &doctor.Probe{Check: openNVD(h, "").Streams[0].Check}
			doctor.RunProbes(h.Context(), 30*time.Second, []*doctor.Probe{probe}, nil)
			for _, want := range tc.want {
				if probe.Err == nil || !strings.Contains(probe.Err.Error(), want) {
					t.Errorf("error %v, want %q", probe.Err, want)
				}
			}
		})
	}
}

func TestNVDSettings(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings Settings
		want     string // the variable of the problem
	}{
		{name: "usual", settings: Settings{Endpoint: "https://a.example/x", Feeds: "https://b.example/y"}},
		{name: "endpoint", settings: Settings{Endpoint: "ftp://a", Feeds: "https://b.example/y"}, want: "NVD_ENDPOINT"},
		{name: "files", settings: Settings{Endpoint: "https://a.example", Feeds: "https://b.example/?key=1"}, want: "NVD_FEEDS"},
	} {
		t.Run(tc.name, func(t *testing.T) { collectortest.AssertProblem(t, tc.settings.Validate(), tc.want) })
	}
}

// describeFile returns the description of a file with a content.
func describeFile(content string) string {
	return fmt.Sprintf("lastModifiedDate:2026-01-19T16:00:01-05:00\r\nsize:%d\r\nzipSize:1\r\ngzSize:1\r\nsha256:%X\r\n",
		len(content), sha256.Sum256([]byte(content)))
}
