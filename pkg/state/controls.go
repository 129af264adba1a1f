package state

import (
	"context"
	"time"
)

// Controls has the results of the controls of one tenancy, the last one of each and one for
// each day.
type Controls interface {
	// DailyScores returns the result of each day from the given one on, such as
	// "2026-03-01", in order: of one control, or of all for "".
	DailyScores(ctx context.Context, id, from string) ([]ControlScore, error)
	// LastParts returns the results of a control on its last day, one for each unit of the
	// organisation.
	LastParts(ctx context.Context, id string) ([]ControlDay, error)
	// ReplaceDefinitions makes the definitions those of the tenancy. The results of the
	// controls stay. A control that is not among them is removed, without its days.
	ReplaceDefinitions(ctx context.Context, all []ControlDefinition) error
	// ListControls returns the status of each control, ordered by category and id.
	ListControls(ctx context.Context) ([]ControlStatus, error)
	// Record records the outcomes of one evaluation, all or none. The days of a control
	// replace those of the same day; after a failure they are copies of its last ones.
	Record(ctx context.Context, outcomes []ControlOutcome) error
	// Days returns the days from the given one on, such as "2026-03-01", in order; all of
	// them for "".
	Days(ctx context.Context, from string) (days []ControlDay, err error)
	// EachDay calls visit for each of the days that Days returns.
	EachDay(ctx context.Context, from string, visit func(ControlDay) error) error
	// HasDays reports whether there are days.
	HasDays(ctx context.Context) (has bool, err error)
	// AddDays adds days, all or none. They replace those of the same controls and days.
	AddDays(ctx context.Context, days []ControlDay) error
	// RemoveDaysBefore removes the days before a day.
	RemoveDaysBefore(ctx context.Context, day string) error
}

// A ControlScore is the result of a control on one day, of all units together.
type ControlScore struct {
	ID, Day, Category       string
	Target, Minimum, Weight float64
	Indicator               bool
	OK                      float64
	Total                   int64
	// State is that of ControlDay.
	State string
}

// A ControlDefinition is what the file of a control says about it.
type ControlDefinition struct {
	ID, Title, Category, Type, Description, How string
	// File is the name of the file in the directory of the controls.
	File            string
	Target, Minimum float64
	Weight          float64
	Indicator       bool
	// References is a JSON array of frameworks and their sections.
	References string
	// Off says why the control is not measured; "" when it is.
	Off string
	// Hash changes with the text of the file; "" when that could never be used.
	Hash string
	// Problem says why the file cannot be used; "" when it can. The definition is then
	// that of the last file that could be used, if there was one.
	Problem string
}

// A ControlResult is the result of a control that was measured.
type ControlResult struct {
	// Measured is when; zero for never.
	Measured time.Time
	// Data is the time of the oldest snapshot that was read.
	Data time.Time
	// OK is the sum of the compliance of all rows that have one, and Total their number.
	OK    float64
	Total int64
	// Rows is the number of all rows.
	Rows int64
	// NotFull is the number of rows whose compliance is below 1.
	NotFull int64
	// Note says what was left out, such as a query over a stream without data.
	Note string
}

// A ControlAttempt is the last attempt to measure a control.
type ControlAttempt struct {
	// Tried is when; zero for never.
	Tried time.Time
	// Data is the time of the newest snapshot that there was to read.
	Data time.Time
	// Hash is that of the definition.
	Hash string
	// Err is why it failed; "" when it did not.
	Err string
	// FailedSince is when the first of the failed attempts was that no success
	// separates from the last; zero when that succeeded.
	FailedSince time.Time
}

// A ControlStatus is what is known about a control.
type ControlStatus struct {
	ControlDefinition
	// ControlResult is the last result, also when the last attempt failed.
	ControlResult
	Attempt ControlAttempt
}

// A ControlDay is the result of a control on one day for one unit of the organisation.
// Of a control without a score on that day there is one with a Total of 0.
type ControlDay struct {
	ID string
	// Day is a date in UTC, such as "2026-03-01".
	Day                          string
	Title, Category              string
	Target, Minimum, Weight      float64
	Indicator                    bool
	BusinessUnit, Team, Location string
	OK                           float64
	Total                        int64
	// State is "measured", "empty" or "failed"; a failed one has the last result.
	State string
}

// A ControlOutcome is the end of one attempt to measure a control.
type ControlOutcome struct {
	ID      string
	Attempt ControlAttempt
	// Result is nil when the attempt failed.
	Result *ControlResult
	// Days are the parts of the result, those of the day of the attempt. After a
	// failure there is one, without a result, which counts when the control has none.
	Days []ControlDay
}
