package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// clusterStatus is what the test reads of cluster status --json.
type clusterStatus struct {
	PausedBy  *string `json:"paused_by"`
	Processes []struct {
		Name, State string
		Differs     bool `json:"settings_differ"`
	}
	Tasks []struct {
		Collector, State string
		Streams          []string
		Node             *string
	}
}

// readCluster returns the output of cluster status --json.
func (s *sharedState) readCluster() (status clusterStatus) {
	s.Helper()
	r := s.Run("cluster", "status", "--json")
	s.AssertResult(r, harness.ExitOK)
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
		s.Fatal(err)
	}
	return status
}

// stateOf returns the state of a process, and whether its settings differ.
func (c clusterStatus) stateOf(name string) (text string, differs bool) {
	for _, p := range c.Processes {
		if p.Name == name {
			return p.State, p.Differs
		}
	}
	return "", false
}

// A run is in progress in one of two services that share a state: both show it, and it is
// cancelled, over HTTP and by a command. The services are paused and go on.
func TestClusterCommands(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-the-test"
	s := newSharedState(t)
	s.Env["CLUSTER_LEASE"] = "4s" // a busy machine connects slowly
	slow, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOkta()}, Latency: time.Second,
		Counts: map[string]int{vendorsim.OktaUsers: 600}, PageLimits: map[string]int{vendorsim.OktaUsers: 1}, Limits: map[string]vendorsim.LimitNumbers{"okta": {Max: 1e6}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slow.Close)
	s.UseVendors(slow)
	s.Env["CLUSTER_NODE"], s.Env["HTTP_TOKEN"], s.Env["SCHEDULE"], s.Env["SCHEDULE_CATCHUP"], s.Env["SHUTDOWN_GRACE"] = "first", token, "0 0 1 1 *", "false", "1s"
	first := s.StartService()
	base := first.BaseURL()
	first.WaitForLog(`"ready"`)
	other := s.onOtherMachine(t)
	second := other.StartService()
	otherBase := second.BaseURL()
	second.WaitForLog("another service leads")

	s.AssertResult(s.Run("cluster", "cancel", "okta"), harness.ExitFailed, "no run of it is in progress or waits")
	s.AssertResult(s.Run("cluster", "cancel", "none"), harness.ExitUsage, `"none" is not a collector`, "crowdstrike")
	s.AssertResult(s.Run("cluster", "cancel", "okta_users"), harness.ExitUsage, "it is a stream of okta")
	s.AssertResult(s.Run("cluster", "pause"), harness.ExitOK, "paused since")
	if status := s.readCluster(); status.PausedBy == nil || !strings.Contains(*status.PausedBy, "@") {
		t.Errorf("paused: %+v", status)
	}
	if code, body := second.Request("POST", otherBase+"/api/v1/collectors/okta/run", token); code != 202 {
		t.Errorf("run: %d %s", code, body)
	}
	waitUntil(t, "the run waits", func() bool {
		tasks := s.readCluster().Tasks
		return len(tasks) == 1 && tasks[0].State != "running" && tasks[0].Node == nil
	})
	for _, address := range []string{base, otherBase} {
		waitUntil(t, "the page says that the services are paused", func() bool {
			_, body := first.Request("GET", address+"/", "")
			return strings.Contains(body, "Paused since") && strings.Contains(body, "Waiting: okta: ") && strings.Contains(body, "serves this page")
		})
	}
	s.AssertResult(s.Run("cluster", "status"), harness.ExitOK, "paused since", "leader", "follower", "okta_users")
	if code, body := second.Request("POST", otherBase+"/api/v1/cluster/resume", token); code != 200 {
		t.Errorf("resume: %d %s", code, body)
	}
	waitUntil(t, "the run is in progress, and both say where", func() bool {
		tasks := s.readCluster().Tasks
		_, body := first.Request("GET", base+"/api/v1/status", "")
		_, otherBody := second.Request("GET", otherBase+"/api/v1/status", "")
		isRunning := len(tasks) == 1 && tasks[0].State == "running" && tasks[0].Node != nil
		return isRunning && strings.Contains(body+otherBody, `"service":"`+*tasks[0].Node+`"`) &&
			strings.Contains(body, `"state":"running"`) && strings.Contains(otherBody, `"state":"running"`)
	})
	if code, body := second.Request("POST", otherBase+"/api/v1/collectors/okta/cancel", token); code != 200 || !strings.Contains(body, `"runs":1`) {
		t.Errorf("cancel: %d %s", code, body)
	}
	waitUntil(t, "the run has ended", func() bool { return len(s.readCluster().Tasks) == 0 })
	if _, body := first.Request("GET", base+"/api/v1/runs?stream=okta_users", ""); !strings.Contains(body, `"cancelled"`) {
		t.Errorf("the history: %s", body)
	}
	if code, body := first.Request("POST", base+"/api/v1/collectors/okta/run", token); code != 202 {
		t.Errorf("run: %d %s", code, body)
	}
	waitUntil(t, "the run is in progress", func() bool {
		tasks := s.readCluster().Tasks
		return len(tasks) == 1 && tasks[0].State == "running"
	})
	s.AssertResult(other.Run("cluster", "cancel", "okta"), harness.ExitOK, "cancelled: 1 run of okta")
	waitUntil(t, "the run has ended", func() bool { return len(s.readCluster().Tasks) == 0 })
	if _, body := second.Request("GET", otherBase+"/metrics", ""); !strings.Contains(body, `collectord_cluster_leader{tenancy="default"} 0`) ||
		!strings.Contains(body, `collectord_cluster_nodes{tenancy="default"} 2`) {
		t.Error("the metrics of the service that follows")
	}
	first.Signal(syscall.SIGKILL)
	first.Wait()
	second.WaitForLog("this process leads now")
	waitUntil(t, "the first service is silent", func() bool {
		text, _ := s.readCluster().stateOf("first")
		return text == "silent"
	})
	second.Signal(syscall.SIGTERM)
	s.AssertResult(second.Wait(), harness.ExitOK)
}

