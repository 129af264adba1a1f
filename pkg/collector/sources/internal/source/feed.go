package source

import (
	"net/http"
	"net/url"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// MaxFeed bounds the bytes of a feed, decompressed.
const MaxFeed = 2 << 30

// FeedRateLimit describes the requests of NewFeedClient, for collector.Info.
const FeedRateLimit = "None is published. A run makes one conditional request: what has not changed is not downloaded, and the run is a success without a new snapshot."

// NewFeedClient returns the HTTP client for the files of a publisher that needs no
// credentials. variable is the setting of the address.
func NewFeedClient(address url.URL, variable string, o collector.Options) *rest.Client {
	api := NewClient(address, variable, nil, map[string]rest.Limit{"": {Concurrent: 1}}, o)
	api.ShareLimits(o.Shared, "")
	api.Hints = PublicHints(variable)
	return api
}

// PublicHints returns the remedies when a publisher that needs no credentials refuses a
// request. variable is the setting of the address.
func PublicHints(variable string) map[int]string {
	refused := "the publisher refuses this client: check the proxy, or set " + variable + " to the address of a mirror"
	return map[int]string{http.StatusUnauthorized: refused, http.StatusForbidden: refused}
}

// FileRequest returns the request for the file at address, of any type.
func FileRequest(address url.URL) rest.Request {
	return rest.Request{Path: address.String(), Header: http.Header{"Accept": {"*/*"}}}
}
