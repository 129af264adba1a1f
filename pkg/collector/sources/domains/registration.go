package domains

import (
	"context"
	"strings"

	"github.com/miekg/dns"
)

// registrationRecord is a record of domains.
type registrationRecord struct {
	Domain  string `json:"domain"`
	Unicode string `json:"unicode"`
	Exists  *bool  `json:"exists"`
	registration
	TXT       []string  `json:"txt"`
	MX        []string  `json:"mx"`
	DMARC     []string  `json:"dmarc"`
	DMARCName string    `json:"dmarc_name"`
	Errors    []failure `json:"errors"`
}

// examineRegistration returns the record of the stream domains.
func (a *account) examineRegistration(ctx context.Context, d domainName, servers rdapServers, failed *failures) any {
	r := &registrationRecord{Domain: d.ascii, Unicode: d.unicode, registration: registration{Name: d.registered()}}
	for lookup, into := range map[string]*[]string{"mx": &r.MX, "txt": &r.TXT} {
		reply, failure := a.resolver.lookUp(ctx, lookup, d.ascii)
		failed.addFailure(failure)
		if failure == nil {
			*into, r.Exists = reply.values(), &reply.exists
		}
	}
	r.DMARC, r.DMARCName = a.findDMARC(ctx, d, failed)
	if a.rdap == nil {
		failed.addFailure(&failure{Lookup: "rdap", Name: r.Name, Reason: "off", Detail: "DOMAINS_RDAP_URL is off"})
	} else {
		failed.addFailure(a.rdap.readRegistration(ctx, servers, &r.registration))
	}
	r.Errors = failed.list()
	return r
}

// findDMARC returns the DMARC records of the domain, or, if it has none, of the
// registered domain that contains it, and the name that has them.
func (a *account) findDMARC(ctx context.Context, d domainName, failed *failures) (records []string, at string) {
	for _, name := range []string{d.ascii, d.registered()} {
		at = "_dmarc." + name
		reply, failure := a.resolver.lookUp(ctx, "dmarc", at)
		if failed.addFailure(failure); failure != nil {
			return nil, at
		}
		if records = selectDMARC(reply.records); len(records) > 0 || name == d.registered() {
			break
		}
	}
	return records, at
}

// selectDMARC returns the texts that are DMARC records.
func selectDMARC(records []dns.RR) []string {
	all := []string{}
	for _, text := range (dnsReply{records: records}).values() {
		tag, _, _ := strings.Cut(text, ";")
		name, value, _ := strings.Cut(tag, "=")
		if strings.EqualFold(strings.TrimSpace(name), "v") && strings.TrimSpace(value) == "DMARC1" {
			all = append(all, text)
		}
	}
	return all
}
