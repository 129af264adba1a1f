package external

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
)

// tapStreams are two streams of a tap, whose names differ from those of the tables.
const tapStreams = `protocol: singer
streams: [{name: hr_users, tap_stream: users}, {name: hr_locations, tap_stream: locations}]
`

// catTap returns the text of a file whose tap prints a file of messages.
func catTap(t *testing.T, messages, more string) string {
	return script(tapStreams+more, "cat "+writeFiles(t, map[string]string{"messages": messages})+"/messages")
}

// tapMessages are messages in the forms of the specification.
const tapMessages = `{"type": "SCHEMA", "stream": "users", "key_properties": ["id"], "schema": {"required": ["id"], "type": "object", "properties": {"id": {"type": "integer"}}}}
{"type": "RECORD", "stream": "users", "record": {"id": 1,  "name": "Ann"}, "time_extracted": "2026-01-02T03:04:05.000Z"}
{"type": "STATE", "value": {"users": 1}}
{"type": "record", "stream": "users", "record": {"id": 2.0}, "version": 17}
{"type": "ACTIVATE_VERSION", "stream": "users", "version": 17}
{"type": "SCHEMA", "stream": "locations", "key_properties": [], "bookmark_properties": ["at"], "schema": {}}
{"type": "STATE", "value": null}
`

func TestTap(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, catTap(t, tapMessages, ""))
	extractStreams(t.Context(), t, f, section).requireRecords(t, map[string][]string{
		"hr_users": {`{"id": 1,  "name": "Ann"}`, `{"id": 2.0}`}, "hr_locations": nil,
	})
}

// TestRepeatedKeys: records with the same key are all stored, and reported.
func TestRepeatedKeys(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, catTap(t, `{"type": "SCHEMA", "stream": "users", "key_properties": ["id", "part"], "schema": {}}
{"type": "RECORD", "stream": "users", "record": {"id": 1, "part": 1}}
{"type": "RECORD", "stream": "users", "record": {"id": 1, "part": 2}}
{"type": "RECORD", "stream": "users", "record": {"part": 1, "id": 1, "name": "Ann"}}
{"type": "SCHEMA", "stream": "locations", "key_properties": [], "schema": {}}
`, ""))
	e := extractStreams(t.Context(), t, f, section)
	if want := []collector.Doubt{{Text: "records have the key of another record", Count: 1}}; len(e.records["hr_users"]) != 3 || !cmp.Equal(e.doubts["hr_users"], want) {
		t.Errorf("%d records, doubts %v, errors %v", len(e.records["hr_users"]), e.doubts["hr_users"], e.errs)
	}
}

func TestTapsThatAreRefused(t *testing.T) {
	t.Parallel()
	const record = `{"type": "RECORD", "stream": "users", "record": {}}` + "\n"
	for name, tc := range map[string]struct{ messages, more, want string }{
		"stream is missing":    {messages: record, want: "incomplete: the tap printed neither a schema nor a record of locations"},
		"unknown stream":       {messages: `{"type": "RECORD", "stream": "teams", "record": {}}`, want: `line 1 of the output names the stream "teams", which hr.yaml does not have: it has users, locations: add it to streams with tap_stream: teams, or to ignore`},
		"ignored stream":       {messages: `{"type": "RECORD", "stream": "teams", "record": {}}`, more: "singer: {ignore: [teams]}\n", want: "neither a schema nor a record"},
		"batch":                {messages: record + `{"type": "BATCH", "stream": "users", "manifest": []}`, want: "line 2 of the output is a BATCH message, which names files of records: configure the tap to print RECORD messages"},
		"unknown type":         {messages: `{"type": "TRUNCATE", "stream": "users"}`, want: `line 1 of the output is a message of the type "TRUNCATE": want RECORD, SCHEMA, STATE or ACTIVATE_VERSION`},
		"no type":              {messages: `{"id": 1}`, want: "line 1 of the output is no Singer message: it has no type"},
		"text":                 {messages: "INFO Starting", want: "line 1 of the output is not a JSON object"},
		"no stream":            {messages: `{"type": "RECORD", "record": {}}`, want: "line 1 of the output has no stream"},
		"record of no object":  {messages: `{"type": "RECORD", "stream": "users", "record": [1]}`, want: "line 1 of the output is a RECORD message whose record is no object"},
		"schema of no object":  {messages: `{"type": "SCHEMA", "stream": "users", "schema": 1}`, want: "is a SCHEMA message whose schema is no object"},
		"keys of no list":      {messages: `{"type": "SCHEMA", "stream": "users", "schema": {}, "key_properties": "id"}`, want: "key_properties are no list of texts"},
		"state without value":  {messages: `{"type": "STATE"}`, want: "is a STATE message without value"},
		"other version":        {messages: `{"type": "RECORD", "stream": "users", "record": {}, "version": 1}` + "\n" + `{"type": "ACTIVATE_VERSION", "stream": "users", "version": 2}`, want: "line 2 of the output has another version than records of the stream before it: a snapshot has records of one version"},
		"versions of records":  {messages: `{"type": "RECORD", "stream": "users", "record": {}, "version": 1}` + "\n" + `{"type": "RECORD", "stream": "users", "record": {}, "version": 2}`, want: "line 2 of the output has another version"},
		"activates no version": {messages: `{"type": "ACTIVATE_VERSION", "stream": "users"}`, want: "is an ACTIVATE_VERSION message without version"},
		"cut":                  {messages: record + `{"type": "RECORD", "stream": "users", "rec`, want: "incomplete: the output ends in the middle of line 2, with the exit status 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, section := loadOne(t, catTap(t, tc.messages, tc.more))
			extractStreams(t.Context(), t, f, section).requireError(t, tc.want)
		})
	}
}

