package snapshot

import "time"

// MaxClockSkew is how far after the present a snapshot may be dated. Clocks of
// machines differ by seconds; a time zone that is set wrongly makes hours.
const MaxClockSkew = time.Hour

// IsFromFuture reports whether a snapshot that was taken at taken is from the
// future: the clock of the machine that collected it was wrong. What it says
// about its age is then unknown.
//
// The rule of time, which every destination, the backup and the restore follow:
// a snapshot from the future never deletes, hides or delays another one. It is
// kept beside the others where there is room, and otherwise only where there is
// nothing else.
func IsFromFuture(taken, now time.Time) bool { return taken.After(now.Add(MaxClockSkew)) }

// IsNewer reports whether a snapshot that was taken at a is newer than one that
// was taken at b. One from the future is never the newer one.
func IsNewer(a, b, now time.Time) bool {
	return !IsFromFuture(a, now) && (IsFromFuture(b, now) || a.After(b))
}
