// Package calendar computes the ticks of a schedule. Expressions are cron's five fields, as
// github.com/robfig/cron parses them. This package computes the instants itself, so that no
// tick is lost or doubled when the clocks change.
package calendar

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// An Expression is a schedule without its time zone, such as "15 */6 * * *". The zero value
// is an expression that was not set.
type Expression struct {
	text  string
	off   bool
	every time.Duration // of "@every"; 0 for fields
	spec  cron.SpecSchedule
	// interval is the result of Interval.
	interval time.Duration
}

// Off is the expression that never ticks.
var Off = Expression{text: "off", off: true}

// Daily is the expression that ticks at midnight.
var Daily = mustParse("@daily")

// mustParse returns a constant expression.
func mustParse(text string) Expression {
	e, err := parseExpression(text)
	if err != nil {
		panic(err)
	}
	return e
}

// minEvery is the shortest interval of @every.
const minEvery = time.Second

// parseExpression implements Expression.UnmarshalText.
func parseExpression(text string) (Expression, error) {
	text = strings.Join(strings.Fields(text), " ")
	switch {
	case text == "":
		return Expression{}, nil
	case strings.EqualFold(text, "off"):
		return Off, nil
	case strings.HasPrefix(text, "@every"):
		return parseEvery(text)
	case strings.Contains(strings.ToUpper(text), "TZ="):
		return Expression{}, errors.New("names a time zone: set SCHEDULE_TZ instead, which holds for all schedules")
	}
	if fields := len(strings.Fields(text)); text[0] != '@' && fields != 5 {
		hint := ""
		if fields == 6 {
			hint = " (there is none for seconds)"
		}
		return Expression{}, fmt.Errorf("has %d fields: want five, minute hour day month weekday%s", fields, hint)
	}
	return parseFields(text)
}

// wholeDays matches the duration of days alone, such as "1d", and of few enough days
// that they are a duration.
var wholeDays = regexp.MustCompile(`^([0-9]{1,4})d$`)

func parseEvery(text string) (Expression, error) {
	duration := strings.TrimSpace(strings.TrimPrefix(text, "@every"))
	every, err := time.ParseDuration(duration)
	days := wholeDays.FindStringSubmatch(duration)
	switch {
	case days != nil:
		n, _ := strconv.Atoi(days[1])
		return Expression{}, fmt.Errorf("has days, which Go's durations after @every do not have: want hours, such as @every %dh", n*24)
	case err != nil:
		return Expression{}, errors.New("has no duration after @every: want one such as @every 6h or @every 90m")
	case every < minEvery:
		return Expression{}, fmt.Errorf("is too often: want @every %v or more", minEvery)
	case every%time.Second != 0:
		return Expression{}, errors.New("has a fraction of a second: want whole seconds")
	}
	return Expression{text: text, every: every, interval: every}, nil
}

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

func parseFields(text string) (e Expression, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("is not a schedule")
		}
	}()
	parsed, err := parser.Parse(replaceSundays(text))
	if err != nil {
		return Expression{}, fmt.Errorf("is not a schedule: %w", err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Expression{}, errors.New("is not a schedule")
	}
	e = Expression{text: text, spec: *spec}
	e.spec.Location = nil
	if e.In(time.UTC).Next(reference).IsZero() {
		return Expression{}, errors.New("never comes: there is no such day in any year")
	}
	e.interval = e.In(time.UTC).longestInterval()
	return e, nil
}

// reference is the time from which parseFields looks for a first tick. It is fixed so that
// the result does not depend on the day.
var reference = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

var untilSunday = regexp.MustCompile(`^([0-6])-7(?:/([1-9]))?$`)

// replaceSundays replaces the weekday 7, which cron treats as Sunday but the parser refuses,
// by 0.
func replaceSundays(text string) string {
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return text
	}
	var items []string
	for item := range strings.SplitSeq(fields[4], ",") {
		if m := untilSunday.FindStringSubmatch(item); m != nil {
			first, _ := strconv.Atoi(m[1])
			step, _ := strconv.Atoi("0" + m[2])
			for day := first; day <= 7; day += max(step, 1) {
				items = append(items, strconv.Itoa(day%7))
			}
			continue
		}
		if item == "7" {
			item = "0"
		}
		items = append(items, item)
	}
	fields[4] = strings.Join(items, ",")
	return strings.Join(fields, " ")
}

// UnmarshalText parses five fields ("minute hour day month weekday"), "@hourly", "@daily",
// "@weekly", "@monthly", "@yearly", "@every 6h", or "off". An empty text is an expression that
// is not set. It returns an error for an expression that never ticks.
func (e *Expression) UnmarshalText(text []byte) (err error) {
	*e, err = parseExpression(string(text))
	return err
}

// String returns the expression as it was written, with single spaces.
func (e Expression) String() string { return e.text }

// IsSet reports whether the expression was set.
func (e Expression) IsSet() bool { return e.text != "" }

// IsOff reports whether the expression never ticks.
func (e Expression) IsOff() bool { return e.off || e.text == "" }

// Equal reports whether two expressions are written the same.
func (e Expression) Equal(other Expression) bool { return e.text == other.text }

// A Zone is a time zone of the IANA database, such as "Europe/Zurich".
type Zone struct{ location *time.Location }

// UnmarshalText parses a zone's name.
func (z *Zone) UnmarshalText(text []byte) error {
	location, err := time.LoadLocation(string(text))
	if err != nil {
		return errors.New("is not a time zone: want a name such as UTC, Europe/Zurich or America/New_York")
	}
	*z = Zone{location}
	return nil
}

// Location returns the zone; UTC for the zero value.
func (z Zone) Location() *time.Location {
	if z.location == nil {
		return time.UTC
	}
	return z.location
}

// String returns the zone's name.
func (z Zone) String() string { return z.Location().String() }

// Equal reports whether two zones have the same name.
func (z Zone) Equal(other Zone) bool { return z.String() == other.String() }
