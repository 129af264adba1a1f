package records

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/collectord/collectord/pkg/collector"
)

// collectRecords returns the records that read passes on.
func collectRecords(read func(Func) (int64, error)) ([]string, error) {
	var all []string
	n, err := read(func(record []byte) error {
		all = append(all, string(record))
		return nil
	})
	if err == nil && n != int64(len(all)) {
		return all, errors.New("the number of records is wrong")
	}
	return all, err
}

// requireRecords compares the result of a reader: the records if wantErr is "",
// and otherwise a FormatError that contains it.
func requireRecords(t *testing.T, got []string, err error, want []string, wantErr string) {
	t.Helper()
	if wantErr != "" {
		if asFormatError(err) == nil || !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), wantErr) {
			t.Errorf("error %v, want a FormatError with %q", err, wantErr)
		}
		return
	}
	if err != nil {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
	for _, record := range got {
		if !json.Valid([]byte(record)) {
			t.Errorf("the record is not JSON: %s", record)
		}
	}
}

func TestCSV(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		csv        CSV
		want       []string
		wantErr    string
	}{
		{name: "numbers stay text", text: "id,score\n007,1e-05\n1.10,\n", want: []string{`{"id":"007","score":"1e-05"}`, `{"id":"1.10","score":""}`}},
		{name: "no last line break", text: "a,b\n1,2", want: []string{`{"a":"1","b":"2"}`}},
		{name: "lines of Windows and a byte order mark", text: "\ufeffa,b\r\n1,2\r\n", want: []string{`{"a":"1","b":"2"}`}},
		{name: "quotes", text: "a,b\n\"x \"\"y\"\", z\",\"1\n2\"\n", want: []string{`{"a":"x \"y\", z","b":"1\n2"}`}},
		{name: "escapes", text: "a\n\"\\ \x01\té\"\n", want: []string{`{"a":"\\ \u0001\té"}`}},
		{name: "other separator", text: "a;b\n1,5;2\n", csv: CSV{Comma: ';'}, want: []string{`{"a":"1,5","b":"2"}`}},
		{name: "quoted name", text: "\"a \"\"b\"\"\"\nx\n", want: []string{`{"a \"b\"":"x"}`}},
		{name: "rows after a comment", text: "#x:1\na\n#1\n", csv: CSV{Comment: func(string) error { return nil }}, want: []string{`{"a":"#1"}`}},
		{name: "columns in any order", text: "c,b,a\n1,2,3\n", csv: CSV{Columns: []string{"a", "b"}}, want: []string{`{"c":"1","b":"2","a":"3"}`}},
		{name: "names only", text: "a,b\n"},
		{name: "nothing", text: "", wantErr: "no row with the names"},
		{name: "HTML", text: "<!DOCTYPE html>\n<p>busy</p>\n", csv: CSV{Columns: []string{"cve"}}, wantErr: `the column "cve" is missing: the first row is <!DOCTYPE html>`},
		{name: "comment not expected", text: "#x\na\n", wantErr: "line 1 is a comment"},
		{name: "bad comment", text: "#x\na\n", csv: CSV{Comment: func(string) error { return errors.New("no date") }}, wantErr: "line 1: no date"},
		{name: "short row", text: "#x\na,b\n1,2\n3\n", csv: CSV{Comment: func(string) error { return nil }}, wantErr: "row 2 (line 4) has 1 values, want 2"},
		{name: "long row", text: "a,b\n1,2,3\n", wantErr: "row 1 (line 2) has 3 values, want 2"},
		{name: "two equal names", text: "a,b,a\n", wantErr: `two columns have the name "a"`},
		{name: "no name", text: "a,\n", wantErr: "column 2 has no name"},
		{name: "quote not closed", text: "a\n\"1\n2", wantErr: "row 1 (line 2)"},
		{name: "quote within a value", text: "a\n1\nx\"y\"\n", wantErr: "row 2 (line 3)"},
		{name: "quote within a name", text: "x\"y\"\n", wantErr: "the names of the columns"},
		{name: "UTF-16", text: "\xff\xfea\x00", wantErr: "UTF-16"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := collectRecords(func(each Func) (int64, error) {
				return tc.csv.Each(iotest.OneByteReader(strings.NewReader(tc.text)), each)
			})
			requireRecords(t, got, err, tc.want, tc.wantErr)
		})
	}
}

// TestCSVKeepsInvalidUTF8: bytes that are not UTF-8 reach the snapshot, which
// replaces and counts them.
func TestCSVKeepsInvalidUTF8(t *testing.T) {
	got, err := collectRecords(func(each Func) (int64, error) { return CSV{}.Each(strings.NewReader("a\nx\xffy\n"), each) })
	if want := []string{"{\"a\":\"x\xffy\"}"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("records %q, error %v, want %q", got, err, want)
	}
}

