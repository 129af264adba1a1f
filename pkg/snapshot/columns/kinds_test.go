package columns

import "testing"

func TestKindsOfStrings(t *testing.T) {
	for text, want := range map[string]kinds{
		"2026-02-03T04:05:06Z":           timeKind,
		"2024-02-29T00:00:00Z":           timeKind,
		"2026-02-03T23:59:59.9Z":         timeKind,
		"2026-02-03T04:05:06.123456789Z": timeKind,
		"2026-02-03T04:05:06+00:00":      timeKind,
		"2026-02-03T04:05:06-15:59":      timeKind,
		"2026-02-03T04:05:06+0530":       timeKind,
		"2026-02-03T04:05:06+05":         timeKind,
		"0001-01-01T00:00:00+15:59":      timeKind,
		"9999-12-31T23:59:59.999999999Z": timeKind,
		"2026-02-03T04:05:06":            localTimeKind,
		"2026-02-03T04:05:06.5":          localTimeKind,
		"2026-02-03 04:05:06":            spacedTimeKind,
		"2026-02-03":                     dateKind,
		"2026-02-03 04:05:06.5":          spacedTimeKind,
		"9999-12-31":                     dateKind,
		"2026-02-30":                     stringKind,
		"2026-02-3x":                     stringKind,
		"2026/02/03":                     stringKind,
		"2026-02-03 04:05:06Z":           stringKind,
		"2026-02-03 04:05:06+01:00":      stringKind,
		"2026-02-29T00:00:00Z":           stringKind,
		"2026-13-01T00:00:00Z":           stringKind,
		"2026-00-01T00:00:00Z":           stringKind,
		"2026-01-00T00:00:00Z":           stringKind,
		"0000-01-01T00:00:00Z":           stringKind,
		"2026-02-03T24:00:00Z":           stringKind,
		"2026-02-03T23:59:60Z":           stringKind,
		"2026-02-03T04:05:06.Z":          stringKind,
		"2026-02-03T04:05:06.1234567890": stringKind,
		"2026-02-03T04:05:06,5Z":         stringKind,
		"2026-02-03T04:05:06z":           stringKind,
		"2026-02-03T04:05:06+16:00":      stringKind,
		"2026-02-03T04:05:06+5:00":       stringKind,
		"2026-02-03T04:05:06+05:3":       stringKind,
		"2026-02-03T04:05:06+053":        stringKind,
		"2026-02-03T04:05:06+05:30x":     stringKind,
		"2026-02-03T04:05:06 Z":          stringKind,
		"2026-2-03T04:05:06Zzz":          stringKind,
		"20260-2-3T04:05:06Zzz":          stringKind,
		"+026-02-03T04:05:06Zz":          stringKind,
		"":                               stringKind,
	} {
		kind := kindOfString([]byte(`"` + text + `"`))
		if kind != want {
			t.Errorf("%q has kind %b, want %b", text, kind, want)
		}
	}
}
