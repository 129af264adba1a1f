package prompt

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/query"
)

var testCompleter = completer{
	streams: func() []string { return []string{"okta_users", "tenable_assets", "tenable_findings"} },
	columns: func(stream string) []query.Column {
		return map[string][]query.Column{
			"okta_users": {
				{Name: "id"}, {Name: "status"}, {Name: "statusChanged"}, {Name: "order"}, {Name: "the name"},
				{Name: "profile", Type: `STRUCT(login VARCHAR, "a"",(b" VARCHAR, "the b" STRUCT(x INTEGER, y STRUCT(z DECIMAL(18,3))))`},
				{Name: "groups", Type: "STRUCT(id VARCHAR)[]"},
			},
			"tenable_assets": {{Name: "id"}, {Name: "fqdns"}},
		}[stream]
	},
}

// TestComplete completes at the cursor, which is a bar in the text.
func TestComplete(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after string
		length        int
		want          []string
	}{
		"a keyword":                {before: "SEL", length: 3, want: []string{"SELECT "}},
		"a keyword in lower case":  {before: "sel", length: 3, want: []string{"select "}},
		"keywords":                 {before: "SELECT 1 WH", length: 2, want: []string{"WHEN", "WHERE"}},
		"a function":               {before: "SELECT coal", length: 4, want: []string{"coalesce "}},
		"streams after FROM":       {before: "SELECT * FROM ", length: 0, want: []string{"okta_users", "tenable_assets", "tenable_findings"}},
		"a stream":                 {before: "SELECT * FROM okt", length: 3, want: []string{"okta_users "}},
		"streams":                  {before: "FROM x JOIN TEN", length: 3, want: []string{"tenable_assets", "tenable_findings"}},
		"only streams after FROM":  {before: "SELECT * FROM s", length: 1},
		"a stream on another line": {before: "SELECT *\nFROM\n okta", length: 4, want: []string{"okta_users "}},
		"columns":                  {before: "SELECT * FROM okta_users WHERE status", length: 6, want: []string{"status", "statusChanged"}},
		"columns before FROM":      {before: "SELECT statusC", after: " FROM okta_users", length: 7, want: []string{"statusChanged "}},
		"columns in any case":      {before: "FROM OKTA_USERS WHERE STATUSC", length: 7, want: []string{"statusChanged "}},
		"no columns of others":     {before: "SELECT * FROM okta_users WHERE fqd", length: 3},
		"columns of both":          {before: "SELECT fq", after: " FROM okta_users, tenable_assets", length: 2, want: []string{"fqdns "}},
		"a column with a space":    {before: "SELECT the_", after: " FROM okta_users", length: 4},
		"a name that needs quotes": {before: "SELECT the", after: " FROM okta_users", length: 3, want: []string{`"the name"`, "then"}},
		"a reserved name":          {before: "FROM okta_users u SELECT u.ord", length: 3, want: []string{`"order" `}},
		"in quotes":                {before: `FROM okta_users SELECT "sta`, length: 4, want: []string{`"status"`, `"statusChanged"`}},
		"after a stream":           {before: "FROM okta_users WHERE okta_users.i", length: 1, want: []string{"id "}},
		"after an alias":           {before: "SELECT a.fq", after: " FROM okta_users u, tenable_assets AS a", length: 2, want: []string{"fqdns "}},
		"after an unknown alias":   {before: "SELECT b.fq", after: " FROM okta_users u, tenable_assets AS a", length: 2},
		"after a dot, all":         {before: "SELECT a.", after: " FROM tenable_assets a", want: []string{"fqdns", "id"}},
		"members":                  {before: "SELECT profile.", after: " FROM okta_users", want: []string{`"a"",(b"`, `"the b"`, "login"}},
		"a member of an alias":     {before: "FROM okta_users AS u WHERE u.PROFILE.lo", length: 2, want: []string{"login "}},
		"members of members":       {before: `FROM okta_users SELECT okta_users.profile."the b".y.`, want: []string{"z "}},
		"members of a list":        {before: "FROM okta_users SELECT groups.", want: nil},
		"members of a scalar":      {before: "FROM okta_users SELECT id.x", length: 1, want: nil},
		"members of no stream":     {before: "SELECT profile.", want: nil},
		"a dot after a number":     {before: "FROM okta_users SELECT (1).", want: nil},
		"after a dot alone":        {before: ".", length: 1, want: []string{".exit", ".format", ".help", ".quit", ".rows", ".schema", ".tables"}},
		"in a literal":             {before: "SELECT * FROM okta_users WHERE status = 'sta"},
		"in a comment":             {before: "FROM okta_users -- sta"},
		"after a comment":          {before: "FROM okta_users -- x\nWHERE statusC", length: 7, want: []string{"statusChanged "}},
		"a command":                {before: ".sch", length: 4, want: []string{".schema "}},
		"a stream of a command":    {before: ".schema okt", length: 3, want: []string{"okta_users "}},
		"a format":                 {before: ".format ", want: []string{"csv", "csv-raw", "json", "table"}},
		"no argument":              {before: ".tables o", length: 1},
	} {
		t.Run(name, func(t *testing.T) {
			length, texts := testCompleter.completeText(tc.before, tc.after)
			if diff := cmp.Diff(tc.want, texts); diff != "" || length != tc.length {
				t.Errorf("%d bytes are replaced, expected %d; texts (-expected +received):\n%s", length, tc.length, diff)
			}
		})
	}
}

// TestCompleteWithoutAnyWord checks that a tab after nothing offers where a statement can
// begin, and the columns of its streams later.
func TestCompleteWithoutAnyWord(t *testing.T) {
	if _, texts := testCompleter.completeText("", ""); !slices.Contains(texts, "SELECT") || !slices.Contains(texts, "okta_users") {
		t.Errorf("at the beginning: %q", texts)
	}
	_, texts := testCompleter.completeText("SELECT ", " FROM tenable_assets")
	if diff := cmp.Diff([]string{"fqdns", "id"}, texts); diff != "" {
		t.Errorf("columns (-expected +received):\n%s", diff)
	}
}

// TestCompleteLine completes in the middle of a line with characters of several bytes.
func TestCompleteLine(t *testing.T) {
	s := &session{
		streams: []query.StreamData{{Stream: "okta_users", UploadID: "1"}},
		columns: newColumnLoader(func(context.Context, string) ([]query.Column, error) { return []query.Column{{Name: "größe"}}, nil }),
		pending: "SELECT 'ü',\n",
	}
	const line = "'日本', grö FROM okta_users"
	head, texts, tail := s.completeLine(line, len([]rune("'日本', grö")))
	if head != "'日本', " || tail != " FROM okta_users" || !slices.Equal(texts, []string{"größe "}) {
		t.Errorf("%q %q %q", head, texts, tail)
	}
}
