package crowdstrike

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/collectord/collectord/pkg/collector/rest"
)

// defaultAddress is the address from which the commercial regions can be found.
const defaultAddress = "https://api.crowdstrike.com"

// regionAddresses are the addresses of the regions, by the names that the
// vendor uses in the header X-Cs-Region.
var regionAddresses = map[string]string{
	"us-1":     defaultAddress,
	"us-2":     "https://api.us-2.crowdstrike.com",
	"us-3":     "https://api.us-3.crowdstrike.com",
	"eu-1":     "https://api.eu-1.crowdstrike.com",
	"us-gov-1": "https://api.laggar.gcw.crowdstrike.com",
	"us-gov-2": "https://api.us-gov-2.crowdstrike.mil",
}

// A tenantRegion is the region to which the tenant's requests are sent. As a
// rest.Auth it only sets the address of token requests.
type tenantRegion struct {
	// all are the addresses of all regions.
	all map[string]string
	// known are the addresses that the tenant may be found at, by region; none
	// when the operator has configured the address.
	known map[string]string

	mu sync.Mutex
	// base is the address that was found; nil for the configured one.
	base *url.URL
	// refusedRedirect is the address of the region to which the vendor last
	// redirected a request although the operator has configured another one.
	// It is "" if the target was no region, such as the login page of a proxy.
	refusedRedirect string
}

// baseOfToken returns the address of the region that the header of a token response
// names, or of the one that the token request was redirected to. A token request
// that succeeds proves that the configured address is right.
func (t *tenantRegion) baseOfToken(r rest.TokenResponse) (*url.URL, error) {
	if address := t.known[strings.ToLower(r.Header.Get("X-Cs-Region"))]; address != "" {
		t.setAddress(address)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refusedRedirect = ""
	return t.base, nil
}

func (t *tenantRegion) setAddress(address string) {
	base, err := url.Parse(address)
	if err != nil {
		return // cannot happen: the addresses are constants
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base = base
}

// checkRedirect allows a token request, which has the credentials in its body,
// to follow a redirect to a known region. It refuses all other redirects.
func (t *tenantRegion) checkRedirect(req *http.Request, via []*http.Request) error {
	target := req.URL.Scheme + "://" + req.URL.Host
	if req.URL.Path == "/oauth2/token" && via[0].URL.Path == req.URL.Path && len(via) < 3 {
		for _, address := range t.known {
			if address == target {
				t.setAddress(address)
				return nil
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refusedRedirect = ""
	for _, address := range t.all {
		if address == target {
			t.refusedRedirect = target
		}
	}
	return http.ErrUseLastResponse
}

// Apply implements rest.Auth.
func (t *tenantRegion) Apply(_ context.Context, req *http.Request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.base != nil {
		req.URL.Scheme, req.URL.Host, req.Host = t.base.Scheme, t.base.Host, t.base.Host
	}
	return nil
}

// Renew implements rest.Auth.
func (t *tenantRegion) Renew(context.Context, *http.Request) (bool, error) { return false, nil }

// addHint adds the address to configure to err, if err is a redirect that was
// refused. It names only addresses of the vendor: the credentials are sent to
// the configured address.
func (t *tenantRegion) addHint(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.refusedRedirect = ""
		return nil
	case !rest.IsRedirect(err):
		return err
	case t.refusedRedirect == "":
		return fmt.Errorf("%w: a redirect to an address that is no known region was refused: check FALCON_BASE_URL, and the proxy if there is one", err)
	}
	return fmt.Errorf("%w: the tenant belongs to another region: set FALCON_BASE_URL to %s", err, t.refusedRedirect)
}
