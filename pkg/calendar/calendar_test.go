package calendar_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/calendar"
)

// parseExpression parses an expression as a setting is parsed.
func parseExpression(text string) (e calendar.Expression, err error) {
	err = e.UnmarshalText([]byte(text))
	return e, err
}

// newCalendar returns the calendar of an expression in a zone.
func newCalendar(t *testing.T, text, zone string) calendar.Calendar {
	t.Helper()
	e, err := parseExpression(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return e.In(location)
}

// TestChangesOfClocks compares the ticks around clock changes with the expected ones.
func TestChangesOfClocks(t *testing.T) {
	const ny = "America/New_York"
	for _, tt := range []struct{ name, text, zone, from, want string }{
		{
			name: "skipped", text: "30 2 * * *", zone: ny, from: "2026-03-07T12:00:00-05:00",
			want: "2026-03-08T03:30:00-04:00 2026-03-09T02:30:00-04:00",
		},
		{
			name: "skipped, with the next tick at its time", text: "30 2,3 * * *", zone: ny, from: "2026-03-08T00:00:00-05:00",
			want: "2026-03-08T03:30:00-04:00 2026-03-09T02:30:00-04:00",
		},
		{
			name: "repeated", text: "30 1 * * *", zone: ny, from: "2026-10-31T12:00:00-04:00",
			want: "2026-11-01T01:30:00-04:00 2026-11-02T01:30:00-05:00",
		},
		{
			name: "repeated, from between the two", text: "30 1 * * *", zone: ny, from: "2026-11-01T01:40:00-04:00",
			want: "2026-11-02T01:30:00-05:00",
		},
		{
			name: "hourly in autumn", text: "0 * * * *", zone: ny, from: "2026-11-01T00:30:00-04:00",
			want: "2026-11-01T01:00:00-04:00 2026-11-01T01:00:00-05:00 2026-11-01T02:00:00-05:00",
		},
		{
			name: "hourly in spring", text: "0 * * * *", zone: ny, from: "2026-03-08T00:30:00-05:00",
			want: "2026-03-08T01:00:00-05:00 2026-03-08T03:00:00-04:00 2026-03-08T04:00:00-04:00",
		},
		{
			name: "quarters in autumn", text: "*/30 * * * *", zone: ny, from: "2026-11-01T01:10:00-04:00",
			want: "2026-11-01T01:30:00-04:00 2026-11-01T01:00:00-05:00 2026-11-01T01:30:00-05:00 2026-11-01T02:00:00-05:00",
		},
		{
			name: "every six hours", text: "15 */6 * * *", zone: ny, from: "2026-11-01T00:00:00-04:00",
			want: "2026-11-01T00:15:00-04:00 2026-11-01T06:15:00-05:00",
		},
		{
			name: "half an hour skipped", text: "15 2 * * *", zone: "Australia/Lord_Howe", from: "2026-10-04T00:00:00+10:30",
			want: "2026-10-04T02:45:00+11:00 2026-10-05T02:15:00+11:00",
		},
		{
			name: "a whole day skipped", text: "0 12 * * *", zone: "Pacific/Apia", from: "2011-12-29T13:00:00-10:00",
			want: "2011-12-31T12:00:00+14:00 2012-01-01T12:00:00+14:00",
		},
		{
			name: "midnight skipped", text: "0 0 * * *", zone: "Africa/Cairo", from: "2026-04-23T12:00:00+02:00",
			want: "2026-04-24T01:00:00+03:00 2026-04-25T00:00:00+03:00",
		},
		{
			name: "day or weekday", text: "0 0 13 * 5", zone: "UTC", from: "2026-02-01T00:00:00Z",
			want: "2026-02-06T00:00:00Z 2026-02-13T00:00:00Z 2026-02-20T00:00:00Z",
		},
		{
			name: "Sunday as 7", text: "0 0 * * 7", zone: "UTC", from: "2026-11-24T00:00:00Z",
			want: "2026-11-29T00:00:00Z 2026-12-06T00:00:00Z",
		},
		{
			name: "to Sunday", text: "0 0 * * 6-7", zone: "UTC", from: "2026-11-24T00:00:00Z",
			want: "2026-11-28T00:00:00Z 2026-11-29T00:00:00Z",
		},
		{name: "leap day", text: "0 0 29 2 *", zone: "UTC", from: "2096-03-01T00:00:00Z", want: "2104-02-29T00:00:00Z"},
		{
			name: "every", text: "@every 6h", zone: ny, from: "2026-03-08T00:00:00Z",
			want: "2026-03-08T06:00:00Z 2026-03-08T12:00:00Z",
		},
		{name: "daily", text: "@daily", zone: "UTC", from: "2026-03-08T00:00:00Z", want: "2026-03-09T00:00:00Z"},
		{name: "off", text: "off", zone: "UTC", from: "2026-03-08T00:00:00Z", want: ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCalendar(t, tt.text, tt.zone)
			now, err := time.Parse(time.RFC3339, tt.from)
			if err != nil {
				t.Fatal(err)
			}
			for want := range strings.FieldsSeq(tt.want) {
				now = c.Next(now)
				if at, _ := time.Parse(time.RFC3339, want); !now.Equal(at) {
					t.Fatalf("got %v, want %v", now, want)
				}
			}
			if tt.want == "" && !c.Next(now).IsZero() {
				t.Error("a schedule that is off ticks")
			}
		})
	}
}

