package domains

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// resolver asks DNS resolvers, one after the other until one responds.
type resolver struct {
	servers []string // with ports; those of the system if empty
	dial    dialFunc
	timeout time.Duration // of one question
}

// dnsRounds is how often each resolver is asked, at least: a packet may be lost.
const dnsRounds = 3

// wellKnownResolver is where the resolvers of the system are listed.
const wellKnownResolver = "/etc/resolv.conf"

// errNoReply means that no resolver responded a question.
var errNoReply = errors.New("no resolver responded")

// dnsReply is the reply of a resolver: that the name has these records, or that it
// does not exist.
type dnsReply struct {
	records       []dns.RR // of the type that was asked for
	exists        bool     // the name exists
	authenticated bool
}

// isWithoutReply reports whether no resolver responded the look-up.
func (f *failure) isWithoutReply() bool {
	switch f.Reason {
	case "timeout", "network", "servfail", "refused", "unreachable", "connection_refused", "connection_reset":
		_, isDNS := dnsTypes[f.Lookup]
		return isDNS
	}
	return false
}

// dnsTypes are the types of records by the names of their look-ups.
var dnsTypes = map[string]uint16{
	"a": dns.TypeA, "aaaa": dns.TypeAAAA, "ns": dns.TypeNS, "mx": dns.TypeMX, "txt": dns.TypeTXT, "soa": dns.TypeSOA,
	"caa": dns.TypeCAA, "ds": dns.TypeDS, "dnskey": dns.TypeDNSKEY,
	"dmarc": dns.TypeTXT, "mta_sts": dns.TypeTXT, "tls_rpt": dns.TypeTXT,
}

// lookUp asks for the records of name. lookup is a name of dnsTypes.
func (r *resolver) lookUp(ctx context.Context, lookup, name string) (dnsReply, *failure) {
	return r.lookUpIn(ctx, dnsRounds, lookup, name)
}

// lookUpIn is lookUp that asks each resolver up to rounds times.
func (r *resolver) lookUpIn(ctx context.Context, rounds int, lookup, name string) (dnsReply, *failure) {
	fail := func(reason, detail string) (dnsReply, *failure) {
		return dnsReply{}, &failure{Lookup: lookup, Name: name, Reason: reason, Detail: detail}
	}
	qtype := dnsTypes[lookup]
	message, err := r.askAll(ctx, rounds, name, qtype)
	if err != nil {
		return fail(describeNetworkError(err))
	}
	reply := dnsReply{exists: message.Rcode == dns.RcodeSuccess, authenticated: message.AuthenticatedData}
	switch message.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	case dns.RcodeServerFailure:
		return fail("servfail", "the resolver could not ask the domain's name servers, or their signatures (DNSSEC) are not valid")
	case dns.RcodeRefused:
		return fail("refused", "the resolver refused the question")
	default:
		return fail("network", "the resolver responded with "+dns.RcodeToString[message.Rcode])
	}
	for _, rr := range message.Answer {
		if rr.Header().Rrtype == qtype {
			reply.records = append(reply.records, rr)
		}
	}
	return reply, nil
}

// askAll asks the resolvers until one responds. It returns the last reply, which
// may say that the resolver failed, or the last error.
func (r *resolver) askAll(ctx context.Context, rounds int, name string, qtype uint16) (*dns.Msg, error) {
	servers, err := r.systemServers()
	if err != nil {
		return nil, err
	}
	query := new(dns.Msg)
	query.SetQuestion(dns.Fqdn(name), qtype)
	query.SetEdns0(1232, false)
	query.AuthenticatedData = true
	var reply *dns.Msg
	for attempt := range rounds * len(servers) {
		if attempt > 0 && attempt%len(servers) == 0 {
			if sleepErr := rest.Sleep(ctx, time.Second<<(attempt/len(servers)-1), "a DNS resolver"); sleepErr != nil {
				return nil, sleepErr
			}
		}
		stats := collector.StatsFrom(ctx)
		stats.CountRequest("DNS "+dns.TypeToString[qtype], attempt+1)
		var got *dns.Msg
		got, err = r.ask(ctx, servers[attempt%len(servers)], query)
		if err != nil {
			stats.CountResponse(0)
			continue
		}
		stats.CountResponse(200)
		stats.CountReceived(got.Len())
		if reply = got; reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError {
			return reply, nil
		}
	}
	if reply != nil {
		return reply, nil
	}
	return nil, err
}

// ask asks one resolver, by UDP and, if the reply does not fit, by TCP.
func (r *resolver) ask(ctx context.Context, server string, query *dns.Msg) (*dns.Msg, error) {
	reply, err := r.exchange(ctx, "udp", server, query)
	if err == nil && reply.Truncated {
		reply, err = r.exchange(ctx, "tcp", server, query)
	}
	return reply, err
}

