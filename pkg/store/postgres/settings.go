package postgres

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store"
)

// Name is the destination's name in messages and metrics.
const Name = "postgres"

// Settings are the settings of the destination. The server is given by URL or
// by Host, User and DBName.
type Settings struct {
	URL      config.Secret `env:"STORE_POSTGRES_URL" target:"true" want:"postgres://user:password@host:5432/dbname" doc:"The database as a URL, in place of host, user, password, database and port."`
	Host     string        `env:"STORE_POSTGRES_HOST" target:"true" want:"a host name, an address or the directory of a socket" example:"db.example.com" doc:"The server; if neither it nor the URL is set, Postgres is off."`
	User     string        `env:"STORE_POSTGRES_USER" target:"true" want:"the name of a role" doc:"The role to log in as; if unset, PGUSER or the name of the user."`
	Password config.Secret `env:"STORE_POSTGRES_PASSWORD" target:"true" want:"a password" doc:"The password of the role, if the server asks for one."`
	DBName   string        `env:"STORE_POSTGRES_DBNAME" target:"true" want:"the name of a database" doc:"The database; if unset, PGDATABASE or the name of the role."`
	Port     int           `env:"STORE_POSTGRES_PORT" target:"true" min:"1" max:"65535" doc:"The port of the server; if unset, PGPORT or 5432."`
	Schema   string        `env:"STORE_POSTGRES_SCHEMA" envDefault:"public" want:"1 to 63 bytes" doc:"The schema that holds the tables."`
	JSON     string        `env:"STORE_POSTGRES_JSON" envDefault:"json" oneof:"json,jsonb" doc:"The type of the column json_data in tables that are created; jsonb can be indexed, json keeps the vendor's spelling."`
	Mode     string        `env:"STORE_POSTGRES_MODE" envDefault:"append" oneof:"append,replace" doc:"Whether a snapshot is added to the tenancy's earlier ones or replaces them."`
	Views    string        `env:"STORE_POSTGRES_VIEWS" envDefault:"on" oneof:"on,typed,off" doc:"Whether the views <stream>_latest of the newest snapshots are created and upgraded; typed adds <stream>_latest_typed with a column for each member, off leaves existing views <stream>_latest as they are."`
	Keep     config.Keep   `env:"STORE_POSTGRES_KEEP" doc:"How many snapshots of a tenancy to keep, or for how long."`
}

// On reports whether snapshots are stored in Postgres.
func (s *Settings) On() bool { return s.URL.IsSet() || s.Host != "" }

// Definition describes the destination.
var Definition = store.Define(store.Info{Name: Name, Title: "Postgres"}, func(s *Settings, o store.Options) (store.Sink, error) {
	if !s.On() {
		return nil, nil
	}
	return New(Options{
		URL: s.URL.Reveal(), Host: s.Host, Port: s.Port, User: s.User, Password: s.Password.Reveal(), DBName: s.DBName,
		Schema: s.Schema, JSON: s.JSON, Views: s.Views, Retention: store.RetentionOf(s.Mode, store.Retention(s.Keep)), Declared: o.Declared, Note: o.Note,
	})
})

// Validate implements config.Validator: it refuses a server that is given twice. A
// role or a database that is not set is that of libpq: PGUSER, PGDATABASE, or the
// name of the user.
func (s *Settings) Validate() []error {
	var errs []error
	variables := []struct {
		name string
		set  bool
	}{
		{name: "STORE_POSTGRES_HOST", set: s.Host != ""},
		{name: "STORE_POSTGRES_USER", set: s.User != ""},
		{name: "STORE_POSTGRES_PASSWORD", set: s.Password.IsSet()},
		{name: "STORE_POSTGRES_DBNAME", set: s.DBName != ""},
	}
	var set []string
	for _, v := range variables {
		if v.set {
			set = append(set, v.name)
		}
		if s.URL.IsSet() && v.set {
			errs = append(errs, config.Invalid(v.name, "set, and STORE_POSTGRES_URL is too: keep one of the two"))
		}
	}
	if !s.On() && len(set) > 0 {
		verb := "are"
		if len(set) == 1 {
			verb = "is"
		}
		errs = append(errs, config.Incomplete("STORE_POSTGRES_HOST", "not set, but %s %s: Postgres is off: set it, or none",
			config.Enumerate(set, "and"), verb))
	}
	if s.URL.IsSet() && !isURL(s.URL.Reveal()) {
		errs = append(errs, config.Invalid("STORE_POSTGRES_URL",
			"the value is not a Postgres URL: want postgres://user:password@host:5432/dbname, with %%, / and @ in the password written as %%25, %%2F and %%40"))
	}
	if problem := schemaProblem(s.Schema); problem != "" {
		errs = append(errs, config.Invalid("STORE_POSTGRES_SCHEMA", "%s: want 1 to 63 bytes", problem))
	}
	return errs
}

// isURL reports whether value is a URL of a Postgres database. A second @ is that of a
// password, of which a part would be taken for the host, looked up and shown.
func isURL(value string) bool {
	address, _, _ := strings.Cut(value, "?")
	if strings.Count(address, "@") > 1 {
		return false
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Opaque != "" {
		return false
	}
	return u.Host != "" || u.Query().Get("host") != "" || u.Query().Get("service") != ""
}

// schemaProblem returns why Postgres cannot have a schema of that name, or "".
// Postgres truncates longer names silently, so that two names become one.
func schemaProblem(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "the name is empty"
	case len(name) > maxName:
		return "the name is too long"
	case !utf8.ValidString(name):
		return "the name is not UTF-8"
	}
	return ""
}
