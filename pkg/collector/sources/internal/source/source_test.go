package source

import (
	"context"
	"errors"
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
		NewClient(*base, "ACME_URL", nil, nil, collector.Options{Log: zap.New(core)})
		var host string
		for _, entry := range logs.All() {
			host, _ = entry.ContextMap()["host"].(string)
		}
		if host != tc.wantHost || logs.Len() > 1 {
			t.Errorf("%s: %d warnings, of the host %q, want %q", tc.address, logs.Len(), host, tc.wantHost)
		}
	}
}

// failingAccount has streams that fail with err.
type failingAccount struct {
	streams []string
	err     error
}

func (f failingAccount) Check(context.Context) error { return f.err }

func (f failingAccount) Streams() (streams []collector.Stream) {
	for _, name := range f.streams {
		streams = append(streams, collector.Stream{
			Name: name, Check: f.Check,
			Extract: func(context.Context, collector.Output) error { return f.err },
		})
	}
	return streams
}

// TestErrorsNameTheCollector: the errors of a stream begin with the collector's own
// name, also where it has an underscore.
func TestErrorsNameTheCollector(t *testing.T) {
	failed := errors.New("failed")
	for _, tc := range []struct{ collector, stream, want string }{
		{"okta", "okta_users", "okta users: failed"},
		{"azure_entra", "azure_entra_service_principals", "azure_entra service_principals: failed"},
		{"cisa_kev", "cisa_kev_vulnerabilities", "cisa_kev vulnerabilities: failed"},
		{"domains", "domains", "domains: failed"},
		{"domains", "domains_dns", "domains dns: failed"},
		{"endoflife", "eol_products", "endoflife eol_products: failed"},
	} {
		s := NewCollector(tc.collector, failingAccount{[]string{tc.stream}, failed}).Streams[0]
		for _, err := range []error{s.Extract(t.Context(), nil), s.Check(t.Context())} {
			if !errors.Is(err, failed) || err.Error() != tc.want {
				t.Errorf("%s: error %q, want %q", tc.stream, err, tc.want)
			}
		}
		succeeding := NewCollector(tc.collector, failingAccount{[]string{tc.stream}, nil}).Streams[0]
		if err := errors.Join(succeeding.Extract(t.Context(), nil), succeeding.Check(t.Context())); err != nil {
			t.Errorf("%s: error %v of a stream that succeeds", tc.stream, err)
		}
	}
}