func TestEachObject(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
		wantErr    string
	}{
		{name: "lines", text: "{\"a\":1.10}\n{\"b\": 2}\r\n", want: []string{`{"a":1.10}`, `{"b": 2}`}},
		{name: "no last line break, empty lines", text: "\n{}\n\n{\"a\":1}", want: []string{`{}`, `{"a":1}`}},
		{name: "byte order mark", text: "\ufeff{}\n", want: []string{`{}`}},
		{name: "nothing", text: ""},
		{name: "cut", text: "{}\n{\"a\":", wantErr: "record 2"},
		{name: "array", text: "{}\n[1]\n", wantErr: "record 2: want a JSON object, got [1]"},
		{name: "HTML", text: "<html>", wantErr: "record 1"},
		{name: "damaged", text: "{}\n{a}\n", wantErr: "record 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := collectRecords(func(each Func) (int64, error) {
				return EachObject(iotest.OneByteReader(strings.NewReader(tc.text)), each)
			})
			requireRecords(t, got, err, tc.want, tc.wantErr)
		})
	}
}

func TestXML(t *testing.T) {
	list := func(body string) string {
		return `<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE L SYSTEM "x.dtd"><!-- c --><L a="1"><X>u</X><R>` + body + "</R>\n</L>\n"
	}
	hosts := XML{Records: "L.R.H", Lists: []string{"D", "N.D"}}
	for _, tc := range []struct {
		name, text string
		xml        XML
		want       []string
		wantErr    string
	}{
		{name: "text", text: list("<H><ID>007</ID><E/><S> x </S></H><H><ID>8</ID></H>"), xml: hosts, want: []string{`{"ID":"007","E":"","S":" x "}`, `{"ID":"8"}`}},
		{name: "attributes", text: list(`<H id="1"><N k="v">t</N><M k="w"/><O k="x"><P>1</P></O></H>`), xml: hosts, want: []string{`{"@id":"1","N":{"@k":"v","#text":"t"},"M":{"@k":"w"},"O":{"@k":"x","P":"1"}}`}},
		{name: "repeated elements", text: list("<H><A>1</A><B>2</B><A>3</A></H>"), xml: hosts, want: []string{`{"A":["1","3"],"B":"2"}`}},
		{name: "lists", text: list("<H><D>1</D><N><D>2</D></N><M><D>3</D></M></H>"), xml: hosts, want: []string{`{"D":["1"],"N":{"D":["2"]},"M":{"D":"3"}}`}},
		{name: "white space between elements", text: list("\n <H>\n  <A>1</A>\n  <B>2</B>\n </H>\n"), xml: hosts, want: []string{`{"A":"1","B":"2"}`}},
		{name: "text beside elements", text: list(`<H><T k="v">a <b>c</b> d <b>e</b></T></H>`), xml: hosts, want: []string{`{"T":{"@k":"v","#mixed":["a ",{"b":"c"}," d ",{"b":"e"}]}}`}},
		{name: "CDATA, entities and comments", text: list("<H><T><![CDATA[<a>&]]> &amp;<!-- c -->&#65;</T></H>"), xml: hosts, want: []string{`{"T":"<a>& &A"}`}},
		{name: "record that is text", text: list("<H>x</H><H/>"), xml: hosts, want: []string{`{"#text":"x"}`, `{"#text":""}`}},
		{name: "namespaces", text: `<n:L xmlns:n="u"><n:R><n:H n:i="1"><n:D>2</n:D></n:H></n:R></n:L>`, xml: hosts, want: []string{`{"@n:i":"1","n:D":["2"]}`}},
		{name: "root", text: `<H><A>1</A></H>`, xml: XML{Records: "H"}, want: []string{`{"A":"1"}`}},
		{name: "no records", text: list(""), xml: hosts},
		{name: "other elements with the name", text: `<L><H>1</H><R><X><H>2</H></X></R></L>`, xml: hosts},
		{name: "no list", text: `<L></L>`, xml: hosts, wantErr: "the element L.R is missing"},
		{name: "no list, optional", text: `<L></L>`, xml: XML{Records: "L.R.H", Optional: true}},
		{name: "HTML", text: `<html><p>busy</p></html>`, xml: hosts, wantErr: "the root element is html, want L"},
		{name: "nothing", text: ``, xml: hosts, wantErr: "the document is empty"},
		{name: "JSON", text: `{}`, xml: hosts, wantErr: "text outside the root element: {}"},
		{name: "cut in a record", text: `<L><R><H><A>1`, xml: hosts, wantErr: "ends early, after 0 records"},
		{name: "cut between records", text: `<L><R><H/>`, xml: hosts, wantErr: "ends within the element R"},
		{name: "two roots", text: `<L><R/></L><L><R/></L>`, xml: hosts, wantErr: "more after the root"},
		{name: "text after the root", text: `<L><R/></L>x`, xml: hosts, wantErr: "text outside the root"},
		{name: "wrong end in a record", text: `<L><R><H><A></B></H></R></L>`, xml: hosts, wantErr: "the element A ends as B"},
		{name: "wrong end outside", text: `<L><R></L>`, xml: hosts, wantErr: "ends as L"},
		{name: "end without a start", text: `</L>`, xml: hosts, wantErr: "ends as L"},
		{name: "unknown entity", text: `<L><R><H>&x;</H></R></L>`, xml: hosts, wantErr: "entity"},
		{name: "other encoding", text: `<?xml version="1.0" encoding="ISO-8859-1"?><L/>`, xml: hosts, wantErr: "ISO-8859-1, want UTF-8"},
		{name: "attribute twice", text: `<L><R><H a="1" a="2"/></R></L>`, xml: hosts, wantErr: "the attribute a twice"},
		{name: "too deep", text: `<L><R><H>` + strings.Repeat("<a>", 300), xml: hosts, wantErr: "nested more than 200 deep"},
		{name: "too deep outside", text: `<L>` + strings.Repeat("<a>", 300), xml: hosts, wantErr: "nested more than 200 deep"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := collectRecords(func(each Func) (int64, error) {
				return tc.xml.Each(iotest.OneByteReader(strings.NewReader(tc.text)), each)
			})
			requireRecords(t, got, err, tc.want, tc.wantErr)
		})
	}
}

