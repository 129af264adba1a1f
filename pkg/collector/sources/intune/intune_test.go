package intune

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// openIntune opens the collector of the simulated tenant. change may be nil.
func openIntune(h *collectortest.Harness, change func(*Settings)) *collector.Collector {
	h.Helper()
	address := h.Address()
	s := Settings{
		Tenant: vendorsim.MicrosoftTenant, ClientID: vendorsim.MicrosoftClientID, Secret: vendorsim.MicrosoftSecret,
		Authority: address, Graph: address, Hosts: []string{"storage.intune.localhost"},
	}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.graph.SetTransport(h.HTTP)
	return source.NewCollector("intune", a)
}

var listNames = []string{vendorsim.IntuneDevices, vendorsim.IntuneConfigurations, vendorsim.IntuneCompliancePolicies}

// tenant is the simulated tenant.
var tenant = collectortest.Tenant{
	New: func() collectortest.MicrosoftVendor { return vendorsim.NewIntune() }, Lists: listNames, Reports: []string{vendorsim.IntuneDetectedApps},
	Open: func(h *collectortest.Harness) *collector.Collector { return openIntune(h, nil) },
}

// detectedApps returns the records of the report.
func detectedApps(h *collectortest.Harness) (all []string) {
	for i := range h.Sim.RecordCount(vendorsim.IntuneDetectedApps) {
		all = append(all, h.Host.Vendor().(*vendorsim.Intune).DetectedApp(i, reportColumns))
	}
	return all
}

func TestIntuneUnderFaults(t *testing.T) {
	p := collectortest.PagedStream{
		Options: func() vendorsim.Options { return tenant.Simulate(150, nil) },
		Open: func(h *collectortest.Harness) collector.Stream {
			return collectortest.FindStream(h, openIntune(h, nil), vendorsim.IntuneDevices)
		},
		Want:       func(h *collectortest.Harness) []string { return h.Records(vendorsim.IntuneDevices) },
		Requests:   1 + 4,
		Path:       "/v1.0/deviceManagement/managedDevices",
		Credential: "INTUNE_CLIENT_ID",
		Permission: "DeviceManagementManagedDevices.Read.All of Microsoft Graph",
		Secret:     vendorsim.MicrosoftSecret,
		Renews:     true,
	}
	p.TestPassing(t, nil)
	p.TestLasting(t)
}

func TestIntuneStreams(t *testing.T) {
	for _, tc := range []struct {
		name      string
		records   int
		configure func(*vendorsim.MicrosoftBehaviour)
		pages     int
	}{
		{name: "no records", records: 0, pages: 1},
		{name: "last page full", records: 120, pages: 3},
		{name: "several pages", records: 130, pages: 4},
		{name: "empty pages between", records: 130, configure: func(b *vendorsim.MicrosoftBehaviour) { b.EmptyBetween = true }, pages: 7},
	} {
		for _, stream := range listNames {
			t.Run(stream+"/"+tc.name, func(t *testing.T) {
				collectortest.Run(t, tenant.Simulate(tc.records, tc.configure), func(h *collectortest.Harness) {
					s := collectortest.FindStream(h, openIntune(h, nil), stream)
					h.AssertRecords(h.Extract(s), h.Records(stream))
					h.AssertRequests(1 + tc.pages)
				})
			})
		}
	}
}

// TestIntuneDetectedApps: the report has every row, as text, by one job and one file,
// whose host does not get the token.
func TestIntuneDetectedApps(t *testing.T) {
	for _, tc := range []struct {
		name     string
		records  int
		exports  vendorsim.IntuneExports
		requests int
		jobs     int
	}{
		{name: "no rows", records: 0, requests: 1 + 1 + 3 + 1 + 1, jobs: 1},
		{name: "rows", records: 130, requests: 1 + 1 + 3 + 1 + 1, jobs: 1},
		{name: "at once", records: 130, exports: vendorsim.IntuneExports{Polls: -1}, requests: 1 + 1 + 1 + 1 + 1, jobs: 1},
		{name: "expired address", records: 130, exports: vendorsim.IntuneExports{ExpiredLinks: 2}, requests: 1 + 1 + 3 + 3*(1+1), jobs: 1},
		{name: "two jobs failed", records: 130, exports: vendorsim.IntuneExports{Failing: 2}, requests: 1 + 2*(1+3) + (1 + 3) + 1 + 1, jobs: 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, tenant.Simulate(tc.records, nil), func(h *collectortest.Harness) {
				h.Host.Vendor().(*vendorsim.Intune).ConfigureExports(func(e *vendorsim.IntuneExports) { *e = tc.exports })
				s := collectortest.FindStream(h, openIntune(h, nil), vendorsim.IntuneDetectedApps)
				h.AssertRecords(h.Extract(s), detectedApps(h))
				h.AssertRequests(tc.requests)
				if n := h.Host.Stats().Requests["POST /v1.0/deviceManagement/reports/exportJobs"]; n != tc.jobs {
					t.Errorf("%d jobs, want %d", n, tc.jobs)
				}
			})
		})
	}
}