func (r *resolver) exchange(ctx context.Context, network, server string, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	conn, err := r.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	client := dns.Client{Net: network, Timeout: r.timeout, UDPSize: 1232}
	query = query.Copy()
	query.Id = dns.Id()
	reply, _, err := client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn, UDPSize: 1232})
	return reply, err
}

// systemServers returns the servers, by default those of the system.
func (r *resolver) systemServers() ([]string, error) {
	if len(r.servers) > 0 {
		return r.servers, nil
	}
	found, err := dns.ClientConfigFromFile(wellKnownResolver)
	if err != nil || len(found.Servers) == 0 {
		return nil, fmt.Errorf("DNS: %s names no resolver: set DOMAINS_RESOLVERS: %w", wellKnownResolver, os.ErrNotExist)
	}
	var servers []string
	for _, server := range found.Servers {
		servers = append(servers, net.JoinHostPort(server, found.Port))
	}
	return servers, nil
}

// checkRoot returns an error unless a resolver responds to a question for the root
// of all names.
func (r *resolver) checkRoot(ctx context.Context) error {
	servers, err := r.systemServers()
	if err != nil {
		return err
	}
	reply, err := r.askAll(ctx, dnsRounds, ".", dns.TypeNS)
	if err == nil && reply.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("the reply is %s", dns.RcodeToString[reply.Rcode])
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("DNS: %w: %s: %w: check DOMAINS_RESOLVERS, /etc/resolv.conf, and whether a firewall blocks port 53", errNoReply, strings.Join(servers, ", "), err)
	}
	return nil
}

// values returns the values of the records, sorted, because resolvers change
// their order.
func (d dnsReply) values() []string {
	all := []string{}
	for _, rr := range d.records {
		all = append(all, valueOf(rr))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// valueOf returns the value of a record as in a zone file. The strings of a TXT
// record are one text.
func valueOf(rr dns.RR) string {
	if txt, ok := rr.(*dns.TXT); ok {
		return unescapeText(strings.Join(txt.Txt, ""))
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// unescapeText removes the escapes of zone files, such as \" and \195. What is
// not UTF-8 becomes U+FFFD.
func unescapeText(text string) string {
	var b []byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+3 < len(text) && isDigits(text[i+1:i+4]):
			c = (text[i+1]-'0')*100 + (text[i+2]-'0')*10 + text[i+3] - '0'
			i += 3
		case c == '\\' && i+1 < len(text):
			i++
			c = text[i]
		}
		b = append(b, c)
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}

func isDigits(text string) bool { return strings.Trim(text, "0123456789") == "" }

// dnsRecord is a record of domains_dns.
type dnsRecord struct {
	Domain        string    `json:"domain"`
	Unicode       string    `json:"unicode"`
	Exists        *bool     `json:"exists"`
	A             []string  `json:"a"`
	AAAA          []string  `json:"aaaa"`
	NS            []string  `json:"ns"`
	MX            []string  `json:"mx"`
	TXT           []string  `json:"txt"`
	SOA           []string  `json:"soa"`
	CAA           []string  `json:"caa"`
	DS            []string  `json:"ds"`
	DNSKEY        []string  `json:"dnskey"`
	DMARC         []string  `json:"dmarc"`
	MTASTS        []string  `json:"mta_sts"`
	TLSRPT        []string  `json:"tls_rpt"`
	Authenticated *bool     `json:"authenticated"`
	Errors        []failure `json:"errors"`
}

// examineDNS returns the record of domains_dns.
func (a *account) examineDNS(ctx context.Context, d domainName, failed *failures) any {
	r := &dnsRecord{Domain: d.ascii, Unicode: d.unicode}
	for _, l := range []struct {
		lookup, name string
		into         *[]string
	}{
		{"a", d.ascii, &r.A},
		{"aaaa", d.ascii, &r.AAAA},
		{"ns", d.ascii, &r.NS},
		{"mx", d.ascii, &r.MX},
		{"txt", d.ascii, &r.TXT},
		{"soa", d.ascii, &r.SOA},
		{"caa", d.ascii, &r.CAA},
		{"ds", d.ascii, &r.DS},
		{"dnskey", d.ascii, &r.DNSKEY},
		{"dmarc", "_dmarc." + d.ascii, &r.DMARC},
		{"mta_sts", "_mta-sts." + d.ascii, &r.MTASTS},
		{"tls_rpt", "_smtp._tls." + d.ascii, &r.TLSRPT},
	} {
		rounds := dnsRounds
		if failed.withoutReply { // the other look-ups of this domain will mostly fail as well
			rounds = 1
		}
		reply, failure := a.resolver.lookUpIn(ctx, rounds, l.lookup, l.name)
		failed.addFailure(failure)
		if failure != nil {
			continue
		}
		*l.into = reply.values()
		if l.name == d.ascii {
			r.Exists = &reply.exists
			signed := reply.authenticated && (r.Authenticated == nil || *r.Authenticated)
			r.Authenticated = &signed
		}
	}
	r.Errors = failed.list()
	return r
}
