package domains

import (
	"context"
	"net"
	"net/netip"
)

// notPublic are the networks that are not public in addition to those that
// netip.Addr knows: of providers (RFC 6598), of protocols (RFC 6890), for
// benchmarks (RFC 2544), reserved, and of sites (RFC 3879).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("fec0::/10"),
}

// translated are the networks whose addresses contain an IPv4 address, and
// where it begins: NAT64 (RFC 6052), 6to4 (RFC 3056), and the form of RFC 4291.
var translated = map[netip.Prefix]int{
	netip.MustParsePrefix("64:ff9b::/96"): 12,
	netip.MustParsePrefix("2002::/16"):    2,
	netip.MustParsePrefix("::/96"):        12,
}

// isPublic reports whether an address is on the public internet. A domain may
// point to any address, also to one that only this machine can reach.
func isPublic(address netip.Addr) bool {
	address = address.Unmap()
	if !address.IsGlobalUnicast() || address.IsPrivate() {
		return false
	}
	for _, network := range notPublic {
		if network.Contains(address) {
			return false
		}
	}
	for network, begin := range translated {
		if network.Contains(address) {
			bytes := address.As16()
			return isPublic(netip.AddrFrom4([4]byte(bytes[begin : begin+4])))
		}
	}
	return true
}

// maxAddresses is how many addresses of a host are tried.
const maxAddresses = 4

// connect connects to a host at one of the addresses that the resolver returns
// for it, unless they are private. lookup is what the connection is for.
func (a *account) connect(ctx context.Context, lookup, host, port string) (net.Conn, *failure) {
	fail := func(reason, detail string) (net.Conn, *failure) {
		return nil, &failure{Lookup: lookup, Name: host, Reason: reason, Detail: detail}
	}
	addresses, unread := a.addressesOf(ctx, host)
	allowed := addresses
	if !a.private {
		allowed = nil
		for _, address := range addresses {
			if isPublic(address) {
				allowed = append(allowed, address)
			}
		}
	}
	switch {
	case len(addresses) == 0 && unread != nil:
		return nil, unread
	case len(addresses) == 0:
		return fail("no_address", "the name has no address")
	case len(allowed) == 0:
		return fail("private_address", "the name points to an address that is not public; DOMAINS_PRIVATE allows it")
	}
	var err error
	for _, address := range allowed[:min(len(allowed), maxAddresses)] {
		var conn net.Conn
		if conn, err = a.connectTo(ctx, net.JoinHostPort(address.String(), port)); err == nil {
			return conn, nil
		}
	}
	return fail(describeNetworkError(err))
}

func (a *account) connectTo(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return a.dial(ctx, "tcp", address)
}

// addressesOf returns the addresses of a host, those of IPv4 first, and the
// look-up that failed, if one did.
func (a *account) addressesOf(ctx context.Context, host string) (all []netip.Addr, unread *failure) {
	for _, lookup := range []string{"a", "aaaa"} {
		reply, failed := a.resolver.lookUp(ctx, lookup, host)
		if failed != nil {
			unread = failed
			continue
		}
		if !reply.exists {
			return nil, &failure{Lookup: lookup, Name: host, Reason: "nxdomain", Detail: "the name does not exist"}
		}
		for _, text := range reply.values() {
			if address, err := netip.ParseAddr(text); err == nil {
				all = append(all, address)
			}
		}
	}
	return all, unread
}