// TestIntuneStuckJob: a job that never ends is replaced after half an hour.
func TestIntuneStuckJob(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(20, nil), func(h *collectortest.Harness) {
		h.Host.Vendor().(*vendorsim.Intune).ConfigureExports(func(e *vendorsim.IntuneExports) { e.Stuck = 1 })
		began := time.Now()
		h.AssertRecords(h.Extract(collectortest.FindStream(h, openIntune(h, nil), vendorsim.IntuneDetectedApps)), detectedApps(h))
		if took := time.Since(began); took < longestJob || took > 2*longestJob {
			t.Errorf("the run took %v, want a little more than %v", took, longestJob)
		}
		h.AssertNoViolations()
	})
}

// TestIntuneBadFiles: what is not the archive of a report leaves no record.
func TestIntuneBadFiles(t *testing.T) {
	twoFiles := func(h *collectortest.Harness) {
		h.Host.Vendor().(*vendorsim.Intune).ConfigureExports(func(e *vendorsim.IntuneExports) { e.TwoFiles = true })
	}
	for _, tc := range []struct {
		name   string
		fault  vendorsim.Effect
		change func(h *collectortest.Harness)
		hosts  []string
		want   string
		once   bool // another job would not help
	}{
		{name: "HTML", fault: vendorsim.HTML(200), want: "an html page"},
		{name: "two files", change: twoFiles, want: "the archive has"},
		{name: "another host", hosts: []string{".blob.core.windows.net"}, want: "storage.intune.localhost: files of intune.localhost are accepted only from intune.localhost, .blob.core.windows.net: if the host belongs to the vendor, add it to intune_report_hosts", once: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, tenant.Simulate(20, nil), func(h *collectortest.Harness) {
				if tc.fault != nil {
					h.Host.Inject(vendorsim.Fault{Path: "/reports/*", Times: vendorsim.Forever, Do: tc.fault})
				}
				if tc.change != nil {
					tc.change(h)
				}
				c := openIntune(h, func(s *Settings) {
					if tc.hosts != nil {
						s.Hosts = tc.hosts
					}
				})
				err := h.ExtractError(collectortest.FindStream(h, c, vendorsim.IntuneDetectedApps), 10*time.Hour)
				if errors.Is(err, collector.ErrIncomplete) == tc.once || !strings.Contains(strings.ToLower(err.Error()), tc.want) {
					t.Errorf("error %v, want %q", err, tc.want)
				}
				if n := h.Host.Stats().Requests["POST /v1.0/deviceManagement/reports/exportJobs"]; tc.once && n != 1 {
					t.Errorf("%d jobs were started, want 1", n)
				}
				if strings.Contains(err.Error(), "sig=") {
					t.Errorf("the error shows the address of the file: %v", err)
				}
				h.AssertNoViolations()
			})
		})
	}
}

// TestIntuneContinuesJob: a job that a stopped run has started is continued.
func TestIntuneContinuesJob(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(50, nil), func(h *collectortest.Harness) {
		runs := collectortest.OpenRuns(h)
		defer runs.Close()
		s := collectortest.FindStream(h, openIntune(h, nil), vendorsim.IntuneDetectedApps)
		fault := h.Host.Inject(vendorsim.Fault{Path: "/reports/*", Times: vendorsim.Forever, Do: vendorsim.Status(500, "")})
		if result := runs.RunStream(s); result.Err == nil {
			t.Fatal("the run without a file succeeded")
		}
		fault.Remove()
		h.Sim.SetCount(vendorsim.IntuneDetectedApps, 60) // the job has 50
		want := detectedApps(h)[:50]
		if result := runs.RunStream(s); result.Err != nil {
			t.Fatal(result.Err)
		}
		h.AssertRecords(runs.LastRecords(vendorsim.IntuneDetectedApps), want)
		if n := h.Host.Stats().Requests["POST /v1.0/deviceManagement/reports/exportJobs"]; n != 1 {
			t.Errorf("%d jobs, want 1", n)
		}
	})
}

func TestIntunePermissions(t *testing.T) {
	tenant.TestPermissions(t, map[string]string{
		vendorsim.IntuneDevices:            "INTUNE_CLIENT_ID needs the application permission DeviceManagementManagedDevices.Read.All of Microsoft Graph",
		vendorsim.IntuneConfigurations:     "permission DeviceManagementConfiguration.Read.All",
		vendorsim.IntuneCompliancePolicies: "permission DeviceManagementConfiguration.Read.All",
		vendorsim.IntuneDetectedApps:       "permission DeviceManagementManagedDevices.Read.All and DeviceManagementApps.Read.All",
	}, func(h *collectortest.Harness, stream string) {
		if n := h.Host.Stats().Requests["POST /v1.0/deviceManagement/reports/exportJobs"]; n > 1 || stream != vendorsim.IntuneDetectedApps && n > 0 {
			t.Errorf("%d jobs were started", n)
		}
	})
}

func TestIntuneRefusals(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(10, nil), func(h *collectortest.Harness) {
		err := openIntune(h, func(s *Settings) { s.Secret = "a-wrong-secret" }).Check(h.Context())
		if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "check INTUNE_TENANT_ID, INTUNE_CLIENT_ID and INTUNE_CLIENT_SECRET") || strings.Contains(err.Error(), "a-wrong-secret") {
			t.Errorf("error %v", err)
		}
		h.AssertRequests(1)
	})
}