// pack returns a gzip file with the given content.
func pack(content string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(content)) // a bytes.Buffer has no errors
	_ = z.Close()
	return b.Bytes()
}

func TestGunzip(t *testing.T) {
	file := pack("hello")
	damaged := bytes.Clone(file)
	damaged[len(damaged)-8] ^= 1 // the checksum
	wrongLength := bytes.Clone(file)
	wrongLength[len(wrongLength)-1] ^= 1
	for _, tc := range []struct {
		name     string
		file     []byte
		maxBytes int64
		want     string
		wantErr  string
	}{
		{name: "one member", file: file, want: "hello"},
		{name: "two members", file: append(bytes.Clone(file), pack(" world")...), want: "hello world"},
		{name: "empty member", file: pack(""), want: ""},
		{name: "wrong checksum", file: damaged, wantErr: "does not match its trailer"},
		{name: "wrong length", file: wrongLength, wantErr: "does not match its trailer"},
		{name: "cut in the trailer", file: file[:len(file)-1], wantErr: "ends early"},
		{name: "cut in the content", file: file[:len(file)-10], wantErr: "ends early"},
		{name: "cut in the header", file: file[:5], wantErr: "ends early"},
		{name: "nothing", file: nil, wantErr: "ends early"},
		{name: "not gzip", file: []byte("<html>not gzip</html>"), wantErr: "the file is no gzip data"},
		{name: "garbage after the end", file: append(bytes.Clone(file), "garbage garbage"...), wantErr: "the gzip data is followed by something else"},
		{name: "a byte after the end", file: append(bytes.Clone(file), 0x1f), wantErr: "the gzip data is followed by something else"},
		{name: "a cut header of a second member", file: append(bytes.Clone(file), file[:5]...), wantErr: "the gzip file ends early"},
		{name: "zeros after the end", file: append(bytes.Clone(file), make([]byte, 512)...), wantErr: "the gzip data is followed by something else"},
		{name: "second member cut", file: append(bytes.Clone(file), file[:6]...), wantErr: "ends early"},
		{name: "too long", file: file, maxBytes: 4, wantErr: "too long"},
		{name: "as long as allowed", file: file, maxBytes: 5, want: "hello"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.maxBytes == 0 {
				tc.maxBytes = 1 << 20
			}
			got, err := io.ReadAll(Gunzip(bytes.NewReader(tc.file), tc.maxBytes))
			requireRecords(t, nil, err, nil, tc.wantErr)
			if tc.wantErr == "" && string(got) != tc.want {
				t.Errorf("content %q, want %q", got, tc.want)
			}
		})
	}
}

