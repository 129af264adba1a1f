// Package config reads every setting of collectord and refuses what does not
// fit, all at once.
//
// A setting is one variable such as STORE_POSTGRES_PORT. Its value comes from
// the first of these that has one; an empty value counts as none:
//
//  1. the process environment
//  2. the file that NAME_FILE names
//  3. the systemd credential $CREDENTIALS_DIRECTORY/NAME
//  4. .env in the working directory
//  5. the --env-file file
//
// Settings live in plain structs whose tags say all there is to say about
// them. [Settings] holds those of the program itself; a [Section] adds those of
// one collector. The tags are:
//
//	env:"NAME"          the variable; a nested struct has none
//	envDefault:"10m"    what holds when nothing is set
//	doc:"..."           one sentence for the reference; must be there
//	required:"true"     the collector is off without it
//	alias:"OTHER,MORE"  other names of the same variable
//	oneof:"a,b"         the values a string may have, whatever their case
//	min:"1" max:"99"    bounds of a number, time.Duration or [Bytes]
//	want:"a path"       what a good value is, where type and bounds do not say it
//	example:"acme-eu"   a good value, for the reference
//	title:"Postgres"    on a nested struct: its heading in the reference
//
// Fields are strings, booleans, numbers, [time.Duration], [net/url.URL] (or a
// pointer to one), lists of strings, [Secret], [Bytes], [Keep], [Percent], or
// any other [encoding.TextUnmarshaler].
//
// Usage:
//
//	found, err := config.Open(config.Source{Environ: os.Environ(), EnvFile: flag})
//	var core config.Settings
//	warnings, err := found.Load(&core, sections...)
package config

import "github.com/collectord/collectord/pkg/calendar"

// Section is a further group of settings: those of one collector, or of a part
// of the program.
type Section struct {
	// Name is what COLLECTORS and messages call it: "tenable".
	Name string
	// Title is its heading in the reference: "Tenable Vulnerability Management".
	Title string
	// Into is a pointer to the settings struct that Load fills.
	Into any
	// Collector says that its required variables switch it on and off.
	Collector bool

	// Active is set by Load. A collector is active when its required variables
	// are all set and COLLECTORS, if set, names it; one that requires nothing is
	// active only when COLLECTORS names it. Any other section is always active.
	Active bool
	// Missing is set by Load: the required variables that are not set.
	Missing []string
	// Schedule is set by Load: SCHEDULE_<NAME> of a collector, not set when it
	// runs by SCHEDULE.
	Schedule calendar.Expression
}

// Validator is implemented by a settings struct (at any depth, by pointer or
// value) that has checks of its own. Load calls it after the values are in
// place; for a collector only when it is active. Each error names its variable,
// which [Invalid] sees to, and never holds a secret.
type Validator interface {
	Validate() []error
}
