package harness

import "time"

// The exit codes of collectord, as its users see them.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitPartial     = 3
	ExitData        = 65
	ExitLocked      = 75
	ExitSettings    = 78
	ExitInterrupted = 130 // by SIGINT
	ExitTerminated  = 143 // by SIGTERM
)

// HangLimit is how long a test waits for what happens at once on an idle machine. It is
// much longer than any slow machine needs, and shorter than the timeouts that end a hang.
const HangLimit = 2 * time.Minute
