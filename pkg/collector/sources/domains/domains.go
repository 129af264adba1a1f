// Package domains examines the organisation's own domains: DNS, registration,
// certificates and HTTP headers. It has no vendor and no key.
package domains

import (
	"context"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of the domains.
type Settings struct {
	Domains   string   `env:"DOMAINS" required:"true" want:"a list of domains" example:"a.example;b.example" doc:"The domains to examine, separated by semicolons, commas or whitespace. International names may be written in Unicode."`
	Resolvers []string `env:"DOMAINS_RESOLVERS" example:"9.9.9.9,192.0.2.53:5353" doc:"DNS resolvers, as addresses with or without a port; by default those of /etc/resolv.conf. If one fails, the next one is asked."`
	RDAP      string   `env:"DOMAINS_RDAP_URL" envDefault:"https://data.iana.org/rdap/dns.json" empty:"off" want:"a URL" doc:"Where the list of RDAP servers of all top-level domains is, from which the registration and the expiration date of a domain are read. With \"off\" they are not read."`
	TLSPort   int      `env:"DOMAINS_TLS_PORT" envDefault:"443" min:"1" max:"65535" doc:"The port of the domains' TLS servers, also for HTTPS."`
	HTTPPort  int      `env:"DOMAINS_HTTP_PORT" envDefault:"80" min:"1" max:"65535" doc:"The port of the domains' HTTP servers."`
	Private   bool     `env:"DOMAINS_PRIVATE" envDefault:"false" doc:"Whether TLS and HTTP servers are contacted at addresses of this machine and of private networks. A domain may point to any address, so it is off unless the domains are internal."`
}

// rdapOff is the value of DOMAINS_RDAP_URL that reads no registrations.
const rdapOff = "off"

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, errs := parseDomains(s.Domains)
	_, resolverErr := s.parseResolvers()
	_, rdapErr := s.parseRDAP()
	return append(errs, source.NonNil(resolverErr, rdapErr)...)
}

// parseRDAP returns the address of the list of RDAP servers; nil if it is off.
func (s *Settings) parseRDAP() (*url.URL, error) {
	if strings.EqualFold(strings.TrimSpace(s.RDAP), rdapOff) {
		return nil, nil
	}
	u, err := source.ParseAddress("DOMAINS_RDAP_URL", s.RDAP, "https://data.iana.org/rdap/dns.json or off")
	return &u, err
}

// parseResolvers returns the resolvers with their ports.
func (s *Settings) parseResolvers() ([]string, error) {
	var all []string
	for _, text := range s.Resolvers {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			host, port = strings.Trim(text, "[]"), "53"
		}
		if net.ParseIP(host) == nil {
			return nil, config.Invalid("DOMAINS_RESOLVERS", "%q is not the address of a resolver: want one such as 9.9.9.9 or 192.0.2.53:5353", text)
		}
		all = append(all, net.JoinHostPort(host, port))
	}
	return all, nil
}

