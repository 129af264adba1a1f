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

var splices = []struct {
	name, record, want string // want is the line up to our members
	renamed, repaired  bool
}{
	{"plain", `{"a":1}`, `{"a":1,`, false, false},
	{"empty", `{}`, `{`, false, false},
	{"empty with a space", `{ }`, `{`, false, false},
	{"empty over lines, with a tab", "{\r\n\t}", `{`, false, false},
	{"white space around", " \n{\"a\":1}\r\n", `{"a":1,`, false, false},
	{"pretty", "{\n\t\"a\" : [\r\n\t\t1\n\t]\n}", "{ \t\"a\" : [  \t\t1 \t],", false, false},
	{"tab before the end", "{\"a\":1\t}", `{"a":1,`, false, false},
	{"order, spellings, escapes", `{"z":1.0,"a":9007199254740993,"n":1e-7,"u":"\u00e9\/é","x":{"y":[]}}`, `{"z":1.0,"a":9007199254740993,"n":1e-7,"u":"\u00e9\/é","x":{"y":[]},`, false, false},
	{"line separators in a string", "{\"a\":\"\u2028\"}", "{\"a\":\"\u2028\",", false, false},
	{"escaped line break", `{"a":"x\ny"}`, `{"a":"x\ny",`, false, false},
	{"closing brace in a string", `{"a":"}"}`, `{"a":"}",`, false, false},
	{"our name", `{"_tenancy":"x","a":1}`, `{"_vendor_tenancy":"x","a":1,`, true, false},
	{"all our names, last", `{"a":1,"_upload_id":{"b":2},"_upload_timestamp":null,"_tenancy":[3]}`, `{"a":1,"_vendor_upload_id":{"b":2},"_vendor_upload_timestamp":null,"_vendor_tenancy":[3],`, true, false},
	{"our name twice", `{"_tenancy":1,"_tenancy":2}`, `{"_vendor_tenancy":1,"_vendor_tenancy":2,`, true, false},
	{"our name with escapes", `{"\u005ftenancy":"x","_upload\u005Fid":1}`, `{"_vendor_tenancy":"x","_vendor_upload_id":1,`, true, false},
	{"our name with spaces", "{ \"_tenancy\"\n: 1 }", `{ "_vendor_tenancy" : 1,`, true, false},
	{"our name deeper", `{"a":{"_tenancy":"x"},"b":["_tenancy"]}`, `{"a":{"_tenancy":"x"},"b":["_tenancy"],`, false, false},
	{"our name as a value", `{"a":"_tenancy"}`, `{"a":"_tenancy",`, false, false},
	{"names like ours", `{"_upload_ids":1,"_Tenancy":2,"tenancy":3,"\u0000":4}`, `{"_upload_ids":1,"_Tenancy":2,"tenancy":3,"\u0000":4,`, false, false},
	{"duplicates of other names", `{"a":1,"a":2,"_tenancy":0}`, `{"a":1,"a":2,"_vendor_tenancy":0,`, true, false},
	{"lone surrogate", `{"a":"\ud800","_tenancy":0}`, `{"a":"\ud800","_vendor_tenancy":0,`, true, false},
	{"not UTF-8", "{\"a\":\"x\xff\xfey\"}", "{\"a\":\"x\ufffdy\",", false, true},
	{"not UTF-8 and our name", "{\"a\":\"\xff\",\"_tenancy\":0}", "{\"a\":\"\ufffd\",\"_vendor_tenancy\":0,", true, true},
	{"NUL escaped", `{"a":"\u0000"}`, `{"a":"\u0000",`, false, false},
	{"huge number", `{"a":1e400}`, `{"a":1e400,`, false, false},
	{"deep", `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"_tenancy":0}`, `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"_vendor_tenancy":0,`, true, false},
}

func TestSplicer(t *testing.T) {
	s := NewSplicer(testHeader)
	for _, f := range splices {
		t.Run(f.name, func(t *testing.T) {
			record := []byte(f.record)
			got, done, err := s.Append([]byte("before"), record)
			if err != nil {
				t.Fatal(err)
			}
			if want := "before" + f.want + ours + "\n"; string(got) != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if done.Renamed != f.renamed || done.Repaired != f.repaired {
				t.Errorf("%+v", done)
			}
			if string(record) != f.record {
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
	// What only looks like an object is found where it is read closely.
	got, _, err := s.Append([]byte("before"), []byte(`{"_tenancy":1,}`))
	if err == nil && jsontext.Value(got[len("before"):]).IsValid() {
		t.Errorf("made valid JSON of what is none: %q", got)
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

// FuzzSplicer checks, for every object that is valid, that the line is valid
// JSON, has the vendor's members in order, byte for byte, and ours behind
// them once.
func FuzzSplicer(f *testing.F) {
	for _, s := range splices {
		f.Add([]byte(s.record))
	}
	f.Add([]byte(`{"_vendor_tenancy":1,"_tenancy":2}`))
	splicer := NewSplicer(testHeader)
	f.Fuzz(func(t *testing.T, record []byte) {
		line, done, err := splicer.Append(nil, record)
		if !jsontext.Value(record).IsValid(lenient...) {
			return // what comes of it is nobody's business, but it may not panic
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
		if !utf8.Valid(line) || !jsontext.Value(line).IsValid(lenient...) {
			t.Fatalf("%q is no JSON", line)
		}
		if done.Repaired != !utf8.Valid(record) {
			t.Fatalf("repaired is %v", done.Repaired)
		}
		want := members(t, bytes.ToValidUTF8(record, []byte("\ufffd")))
		renamed := false
		for i := range want {
			if isOurs(want[i][0]) {
				want[i][0], renamed = vendorPrefix+want[i][0], true
			}
		}
		if renamed != done.Renamed {
			t.Fatalf("renamed is %v, want %v", done.Renamed, renamed)
		}
		want = append(want, members(t, []byte("{"+ours))...)
		got := members(t, line)
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

// members are the names and the raw values of an object on its top level;
// line breaks between tokens are spaces.
func members(t *testing.T, object []byte) (all [][2]string) {
	d := jsontext.NewDecoder(bytes.NewReader(object), lenient...)
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
