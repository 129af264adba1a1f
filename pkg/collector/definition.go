package collector

// A Definition describes a vendor: its streams, its settings, and how its
// collector is opened.
type Definition struct {
	Info
	// Settings returns a pointer to a new settings struct, which the
	// configuration fills.
	Settings func() any
	// Open returns the collector for settings that Settings returned and the
	// configuration has filled. It does no I/O.
	Open func(settings any, o Options) (*Collector, error)
	// OnByDefault means that the collector is on although none of its settings is required.
	OnByDefault bool
	// Revision changes when a reload may have changed what the collector does, apart from
	// its settings; "" for one that is part of the program.
	Revision string
}

// Info is the documentation of a vendor. The reference of the collectors is
// generated from it.
type Info struct {
	// Name is the collector's name in settings and commands, such as "okta".
	Name string
	// Title is the vendor's product name.
	Title string
	// Docs is the address of the vendor's own description of the API.
	Docs string
	// Permissions names the role, right or scope that the credentials need.
	Permissions string
	// RateLimit describes the vendor's limits and how the collector stays
	// within them.
	RateLimit string
	// IsPublic means that the data is public and needs no credentials: a feed, or what
	// servers of others tell everyone. It is collected once a day unless it has a
	// schedule of its own.
	IsPublic bool
	Streams  []StreamInfo
}

// StreamInfo is the documentation of one stream.
type StreamInfo struct {
	// Name is the table's name, such as "okta_users".
	Name string
	// Records describes one record, such as "a user".
	Records string
	// Endpoints are the requests that the stream makes, such as
	// "GET /api/v1/users".
	Endpoints []string
	// PageSize describes how many records one response has.
	PageSize string
	// Permissions names what this stream needs in addition to Info.Permissions.
	Permissions string
	// Notes describes what the table contains: filters, defaults, what is left
	// out, and how to change that.
	Notes string
	// Optional are members that the vendor leaves out of records, and that queries
	// find as NULL when no record has them. They are paths, such as
	// "remediation.entities[].title".
	Optional []string
}

// Define returns a Definition whose settings have the type S.
func Define[S any](info Info, open func(settings *S, o Options) (*Collector, error)) Definition {
	return Definition{
		Info:     info,
		Settings: func() any { return new(S) },
		Open: func(settings any, o Options) (*Collector, error) {
			return open(settings.(*S), o)
		},
	}
}
