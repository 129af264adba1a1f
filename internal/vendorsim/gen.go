package vendorsim

import (
	"hash/fnv"
	"strconv"
	"time"
)

// Gen generates all data. The data is a pure function of its fields.
type Gen struct {
	// Seed selects the data.
	Seed uint64
	// Base is the present time of the data.
	Base time.Time
}

// Hash returns a 64-bit hash for item i of a kind. The kind is a stream name or
// any other string.
func (g Gen) Hash(kind string, i int) uint64 {
	return hashAt(g.saltOf(kind), i)
}

// hashAt is Hash for a kind whose salt is known.
func hashAt(salt uint64, i int) uint64 { return mixBits(salt + uint64(i)*0x9e3779b97f4a7c15) }

// saltOf returns the part of Hash that does not depend on the index.
func (g Gen) saltOf(kind string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(kind))
	return mixBits(g.Seed ^ h.Sum64())
}

// UUID returns a UUID in the style of version 4 for item i of a kind.
func (g Gen) UUID(kind string, i int) string {
	return string(AppendUUID(nil, g.Hash(kind, i)))
}

// mixBits is the finalizer of splitmix64.
func mixBits(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

const hexDigits = "0123456789abcdef"

// AppendHex appends the low n hexadecimal digits of x; n is at most 16.
func AppendHex(dst []byte, x uint64, n int) []byte {
	var b [16]byte
	putHex(b[:n], x)
	return append(dst, b[:n]...)
}

// putHex fills b with the low hexadecimal digits of x.
func putHex(b []byte, x uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = hexDigits[x&15]
		x >>= 4
	}
}

// AppendUUID appends a UUID in the style of version 4 that is derived from x.
func AppendUUID(dst []byte, x uint64) []byte {
	y := mixBits(x)
	b := [36]byte{8: '-', 13: '-', 14: '4', 18: '-', 23: '-'}
	putHex(b[:8], x>>32)
	putHex(b[9:13], x>>16)
	putHex(b[15:18], x)
	b[19] = hexDigits[8|x>>12&3]
	putHex(b[20:23], y>>48)
	putHex(b[24:], y)
	return append(dst, b[:]...)
}

// AppendInt appends x in decimal digits.
func AppendInt(dst []byte, x int64) []byte { return strconv.AppendInt(dst, x, 10) }

// AppendUnix appends a Unix time in UTC as 2006-01-02T15:04:05, followed by
// suffix, such as "Z", ".000Z" or "+00:00". It is ten times as fast as package
// time, which matters because records contain many times.
func AppendUnix(dst []byte, sec int64, suffix string) []byte {
	days, rest := sec/86400, int(sec%86400)
	if rest < 0 {
		days, rest = days-1, rest+86400
	}
	y, m, d := civilDate(days)
	dst = append(appendTwoDigits(appendTwoDigits(dst, y/100), y%100), '-')
	dst = append(appendTwoDigits(dst, m), '-')
	dst = append(appendTwoDigits(dst, d), 'T')
	dst = append(appendTwoDigits(dst, rest/3600), ':')
	dst = append(appendTwoDigits(dst, rest/60%60), ':')
	return append(appendTwoDigits(dst, rest%60), suffix...)
}

// civilDate returns the date that is a number of days after 1970-01-01. It
// counts years from March, so that a leap day is the last day of its year.
func civilDate(days int64) (year, month, day int) {
	days += 719468 // since 0000-03-01
	era := days / 146097
	inEra := days % 146097
	yearOfEra := (inEra - inEra/1460 + inEra/36524 - inEra/146096) / 365
	dayOfYear := inEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	mp := (5*dayOfYear + 2) / 153
	day = int(dayOfYear-(153*mp+2)/5) + 1
	month = int(mp) + 3
	year = int(yearOfEra + era*400)
	if month > 12 {
		return year + 1, month - 12, day
	}
	return year, month, day
}

func appendTwoDigits(dst []byte, n int) []byte {
	return append(dst, byte('0'+n/10%10), byte('0'+n%10))
}

// Layouts of package time for the time formats of the vendors.
const (
	LayoutSeconds = "2006-01-02T15:04:05Z"
	LayoutMillis  = "2006-01-02T15:04:05.000Z"
	LayoutMicros  = "2006-01-02T15:04:05.000000Z"
)