// TestRefusedExpressions checks that expressions that never tick or that break the parser are
// refused with an error that says why.
func TestRefusedExpressions(t *testing.T) {
	for text, want := range map[string]string{
		"TZ=0": "SCHEDULE_TZ", "CRON_TZ=UTC 0 0 * * *": "SCHEDULE_TZ", "tz=UTC 0 0 * * *": "SCHEDULE_TZ",
		"0 0 30 2 *": "never comes", "0 0 31 4,6,9,11 *": "never comes",
		"0 0 0 * * *": "none for seconds", "* * * *": "has 4 fields", "noon": "has 1 fields",
		"60 * * * *": "not a schedule", "*/0 * * * *": "not a schedule", "@never": "not a schedule", "@": "not a schedule",
		"0 0 * * 8": "not a schedule", "5-1 * * * *": "not a schedule",
		"@every": "no duration", "@every 0s": "too often", "@every -1s": "too often", "@every 1.5s": "fraction", "@every soon": "no duration",
		"@every 1d": "Go's durations after @every do not have: want hours, such as @every 24h", "@every 99999999999999999999d": "no duration",
	} {
		if _, err := parseExpression(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// FuzzParse checks that every expression that is accepted ticks.
func FuzzParse(f *testing.F) {
	f.Add("15 */6 * * 1-7/2")
	f.Add("TZ=0")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExpression(text)
		if err != nil || e.IsOff() {
			return
		}
		now := time.Date(2026, 11, 1, 5, 0, 0, 0, time.UTC)
		if next := e.In(time.UTC).Next(now); !next.After(now) {
			t.Errorf("%q after %v: %v", text, now, next)
		}
	})
}

// testedZones returns some notable zones and every nth zone of this machine's database.
func testedZones(t *testing.T, nth int) []string {
	t.Helper()
	var all []string
	root := "/usr/share/zoneinfo"
	_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		name := strings.TrimPrefix(path, root+"/")
		if _, err := time.LoadLocation(name); err == nil && name[0] >= 'A' && name[0] <= 'Z' {
			all = append(all, name)
		}
		return nil
	})
	chosen := []string{"UTC", "America/New_York", "Europe/Zurich", "Australia/Lord_Howe",
		"Africa/Cairo", "America/Havana", "Pacific/Apia", "Africa/Casablanca", "America/Sao_Paulo"}
	slices.Sort(all)
	for i := 0; i < len(all); i += nth {
		chosen = append(chosen, all[i])
	}
	return chosen
}

