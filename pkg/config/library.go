package config

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/collectord/collectord/internal/redact"
)

// A Variable is one that a library reads from the process environment: those of the
// AWS SDK, of libpq, of OpenTelemetry, of proxies and of certificates.
type Variable struct {
	Name, Value string
	// Origin is where the value is from: "environment", "credential", or the file
	// and line, such as ".env:3".
	Origin string
}

// libraryNames are the variables of libraries, besides those with libraryPrefixes.
// Those of libpq are the ones that pgx reads.
var libraryNames = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGAPPNAME", "PGCONNECT_TIMEOUT",
	"PGSSLMODE", "PGSSLKEY", "PGSSLCERT", "PGSSLCERTMODE", "PGSSLSNI", "PGSSLROOTCERT", "PGSSLPASSWORD", "PGSSLNEGOTIATION",
	"PGTARGETSESSIONATTRS", "PGSERVICE", "PGSERVICEFILE", "PGTZ", "PGOPTIONS", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION",
	"PGCHANNELBINDING", "PGREQUIREAUTH",
}

var libraryPrefixes = []string{"AWS_", "OTEL_"}

// awsNames are the variables that the AWS SDK reads, and those that other AWS
// programs read and that resemble one of them. A name that resembles one of these is
// probably a misspelled one.
var awsNames = []string{
	"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_ACCOUNT_ID", "AWS_ACCOUNT_ID_ENDPOINT_MODE", "AWS_AUTH_SCHEME_PREFERENCE",
	"AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_DEFAULTS_MODE", "AWS_DEFAULT_PROFILE",
	"AWS_DEFAULT_REGION", "AWS_DISABLE_CLOCK_SKEW_CORRECTION", "AWS_DISABLE_REQUEST_COMPRESSION", "AWS_EC2_METADATA_DISABLED",
	"AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "AWS_EC2_METADATA_V1_DISABLED",
	"AWS_ENABLE_ENDPOINT_DISCOVERY", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SSO", "AWS_ENDPOINT_URL_SSO_OIDC",
	"AWS_ENDPOINT_URL_STS", "AWS_EXECUTION_ENV", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_LOGIN_CACHE_DIRECTORY",
	"AWS_MAX_ATTEMPTS", "AWS_PROFILE", "AWS_REGION", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES",
	"AWS_RESPONSE_CHECKSUM_VALIDATION", "AWS_RESTRICT_FILE_PERMISSIONS", "AWS_RETRY_MODE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
	"AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS", "AWS_S3_USE_ARN_REGION", "AWS_SDK_UA_APP_ID",
	"AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE",
	"AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT", "AWS_WEB_IDENTITY_TOKEN_FILE",
}

// misspelledLibraryName returns the variable of the AWS SDK that a name resembles
// without being one; "" if there is none. Any name with the prefix is passed on, since
// new versions read new ones.
func misspelledLibraryName(name string) string {
	isService := strings.HasPrefix(name, "AWS_ENDPOINT_URL_")
	if !strings.HasPrefix(name, "AWS_") || isService || slices.Contains(awsNames, name) {
		return ""
	}
	return Nearest(name, awsNames, 2)
}

// isLibraryVariable reports whether a library reads a variable.
func isLibraryVariable(name string) bool {
	hasPrefix := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	return slices.Contains(libraryNames, name) || slices.ContainsFunc(libraryPrefixes, hasPrefix)
}

// VariableNames returns the names of the variables of a struct with settings.
func VariableNames(into any) (names []string) {
	settings, _ := settingsOf(into)
	for _, s := range settings {
		names = append(names, s.variableNames()...)
	}
	return names
}

// IsStoreVariable reports whether a variable is one with which the libraries of the
// destinations, the backup and the traces find their servers and credentials.
func IsStoreVariable(name string) bool {
	isNetwork := strings.HasSuffix(strings.ToUpper(name), "_PROXY") || strings.HasPrefix(name, "SSL_CERT_")
	return isLibraryVariable(name) && !isNetwork
}

// isLibrarySecret reports whether the value of a library's variable is a secret.
func isLibrarySecret(name string) bool {
	if !isLibraryVariable(name) || strings.HasSuffix(name, "_FILE") || strings.HasSuffix(name, "_URI") {
		return false
	}
	hasWord := func(word string) bool { return strings.Contains(name, word) }
	return slices.ContainsFunc([]string{"SECRET", "TOKEN", "PASSWORD", "HEADERS"}, hasWord)
}

// LibraryVariables returns the variables of libraries that are set anywhere, sorted
// by name. The process environment takes precedence, even with an empty value, which
// switches a proxy off. The caller sets the others in the process environment.
func (e *Environment) LibraryVariables() []Variable {
	if e.shared != nil {
		return e.shared.LibraryVariables()
	}
	found := map[string]Variable{}
	if e.file != nil {
		for name, a := range e.file.values {
			found[name] = Variable{Name: name, Value: a.value, Origin: fmt.Sprintf("%s:%d", e.file.label, a.line)}
		}
	}
	for _, name := range e.credentialNames() {
		if r, _ := e.lookupCredential(name); r.found { // a problem is one of the library
			found[name] = Variable{Name: name, Value: r.value, Origin: fromCredential}
		}
	}
	for name, value := range e.process {
		found[name] = Variable{Name: name, Value: value, Origin: FromEnvironment}
	}
	var variables []Variable
	for _, name := range sortedKeys(found) {
		if v := found[name]; isLibraryVariable(name) && (v.Value != "" || v.Origin == FromEnvironment) {
			variables = append(variables, v)
		}
	}
	return variables
}

// LibraryChanges returns the names of the variables that have different values in
// before and after, and of those the ones whose libraries read them at their first
// use only, so that a change takes a restart: proxies, certificates, OpenTelemetry.
func LibraryChanges(before, after []Variable) (changed, restart []string) {
	values := map[string]string{}
	for _, v := range before {
		values[v.Name] = v.Value
	}
	differ := map[string]bool{}
	for _, v := range after {
		differ[v.Name] = values[v.Name] != v.Value
		delete(values, v.Name)
	}
	for name, value := range values {
		differ[name] = value != ""
	}
	for _, name := range sortedKeys(differ) {
		if !differ[name] {
			continue
		}
		changed = append(changed, name)
		if !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "PG") {
			restart = append(restart, name)
		}
	}
	return changed, restart
}

// credentialNames returns the names of systemd's credentials.
func (e *Environment) credentialNames() []string {
	if e.credentials == "" {
		return nil
	}
	entries, err := os.ReadDir(e.credentials)
	if err != nil {
		return nil // a setting that needs one reports it
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// addLibrarySecrets records the secrets among the libraries' variables, so that they
// are redacted.
func (e *Environment) addLibrarySecrets() {
	for _, v := range e.LibraryVariables() {
		for _, password := range redact.FromURL(v.Value) {
			e.secrets[password] = true
		}
		if !isLibrarySecret(v.Name) || v.Value == "" {
			continue
		}
		if !strings.HasSuffix(v.Name, "HEADERS") {
			e.secrets[v.Value] = true
			continue
		}
		for header := range strings.SplitSeq(v.Value, ",") { // name=value, URL-encoded
			_, value, _ := strings.Cut(header, "=")
			if value = strings.TrimSpace(value); value != "" {
				e.secrets[value] = true
			}
			if plain, err := url.PathUnescape(value); err == nil && plain != "" {
				e.secrets[plain] = true
			}
		}
	}
}
