package vendorsim

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The domains of [Domains].
const (
	// DomainComplete has everything: mail policies, a signed zone, a valid certificate.
	DomainComplete = "complete.example"
	// DomainParked exists and has no address and no mail.
	DomainParked = "parked.example"
	// DomainExpired has a certificate that has expired.
	DomainExpired = "expired.example"
	// DomainMisnamed has a certificate for another name.
	DomainMisnamed = "misnamed.example"
	// DomainGone is not registered any more.
	DomainGone = "gone.example"
	// DomainCountry is below a top-level domain without RDAP.
	DomainCountry = "country.zz"
	// DomainBroken has name servers that do not work: SERVFAIL.
	DomainBroken = "broken.example"
	// DomainInternational is "bücher.example".
	DomainInternational = "xn--bcher-kva.example"
	// DomainInside points to a private address. It is not in the settings of Env.
	DomainInside = "inside.example"
	// DomainSilent is one whose look-ups get no response. It is not in the settings of Env.
	DomainSilent = "silent.example"
	// DomainPlain has a server on the port for TLS that does not speak it. It works in memory only.
	DomainPlain = "plain.example"
)

// DomainsResolver is the address of the resolver in memory.
const DomainsResolver = "192.0.2.53:53"

// Domains simulates what surrounds an organisation's domains: a DNS resolver, a
// registry with RDAP (RFC 9083) and the list of registries (RFC 9224), and the
// web servers of the domains.
type Domains struct {
	host    *Host
	dns     []*dns.Server
	web     []*http.Server
	serving sync.WaitGroup
	roots   *x509.CertPool
	certs   map[string]*tls.Certificate

	resolverAddress, tlsPort, httpPort string

	faults serverFaults

	mu      sync.Mutex
	zone    map[string][]dns.RR // by lower-case name with its final dot
	config  DomainsFaults
	held    []net.Conn     // connections of which nothing is read
	queries map[string]int // by name and type
}

// DomainsFaults configures faults beside those of HTTP.
type DomainsFaults struct {
	// ResolverDown makes the resolver respond to nothing.
	ResolverDown bool
	// DropQueries is how many of the next queries get no response.
	DropQueries int
	// Bootstrap, if it is set, is the whole response with the list of registries.
	Bootstrap string
}

// NewDomains returns simulated domains for one [Server].
func NewDomains() *Domains {
	return &Domains{
		resolverAddress: "127.0.0.1:53", tlsPort: "443", httpPort: "80", queries: map[string]int{},
		zone: map[string][]dns.RR{}, certs: map[string]*tls.Certificate{},
	}
}

// Name returns "domains".
func (d *Domains) Name() string { return "domains" }

// Specs returns nil: the records are what the servers show.
func (d *Domains) Specs(Gen) []Spec { return nil }

// Limits returns no limit.
func (d *Domains) Limits() []Limit { return nil }

// Env returns the DOMAINS_ settings.
func (d *Domains) Env(url string) []string {
	list := []string{DomainComplete, DomainParked, DomainExpired, DomainMisnamed, DomainGone, DomainCountry, DomainBroken, DomainInternational}
	return []string{
		"DOMAINS=" + strings.Join(list, ";"), "DOMAINS_RESOLVERS=" + d.resolverAddress, "DOMAINS_RDAP_URL=" + url + "/rdap/dns.json",
		"DOMAINS_TLS_PORT=" + d.tlsPort, "DOMAINS_HTTP_PORT=" + d.httpPort, "DOMAINS_PRIVATE=true",
	}
}

// Roots returns the authority of the valid certificates.
func (d *Domains) Roots() *x509.CertPool { return d.roots }

// ChangeFaults changes how the servers behave.
func (d *Domains) ChangeFaults(change func(*DomainsFaults)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.config)
}

// Queries returns the number of queries for a name and a type, such as
// "complete.example. MX".
func (d *Domains) Queries(question string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries[question]
}

// addRecords adds records to the zone. Each has a type and a value.
func (d *Domains) addRecords(name string, records ...string) {
	key := dns.Fqdn(name)
	if d.zone[key] == nil {
		d.zone[key] = []dns.RR{}
	}
	for _, text := range records {
		rr, err := dns.NewRR(key + " 300 IN " + text)
		if err != nil {
			panic(fmt.Sprintf("vendorsim: record %s %s: %v", name, text, err))
		}
		d.zone[key] = append(d.zone[key], rr)
	}
}

// addressOf returns the address record of a server: in memory one of its own,
// otherwise that of this machine.
func (d *Domains) addressOf(memory string) string {
	if d.host.server.opts.Memory {
		return "A " + memory
	}
	return "A 127.0.0.1"
}