// TestEachTickOnce checks ten years in many zones: a daily schedule ticks once each day, at its
// local time where that exists, and an hourly one ticks every hour.
func TestEachTickOnce(t *testing.T) {
	nth := 30
	if os.Getenv("CALENDAR_ALL_ZONES") != "" {
		nth = 1
	}
	for _, zone := range testedZones(t, nth) {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			for _, text := range []string{"30 2 * * *", "0 0 * * *", "30 1 * * *"} {
				checkDaily(t, newCalendar(t, text, zone))
			}
			hours := newCalendar(t, "0 * * * *", zone)
			end := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			for now := hours.Next(time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)); now.Before(end); {
				next := hours.Next(now)
				gap := next.Sub(now)
				if gap > time.Hour+30*time.Minute || gap <= 0 || next.Minute() != 0 && gap != 30*time.Minute && next.Minute() != 30 {
					t.Fatalf("%v is followed by %v", now, next)
				}
				now = next
			}
		})
	}
}

// checkDaily checks that a daily schedule ticks once on each day of ten years.
func checkDaily(t *testing.T, c calendar.Calendar) {
	t.Helper()
	start := time.Date(2017, 1, 1, 12, 0, 0, 0, time.UTC)
	tick := c.Next(start)
	days := map[string]int{}
	for ; tick.Year() < 2027; tick = c.Next(tick) {
		days[tick.Format(time.DateOnly)]++
		want := fmt.Sprintf("%v %v", strings.Fields(c.String())[1], strings.Fields(c.String())[0])
		if got := fmt.Sprintf("%d %d", tick.Hour(), tick.Minute()); got != want && got != "0 0" {
			from, _ := tick.ZoneBounds() // a tick moves only when its local time does not exist
			if since := tick.Sub(from); since < 0 || since > 2*time.Hour {
				t.Fatalf("%s ticks at %v", c, tick)
			}
		}
	}
	for day := time.Date(2017, 1, 3, 0, 0, 0, 0, time.UTC); day.Year() < 2026; day = day.AddDate(0, 0, 1) {
		if n := days[day.Format(time.DateOnly)]; n != 1 {
			t.Fatalf("%s ticks %d times on %s", c, n, day.Format(time.DateOnly))
		}
	}
}

func TestLastAndInterval(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 20, 30, 0, time.UTC)
	for _, tt := range []struct {
		text, last string
		interval   time.Duration
	}{
		{text: "0 0 * * *", last: "2026-11-24T00:00:00Z", interval: 24 * time.Hour},
		{text: "*/15 * * * *", last: "2026-11-24T10:15:00Z", interval: 15 * time.Minute},
		{text: "* 9-17 * * *", last: "2026-11-24T10:20:00Z", interval: 15*time.Hour + time.Minute},
		{text: "0 6 * * 1-5", last: "2026-11-24T06:00:00Z", interval: 72 * time.Hour},
		{text: "0 0 1 * *", last: "2026-11-01T00:00:00Z", interval: 31 * 24 * time.Hour},
		{text: "0 0 29 2 *", last: "2024-02-29T00:00:00Z", interval: 4*365*24*time.Hour + 24*time.Hour},
		{text: "@every 6h", last: "2026-11-24T06:00:00Z", interval: 6 * time.Hour},
		{text: "@hourly", last: "2026-11-24T10:00:00Z", interval: time.Hour},
	} {
		c := newCalendar(t, tt.text, "UTC")
		if got := c.Last(now).UTC().Format(time.RFC3339); got != tt.last {
			t.Errorf("%s: last %s, want %s", tt.text, got, tt.last)
		}
		if got := c.Interval(); got != tt.interval {
			t.Errorf("%s: interval %v, want %v", tt.text, got, tt.interval)
		}
	}
	off := newCalendar(t, "off", "UTC")
	if !off.Last(now).IsZero() || off.Interval() != 0 {
		t.Error("a schedule that is off has a tick or an interval")
	}
}
