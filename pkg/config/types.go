package config

import (
	"errors"
	"math"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// mismatch is the error of a text that is not a value of its type: "is not a number".
type mismatch string

func (m mismatch) Error() string { return string(m) }

// Bytes is a size, written as "512MB" (powers of 1000) or "10GiB" (of 1024).
type Bytes int64

// String returns the size in powers of 1024, rounded for people.
func (b Bytes) String() string {
	if b < 0 {
		return strconv.FormatInt(int64(b), 10)
	}
	return humanize.IBytes(uint64(b))
}

// UnmarshalText parses a size from 1 byte to 8 EiB less 1.
func (b *Bytes) UnmarshalText(text []byte) error {
	size, err := humanize.ParseBytes(strings.TrimSpace(string(text)))
	if err != nil {
		return mismatch("is not a size")
	}
	if size == 0 || size > math.MaxInt64 {
		return mismatch("is out of range")
	}
	*b = Bytes(size)
	return nil
}

// Keep is how much history a destination keeps: a number of snapshots, or an age.
// The zero value keeps all. At most one of its fields is set.
type Keep struct {
	Newest int           // the number of the newest snapshots
	Age    time.Duration // since a snapshot's upload timestamp
}

// All reports whether all snapshots are kept.
func (k Keep) All() bool { return k == Keep{} }

// UnmarshalText parses "10" (snapshots) or "30d" (age).
func (k *Keep) UnmarshalText(text []byte) error {
	value := strings.TrimSpace(string(text))
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		if n < 1 {
			return mismatch("would keep nothing")
		}
		*k = Keep{Newest: int(n)}
		return nil
	}
	age, err := parseDuration(value)
	if err != nil {
		return mismatch("is neither a number nor an age")
	}
	if age <= 0 {
		return mismatch("would keep nothing")
	}
	*k = Keep{Age: age}
	return nil
}

// Percent is a share from 0 to 100, or "off".
type Percent struct {
	Off   bool
	Value int // 0 to 100; 0 when off
}

// UnmarshalText parses a whole number from 0 to 100, or "off".
func (p *Percent) UnmarshalText(text []byte) error {
	value := strings.TrimSpace(string(text))
	if strings.EqualFold(value, "off") {
		*p = Percent{Off: true}
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return mismatch("is not a percentage")
	}
	if n < 0 || n > 100 {
		return mismatch("is out of range")
	}
	*p = Percent{Value: n}
	return nil
}

// Limit is a number of 0 or more, or "unlimited".
type Limit struct {
	Unlimited bool
	Value     int // 0 when unlimited
}

// UnmarshalText parses a whole number, or "unlimited".
func (l *Limit) UnmarshalText(text []byte) error {
	value := strings.TrimSpace(string(text))
	if strings.EqualFold(value, "unlimited") {
		*l = Limit{Unlimited: true}
		return nil
	}
	n, err := strconv.Atoi(value)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return mismatch("is out of range")
	case err != nil:
		return mismatch("is not a number")
	case n < 0:
		return mismatch("is out of range")
	}
	*l = Limit{Value: n}
	return nil
}

// parseDuration parses a whole number of days, a duration of Go, or both: "7d",
// "90s", "1d12h". Neither may be negative.
func parseDuration(text string) (time.Duration, error) {
	const day = 24 * time.Hour
	rest := strings.TrimSpace(text)
	var days time.Duration
	if before, after, found := strings.Cut(rest, "d"); found {
		n, err := strconv.ParseUint(before, 10, 63)
		if err != nil {
			return 0, mismatch("is not a duration")
		}
		if n > uint64(math.MaxInt64/day) {
			return 0, mismatch("is out of range")
		}
		if days = time.Duration(n) * day; after == "" {
			return days, nil
		}
		rest = after
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil:
		return 0, mismatch("is not a duration")
	case d < 0 || d > math.MaxInt64-days:
		return 0, mismatch("is out of range")
	}
	return days + d, nil
}

// parseBool parses the usual spellings of true and false.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return false, mismatch("is neither true nor false")
}

// parseURL parses an absolute http or https URL.
func parseURL(text string) (url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return url.URL{}, mismatch("is not a URL")
	}
	return *u, nil
}

// parseList parses a comma list. It drops whitespace around the items, and empty
// items.
func parseList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// valueKind describes the values of a type.
type valueKind struct {
	name     string // "a duration"; bounds follow as "of 1s or more"
	examples string // examples and spellings that follow in messages
}

var valueKinds = map[reflect.Type]valueKind{
	reflect.TypeFor[bool]():          {"true or false", " (also 1, 0, yes, no, on, off)"},
	reflect.TypeFor[time.Duration](): {"a duration", " such as 90s, 15m, 6h or 7d"},
	reflect.TypeFor[url.URL]():       {"a URL", " such as https://example.com"},
	reflect.TypeFor[*url.URL]():      {"a URL", " such as https://example.com"},
	reflect.TypeFor[[]string]():      {"a comma list", " such as one,two"},
	reflect.TypeFor[Bytes]():         {"a size", " such as 512MB or 10GiB"},
	reflect.TypeFor[Keep]():          {"a number of snapshots such as 10, or an age such as 30d; unset keeps all", ""},
	reflect.TypeFor[Percent]():       {"0 to 100, or off", ""},
	reflect.TypeFor[Limit]():         {"0 or more, or unlimited", ""},
}
