package doctor_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/collectord/collectord/pkg/doctor"
)

// TestAskService requests servers that a service may be: on a socket, with TLS, and with a
// certificate of the client.
func TestAskService(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/-/healthy" || r.Host != "localhost" {
			http.Error(w, r.Host+r.URL.Path, http.StatusMisdirectedRequest)
		}
	})
	socket := filepath.Join(t.TempDir(), "http.sock")
	for _, tt := range []struct {
		name, network, address string
		tls                    *tls.Config // nil for none
		webConfig              bool
		status                 int
	}{
		{name: "a socket", network: "unix", address: socket, status: 200},
		{name: "a web configuration without TLS", network: "tcp", address: "127.0.0.1:0", webConfig: true, status: 200},
		{name: "TLS", network: "tcp", address: "127.0.0.1:0", tls: &tls.Config{}, webConfig: true, status: 200},
		{name: "TLS with a certificate of the client", network: "tcp", address: "127.0.0.1:0", tls: &tls.Config{ClientAuth: tls.RequireAnyClientCert}, webConfig: true, status: 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen(tt.network, tt.address)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewUnstartedServer(handler)
			server.Listener.Close()
			server.Listener, server.TLS = l, tt.tls
			if tt.tls != nil {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			listen := l.Addr().String()
			if tt.network == "unix" {
				listen = "unix:" + socket
			}
			r, err := doctor.AskService(t.Context(), listen, tt.webConfig, "/-/healthy")
			if err != nil || r.Status != tt.status || r.NeedsPassword() != (tt.status == 401) {
				t.Errorf("response %+v, error %v, want the status %d", r, err, tt.status)
			}
		})
	}
	if _, err := doctor.AskService(t.Context(), "unix:"+socket+".gone", false, "/-/healthy"); err == nil {
		t.Error("a missing socket is no error")
	}
}
