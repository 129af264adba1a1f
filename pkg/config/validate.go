package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/collectord/collectord/internal/listen"
)

// minToken is the least length of HTTP_TOKEN, in bytes. A shorter one can be guessed,
// and is too common a text to be redacted.
const minToken = 16

// Validate checks the address, the token and the prefix of the HTTP server.
func (h *HTTP) Validate() []error {
	var errs []error
	if h.Token.IsSet() && len(h.Token.Reveal()) < minToken {
		errs = append(errs, Invalid("HTTP_TOKEN", "the value is too short: want %d or more characters, such as the output of: openssl rand -hex 32", minToken))
	}
	if err := checkPrefix(h.Prefix); err != nil {
		errs = append(errs, err)
	}
	if h.Listen == "" {
		return errs
	}
	if err := listen.Check(h.Listen); err != nil {
		problem := "is not an address with a port"
		if _, isSocket := listen.SocketPath(h.Listen); isSocket {
			problem = "cannot be used: " + err.Error()
		}
		errs = append(errs, Invalid("HTTP_LISTEN", "%q %s: want an address such as 127.0.0.1:19610 or :19610, a socket such as unix:/run/collectord/http.sock, or off", h.Listen, problem))
	}
	return errs
}

// notifyEvents are the values of NOTIFY_EVENTS.
var notifyEvents = []string{"failure", "late", "destination", "restore", "reload", "doubt", "control"}

// Validate checks the kinds of events and the address of the status page.
func (n *Notify) Validate() (errs []error) {
	for _, event := range n.Events {
		if !slices.Contains(notifyEvents, event) {
			errs = append(errs, Invalid("NOTIFY_EVENTS", "%q is no kind of event: want some of %s", event, strings.Join(notifyEvents, ", ")))
		}
	}
	if u, err := url.Parse(n.Page); n.Page != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		errs = append(errs, Invalid("NOTIFY_PAGE_URL", "%q is not the URL of a page: want one such as https://collectord.example.com/", n.Page))
	}
	return errs
}

// prefixPattern matches the values of HTTP_PREFIX.
var prefixPattern = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// ownPaths are the first parts of the paths of the server itself.
var ownPaths = []string{"-", "api", "assets", "controls", "debug", "healthz", "livez", "metrics", "query", "readyz", "streams", "tenancies"}

// checkPrefix returns an error unless a prefix is "" or a path that the server itself does
// not use.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if !prefixPattern.MatchString(prefix) {
		return Invalid("HTTP_PREFIX", "%q is not a path: want a path such as /collectord", prefix)
	}
	first, _, _ := strings.Cut(prefix[1:], "/")
	if slices.Contains(ownPaths, first) {
		return Invalid("HTTP_PREFIX", "%q begins as a path of the server itself: want another one, such as /collectord", prefix)
	}
	return nil
}

// Validate checks the tenancy, which is part of paths, and what needs several.
func (s *Settings) Validate() []error {
	errs := s.checkTenancy()
	if s.HTTP.TokensFile != "" && s.Tenancies == "" {
		errs = append(errs, Invalid("HTTP_TOKENS_FILE", "limits tokens to some of several tenancies: set TENANCIES_DIR as well, or HTTP_TOKEN alone"))
	}
	return append(errs, s.Cluster.problems()...)
}

// clusterSchema matches the names of schemas in which River accepts its tables.
var clusterSchema = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,45}$`)

// problems returns what is wrong with the settings of the shared state.
func (c *Cluster) problems() (errs []error) {
	if !c.URL.IsSet() {
		return nil
	}
	u, err := url.Parse(c.URL.Reveal())
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || strings.Count(c.URL.Reveal(), "@") > 1 {
		errs = append(errs, Invalid("CLUSTER_POSTGRES_URL",
			"the value is not a Postgres URL: want postgres://user:password@host:5432/dbname, with %%, / and @ in the password written as %%25, %%2F and %%40"))
	}
	if !clusterSchema.MatchString(c.Schema) || strings.HasPrefix(c.Schema, "pg_") {
		errs = append(errs, Invalid("CLUSTER_SCHEMA", "%q: want 1 to 46 letters, digits and underscores, without a digit first, not beginning with pg_", c.Schema))
	}
	if strings.HasPrefix(c.Prefix, "/") || len(c.Prefix) > 256 {
		errs = append(errs, Invalid("CLUSTER_S3_PREFIX", "%q: want the beginning of keys, such as collectord/, without / first and of at most 256 bytes", c.Prefix))
	}
	return errs
}

func (s *Settings) checkTenancy() []error {
	const longest = 128
	const want = "want a name such as default or acme-eu"
	fail := func(why string) []error {
		return []error{Invalid("TENANCY", "%q %s: %s", s.Tenancy, why, want)}
	}
	isControl := func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
	// Such as U+200B and U+202E: two names could look alike.
	isInvisible := func(r rune) bool { return unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) && r != ' ' }
	switch {
	case len(s.Tenancy) > longest:
		return []error{Invalid("TENANCY", "is %d bytes long: want at most %d", len(s.Tenancy), longest)}
	case strings.TrimSpace(s.Tenancy) == "":
		return fail("is empty")
	case strings.ContainsAny(s.Tenancy, `/\`):
		return fail("has a path separator")
	case strings.ContainsFunc(s.Tenancy, isControl):
		return fail("has a control character")
	case strings.ContainsFunc(s.Tenancy, isInvisible):
		return fail("has an invisible character")
	case strings.TrimSpace(s.Tenancy) != s.Tenancy:
		return fail("begins or ends with a space")
	case strings.HasPrefix(s.Tenancy, "."):
		return fail("begins with a dot")
	case strings.Contains(s.Tenancy, ".."):
		return fail("has two dots in a row")
	}
	return nil
}
