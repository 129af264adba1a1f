package main

import "errors"

// The exit codes. systemd knows 78; 130 and 143 are the shells' form of
// "ended by SIGINT" and "ended by SIGTERM".
const (
	exitFailed   = 1   // nothing could be done
	exitUsage    = 2   // wrong flags or arguments
	exitPartial  = 3   // some stream was not extracted or not stored
	exitData     = 65  // a file of controls cannot be used
	exitLocked   = 75  // another process is collecting a stream: try later
	exitSettings = 78  // bad settings
	exitINT      = 130 // ended by SIGINT
	exitTERM     = 143 // ended by SIGTERM
)

// An exitError ends the program with an exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// errReported is the error of a command that has already printed what is wrong.
// It is not printed.
var errReported = errors.New("already reported")

// exitCode returns the exit code of the program for the error of its command.
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