// fillZone sets the records of all names.
func (d *Domains) fillZone() {
	d.addRecords(".", "NS a.root-servers.net.")
	d.addRecords(DomainComplete, d.addressOf("203.0.113.1"), "MX 20 mx2.complete.example.", "MX 10 mx1.complete.example.",
		`TXT "v=spf1 include:_spf.complete.example " "-all"`, `TXT "site=\"quoted\" \195\188"`, "TXT "+strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, 10),
		"NS ns2.complete.example.", "NS ns1.complete.example.", "SOA ns1.complete.example. hostmaster.complete.example. 7 7200 900 1209600 300",
		`CAA 0 issue "ca.example"`, "DS 2371 13 2 1F987CC6583E92DF0890718C42E2EA94E2DD2E6A5A9B4F1F5D3C4D8E0A9C1B2A")
	d.addRecords("_dmarc."+DomainComplete, `TXT "v=DMARC1; p=reject; rua=mailto:d@complete.example"`, `TXT "unrelated"`)
	d.addRecords("_mta-sts."+DomainComplete, `TXT "v=STSv1; id=1"`)
	d.addRecords("www."+DomainComplete, d.addressOf("203.0.113.1"))
	d.addRecords("mail."+DomainComplete, "MX 10 mx1.complete.example.")
	d.addRecords(DomainParked)
	d.addRecords(DomainExpired, d.addressOf("203.0.113.2"))
	d.addRecords(DomainMisnamed, d.addressOf("203.0.113.3"))
	d.addRecords(DomainCountry, d.addressOf("203.0.113.4"), "MX 0 .")
	d.addRecords(DomainInternational, d.addressOf("203.0.113.5"), "AAAA 2001:db8::5")
	d.addRecords(DomainInside, "A 10.1.2.3", "AAAA fd00::1", "AAAA ::1")
	d.addRecords(DomainPlain, "A 203.0.113.6")
}

// Routes starts the other servers and returns the registry's API.
func (d *Domains) Routes(h *Host) *http.ServeMux {
	d.host = h
	d.fillZone()
	if err := d.startServers(); err != nil {
		panic("vendorsim: domains: " + err.Error())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rdap/dns.json", d.serveBootstrap)
	mux.HandleFunc("GET /rdap/registry/domain/{name}", d.serveRegistration)
	return mux
}

// startServers starts the resolver and the web servers.
func (d *Domains) startServers() error {
	if err := d.makeCertificates(d.host.Now()); err != nil {
		return err
	}
	if err := d.startResolver(); err != nil {
		return err
	}
	web := http.HandlerFunc(d.serveWeb)
	plain := &http.Server{Handler: web, ErrorLog: log.New(io.Discard, "", 0)}
	encrypted := &http.Server{
		Handler: web, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := d.certs[strings.TrimPrefix(hello.ServerName, "www.")]; c != nil {
				return c, nil
			}
			return nil, fmt.Errorf("no certificate for %q", hello.ServerName)
		}},
	}
	d.web = []*http.Server{plain, encrypted}
	hosts := []string{""}
	if d.host.server.opts.Memory {
		hosts = []string{"203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5"}
		l, _ := d.host.listenBeside("203.0.113.6:443")
		d.serving.Go(func() { _ = plain.Serve(l) })
	}
	for _, host := range hosts {
		forTLS, err := d.host.listenBeside(host + ":443")
		if err != nil {
			return err
		}
		d.tlsPort = portOf(forTLS, "443")
		d.serving.Go(func() { _ = encrypted.ServeTLS(faultyListener{forTLS, d}, "", "") })
		forHTTP, err := d.host.listenBeside(host + ":80")
		if err != nil {
			return err
		}
		d.httpPort = portOf(forHTTP, "80")
		d.serving.Go(func() { _ = plain.Serve(faultyListener{forHTTP, d}) })
	}
	return nil
}

func portOf(l net.Listener, memory string) string {
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		return fmt.Sprint(tcp.Port)
	}
	return memory
}

// startResolver starts the DNS server, for TCP and, unless it is in memory, for
// UDP on the same port.
func (d *Domains) startResolver() error {
	servers, err := d.listenDNS()
	if err != nil {
		return err
	}
	for _, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		d.serving.Go(func() { _ = s.ActivateAndServe() })
		<-started
	}
	d.dns = servers
	return nil
}

// listenDNS returns the DNS servers with their listeners. Another program may have
// the port for UDP that this machine chose for TCP.
func (d *Domains) listenDNS() ([]*dns.Server, error) {
	for attempt := 0; ; attempt++ {
		l, err := d.host.listenBeside(DomainsResolver)
		if err != nil {
			return nil, err
		}
		d.resolverAddress = l.Addr().String()
		tcp := &dns.Server{Listener: l, Net: "tcp", Handler: dns.HandlerFunc(d.serveDNS)}
		if d.host.server.opts.Memory {
			return []*dns.Server{tcp}, nil
		}
		packets, err := net.ListenPacket("udp", d.resolverAddress)
		if err == nil {
			return []*dns.Server{tcp, {PacketConn: packets, Net: "udp", Handler: dns.HandlerFunc(d.serveDNS)}}, nil
		}
		_ = l.Close()
		if attempt == 20 {
			return nil, err
		}
	}
}

func (d *Domains) closeServers() {
	for _, s := range d.dns {
		_ = s.Shutdown()
	}
	for _, s := range d.web {
		_ = s.Close()
	}
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	for _, conn := range held {
		_ = conn.Close()
	}
	d.serving.Wait()
}

