package postgres

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// TestPostgresConnectAdvice has servers that cannot be reached: the error says
// what to do, and the delivery is retried.
func TestPostgresConnectAdvice(t *testing.T) {
	p := newTest(t)
	closed, closing := closedPort(t), closingServer(t)
	for name, test := range map[string]struct {
		opts Options
		text string
	}{
		"nothing listens": {opts: Options{Host: "127.0.0.1", Port: closed, User: "u", DBName: "d"}, text: "nothing listens there"},
		"no socket":       {opts: Options{Host: t.TempDir(), User: "u", DBName: "d"}, text: "nothing listens there"},
		"no name":         {opts: Options{Host: "db.invalid", User: "u", DBName: "d"}, text: "the name cannot be resolved"},
		"another server":  {opts: Options{URL: fmt.Sprintf("postgres://u:pw-1@127.0.0.1:%d/d?sslmode=disable", closing)}, text: "the connection was closed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := p.sink(test.opts)
			for _, err := range []error{s.Check(t.Context()), s.Write(t.Context(), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))} {
				storetest.AssertRetriable(t, err)
				for _, text := range []string{test.text, "STORE_POSTGRES_HOST and STORE_POSTGRES_PORT"} {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%q is missing in: %v", text, err)
					}
				}
			}
		})
	}
}

// closedPort returns a port of this machine on which nothing listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// closingServer returns the port of a server that closes each connection.
func closingServer(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestPostgresEncoding has databases whose encoding cannot hold every record:
// they are refused before the first row.
func TestPostgresEncoding(t *testing.T) {
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			p := newTest(t)
			p.exec(`CREATE DATABASE $S ENCODING '` + encoding + `' TEMPLATE template0 LOCALE 'C'`)
			t.Cleanup(func() { p.exec(`DROP DATABASE $S WITH (FORCE)`) })
			s := p.sink(Options{URL: strings.Replace(p.server.URL(testserver.Owner, testserver.Password), "/postgres?", "/"+p.schema+"?", 1)})
			want := []string{`the encoding of database "` + p.schema + `" is ` + encoding, "CREATE DATABASE", "ENCODING 'UTF8' TEMPLATE template0", "STORE_POSTGRES_DBNAME"}
			p.assertRefused(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one), want...)
			if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), want[0]) {
				t.Errorf("Check: %v", err)
			}
			conn, err := s.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer closeConn(conn)
			var schemas int
			if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = $1`, p.schema).Scan(&schemas); err != nil || schemas != 0 {
				t.Errorf("%d schemas were created: %v", schemas, err)
			}
		})
	}
}

// TestUnknownSSLMode: the error names the variable that the mode is from.
func TestUnknownSSLMode(t *testing.T) {
	t.Setenv("PGSSLMODE", "requires")
	for name, tt := range map[string]struct {
		opts Options
		want string
	}{
		"a variable": {opts: Options{Host: "h"}, want: `PGSSLMODE: "requires" is not known: want disable`},
		"the URL":    {opts: Options{URL: "postgres://u:pw-1@h/d?sslmode=on"}, want: "STORE_POSTGRES_URL: sslmode is not known: want disable"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.opts.Schema = "public"
			if _, err := New(tt.opts); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
