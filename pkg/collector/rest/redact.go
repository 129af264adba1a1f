package rest

import (
	"slices"

	"github.com/collectord/collectord/internal/redact"
)

// minSecret is the length in bytes from which a value is hidden: shorter ones
// occur in any text.
const minSecret = 4

// secretHolder is implemented by an Auth that knows which values no error may show.
type secretHolder interface{ secrets() []string }

// redactor returns what hides all values that no error of this client may show.
func (c *Client) redactor() *redact.Set {
	secrets := slices.Clone(c.Redact)
	if a, ok := c.Auth.(secretHolder); ok {
		secrets = append(secrets, a.secrets()...)
	}
	return redact.NewSet(minSecret, secrets...)
}
