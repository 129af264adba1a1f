package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// TestPostgresOvertaken suspends the write of a snapshot, as that of a process that does
// not run for a while, in a table that keeps the newest one: what another process stores
// meanwhile stays, and nothing else does. The tenancies have no rows before, whose locks
// would keep the two apart.
func TestPostgresOvertaken(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	p := newTest(t)
	s := p.sink(Options{Retention: store.Retention{Newest: 1}})
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "first", now), `{"id":"other"}`))
	for moment := 0; ; moment += 5 {
		tenancy := fmt.Sprintf("acme %d", moment)
		old := storetest.Seal(t, storetest.NewHeader("okta_users", tenancy, now.Add(-2*time.Hour)), `{"id":"old"}`, `{"id":"old too"}`)
		newer := storetest.Seal(t, storetest.NewHeader("okta_users", tenancy, now.Add(-time.Hour)), `{"id":"newer"}`)
		if !storetest.Overtake(t, s, old, newer, moment) {
			return
		}
		p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users WHERE tenancy = '`+tenancy+`' ORDER BY 1`, "newer")
		p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users_latest WHERE tenancy = '`+tenancy+`' ORDER BY 1`, "newer")
		if t.Failed() {
			t.Fatalf("the write was suspended at moment %d", moment)
		}
	}
}
