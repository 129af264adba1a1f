package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/collectord/collectord/pkg/collector"
)

// Share lets the client use the token and the Limiter of the other clients of the
// process that have the same credentials. It is called before the first request. Clients
// have
//
//   - with ClientCredentials, one token if token endpoint, encoding and all parameters are
//     the same, so that another scope or a new secret has a token of its own, and one
//     Limiter if token endpoint, client_id, address of the API and limits are the same,
//     because vendors count the requests of a client, whatever its secret,
//   - with a StaticHeader or StaticHeaders, one Limiter if these, the address of the API
//     and the limits are the same.
//
// The client that came first makes the token requests.
func (c *Client) Share(with *collector.Shared) {
	switch own := c.Auth.(type) {
	case *ClientCredentials:
		endpoint := own.Client.Base.String() + " " + own.Path
		c.Auth = collector.Share(with, sharedKey("token", endpoint, own.Encoding, own.Params.Encode()), own)
		c.shareLimits(with, endpoint, own.Params.Get("client_id"))
	case StaticHeader:
		c.shareLimits(with, own.Name, own.Value)
	case StaticHeaders:
		c.shareLimits(with, "headers", fmt.Sprintf("%#v", own))
	}
}

// ShareLimits lets the client use the Limiter of the other clients that have the same
// address and limits, and the same account, such as a client_id; "" for clients without
// authorization.
func (c *Client) ShareLimits(with *collector.Shared, account string) {
	c.shareLimits(with, "", account)
}

// shareLimits shares the Limiter of an account, which two texts identify.
func (c *Client) shareLimits(with *collector.Shared, kind, account string) {
	if c.Limits != nil {
		c.Limits = collector.Share(with, sharedKey("limits", kind, account, c.Base.Host, c.Limits.declared), c.Limits)
	}
}

// sharedKey returns a key that does not show the values that it stands for.
func sharedKey(kind string, values ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", values))
	return kind + " " + hex.EncodeToString(sum[:])
}
