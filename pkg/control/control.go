// Package control measures controls, such as "every active user has signed in within
// 90 days", with SQL over the last-known snapshots. A file describes a control; its
// queries return one row per resource with a compliance from 0 to 1. The files of two
// earlier programs are read as they are.
package control

// A Control is what the files with one id describe.
type Control struct {
	// ID is the key of everything, and a label of metrics.
	ID string
	// Files are the names of the files in the directory, the one that describes the
	// control first.
	Files    []string
	Title    string
	Category string
	// Type is "control", "risk" or "performance"; "" when the file does not say.
	Type string
	// Description says what the control is about, How how it is measured.
	Description, How string
	// Target is the score from which the control is green, Minimum that from which it
	// is amber.
	Target, Minimum float64
	// Weight is the share of the control in the scores of its category and of all.
	Weight float64
	// Indicator means that the control is shown and in no other score.
	Indicator bool
	// References are the sections of frameworks, such as "ISO 27001:2022".
	References []Reference
	// Queries measure the control; there are none when Off is not "".
	Queries []Query
	// Off says why the control is not measured; "" when it is.
	Off string
	// Problem says why a file cannot be used; "" when all can. The other fields are then
	// as far as they can be read, and there are no Queries.
	Problem string
	// Hash changes with the text of the files.
	Hash string
}

// A Reference is the sections of one framework.
type Reference struct {
	Framework string   `json:"framework"`
	Sections  []string `json:"sections"`
}

// A Query is one SELECT of a control.
type Query struct {
	// Text is the SQL, in which each reference is replaced by the name of its stream.
	Text string
	// Streams are those that the template refers to.
	Streams []string
	// File and Line are where the SQL begins.
	File string
	Line int
}
