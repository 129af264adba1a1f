package shared

import (
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/state/database"
)

// The response to COMMIT is lost: the transaction has happened, and is not repeated. When the
// connection is lost before COMMIT, it has not, and is repeated.
func TestLostCommit(t *testing.T) {
	for name, fault := range map[string]faultproxy.Fault{
		"after COMMIT":  {CutReplyTo: "commit\x00"},
		"before COMMIT": {CutReplyTo: "INSERT INTO"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOptions(t)
			u, err := url.Parse(o.URL)
			if err != nil {
				t.Fatal(err)
			}
			proxy, err := faultproxy.New("tcp", net.JoinHostPort("127.0.0.1", u.Port()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := proxy.Close(); err != nil {
					t.Error(err)
				}
			})
			u.Host = proxy.Addr()
			o.URL = u.String()
			s, err := openShared(t.Context(), filepath.Join(t.TempDir(), "state"), o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			e := s.engine
			e.db.SetMaxIdleConns(0) // each transaction has a new connection
			calls := 0
			proxy.Set(fault)
			met := proxy.Met()
			go func() {
				<-met
				proxy.Set(faultproxy.Fault{})
			}()
			err = e.Transaction(t.Context(), func(tx database.DB) error {
				calls++
				_, err := tx.ExecContext(t.Context(), `INSERT INTO sinks (tenancy, sink, target) VALUES ('acme', $1, '')`, time.Now().String())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-met:
			default:
				t.Fatal("no connection met the fault")
			}
			var rows int
			if err := e.tables(e.db).QueryRowContext(t.Context(), `SELECT count(*) FROM sinks`).Scan(&rows); err != nil {
				t.Fatal(err)
			}
			wantCalls := map[string]int{"after COMMIT": 1, "before COMMIT": 2}[name]
			if rows != 1 || calls != wantCalls {
				t.Errorf("%d rows after %d calls, want 1 after %d", rows, calls, wantCalls)
			}
		})
	}
}
