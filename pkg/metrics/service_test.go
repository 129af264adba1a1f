package metrics

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state/local"
)

// TestServiceSettings checks the metrics of the settings that tenancies share, and of the
// tenancies that cannot be used, beside one that works.
func TestServiceSettings(t *testing.T) {
	st, err := local.Open(t.Context(), t.TempDir(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, tc := range []struct {
		shared error
		want   string
	}{
		{nil, "1"},
		{errors.New("HTTP_TOKENS_FILE: it is not valid YAML"), "0"},
	} {
		m := New(Options{
			State: st, Version: "v1", Ready: func() error { return nil },
			LastReload: func() (time.Time, error) { return noon, tc.shared },
			Unusable:   func() []string { return []string{"acme", "globex"} },
		})
		m.AddTenancy(TenancyOptions{Name: "acme", Daemon: &fakeDaemon{}, Sinks: func() []string { return nil }})
		response := httptest.NewRecorder()
		m.Handler().ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))
		for _, label := range []string{`tenancy=""} ` + tc.want, `tenancy="acme"} 1`, `tenancy="globex"} 0`} {
			if line := "collectord_config_last_reload_successful{" + label + "\n"; !strings.Contains(response.Body.String(), line) {
				t.Errorf("with the error %v there is no line %s", tc.shared, line)
			}
		}
		if n := strings.Count(response.Body.String(), "\ncollectord_config_last_reload_successful{"); n != 3 {
			t.Errorf("%d series, want 3", n)
		}
	}
}