func TestGunzipIfNeeded(t *testing.T) {
	for _, file := range []string{"hello", string(pack("hello"))} {
		r, err := GunzipIfNeeded(strings.NewReader(file), 100)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "hello" {
			t.Errorf("content %q, error %v, want hello", got, err)
		}
	}
}

// errConnection is an error of the connection on which a file arrives.
var errConnection = errors.New("connection reset")

// TestReadersReturnErrorsUnchanged: an error of the connection or of the caller's
// function is no error of the file.
func TestReadersReturnErrorsUnchanged(t *testing.T) {
	errStop := errors.New("stop")
	for _, tc := range []struct {
		name, text string
		each       func(r io.Reader, each Func) (int64, error)
	}{
		{name: "CSV", text: "a,b\n1,2\n3", each: CSV{}.Each},
		{name: "NDJSON", text: "{}\n{\"a\"", each: EachObject},
		{name: "XML", text: "<L><R><H/><H><A>", each: XML{Records: "L.R.H"}.Each},
		{name: "gzip", text: string(pack("a,b\n1,2\n")[:30]), each: func(r io.Reader, each Func) (int64, error) {
			return CSV{}.Each(Gunzip(r, 1<<20), each)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			broken := io.MultiReader(strings.NewReader(tc.text), iotest.ErrReader(errConnection))
			_, err := tc.each(broken, func([]byte) error { return nil })
			if !errors.Is(err, errConnection) {
				t.Errorf("error %v, want %v", err, errConnection)
			}
			if tc.name == "gzip" {
				return
			}
			_, err = tc.each(strings.NewReader(tc.text), func([]byte) error { return errStop })
			if err != errStop {
				t.Errorf("error %v, want %v", err, errStop)
			}
		})
	}
}

// endless is a reader that repeats a text without end.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	return n, nil
}

// TestRecordsAreBounded: a record that does not end fails, in bounded memory.
func TestRecordsAreBounded(t *testing.T) {
	usual := maxRecord
	maxRecord = 256 << 10
	defer func() { maxRecord = usual }()
	for _, tc := range []struct {
		name, begin, repeat string
		each                func(r io.Reader, each Func) (int64, error)
	}{
		{name: "CSV", begin: "a\n1\n\"", repeat: "text ", each: CSV{}.Each},
		{name: "NDJSON", begin: "{}\n{\"a\":\"", repeat: "text ", each: EachObject},
		{name: "XML text", begin: "<L><R><H>", repeat: "text ", each: XML{Records: "L.R.H"}.Each},
		{name: "XML elements", begin: "<L><R><H>", repeat: "<a/>", each: XML{Records: "L.R.H"}.Each},
		{name: "CSV names", begin: "\"", repeat: "text ", each: CSV{}.Each},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.each(io.MultiReader(strings.NewReader(tc.begin), &endless{text: strings.Repeat(tc.repeat, 100_000)}), func([]byte) error { return nil })
			if !errors.Is(err, ErrTooLong) || asFormatError(err) == nil {
				t.Errorf("error %v, want %v", err, ErrTooLong)
			}
		})
	}
}

// FuzzReaders: whatever a file contains, each record that a reader passes on is a
// JSON object, also when it arrives in small pieces.
func FuzzReaders(f *testing.F) {
	for _, seed := range []string{"a,b\n1,\"x\n\"\n", "#c\na\n", "{\"a\":1}\n{}", `<L><R><H a="1"><b>x</b>y</H></R></L>`, string(pack("a\n1\n"))} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		for name, each := range map[string]func(r io.Reader, each Func) (int64, error){
			"CSV": CSV{Comment: func(string) error { return nil }}.Each, "NDJSON": EachObject, "XML": XML{Records: "L.R.H", Lists: []string{"b"}}.Each,
			"gzip": func(r io.Reader, each Func) (int64, error) { return CSV{}.Each(Gunzip(r, 1<<20), each) },
		} {
			read := func(r io.Reader) ([]string, error) {
				return collectRecords(func(add Func) (int64, error) {
					return each(r, func(record []byte) error {
						valid := bytes.ToValidUTF8(record, []byte("\ufffd"))
						if !json.Valid(valid) || valid[0] != '{' {
							t.Fatalf("%s: %q is no JSON object", name, record)
						}
						return add(record)
					})
				})
			}
			whole, err := read(bytes.NewReader(file))
			pieces, errPieces := read(iotest.OneByteReader(bytes.NewReader(file)))
			if !slices.Equal(whole, pieces) || (err == nil) != (errPieces == nil) {
				t.Fatalf("%s: %q, %v in one piece, %q, %v in many", name, whole, err, pieces, errPieces)
			}
		}
	})
}