// TestTapsThatDieMidLine: the error has the exit and the last line of standard error.
func TestTapsThatDieMidLine(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]string{"exit 1": "exit status 1: no more memory: ", "kill -9 $$": "signal: killed: no more memory: "} {
		f, section := loadOne(t, script(tapStreams, `printf '{"type": "RECORD", "stream": "users", "rec'; echo no more memory >&2; `+end))
		extractStreams(t.Context(), t, f, section).requireError(t, want)
	}
}

// TestFilesOfATap: the tap receives its configuration with the values of variables, and a
// catalog in which the streams that run are selected. Both are private and are removed.
func TestFilesOfATap(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"catalog.json": `{"version": 1, "streams": [
		{"tap_stream_id": "id-users", "stream": "users", "schema": {"type": "object", "selected": false}, "metadata": [
			{"breadcrumb": ["properties", "id"], "metadata": {"selected": false}}, {"breadcrumb": [], "metadata": {"selected": false, "replication-method": "FULL_TABLE"}}]},
		{"tap_stream_id": "locations", "schema": {}},
		{"tap_stream_id": "teams", "stream": "teams", "schema": {}, "metadata": [{"breadcrumb": [], "metadata": {"selected": true}}]}]}`})
	text := script(tapStreams+`variables: [HR_TOKEN, {name: HR_UNSET, required: false}, {name: HR_NAME, secret: false}]
singer:
  catalog: `+dir+`/catalog.json
  config:
    token: ${HR_TOKEN}
    start_date: 2020-01-01
    url: "https://${HR_NAME}.example.com/${HR_NAME}${HR_UNSET}"
    unset: ${HR_UNSET}
    size: 100
    deep: {list: [true, null, 1.5, "1", '${HR_NAME']}
`, `cp "$2" "$4" `+dir+`
stat -c %a "$2" "$4" "$PWD" >`+dir+`/modes; pwd >`+dir+`/pwd
test "$1 $3" = "--config --catalog" || exit 9
echo '{"type": "SCHEMA", "stream": "users", "schema": {}}'`)
	// sh -c takes the first argument after the script as its name.
	f, section := loadOne(t, text, "HR_TOKEN=very\"secret", "HR_NAME=acme")
	f.command = append(f.command, "sh")
	extractStreams(t.Context(), t, f, section, "hr_users").requireRecords(t, map[string][]string{"hr_users": nil})
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := `{"token":"very\"secret","start_date":"2020-01-01","url":"https://acme.example.com/acme","size":100,"deep":{"list":[true,null,1.5,"1","${HR_NAME"]}}`
	if got := read("config.json"); got != want {
		t.Errorf("configuration %s\nwant %s", got, want)
	}
	if got := read("modes"); got != "600\n600\n700\n" {
		t.Errorf("modes %q", got)
	}
	if _, err := os.Stat(read("pwd")[:len(read("pwd"))-1]); !os.IsNotExist(err) {
		t.Errorf("the directory of the tap is still there: %v", err)
	}
	var got, wanted any
	if err := json.Unmarshal([]byte(read("catalog.json")), &got); err != nil {
		t.Fatal(err)
	}
	wantCatalog := `{"version": 1, "streams": [
		{"tap_stream_id": "id-users", "stream": "users", "schema": {"type": "object", "selected": true}, "metadata": [
			{"breadcrumb": ["properties", "id"], "metadata": {"selected": false}}, {"breadcrumb": [], "metadata": {"selected": true, "replication-method": "FULL_TABLE"}}]},
		{"tap_stream_id": "locations", "schema": {"selected": false}, "metadata": [{"breadcrumb": [], "metadata": {"selected": false}}]},
		{"tap_stream_id": "teams", "stream": "teams", "schema": {"selected": false}, "metadata": [{"breadcrumb": [], "metadata": {"selected": false}}]}]}`
	if err := json.Unmarshal([]byte(wantCatalog), &wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
}

func TestCatalogsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ catalog, want string }{
		"gone":        {want: "catalog.json does not exist: let the tap write it with --discover, or correct the path"},
		"not JSON":    {catalog: "{\n  streams", want: "catalog.json:2: it is not valid JSON: "},
		"list":        {catalog: "[]", want: "catalog.json: it is no JSON object: want the file that the tap prints with --discover"},
		"no stream":   {catalog: `{"streams": [{"tap_stream_id": "users"}]}`, want: "catalog.json: it does not have the stream locations, which hr.yaml names: it has users"},
		"no list":     {catalog: `{}`, want: "catalog.json: it has no list of streams: want"},
		"no objects":  {catalog: `{"streams": ["users"]}`, want: "catalog.json: it has no list of streams: want"},
		"bad schema":  {catalog: `{"streams": [{"tap_stream_id": "users", "schema": []}]}`, want: "catalog.json: stream users: its schema is no object: want"},
		"no metadata": {catalog: `{"streams": [{"stream": "users", "metadata": {}}]}`, want: "catalog.json: stream users: its metadata is no list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if tc.catalog != "" {
				dir = writeFiles(t, map[string]string{"catalog.json": tc.catalog})
			}
			f, section := loadOne(t, script(tapStreams+"singer: {catalog: "+dir+"/catalog.json}\n", "exit"))
			extractStreams(t.Context(), t, f, section).requireError(t, tc.want)
			if cautions := f.Cautions(); len(cautions) != 1 || !strings.Contains(cautions[0], tc.want) {
				t.Errorf("cautions %q, want %q", cautions, tc.want)
			}
		})
	}
}