// serveDNS responds to a query as a resolver does.
func (d *Domains) serveDNS(w dns.ResponseWriter, query *dns.Msg) {
	question := query.Question[0]
	name := strings.ToLower(question.Name)
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	d.mu.Lock()
	d.queries[name+" "+dns.TypeToString[question.Qtype]]++
	drop := d.config.ResolverDown || isBelow(name, DomainSilent)
	if d.config.DropQueries > 0 {
		d.config.DropQueries--
		drop = true
	}
	records, exists := d.zone[name]
	d.mu.Unlock()
	effect := ""
	if !drop {
		effect = d.faults.next(dnsServer)
	}
	switch {
	case drop, effect == dnsLost:
		return
	case effect == dnsRefused:
		reply.Rcode = dns.RcodeRefused
	case effect == dnsOther:
		reply.Id++
	case isBelow(name, DomainBroken), effect == dnsFailure:
		reply.Rcode = dns.RcodeServerFailure
	case !exists && !d.hasBelow(name):
		reply.Rcode = dns.RcodeNameError
	default:
		reply.AuthenticatedData = isBelow(name, DomainComplete) && query.AuthenticatedData
		for _, rr := range records {
			if rr.Header().Rrtype == question.Qtype {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		// The order changes, as with resolvers that spread the load.
		if d.host.Unique()%2 == 0 {
			slices.Reverse(reply.Answer)
		}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if options := query.IsEdns0(); options != nil {
			size = int(options.UDPSize())
		}
		reply.Truncate(size)
	}
	if packed, err := reply.Pack(); effect == dnsTruncated && err == nil {
		_, _ = w.Write(packed[:len(packed)*2/3])
		return
	}
	_ = w.WriteMsg(reply)
}

// isBelow reports whether a name with its final dot is domain or is below it.
func isBelow(name, domain string) bool {
	return name == domain+"." || strings.HasSuffix(name, "."+domain+".")
}

// hasBelow reports whether there are names below name, which then exists.
func (d *Domains) hasBelow(name string) bool {
	for other := range d.zone {
		if strings.HasSuffix(other, "."+name) {
			return true
		}
	}
	return false
}

// serveWeb is the web server of all domains.
func (d *Domains) serveWeb(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	port := ""
	if d.tlsPort != "443" {
		port = ":" + d.tlsPort
	}
	switch {
	case r.TLS == nil && host == DomainComplete:
		http.Redirect(w, r, "https://"+host+port+r.URL.Path, http.StatusMovedPermanently)
	case host == DomainComplete:
		http.Redirect(w, r, "https://www."+host+port+"/home", http.StatusFound)
	case host == DomainExpired:
		http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
	case host == DomainMisnamed:
		http.Redirect(w, r, "/again", http.StatusTemporaryRedirect)
	default:
		w.Header()["Date"] = nil
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		http.SetCookie(w, &http.Cookie{Name: "session", Value: fmt.Sprint("secret-", d.host.Unique()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
		_, _ = io.WriteString(w, "<html>hello</html>")
	}
}

// serveBootstrap serves the list of registries.
func (d *Domains) serveBootstrap(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	text := d.config.Bootstrap
	d.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if text == "" {
		text = `{"version":"1.0","publication":"2026-03-01T00:00:00Z","description":"RDAP bootstrap file","services":[[["test","EXAMPLE"],["http://unused.invalid/","` +
			d.host.URL() + `/rdap/registry/"]],[["example"],["` + d.host.URL() + `/rdap/registry/"]]]}`
	}
	_, _ = io.WriteString(w, text)
}

// serveRegistration serves what the registry knows about a domain.
func (d *Domains) serveRegistration(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/rdap+json")
	name := r.PathValue("name")
	if !strings.Contains(r.Header.Get("Accept"), "application/rdap+json") {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	if name == DomainGone {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errorCode":404,"title":"Not Found"}`)
		return
	}
	now := d.host.Gen().Base
	events := []map[string]string{{"eventAction": "registration", "eventDate": now.AddDate(-5, 0, 0).Format(time.RFC3339)}}
	if name != DomainParked { // which stands for a registry that does not publish it
		zone := time.FixedZone("", 2*3600)
		events = append(events, map[string]string{"eventAction": "expiration", "eventDate": now.AddDate(0, 0, 200).In(zone).Format(time.RFC3339)},
			map[string]string{"eventAction": "last changed", "eventDate": now.AddDate(0, -1, 0).Format(time.RFC3339)})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"objectClassName": "domain", "ldhName": strings.ToUpper(name), "events": events, "status": []string{"client transfer prohibited"},
		"nameservers": []any{map[string]string{"ldhName": "NS1." + strings.ToUpper(name)}},
		"secureDNS":   map[string]bool{"delegationSigned": name == DomainComplete},
		"entities": []any{map[string]any{
			"roles":      []string{"registrar"},
			"vcardArray": []any{"vcard", []any{[]any{"version", map[string]string{}, "text", "4.0"}, []any{"fn", map[string]string{}, "text", "Registrar Inc."}}},
		}},
	})
}
