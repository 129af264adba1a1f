package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/collectord/collectord/pkg/collector"
)

// Share lets the client use the token and the Limiter of the other clients of the
// process that have the same ClientCredentials. It is called before the first
// request. Clients have
//
//   - one token if token endpoint, encoding and all parameters are the same, so that
//     another scope or a new secret has a token of its own, and
//   - one Limiter if token endpoint, client_id, address of the API and limits are the
//     same, because vendors count the requests of a client, whatever its secret.
//
// The client that came first makes the token requests.
func (c *Client) Share(with *collector.Shared) {
	own, ok := c.Auth.(*ClientCredentials)
	if !ok {
		return
	}
	endpoint := own.Client.Base.String() + " " + own.Path
	c.Auth = collector.Share(with, sharedKey("token", endpoint, own.Encoding, own.Params.Encode()), own)
	if c.Limits != nil {
		c.Limits = collector.Share(with, sharedKey("limits", endpoint, own.Params.Get("client_id"), c.Base.Host, c.Limits.declared), c.Limits)
	}
}

// sharedKey returns a key that does not show the values that it stands for.
func sharedKey(kind string, values ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", values))
	return kind + " " + hex.EncodeToString(sum[:])
}
