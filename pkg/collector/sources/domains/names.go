package domains

import (
	"net"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/collectord/collectord/pkg/config"
)

// domainName is a domain in lower case without a final dot.
type domainName struct {
	ascii   string // in Punycode where it needs to be
	unicode string
}

// parseDomains returns the domains of DOMAINS, each once, and an error for each
// part that is none.
func parseDomains(text string) (all []domainName, errs []error) {
	known := map[string]bool{}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == ',' || unicode.IsSpace(r) }) {
		d, err := parseDomain(part)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !known[d.ascii]:
			known[d.ascii] = true
			all = append(all, d)
		}
	}
	if len(all) == 0 && len(errs) == 0 {
		errs = append(errs, config.Invalid("DOMAINS", "it names no domain: want a list such as a.example;b.example"))
	}
	return all, errs
}

func parseDomain(text string) (domainName, error) {
	invalid := func(why string) (domainName, error) {
		return domainName{}, config.Invalid("DOMAINS", "%.100q is not a domain: %s: want one such as a.example", text, why)
	}
	name := strings.TrimSuffix(text, ".")
	switch {
	case strings.ContainsAny(name, "/:@"):
		return invalid("it is an address: leave out everything but the name")
	case net.ParseIP(name) != nil:
		return invalid("it is an IP address")
	case strings.Contains(name, "..") || strings.HasPrefix(name, "."):
		return invalid("a part of it is empty")
	case strings.Contains(name, "*"):
		return invalid("it has a wildcard")
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return invalid("it has a character or a part that domains do not have")
	}
	if !strings.Contains(ascii, ".") {
		return invalid("it has no dot")
	}
	if len(ascii) > 253 {
		return invalid("it is too long")
	}
	shown, err := idna.Lookup.ToUnicode(ascii)
	if err != nil {
		shown = ascii
	}
	return domainName{ascii: ascii, unicode: shown}, nil
}

// registered returns the registered domain that contains d, such as a.co.uk for
// www.a.co.uk; d itself if there is none.
func (d domainName) registered() string {
	if name, err := publicsuffix.EffectiveTLDPlusOne(d.ascii); err == nil {
		return name
	}
	return d.ascii
}

func portText(port int) string { return strconv.Itoa(port) }
