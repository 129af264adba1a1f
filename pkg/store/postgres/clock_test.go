package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// TestPostgresSnapshotsFromTheFuture has a snapshot of a machine whose clock was a
// year ahead, among good ones.
func TestPostgresSnapshotsFromTheFuture(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	taken := func(age time.Duration, id string) *snapshot.Snapshot {
		return storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now.Add(-age)), fmt.Sprintf(`{"id":"%s"}`, id))
	}
	const future = -365 * day
	for _, test := range []struct {
		name   string
		keep   store.Retention
		writes []*snapshot.Snapshot
		want   []string
		latest string
		note   string
	}{
		{
			name: "append", writes: []*snapshot.Snapshot{taken(2*day, "1"), taken(future, "f"), taken(day, "2")},
			want: []string{"1", "2", "f"}, latest: "2", note: "stored, and not shown as the newest",
		},
		{
			name: "keep by age", keep: store.Retention{Age: 30 * day},
			writes: []*snapshot.Snapshot{taken(3*day, "1"), taken(2*day, "2"), taken(future, "f"), taken(day, "3")},
			want:   []string{"1", "2", "3", "f"}, latest: "3", note: "stored, and not shown as the newest",
		},
		{
			name: "replace", keep: store.Retention{Newest: 1}, writes: []*snapshot.Snapshot{taken(2*day, "1"), taken(future, "f")},
			want: []string{"1"}, latest: "1", note: "not stored, since it would replace a snapshot of the present",
		},
		{
			name: "replace, stored while the clock was wrong", keep: store.Retention{Newest: 1},
			writes: []*snapshot.Snapshot{taken(future, "f"), taken(2*day, "1"), taken(day, "2")},
			want:   []string{"2"}, latest: "2", note: "stored, and not shown as the newest",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newTest(t)
			s := p.sink(Options{Retention: test.keep})
			for _, snap := range test.writes {
				p.write(s, snap)
			}
			p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users ORDER BY 1`, test.want...)
			p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users_latest`, test.latest)
			p.assertQuery(`SELECT count(*)::text FROM $S._collectord_snapshots WHERE upload_timestamp > now() + interval '1 day'`,
				fmt.Sprint(strings.Count(strings.Join(test.want, ""), "f")))
			if n := strings.Count(p.logged.String(), test.note); n != 1 {
				t.Errorf("the note %q was passed %d times: %s", test.note, n, p.logged)
			}
		})
	}
}
