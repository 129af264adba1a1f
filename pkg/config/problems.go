package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	// Name is the variable, or the file and line: "STORE_POSTGRES_PORT", ".env:3".
	Name string
	// Message says what is wrong and what is wanted. It never holds a secret.
	Message string
}

// Error gives "NAME: message".
func (p *Problem) Error() string { return p.Name + ": " + p.Message }

// Invalid makes the error that a [Validator] returns: the variable, then what
// is wrong with it and what it wants.
func Invalid(name, format string, args ...any) error {
	return &Problem{Name: name, Message: fmt.Sprintf(format, args...)}
}

// Problems is everything that is wrong with the settings, in the order of the
// reference.
type Problems struct {
	List []*Problem
}

// Error gives one line for each problem.
func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, problem := range p.List {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the problems, for [errors.As].
func (p *Problems) Unwrap() []error {
	errs := make([]error, len(p.List))
	for i, problem := range p.List {
		errs[i] = problem
	}
	return errs
}

// enumerate joins words as a sentence does: "a, b and c".
func enumerate(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	end := len(words) - 1
	return strings.Join(words[:end], ", ") + " " + last + " " + words[end]
}

// areOrIs is the verb for that many subjects.
func areOrIs(count int) string {
	if count == 1 {
		return "is"
	}
	return "are"
}
