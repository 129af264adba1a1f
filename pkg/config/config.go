// Package config reads and validates every setting of collectord, and reports all
// problems at once.
//
// A setting is one variable such as STORE_POSTGRES_PORT. Its value comes from the
// first of these sources that has one; an empty value counts as none:
//
//  1. the process environment
//  2. the file that NAME_FILE names
//  3. the systemd credential $CREDENTIALS_DIRECTORY/NAME
//  4. the --env-file file, or .env without one
//
// Settings are fields of plain structs, and the tags of a field are everything
// that is known of its setting. [Settings] holds those of the program itself; a
// [Section] adds those of one collector. The tags are:
//
//	env:"NAME"          the variable; a nested struct has none
//	envDefault:"10m"    the value when nothing is set
//	systemd:"source"    the default below $STATE_DIRECTORY, if systemd sets that
//	empty:"off"         the value when a source sets the variable to nothing
//	doc:"..."           one sentence for the reference; mandatory
//	required:"true"     the collector is off without it; a switch counts as set if it is true
//	instead:"OTHER"     with all others that have this tag, it replaces the required OTHER,
//	                    or each of several
//	alias:"OTHER,MORE"  other names of the same variable
//	oneof:"a,b"         the values that a string may have, in any case
//	min:"1" max:"99"    bounds of a number, time.Duration or [Bytes]
//	want:"a path"       what a valid value is, where type and bounds do not say it
//	example:"acme-eu"   a valid value, for the reference
//	reload:"restart"    a change takes effect at a start only
//	scope:"program"     tenancies cannot have values of their own
//	target:"true"       an address or a credential of a destination: a tenancy that sets one
//	                    shares nothing of that destination
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

import (
	"time"

	"github.com/collectord/collectord/pkg/calendar"
)

// Section is a group of settings outside of [Settings]: those of one collector,
// or of a part of the program.
type Section struct {
	// Name is its name in COLLECTORS and in messages: "tenable".
	Name string
	// Title is its heading in the reference: "Tenable Vulnerability Management".
	Title string
	// Into is a pointer to the settings struct that Load fills.
	Into any
	// Collector reports whether the section is that of a collector, which its
	// required variables switch on and off.
	Collector bool
	// OnByDefault reports whether a collector without required variables is on unless
	// COLLECTORS switches it off.
	OnByDefault bool
	// IsPublic means that a collector reads public data, which is collected once a day
	// unless it has a schedule of its own.
	IsPublic bool
	// Streams are the streams of a collector, in its own order.
	Streams []Stream

	// Active is set by Load. A collector is active when all its required variables
	// are set and COLLECTORS, if set, leaves it at least one stream; one without
	// required variables is active only when COLLECTORS names it or one of its
	// streams, or OnByDefault. Any other section is always active.
	Active bool
	// Off is set by Load: why COLLECTORS switches a collector off, such as
	// "COLLECTORS does not name it"; "" if it does not. After a Reload it may be
	// OffInvalid.
	Off string
	// Missing is set by Load: the required variables that are not set.
	Missing []string
	// Advice is set by Load: what to set for those that are missing, such as
	// "GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY"; "" for none.
	Advice string
	// Schedule is set by Load: SCHEDULE_<NAME> of a collector. It is not set for a
	// collector that runs on SCHEDULE.
	Schedule calendar.Expression
	// MaxAge is set by Load: DATA_MAX_AGE_<NAME> of a collector; 0 if it is not set.
	MaxAge time.Duration
}

// Stream is one stream of a collector, which COLLECTORS can select and which can
// have a schedule and a DATA_MAX_AGE of its own.
type Stream struct {
	// Name is its name in COLLECTORS: "tenable_was".
	Name string

	// Off is set by Load: why the stream is off although its collector is active,
	// such as "COLLECTORS excludes it"; "" if it is on.
	Off string
	// Schedule is set by Load: SCHEDULE_<NAME> of the stream. It is not set for a
	// stream that runs on the schedule of its collector.
	Schedule calendar.Expression
	// MaxAge is set by Load: DATA_MAX_AGE_<NAME> of the stream; 0 if it is not set.
	MaxAge time.Duration
}

// Groups is further settings of the program whose structs are defined in other
// packages. Load sets a field of this type in a settings struct like the others.
type Groups []Group

// A Group is one of [Groups].
type Group struct {
	// Title is its heading in the reference: "Postgres".
	Title string
	// Into is a pointer to the settings struct that Load fills.
	Into any
}

// Validator is implemented by a settings struct (at any depth, by pointer or
// value) that has checks of its own. Load calls it after the values are set; for a
// collector only when it is active. [Invalid] returns the errors: each names its
// variable, and none contains a secret.
type Validator interface {
	Validate() []error
}
