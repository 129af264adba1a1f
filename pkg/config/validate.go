package config

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Validate checks the tenancy, which becomes part of paths.
func (s *Settings) Validate() []error {
	const longest = 128
	const want = "want a name such as default or acme-eu"
	fail := func(why string) []error {
		return []error{Invalid("TENANCY", "%q %s: %s", s.Tenancy, why, want)}
	}
	isControl := func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
	switch {
	case len(s.Tenancy) > longest:
		return []error{Invalid("TENANCY", "is %d bytes long: want at most %d", len(s.Tenancy), longest)}
	case strings.TrimSpace(s.Tenancy) == "":
		return fail("is empty")
	case strings.ContainsAny(s.Tenancy, `/\`):
		return fail("has a path separator")
	case strings.ContainsFunc(s.Tenancy, isControl):
		return fail("has a control character")
	case strings.HasPrefix(s.Tenancy, "."):
		return fail("begins with a dot")
	case strings.Contains(s.Tenancy, ".."):
		return fail("has two dots in a row")
	}
	return nil
}

// Validate refuses a file without a name.
func (s *Store) Validate() []error {
	if s.File != "" && strings.TrimSpace(s.File) == "" {
		return []error{Invalid("STORE_FILE", "%q is empty: want a path with variables such as %%TAG, or off", s.File)}
	}
	return nil
}

// Validate refuses a server that is given by halves or twice.
func (p *Postgres) Validate() []error {
	var errs []error
	parts := []struct {
		name     string
		set      bool
		required bool
	}{
		{"STORE_POSTGRES_HOST", p.Host != "", true},
		{"STORE_POSTGRES_USER", p.User != "", true},
		{"STORE_POSTGRES_PASSWORD", p.Password.IsSet(), false},
		{"STORE_POSTGRES_DBNAME", p.DBName != "", true},
	}
	var set, required []string
	for _, part := range parts {
		if part.set {
			set = append(set, part.name)
		}
		if part.required {
			required = append(required, part.name)
		}
	}
	for _, part := range parts {
		switch {
		case p.URL.IsSet() && part.set:
			errs = append(errs, Invalid(part.name, "set, and STORE_POSTGRES_URL is too: keep one of the two"))
		case !p.URL.IsSet() && len(set) > 0 && part.required && !part.set:
			errs = append(errs, Invalid(part.name, "not set, but %s %s: set %s to switch Postgres on, or none",
				enumerate(set, "and"), areOrIs(len(set)), enumerate(required, "and")))
		}
	}
	if p.URL.IsSet() && !isPostgresURL(p.URL.Reveal()) {
		errs = append(errs, Invalid("STORE_POSTGRES_URL",
			"the value is not a Postgres URL: want postgres://user:password@host:5432/dbname, with %%, / and @ in the password written as %%25, %%2F and %%40"))
	}
	if why := badSchema(p.Schema); why != "" {
		errs = append(errs, Invalid("STORE_POSTGRES_SCHEMA", "%s: want 1 to 63 bytes", why))
	}
	return errs
}

func isPostgresURL(value string) bool {
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Opaque != "" {
		return false
	}
	return u.Host != "" || u.Query().Get("host") != "" || u.Query().Get("service") != ""
}

// badSchema says why Postgres could not have a schema of that name, or "". It
// cuts longer names off silently, which makes two of them one.
func badSchema(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "the name is empty"
	case len(name) > 63:
		return "the name is too long"
	case !utf8.ValidString(name):
		return "the name is not UTF-8"
	}
	return ""
}

// Validate refuses what no bucket could do.
func (s *S3) Validate() []error {
	var errs []error
	if s.Key != "" && s.Bucket == "" {
		errs = append(errs, Invalid("STORE_AWS_S3_BUCKET", "not set, but STORE_AWS_S3_KEY is: set both to switch S3 on, or neither"))
	}
	if strings.Contains(s.Bucket, "://") || strings.ContainsFunc(s.Bucket, unicode.IsSpace) {
		errs = append(errs, Invalid("STORE_AWS_S3_BUCKET", "%q is not the name of a bucket: want one without s3:// and blanks", s.Bucket))
	}
	if s.KMSKeyID != "" && s.SSE != "aws:kms" {
		errs = append(errs, Invalid("STORE_AWS_S3_KMS_KEY_ID", "set, but STORE_AWS_S3_SSE is not aws:kms: set both, or neither"))
	}
	return errs
}
