package source

import (
	"context"
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
	refused := "the publisher refuses this client: check the proxy, or set " + variable + " to the address of a mirror"
	api.Hints = map[int]string{http.StatusUnauthorized: refused, http.StatusForbidden: refused}
	return api
}

// FileRequest returns the request for the file at address, of any type.
func FileRequest(address url.URL) rest.Request {
	return rest.Request{Path: address.String(), Header: http.Header{"Accept": {"*/*"}}}
}

// CheckFile makes the smallest request that shows whether the file of r can be read.
func CheckFile(ctx context.Context, api *rest.Client, r rest.Request) error {
	r.Method = http.MethodHead
	return api.Do(ctx, r, func(*rest.Response) error { return nil })
}
