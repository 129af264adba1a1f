package sources

import (
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/config"
)

// address reads a setting that is a host, with or without its scheme, such as
// "acme.okta.com" or "https://acme.okta.com/". Slashes at the end go.
func address(name, text, example string) (url.URL, error) {
	whole := strings.TrimSpace(text)
	if !strings.Contains(whole, "://") {
		whole = "https://" + whole
	}
	u, err := url.Parse(whole)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return url.URL{}, config.Invalid(name, "%q is not an address: want one such as %s", text, example)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Not shown: what is there may be a key.
		return url.URL{}, config.Invalid(name, "the address has more than a host and a path: want one such as %s", example)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return *u, nil
}

// query reads a setting that is a part of a query, such as
// "status=open&type=code". Names that the collector sets itself are refused.
func query(name, text, example string, own ...string) (url.Values, error) {
	q, err := url.ParseQuery(strings.TrimPrefix(strings.TrimSpace(text), "?"))
	if err != nil {
		return nil, config.Invalid(name, "%q is not a query: want one such as %s", text, example)
	}
	for _, reserved := range own {
		if q.Has(reserved) {
			return nil, config.Invalid(name, "%s is set by collectord: leave it out", reserved)
		}
	}
	for parameter, values := range q {
		if len(values) > 1 || parameter == "" || values[0] == "" {
			return nil, config.Invalid(name, "%q needs one value for each parameter: want one such as %s", text, example)
		}
	}
	return q, nil
}

// errorsOf is the list that a Validator returns.
func errorsOf(errs ...error) []error {
	var list []error
	for _, err := range errs {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}
