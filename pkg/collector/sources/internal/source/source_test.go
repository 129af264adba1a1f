package source

import (
	"net/url"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/collector"
)

// TestPlainHTTPWarns: an address without TLS is used with a warning, unless it
// is on this machine.
func TestPlainHTTPWarns(t *testing.T) {
	for _, tc := range []struct {
		address  string
		wantHost string // "" for no warning
	}{
		{address: "https://acme.okta.com"},
		{address: "http://acme.okta.com", wantHost: "acme.okta.com"},
		{address: "http://gateway.test:8080/okta", wantHost: "gateway.test:8080"},
		{address: "http://10.0.0.1", wantHost: "10.0.0.1"},
		{address: "http://localhost.test", wantHost: "localhost.test"},
		{address: "http://127.0.0.1:8080"},
		{address: "http://127.1.2.3"},
		{address: "http://[::1]:8080"},
		{address: "http://LOCALHOST"},
		{address: "http://okta.localhost"},
		{address: "http://notlocalhost", wantHost: "notlocalhost"},
	} {
		base, err := url.Parse(tc.address)
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.WarnLevel)
		NewClient(*base, nil, nil, collector.Options{Log: zap.New(core)})
		var host string
		for _, entry := range logs.All() {
			host, _ = entry.ContextMap()["host"].(string)
		}
		if host != tc.wantHost || logs.Len() > 1 {
			t.Errorf("%s: %d warnings, of the host %q, want %q", tc.address, logs.Len(), host, tc.wantHost)
		}
	}
}
