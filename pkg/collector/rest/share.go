package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"weak"

	"github.com/collectord/collectord/pkg/collector"
)

// Share lets the client use the token and the Limiter of the other clients of the
// process that have the same credentials. It is called before the first request. Clients
// have
//
//   - with ClientCredentials, one token if token endpoint, encoding and all parameters are
//     the same, so that another scope or a new secret has a token of its own, and one
//     Limiter if token endpoint, client_id and address of the API are the same, because
//     vendors count the requests of a client, whatever its secret,
//   - with a StaticHeader or StaticHeaders, one Limiter if these and the address of the API
//     are the same.
//
// The limits must be of the same classes, periods and quotas. Where their numbers differ, the
// lowest of the clients in use apply. The client that came first makes the token requests.
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
// address and account, such as a client_id; "" for clients without authorization. See
// [Client.Share] for their limits.
func (c *Client) ShareLimits(with *collector.Shared, account string) {
	c.shareLimits(with, "", account)
}

// shareLimits shares the Limiter of an account, which two texts identify.
func (c *Client) shareLimits(with *collector.Shared, kind, account string) {
	if c.Limits == nil {
		return
	}
	own := &limitShare{c.Limits.declared}
	c.Limits = collector.Share(with, sharedKey("limits", kind, account, c.Base.Host, formOf(own.declared)), c.Limits)
	c.limitShare = own
	c.Limits.addShare(own)
}

// A limitShare is the part of a client in a Limiter: the limits that it declares. They apply
// as long as something uses the client.
type limitShare struct{ declared map[string]Limit }

// formOf returns limits as text without their numbers, which the clients of a Limiter can have
// different.
func formOf(limits map[string]Limit) string {
	var b strings.Builder
	for _, class := range slices.Sorted(maps.Keys(limits)) {
		fmt.Fprintf(&b, "%q %+v", class, limits[class].Quota)
		for _, r := range limits[class].withoutUnlimited().Rates {
			fmt.Fprintf(&b, " %v", r.Per)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// addShare applies the limits of s where they are lower than those in force.
func (l *Limiter) addShare(s *limitShare) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shares = append(l.shares, weak.Make(s))
	for name, limit := range s.declared {
		class := l.classes[name]
		class.setLimit(lowerLimit(class.limit, limit.withoutUnlimited()))
	}
}

// dropReleased applies the lowest limits again if a client was released.
func (l *Limiter) dropReleased() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.ContainsFunc(l.shares, func(s weak.Pointer[limitShare]) bool { return s.Value() == nil }) {
		l.applyLowest()
	}
}

// applyLowest applies the lowest limits of the clients in use. The caller holds mu.
func (l *Limiter) applyLowest() {
	lowest := map[string]Limit{}
	l.shares = slices.DeleteFunc(l.shares, func(s weak.Pointer[limitShare]) bool {
		share := s.Value()
		if share == nil {
			return true
		}
		for name, limit := range share.declared {
			limit = limit.withoutUnlimited()
			if before, ok := lowest[name]; ok {
				limit = lowerLimit(before, limit)
			}
			lowest[name] = limit
		}
		return false
	})
	for name, limit := range lowest {
		l.classes[name].setLimit(limit)
	}
}

// lowerLimit returns the lower numbers of two limits of the same form.
func lowerLimit(a, b Limit) Limit {
	a.Rates = slices.Clone(a.Rates)
	for i := range a.Rates {
		a.Rates[i].N = min(a.Rates[i].N, b.Rates[i].N)
	}
	if a.Concurrent == 0 || b.Concurrent > 0 && b.Concurrent < a.Concurrent {
		a.Concurrent = b.Concurrent
	}
	return a
}

// setLimit replaces the limit of the class by one of the same form. The requests of the past
// count for it.
func (e *endpointClass) setLimit(limit Limit) {
	for i, r := range limit.Rates {
		if r == e.limit.Rates[i] {
			continue
		}
		inOrder := slices.Concat(e.starts[i][e.oldest[i]:], e.starts[i][:e.oldest[i]])
		e.starts[i] = inOrder[max(0, len(inOrder)-r.N):]
		e.oldest[i] = 0
	}
	isHalved := e.allowed < float64(e.limit.Concurrent) // because of a response
	if most := float64(limit.Concurrent); !isHalved || e.allowed > most {
		e.allowed = most
	}
	e.limit = limit
	e.wakeWaiting()
}

// sharedKey returns a key that does not show the values that it stands for.
func sharedKey(kind string, values ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", values))
	return kind + " " + hex.EncodeToString(sum[:])
}
