package config

import (
	"fmt"
	"strings"
)

// Problem is one error in the settings.
type Problem struct {
	// Name is the variable, or the file and line: "STORE_POSTGRES_PORT", ".env:3".
	Name string
	// Message says what is wrong and what is expected. It contains no secret.
	Message string
}

// Error returns "NAME: message".
func (p *Problem) Error() string { return p.Name + ": " + p.Message }

// Invalid returns an error for a [Validator]: the name of a variable, and a message
// that says what is wrong with its value and what is expected.
func Invalid(name, format string, args ...any) error {
	return &Problem{Name: name, Message: fmt.Sprintf(format, args...)}
}

// A partError is the error of a destination or another part that is off because
// something of it is not set.
type partError struct{ Problem }

// Incomplete returns an error for a [Validator] of a part that is off because a
// variable is not set while others of it are. Load returns it as a warning.
func Incomplete(name, format string, args ...any) error {
	return &partError{Problem{Name: name, Message: fmt.Sprintf(format, args...)}}
}

// Problems is all errors in the settings, in the order of the reference.
type Problems struct {
	List []*Problem
}

// Error returns one line for each problem.
func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, problem := range p.List {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems, for [errors.As].
func (p *Problems) Unwrap() []error {
	errs := make([]error, len(p.List))
	for i, problem := range p.List {
		errs[i] = problem
	}
	return errs
}

// Enumerate joins names as in a sentence, with a conjunction such as "and" before
// the last: "a, b and c".
func Enumerate(names []string, conjunction string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	end := len(names) - 1
	return strings.Join(names[:end], ", ") + " " + conjunction + " " + names[end]
}

// areOrIs returns the verb for a number of subjects.
func areOrIs(count int) string {
	if count == 1 {
		return "is"
	}
	return "are"
}