// Definition describes the domains.
var Definition = source.Define(collector.Info{
	Name:        "domains",
	Title:       "Domains: DNS, registration, certificates and HTTP headers",
	Docs:        "https://data.iana.org/rdap/",
	IsPublic:    true,
	Permissions: "none: everything is public. The machine must reach a DNS resolver, the RDAP servers of the top-level domains, and ports 443 and 80 of the domains",
	RateLimit:   "8 domains at once, with at most one connection each; one request a second to each RDAP server, which waits after a 429 for at most two minutes.",
	Streams: []collector.StreamInfo{{
		Name: "domains", Records: "a domain of DOMAINS",
		Endpoints: []string{"DNS MX, TXT, and TXT of _dmarc", "GET dns.json of IANA", "GET domain/NAME of the RDAP server of the top-level domain"},
		PageSize:  "one domain",
		Notes: "txt, mx and dmarc are lists; an empty list means that the name has no such record, null that it is unknown. exists is false if the name does not exist (NXDOMAIN). " +
			"dmarc has the records of _dmarc below the domain, or, if there are none, below the registered domain that contains it; dmarc_name says which. " +
			"expiration_date, creation_date, updated_date, registrar, name_servers and status are those of the registered domain, from its registry's RDAP server. registered is false if the registry does not know it. " +
			unreadNotes,
	}, {
		Name: "domains_dns", Records: "a domain of DOMAINS with its DNS records",
		Endpoints: []string{"DNS A, AAAA, NS, MX, TXT, SOA, CAA, DS, DNSKEY, and TXT of _dmarc, _mta-sts and _smtp._tls"},
		PageSize:  "one domain",
		Notes:     "Each type is a list of values, sorted; null if it is unknown. authenticated says that the resolver has verified the signatures (DNSSEC) of its responses. " + unreadNotes,
	}, {
		Name: "domains_tls", Records: "a domain of DOMAINS with the certificate of its TLS server",
		Endpoints: []string{"TLS handshake with port 443 of the domain"},
		PageSize:  "one domain",
		Notes: "The certificate is recorded also if it is not valid: verified is then false, and verify_reason is expired, not_yet_valid, wrong_name, unknown_authority or other. " +
			"chain_not_after is the earliest end of a certificate of the chain. " + unreadNotes,
	}, {
		Name: "domains_headers", Records: "a domain of DOMAINS with the headers of its web server",
		Endpoints: []string{"GET https://DOMAIN/", "GET http://DOMAIN/"},
		PageSize:  "one domain",
		Notes: "https and http have the status and the headers of the last response, with lower-case names, and redirects those before it. Redirects to the domain and to names below it are followed; others are recorded. Certificates are not verified here, and bodies are not read; the header date and the values of cookies are not stored. " +
			unreadNotes,
	}},
}, openAccount)

const unreadNotes = "errors lists the look-ups that failed, each with lookup, name, reason (such as timeout, servfail, nxdomain, private_address, no_rdap) and detail. " +
	"If the resolver itself does not respond, the run fails."

// account is one list of domains.
type account struct {
	domains  []domainName
	resolver *resolver
	rdap     *rdapClient // nil if registrations are not read
	ports    map[string]string
	private  bool
	dial     dialFunc
	// userAgent is sent to web servers.
	userAgent string
	roots     *x509.CertPool // nil for those of the system
	timeout   time.Duration  // of a connection, a handshake and a response
}

// dialFunc has the signature of net.Dialer.DialContext.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func openAccount(s *Settings, o collector.Options) (*account, error) {
	domains, errs := parseDomains(s.Domains)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	servers, err := s.parseResolvers()
	if err != nil {
		return nil, err
	}
	bootstrap, err := s.parseRDAP()
	if err != nil {
		return nil, err
	}
	dial := new(net.Dialer).DialContext
	a := &account{
		domains: domains, private: s.Private, dial: dial, userAgent: "collectord/" + o.Version, timeout: 10 * time.Second,
		resolver: &resolver{servers: servers, dial: dial, timeout: 3 * time.Second},
		ports:    map[string]string{"https": portText(s.TLSPort), "http": portText(s.HTTPPort)},
	}
	if bootstrap != nil {
		a.rdap = newRDAPClient(*bootstrap, o)
	}
	return a, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{
		collector.Stream{Name: "domains", Extract: a.extractRegistrations, Check: a.checkRegistrations},
		collector.Stream{Name: "domains_dns", Extract: a.extractWith(a.examineDNS), Check: a.Check},
		collector.Stream{Name: "domains_tls", Extract: a.extractWith(a.examineTLS), Check: a.Check},
		collector.Stream{Name: "domains_headers", Extract: a.extractWith(a.examineHeaders), Check: a.Check},
	}
}

// Check implements source.Account and collector.Stream.
func (a *account) Check(ctx context.Context) error { return a.resolver.checkRoot(ctx) }

// checkRegistrations implements collector.Stream.
func (a *account) checkRegistrations(ctx context.Context) error {
	if err := a.Check(ctx); err != nil || a.rdap == nil {
		return err
	}
	_, err := a.rdap.loadServers(ctx)
	return err
}

// extractRegistrations extracts the stream domains.
func (a *account) extractRegistrations(ctx context.Context, out collector.Output) error {
	var servers rdapServers
	if a.rdap != nil {
		var err error
		if servers, err = a.rdap.loadServers(ctx); err != nil {
			return err
		}
	}
	return a.extractWith(func(ctx context.Context, d domainName, failed *failures) any {
		return a.examineRegistration(ctx, d, servers, failed)
	})(ctx, out)
}