// A service with other settings says so, and import takes a directory over.
func TestClusterSettingsDiffer(t *testing.T) {
	t.Parallel()
	before := harness.NewWorkspace(t)
	s := newSharedState(t)
	s.Env["CLUSTER_LEASE"] = "4s" // a busy machine connects slowly
	before.UseVendors(harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: s.users}, vendorsim.NewOkta()))
	before.AssertResult(before.Run("--once"), harness.ExitOK)
	s.AssertResult(s.Run("cluster", "import", before.Env["STATE_DIR"]), harness.ExitOK, "okta_users", "imported")
	if _, err := os.Stat(filepath.Join(before.Env["STATE_DIR"], "collectord.db")); err != nil {
		t.Error(err)
	}
	s.Env["CLUSTER_NODE"], s.Env["SCHEDULE"], s.Env["SCHEDULE_CATCHUP"] = "first", "0 0 1 1 *", "false"
	first := s.StartService()
	base := first.BaseURL()
	first.WaitForLog(`"ready"`)
	other := s.onOtherMachine(t)
	other.Env["SCHEDULE"] = "0 0 2 1 *"
	second := other.StartService()
	otherBase := second.BaseURL()
	second.WaitForLog("another service leads")
	waitUntil(t, "the settings differ", func() bool {
		_, differs := s.readCluster().stateOf("other")
		return differs
	})
	s.AssertResult(s.Run("cluster", "status"), harness.ExitOK, "other executes no runs: its settings or its version differ from those of first")
	waitUntil(t, "the pages say so", func() bool {
		_, body := first.Request("GET", base+"/", "")
		_, otherBody := second.Request("GET", otherBase+"/", "")
		_, metrics := second.Request("GET", otherBase+"/metrics", "")
		return strings.Contains(body, "differ from those of the leader") && strings.Contains(otherBody, "and executes no runs") &&
			strings.Contains(metrics, `collectord_cluster_settings_differ{tenancy="default"} 1`)
	})
	if _, body := second.Request("GET", otherBase+"/", ""); !strings.Contains(body, `class="alarm" role="status" data-live hidden`) {
		t.Error("the service that follows has an alarm")
	}
}
