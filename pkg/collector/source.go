package collector

// A Source describes a vendor: what it offers, which settings switch it on,
// and how it is opened. It does no I/O.
type Source struct {
	Info
	// Settings returns a pointer to a new settings struct, for the
	// configuration to fill.
	Settings func() any
	// Open makes the collector from settings that Settings made and the
	// configuration filled. It does no I/O.
	Open func(settings any, o Options) (*Collector, error)
}

// Info is what a person must know of a vendor. docs/collectors.md is made
// from it.
type Info struct {
	// Name is the collector's name in settings and commands, such as "okta".
	Name string
	// Title is the vendor's product name.
	Title string
	// Docs is the address of the vendor's own description of the API.
	Docs string
	// Permissions names the role, right or scope that the credentials need.
	Permissions string
	// RateLimit says in words which limits the vendor sets and how they are
	// kept.
	RateLimit string
	Streams   []StreamInfo
}

// StreamInfo describes one stream of a source.
type StreamInfo struct {
	// Name is the table's name, such as "okta_users".
	Name string
	// Records says in words what one record is.
	Records string
	// Endpoints are the requests that are made, such as "GET /api/v1/users".
	Endpoints []string
	// PageSize says in words how many records one request brings.
	PageSize string
	// Permissions names what this stream needs beyond the source's own.
	Permissions string
	// Notes says what a reader of the table should know: filters, defaults,
	// what is left out and how to change it.
	Notes string
}

// Define makes a Source whose settings have the type S.
func Define[S any](info Info, open func(settings *S, o Options) (*Collector, error)) Source {
	return Source{
		Info:     info,
		Settings: func() any { return new(S) },
		Open: func(settings any, o Options) (*Collector, error) {
			return open(settings.(*S), o)
		},
	}
}
