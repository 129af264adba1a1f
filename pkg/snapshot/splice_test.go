package snapshot

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

var spliceCases = []struct {
	name, record      string
	want              string // the line up to the reserved members
	renamed, repaired bool
}{
	{name: "plain", record: `{"a":1}`, want: `{"a":1,`},
	{name: "empty", record: `{}`, want: `{`},
	{name: "empty with a space", record: `{ }`, want: `{`},
	{name: "empty over lines, with a tab", record: "{\r\n\t}", want: `{`},
	{name: "whitespace around", record: " \n{\"a\":1}\r\n", want: `{"a":1,`},
	{name: "pretty", record: "{\n\t\"a\" : [\r\n\t\t1\n\t]\n}", want: "{ \t\"a\" : [  \t\t1 \t],"},
	{name: "tab before the end", record: "{\"a\":1\t}", want: `{"a":1,`},
	{name: "order, spellings, escapes", record: `{"z":1.0,"a":9007199254740993,"n":1e-7,"u":"\u00e9\/é","x":{"y":[]}}`,
		want: `{"z":1.0,"a":9007199254740993,"n":1e-7,"u":"\u00e9\/é","x":{"y":[]},`},
	{name: "line separators in a string", record: "{\"a\":\"\u2028\"}", want: "{\"a\":\"\u2028\","},
	{name: "escaped line break", record: `{"a":"x\ny"}`, want: `{"a":"x\ny",`},
	{name: "closing brace in a string", record: `{"a":"}"}`, want: `{"a":"}",`},
	{name: "reserved name", record: `{"_tenancy":"x","a":1}`, want: `{"_vendor_tenancy":"x","a":1,`, renamed: true},
	{name: "all reserved names, last", record: `{"a":1,"_upload_id":{"b":2},"_upload_timestamp":null,"_tenancy":[3]}`,
		want: `{"a":1,"_vendor_upload_id":{"b":2},"_vendor_upload_timestamp":null,"_vendor_tenancy":[3],`, renamed: true},
	{name: "reserved name twice", record: `{"_tenancy":1,"_tenancy":2}`, want: `{"_vendor_tenancy":1,"_vendor_tenancy":2,`, renamed: true},
	{name: "reserved name with escapes", record: `{"\u005ftenancy":"x","_upload\u005Fid":1}`,
		want: `{"_vendor_tenancy":"x","_vendor_upload_id":1,`, renamed: true},
	{name: "reserved name with spaces", record: "{ \"_tenancy\"\n: 1 }", want: `{ "_vendor_tenancy" : 1,`, renamed: true},
	{name: "reserved name deeper", record: `{"a":{"_tenancy":"x"},"b":["_tenancy"]}`, want: `{"a":{"_tenancy":"x"},"b":["_tenancy"],`},
	{name: "reserved name as a value", record: `{"a":"_tenancy"}`, want: `{"a":"_tenancy",`},
	{name: "names like reserved ones", record: `{"_upload_ids":1,"_Tenancy":2,"tenancy":3,"\u0000":4}`,
		want: `{"_upload_ids":1,"_Tenancy":2,"tenancy":3,"\u0000":4,`},
	{name: "duplicates of other names", record: `{"a":1,"a":2,"_tenancy":0}`, want: `{"a":1,"a":2,"_vendor_tenancy":0,`, renamed: true},
	{name: "lone surrogate", record: `{"a":"\ud800","_tenancy":0}`, want: `{"a":"\ud800","_vendor_tenancy":0,`, renamed: true},
	{name: "not UTF-8", record: "{\"a\":\"x\xff\xfey\"}", want: "{\"a\":\"x\ufffdy\",", repaired: true},
	{name: "not UTF-8 and reserved name", record: "{\"a\":\"\xff\",\"_tenancy\":0}",
		want: "{\"a\":\"\ufffd\",\"_vendor_tenancy\":0,", renamed: true, repaired: true},
	{name: "NUL escaped", record: `{"a":"\u0000"}`, want: `{"a":"\u0000",`},
	{name: "huge number", record: `{"a":1e400}`, want: `{"a":1e400,`},
	{name: "deep", record: `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"_tenancy":0}`,
		want: `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"_vendor_tenancy":0,`, renamed: true},
}

