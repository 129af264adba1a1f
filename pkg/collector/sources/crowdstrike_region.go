package sources

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/collectord/collectord/pkg/collector/rest"
)

// falconDefault is the address from which the commercial regions can be found.
const falconDefault = "https://api.crowdstrike.com"

// falconRegions are the addresses by the names that the vendor gives in the
// header X-Cs-Region.
var falconRegions = map[string]string{
	"us-1":     falconDefault,
	"us-2":     "https://api.us-2.crowdstrike.com",
	"us-3":     "https://api.us-3.crowdstrike.com",
	"eu-1":     "https://api.eu-1.crowdstrike.com",
	"us-gov-1": "https://api.laggar.gcw.crowdstrike.com",
	"us-gov-2": "https://api.us-gov-2.crowdstrike.mil",
}

// A falconRegion is where the tenant's requests go. As an Auth it only leads
// requests there.
type falconRegion struct {
	// known are the addresses to which the tenant may be found to belong; none
	// when the operator has named the address.
	known map[string]string

	mu sync.Mutex
	// base is the address that was found; nil for the configured one.
	base *url.URL
	// elsewhere is where the vendor wanted to lead us against the operator's
	// word.
	elsewhere string
}

// discover reads the region from a token's answer.
func (r *falconRegion) discover(h http.Header) {
	if address := r.known[strings.ToLower(h.Get("X-Cs-Region"))]; address != "" {
		r.settle(address)
	}
}

func (r *falconRegion) settle(address string) {
	base, err := url.Parse(address)
	if err != nil {
		return // the table's addresses parse
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base = base
}

// redirect follows a token request to another region, which has the
// credential in its body; nothing else follows anywhere.
func (r *falconRegion) redirect(req *http.Request, via []*http.Request) error {
	target := req.URL.Scheme + "://" + req.URL.Host
	if req.URL.Path == "/oauth2/token" && via[0].URL.Path == req.URL.Path && len(via) < 3 {
		for _, address := range r.known {
			if address == target {
				r.settle(address)
				return nil
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.elsewhere = target
	return http.ErrUseLastResponse
}

// Apply implements rest.Auth.
func (r *falconRegion) Apply(_ context.Context, req *http.Request) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base != nil {
		req.URL.Scheme, req.URL.Host, req.Host = r.base.Scheme, r.base.Host, r.base.Host
	}
	return nil
}

// Renew implements rest.Auth.
func (r *falconRegion) Renew(context.Context, *http.Request) (bool, error) { return false, nil }

// explain adds to an error that the tenant is elsewhere.
func (r *falconRegion) explain(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || r.elsewhere == "" {
		return err
	}
	return fmt.Errorf("%w: the tenant belongs to another region: set FALCON_BASE_URL to %s", err, r.elsewhere)
}

// falconAuth shows the token to the tenant's region.
type falconAuth struct {
	*rest.ClientCredentials
	region *falconRegion
}

// Apply implements rest.Auth. The region is known once the token is.
func (a falconAuth) Apply(ctx context.Context, req *http.Request) error {
	if err := a.ClientCredentials.Apply(ctx, req); err != nil {
		return err
	}
	return a.region.Apply(ctx, req)
}
