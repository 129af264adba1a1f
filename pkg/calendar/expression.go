// Package calendar says when a schedule's ticks are. Expressions are cron's
// five fields as github.com/robfig/cron parses them; the instants that they
// stand for are found here, so that no tick is lost and none doubled when
// clocks change.
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

// An Expression is a schedule without its time zone, such as "15 */6 * * *".
// The zero value is one that was not set.
type Expression struct {
	text  string
	off   bool
	every time.Duration // of "@every"; 0 for fields
	spec  cron.SpecSchedule
}

// Off is the expression that never ticks.
var Off = Expression{text: "off", off: true}

// shortest is the least that @every may name.
const shortest = time.Second

// Parse reads five fields ("minute hour day month weekday"), "@hourly",
// "@daily", "@weekly", "@monthly", "@yearly", "@every 6h", or "off". It refuses
// what could never tick.
func Parse(text string) (Expression, error) {
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

func parseEvery(text string) (Expression, error) {
	every, err := time.ParseDuration(strings.TrimSpace(strings.TrimPrefix(text, "@every")))
	switch {
	case err != nil:
		return Expression{}, errors.New("has no duration after @every: want one such as @every 6h or @every 90m")
	case every < shortest:
		return Expression{}, fmt.Errorf("is too often: want @every %v or more", shortest)
	case every%time.Second != 0:
		return Expression{}, errors.New("has a fraction of a second: want whole seconds")
	}
	return Expression{text: text, every: every}, nil
}

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

func parseFields(text string) (e Expression, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("is not a schedule")
		}
	}()
	parsed, err := parser.Parse(sundays(text))
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
	return e, nil
}

// reference is where an expression is looked ahead from, so that whether it is
// accepted does not depend on the day.
var reference = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

var toSunday = regexp.MustCompile(`^([0-6])-7(?:/([1-9]))?$`)

// sundays writes the weekday 7, which means Sunday to everybody but the parser,
// as 0.
func sundays(text string) string {
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return text
	}
	var items []string
	for item := range strings.SplitSeq(fields[4], ",") {
		if m := toSunday.FindStringSubmatch(item); m != nil {
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

// UnmarshalText is Parse, for settings.
func (e *Expression) UnmarshalText(text []byte) (err error) {
	*e, err = Parse(string(text))
	return err
}

// String is the expression as it was written, blanks made one.
func (e Expression) String() string { return e.text }

// IsSet tells whether there is an expression.
func (e Expression) IsSet() bool { return e.text != "" }

// IsOff tells that it never ticks.
func (e Expression) IsOff() bool { return e.off || e.text == "" }

// Equal tells whether two are written the same.
func (e Expression) Equal(other Expression) bool { return e.text == other.text }

// A Zone is a time zone of the IANA database, such as "Europe/Zurich".
type Zone struct{ location *time.Location }

// UnmarshalText reads a zone's name.
func (z *Zone) UnmarshalText(text []byte) error {
	location, err := time.LoadLocation(string(text))
	if err != nil {
		return errors.New("is not a time zone: want a name such as UTC, Europe/Zurich or America/New_York")
	}
	*z = Zone{location}
	return nil
}

// Location is the zone, UTC for the zero value.
func (z Zone) Location() *time.Location {
	if z.location == nil {
		return time.UTC
	}
	return z.location
}

// String is the zone's name.
func (z Zone) String() string { return z.Location().String() }

// Equal tells whether two are the same zone.
func (z Zone) Equal(other Zone) bool { return z.String() == other.String() }
