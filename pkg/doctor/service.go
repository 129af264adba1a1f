package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/collectord/collectord/internal/listen"
)

// serviceTimeout is the time that a service on this machine has to respond.
const serviceTimeout = 2 * time.Second

// Errors of AskService about HTTP_LISTEN.
var (
	ErrServiceOff = errors.New("HTTP_LISTEN is off")
	ErrNoPort     = errors.New("HTTP_LISTEN has no fixed port")
)

// A ServiceResponse is the response of a service.
type ServiceResponse struct {
	URL    string // of the service
	Status int
	// Text is the error in the response; "" for none.
	Text string
}

// NeedsPassword reports whether the service responds only to requests with a password or
// a certificate.
func (s ServiceResponse) NeedsPassword() bool { return s.Status == http.StatusUnauthorized }

// AskService requests a path of the service that listens on this machine at the address
// of HTTP_LISTEN, or on its socket. With a web configuration file it may have TLS. The
// request has no credentials, and the certificate, which is for another name, is not
// verified.
func AskService(ctx context.Context, address string, webConfig bool, path string) (r ServiceResponse, err error) {
	if address == "" {
		return r, ErrServiceOff
	}
	if _, isSocket := listen.SocketPath(address); !isSocket && strings.HasSuffix(address, ":0") {
		return r, ErrNoPort
	}
	client, base, err := listen.NewClient(address)
	if err != nil {
		return r, err
	}
	client.Timeout = serviceTimeout
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	if webConfig {
		secure := "https://" + strings.TrimPrefix(base, "http://")
		r, err := requestFrom(ctx, client, secure, path)
		var remote *net.OpError
		switch {
		case errors.As(err, &remote) && remote.Op == "remote error": // it wants a certificate of the client
			return ServiceResponse{URL: secure, Status: http.StatusUnauthorized}, nil
		case !errors.Is(err, http.ErrSchemeMismatch):
			return r, err
		}
	}
	return requestFrom(ctx, client, base, path)
}

// requestFrom requests a path of the server at base.
func requestFrom(ctx context.Context, client *http.Client, base, path string) (ServiceResponse, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return ServiceResponse{}, err
	}
	req.Host = "localhost" // a server on loopback refuses other names
	resp, err := client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // without the address, which the caller names
		}
		return ServiceResponse{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return ServiceResponse{}, err
	}
	r := ServiceResponse{URL: base, Status: resp.StatusCode}
	if r.Status != http.StatusOK {
		r.Text = strings.TrimSpace(string(body))
	}
	return r, nil
}

// serviceAt reports whether a service responds at the address of HTTP_LISTEN. ok
// is false when that is off or has no fixed port.
func serviceAt(ctx context.Context, address string, webConfig bool) (f Finding, ok bool) {
	r, err := AskService(ctx, address, webConfig, "/-/ready")
	f = Finding{Group: stateGroup, Check: "service", Result: OK, Text: "the service at " + address + " is ready"}
	switch {
	case errors.Is(err, ErrServiceOff), errors.Is(err, ErrNoPort):
		return Finding{}, false
	case err != nil:
		f.Text = "no service responds at " + address + " (HTTP_LISTEN)"
	case r.NeedsPassword():
		f.Text = "the service at " + address + " asks for a password, so that nothing else is known of it"
	case r.Status != http.StatusOK:
		f.Result, f.Text = Warning, fmt.Sprintf("the server at %s is not ready: %d %s", address, r.Status, http.StatusText(r.Status))
		f.Advice = "see its log"
	}
	return f, true
}
