package notify

import (
	"slices"
	"strings"
	"time"
)

// The kinds of events, as NOTIFY_EVENTS names them.
const (
	eventFailure     = "failure"     // a stream fails, or its snapshot is held
	eventLate        = "late"        // the data of a stream is late
	eventDestination = "destination" // a destination does not receive snapshots
	eventRestore     = "restore"     // a stream was not restored from its backup
	eventReload      = "reload"      // the settings were not reloaded
	eventDoubt       = "doubt"       // a run has new doubts
	eventControl     = "control"     // a control fails, or its colour changed
)

// Events are the kinds of events.
var Events = []string{eventFailure, eventLate, eventDestination, eventRestore, eventReload, eventDoubt, eventControl}

// reports reports whether the settings ask for a kind of events.
func (s Settings) reports(event string) bool {
	return len(s.Events) == 0 || slices.Contains(s.Events, event)
}

// A problem is something that is wrong for some time. Its key in the book is its kind
// and its subject: "failure/okta_users".
type problem struct {
	// Text says what is wrong, and begins with the subject. Advice says what to do; ""
	// if the text does.
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
	// Since is when it began.
	Since time.Time `json:"since"`
	// Seen is when it was last found.
	Seen time.Time `json:"seen"`
	// Held reports that the problem of a stream is a snapshot that is held.
	Held bool `json:"held,omitempty"`
}

// A verdict says whether a problem is there. Problems without a verdict stay as they are.
type verdict struct {
	problem
	state verdictState
	// end says how it ended.
	end string
}

type verdictState int

const (
	present verdictState = iota
	ended
	// forgotten ends a problem without a message: its stream, control or destination is
	// off.
	forgotten
)

// problemKey returns the key of a problem in the book.
func problemKey(event, subject string) string { return event + "/" + subject }

// splitKey returns the kind and the subject of a problem.
func splitKey(key string) (event, subject string) {
	event, subject, _ = strings.Cut(key, "/")
	return event, subject
}
