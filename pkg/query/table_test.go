package query

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTableOutput(t *testing.T) {
	long := strings.Repeat("x", 30)
	for name, tc := range map[string]struct {
		width   int
		columns []string
		rows    [][]string
		want    string
	}{
		"aligned": {
			columns: []string{"a", "name"}, rows: [][]string{{"1", "x"}, {"100", "y\nz"}},
			want: "a    name\n1    x\n100  y z\n",
		},
		"no rows":         {columns: []string{"a", "b"}, want: "a  b\n"},
		"wide characters": {columns: []string{"a", "b"}, rows: [][]string{{"日本", "1"}, {"ü", "2"}}, want: "a     b\n日本  1\nü     2\n"},
		"without a bound": {columns: []string{"a", "b"}, rows: [][]string{{long, long}}, want: "a" + strings.Repeat(" ", 31) + "b\n" + long + "  " + long + "\n"},
		"as wide as the terminal": {
			width: 62, columns: []string{"a", "b"}, rows: [][]string{{long, long}}, want: "a" + strings.Repeat(" ", 31) + "b\n" + long + "  " + long + "\n",
		},
		"shortened": {
			width: 40, columns: []string{"n", "a", "b"}, rows: [][]string{{"1", long, long}},
			want: "n  a" + strings.Repeat(" ", 18) + "b\n1  " + strings.Repeat("x", 16) + "…  " + strings.Repeat("x", 16) + "…\n",
		},
		"left out": {
			width: 40, columns: []string{"a", "b", "c", "d"}, rows: [][]string{{long, long, long, long}},
			want: "a             b             (+2 columns)\nxxxxxxxxxxx…  xxxxxxxxxxx…\n",
		},
		"narrower than a column": {width: 5, columns: []string{"a", "b"}, rows: [][]string{{long, "1"}}, want: "a             (+1 column)\nxxxxxxxxxxx…\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			out := &tableOutput{w: &b, width: tc.width}
			var list []Column
			for _, name := range tc.columns {
				list = append(list, Column{Name: name})
			}
			if err := out.columns(list); err != nil {
				t.Fatal(err)
			}
			for _, row := range tc.rows {
				var values []sql.NullString
				for _, text := range row {
					values = append(values, sql.NullString{String: text, Valid: true})
				}
				if err := out.row(values); err != nil {
					t.Fatal(err)
				}
			}
			if err := out.end(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, b.String()); diff != "" {
				t.Errorf("the table (-expected +received):\n%s", diff)
			}
		})
	}
}
