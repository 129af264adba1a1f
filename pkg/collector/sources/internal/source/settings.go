package source

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/config"
)

// ParseAddress parses a setting that is a host with or without a scheme, such
// as "acme.okta.com" or "https://acme.okta.com/". It removes slashes at the
// end of the path.
func ParseAddress(name, text, example string) (url.URL, error) {
	whole := strings.TrimSpace(text)
	if !strings.Contains(whole, "://") {
		whole = "https://" + whole
	}
	u, err := url.Parse(whole)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return url.URL{}, config.Invalid(name, "%q is not an address: want one such as %s", text, example)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// The value is not shown: these parts may contain a key.
		return url.URL{}, config.Invalid(name, "the address has more than a host and a path: want one such as %s", example)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return *u, nil
}

// ParseQuery parses a setting that is part of a URL query, such as
// "status=open&type=code". It refuses the reserved parameters, which the
// collector sets itself.
func ParseQuery(name, text, example string, reserved ...string) (url.Values, error) {
	q, err := url.ParseQuery(strings.TrimPrefix(strings.TrimSpace(text), "?"))
	if err != nil {
		return nil, config.Invalid(name, "%q is not a query: want one such as %s", text, example)
	}
	for _, parameter := range reserved {
		if q.Has(parameter) {
			return nil, config.Invalid(name, "%s is set by collectord: leave it out", parameter)
		}
	}
	for parameter, values := range q {
		if len(values) > 1 || parameter == "" || values[0] == "" {
			return nil, config.Invalid(name, "%q needs one value for each parameter: want one such as %s", text, example)
		}
	}
	return q, nil
}

// CheckObject checks that a setting is a JSON object. It returns nil or an
// error for the setting name.
func CheckObject(name, text string) error {
	var v map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &v); err != nil || v == nil {
		return config.Invalid(name, "%q is not a JSON object: want one such as {\"severity\":[\"high\"]}", text)
	}
	return nil
}

// NonNil returns the errors that are not nil, as config.Validator needs them.
func NonNil(errs ...error) []error {
	var list []error
	for _, err := range errs {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}
