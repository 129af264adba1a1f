package main

import "errors"

// The exit codes. systemd knows 78; 130 and 143 are the shells' form of
// "ended by SIGINT" and "ended by SIGTERM".
const (
	exitFailed   = 1   // nothing could be done
	exitUsage    = 2   // wrong flags or arguments
	exitPartial  = 3   // some stream was not extracted or not stored
	exitLocked   = 75  // another process is at it: try later
	exitSettings = 78  // bad settings
	exitINT      = 130 // ended by SIGINT
	exitTERM     = 143 // ended by SIGTERM
)

// An exitError ends the program with a code. Its error may be nil when all
// has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitCode is the code that err asks for.
func exitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return exitFailed
}