func TestSplicer(t *testing.T) {
	s := NewSplicer(testHeader)
	for _, tc := range spliceCases {
		t.Run(tc.name, func(t *testing.T) {
			record := []byte(tc.record)
			got, done, err := s.Append([]byte("before"), record)
			if err != nil {
				t.Fatal(err)
			}
			if want := "before" + tc.want + storedMembers + "\n"; string(got) != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if done.Renamed != tc.renamed || done.Repaired != tc.repaired {
				t.Errorf("result %+v, want renamed %t, repaired %t", done, tc.renamed, tc.repaired)
			}
			if string(record) != tc.record {
				t.Errorf("the vendor's bytes were changed to %q", record)
			}
		})
	}
}

func TestSplicerRefuses(t *testing.T) {
	s := NewSplicer(testHeader)
	for _, record := range []string{"", " ", "{", "}", "[]", `["{}"]`, `"{}"`, "1", "null", "true", "{]", `{"a":1`, `a}`} {
		got, _, err := s.Append([]byte("before"), []byte(record))
		if !errors.Is(err, ErrNotObject) || string(got) != "before" {
			t.Errorf("%q: %q, %v", record, got, err)
		}
	}
	// Invalid JSON between braces is found when the members are read.
	got, _, err := s.Append([]byte("before"), []byte(`{"_tenancy":1,}`))
	if err == nil && jsontext.Value(got[len("before"):]).IsValid() {
		t.Errorf("returned valid JSON for an invalid record: %q", got)
	}
	if got, _, err := s.Append([]byte("before"), []byte(`{"_tenancy" "x"}`)); err == nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSplicerQuotesItsValues(t *testing.T) {
	s := NewSplicer(Header{Tenancy: "a\"b\\c\n\u2028<é", UploadID: "i\td", UploadTimestamp: time.Date(2026, 12, 31, 23, 0, 0, 999, time.FixedZone("", -7200))})
	got, _, err := s.Append(nil, []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_tenancy":"a\"b\\c\n\u2028\u003cé","_upload_timestamp":"2027-01-01 01:00:00","_upload_id":"i\td"}` + "\n"
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzSplicer checks for every valid object that the line is valid JSON with the
// vendor's members in order, byte for byte, followed by the reserved members once.
func FuzzSplicer(f *testing.F) {
	for _, s := range spliceCases {
		f.Add([]byte(s.record))
	}
	f.Add([]byte(`{"_vendor_tenancy":1,"_tenancy":2}`))
	splicer := NewSplicer(testHeader)
	f.Fuzz(func(t *testing.T, record []byte) {
		line, done, err := splicer.Append(nil, record)
		if !jsontext.Value(record).IsValid(lenientJSON...) {
			return // any result is fine, but no panic
		}
		isObject := jsontext.Value(record).Kind() == '{'
		if isObject != (err == nil) || err != nil && !errors.Is(err, ErrNotObject) {
			t.Fatalf("%q: %v", record, err)
		}
		if err != nil {
			return
		}
		if n := bytes.IndexByte(line, '\n'); n != len(line)-1 {
			t.Fatalf("%q is not one line", line)
		}
		if !utf8.Valid(line) || !jsontext.Value(line).IsValid(lenientJSON...) {
			t.Fatalf("%q is not valid JSON", line)
		}
		if done.Repaired != !utf8.Valid(record) {
			t.Fatalf("repaired is %v", done.Repaired)
		}
		want := topLevelMembers(t, bytes.ToValidUTF8(record, []byte("\ufffd")))
		renamed := false
		for i := range want {
			if IsReservedMember(want[i][0]) {
				want[i][0], renamed = vendorPrefix+want[i][0], true
			}
		}
		if renamed != done.Renamed {
			t.Fatalf("renamed is %v, want %v", done.Renamed, renamed)
		}
		want = append(want, topLevelMembers(t, []byte("{"+storedMembers))...)
		got := topLevelMembers(t, line)
		if len(got) != len(want) {
			t.Fatalf("%d members, want %d", len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("member %d is %q, want %q", i, got[i], want[i])
			}
		}
	})
}

// topLevelMembers returns the names and raw values of the members of an object at the
// top level, with line breaks replaced by spaces.
func topLevelMembers(t *testing.T, object []byte) (all [][2]string) {
	d := jsontext.NewDecoder(bytes.NewReader(object), lenientJSON...)
	if _, err := d.ReadToken(); err != nil {
		t.Fatal(err)
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			t.Fatal(err)
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, [2]string{key, strings.NewReplacer("\n", " ", "\r", " ").Replace(string(value))})
	}
	return all
}
