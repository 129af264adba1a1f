package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/collectord/collectord/pkg/collector"
)

// splitAll returns copies of all records that Split finds.
func splitAll(r io.Reader, shape Shape) (records []string, e *Envelope, err error) {
	e, err = Split(r, shape, func(e *Envelope, raw []byte) error {
		if e.Records != len(records) {
			return fmt.Errorf("record %d is announced as %d", len(records), e.Records)
		}
		records = append(records, string(raw))
		return nil
	})
	return records, e, err
}

var splits = []struct {
	name  string
	shape Shape
	text  string
	want  []string
	fails string
}{
	{name: "an array", shape: Shape{}, text: `[{"a":1},{"b":[2]}]`, want: []string{`{"a":1}`, `{"b":[2]}`}},
	{name: "an empty array", shape: Shape{}, text: ` [ ] `},
	{name: "null for no records", shape: Shape{}, text: `null`},
	{name: "a member", shape: Shape{Records: "data"}, text: `{"data":[{"a":1}]}`, want: []string{`{"a":1}`}},
	{name: "a member of null", shape: Shape{Records: "data"}, text: `{"data":null}`},
	{name: "behind and before others", shape: Shape{Records: "data"}, text: `{"x":{"data":[1]},"data":[{"a":1}],"y":"]}"}`, want: []string{`{"a":1}`}},
	{name: "a name with escapes", shape: Shape{Records: "data"}, text: `{"d\u0061ta":[{"a":1}]}`, want: []string{`{"a":1}`}},
	{name: "deeper", shape: Shape{Records: "r.i"}, text: `{"n":1,"r":{"t":2,"i":[{"a":1}],"u":3},"z":4}`, want: []string{`{"a":1}`}},
	{name: "deeper still", shape: Shape{Records: "a.b.c"}, text: `{"a":{"b":{"c":[1]}}}`, want: []string{`1`}},
	{name: "absent, optional", shape: Shape{Records: "data", Optional: true}, text: `{"x":1}`},
	{name: "absent", shape: Shape{Records: "data"}, text: `{"x":1}`, fails: "the member data is missing"},
	{name: "absent deeper", shape: Shape{Records: "r.i"}, text: `{"r":null}`, fails: "the member r.i is missing"},
	{name: "on the way of another kind", shape: Shape{Records: "r.i"}, text: `{"r":[1]}`, fails: "the member r.i is missing"},
	{name: "twice", shape: Shape{Records: "r.i"}, text: `{"r":{"i":[1]},"r":{"i":[2]}}`, want: []string{"1"}, fails: "the member r.i appears twice"},
	{name: "an object, not an array", shape: Shape{}, text: `{"error":"x"}`, fails: `want the document to be an array, got {"error":"x"}`},
	{name: "a text, not an object", shape: Shape{Records: "data"}, text: `"x"`, fails: `want an object with the member data, got "x"`},
	{name: "a number for records", shape: Shape{Records: "data"}, text: `{"data":1}`, fails: "want the member data to be an array, got 1"},
	{name: "pretty", shape: Shape{Records: "data"}, text: "{\n\t\"data\" : [\r\n {\n  \"a\" : 1\n } ,\n {} ]\n}\n", want: []string{"{\n  \"a\" : 1\n }", "{}"}},
	{name: "brackets in strings", shape: Shape{}, text: `[{"a":"]}\"]}"},{"b":"[{"}]`, want: []string{`{"a":"]}\"]}"}`, `{"b":"[{"}`}},
	{name: "duplicates", shape: Shape{}, text: `[{"a":1,"a":2}]`, want: []string{`{"a":1,"a":2}`}},
	{name: "lone surrogate", shape: Shape{}, text: `[{"a":"\ud800"}]`, want: []string{`{"a":"\ud800"}`}},
	{name: "not UTF-8", shape: Shape{}, text: "[{\"a\":\"\xff\"}]", want: []string{"{\"a\":\"\xff\"}"}},
	{name: "numbers keep their spelling", shape: Shape{}, text: `[{"a":1e400,"b":1.0,"c":9007199254740993,"d":-0,"e":1E-7}]`, want: []string{`{"a":1e400,"b":1.0,"c":9007199254740993,"d":-0,"e":1E-7}`}},
	{name: "other kinds", shape: Shape{}, text: `[1,"a",null,true,[2]]`, want: []string{"1", `"a"`, "null", "true", "[2]"}},
	{name: "byte order mark", shape: Shape{}, text: "\ufeff[1]", want: []string{"1"}},
	{name: "nothing but a byte order mark", shape: Shape{}, text: "\ufeff", fails: "body is empty"},
	{name: "as deep as can be", shape: Shape{}, text: "[" + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + "]", want: []string{strings.Repeat("[", 9999) + strings.Repeat("]", 9999)}},
	{name: "deeper than can be", shape: Shape{}, text: "[" + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + "]", fails: "exceeded max depth"},
	{name: "errors empty", shape: Shape{Records: "d", Errors: []string{"e", "m.e"}}, text: `{"d":[],"e":[ ],"m":{"e":{ }}}`},
	{name: "errors null", shape: Shape{Records: "d", Errors: []string{"e", "m.e"}}, text: `{"d":[],"e":null,"m":{"e":""}}`},
	{name: "errors false", shape: Shape{Records: "d", Errors: []string{"e"}}, text: `{"d":[],"e":false}`},
	{name: "errors filled", shape: Shape{Records: "d", Errors: []string{"e"}}, text: `{"e":[{"m":"x"}],"d":[1]}`, want: []string{"1"}, fails: `the member e is not empty: [{"m":"x"}]`},
	{name: "errors deeper", shape: Shape{Records: "d", Errors: []string{"m.e"}}, text: `{"d":[1],"m":{"e":"x"}}`, want: []string{"1"}, fails: `the member m.e is not empty: "x"`},
	{name: "errors on the way to the records", shape: Shape{Records: "r.d", Errors: []string{"r.e.x"}}, text: `{"r":{"d":[1],"e":{"x":true}}}`, want: []string{"1"}, fails: `the member r.e.x is not empty: true`},
	{name: "no comma", shape: Shape{}, text: `[1 2]`, want: []string{"1"}, fails: "invalid character '2'"},
	{name: "comma at the end", shape: Shape{}, text: `[1,]`, want: []string{"1"}, fails: "invalid character"},
	{name: "closed by the wrong bracket", shape: Shape{Records: "d"}, text: `{"d":[1}}`, want: []string{"1"}, fails: "invalid character '}'"},
	{name: "trailing garbage", shape: Shape{}, text: `[1]]`, want: []string{"1"}, fails: "invalid character ']'"},
	{name: "second document", shape: Shape{}, text: "[1]\n[2]", want: []string{"1"}, fails: "there is more data after the JSON document"},
	{name: "cut in a record", shape: Shape{}, text: `[1,{"a":`, want: []string{"1"}, fails: "record 2: "},
	{name: "cut behind a record", shape: Shape{}, text: `[1,2`, want: []string{"1", "2"}, fails: "unexpected EOF"},
	{name: "cut behind the records", shape: Shape{Records: "d"}, text: `{"d":[1]`, want: []string{"1"}, fails: "unexpected EOF"},
	{name: "cut behind a member", shape: Shape{Records: "d"}, text: `{"d":[1],"n":"x"`, want: []string{"1"}, fails: "unexpected EOF"},
	{name: "control character", shape: Shape{}, text: "[\"a\nb\"]", fails: `invalid character '\n'`},
	{name: "the name that no document has", shape: Shape{Records: noRecords, Optional: true}, text: `{"\u0000":[1]}`, want: []string{"1"}},
}

func TestSplit(t *testing.T) {
	for _, f := range splits {
		t.Run(f.name, func(t *testing.T) {
			for reading, r := range map[string]io.Reader{
				"whole":         strings.NewReader(f.text),
				"byte by byte":  iotest.OneByteReader(strings.NewReader(f.text)),
				"data with EOF": iotest.DataErrReader(strings.NewReader(f.text)),
			} {
				got, _, err := splitAll(r, f.shape)
				if !slices.Equal(got, f.want) {
					t.Errorf("%s: %q, want %q", reading, got, f.want)
				}
				var b *BodyError
				switch {
				case f.fails == "" && err != nil:
					t.Errorf("%s: %v", reading, err)
				case f.fails != "":
					assertError(t, err, f.fails)
					if !errors.As(err, &b) || !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("%s: %v is not a BodyError", reading, err)
					}
				}
			}
		})
	}
}

// TestSplitFindsEveryCut: every incomplete document is an error.
func TestSplitFindsEveryCut(t *testing.T) {
	text := `{"m":{"t":2},"r":{"d":[{"a":"é\"]}"},{"b":[1,{}]}],"e":[]},"z":12}`
	for n := range len(text) {
		if _, _, err := splitAll(strings.NewReader(text[:n]), Shape{Records: "r.d"}); err == nil {
			t.Errorf("cut at %d: no error for %s", n, text[:n])
		}
	}
	broken := errors.New("reset")
	for n := range len(text) {
		r := io.MultiReader(strings.NewReader(text[:n]), iotest.ErrReader(broken))
		if _, _, err := splitAll(r, Shape{Records: "r.d"}); !errors.Is(err, broken) {
			t.Errorf("reset at %d: %v", n, err)
		}
	}
}

func TestSplitStopsWithTheRecordFunction(t *testing.T) {
	own := errors.New("disk full")
	n := 0
	_, err := Split(strings.NewReader("[1,2,3"), Shape{}, func(*Envelope, []byte) error {
		n++
		return own
	})
	var b *BodyError
	if n != 1 || err != own || errors.As(err, &b) {
		t.Errorf("%v after %d records", err, n)
	}
	if e, err := Split(strings.NewReader("[1,2,3]"), Shape{}, nil); err != nil || e.Records != 3 {
		t.Errorf("without a function: %v %v", e, err)
	}
}

func TestEnvelope(t *testing.T) {
	text := `{"s":"\u00e9","n":12,"f":1.5,"neg":-1,"big":1e300,"o":{"p":{"q":"deep"}},"a":[],"z":null,"r":{"t":7,"i":[1],"u":{"v":"w"}},"s.t":"dotted"}`
	_, e, err := splitAll(strings.NewReader(text), Shape{Records: "r.i"})
	if err != nil || e.IsArray() || e.Records != 1 {
		t.Fatal(e, err)
	}
	for path, want := range map[string]string{
		"s": "é", "n": "12", "f": "1.5", "o.p.q": "deep", "o.p": "", "a": "", "z": "", "r.t": "7", "r.u.v": "w",
		"": "", "x": "", "o.x": "", "o.p.q.x": "", "n.x": "", "r.i": "", "s.t": "dotted", "o.": "",
	} {
		if got := e.Text(path); got != want {
			t.Errorf("Text(%q) is %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]int64{"n": 12, "f": 1, "r.t": 7, "s": -1, "x": -1, "z": -1, "neg": -1, "big": -1, "": -1} {
		if got, ok := e.Count(path); ok != (want >= 0) || ok && got != want {
			t.Errorf("Count(%q) is %d %v, want %d", path, got, ok, want)
		}
	}
	if v := e.Value("o"); string(v) != `{"p":{"q":"deep"}}` {
		t.Errorf("Value(o) is %s", v)
	}
	if _, e, _ := splitAll(strings.NewReader("[]"), Shape{}); !e.IsArray() {
		t.Error("IsArray is false for an array")
	}
}

func TestShapeOrArray(t *testing.T) {
	for name, tc := range map[string]struct {
		shape   Shape
		text    string
		records int
		array   bool
		refused bool // an error is expected
	}{
		"object":                    {shape: Shape{Records: "data", OrArray: true}, text: `{"data":[{},{}],"next":1}`, records: 2},
		"array":                     {shape: Shape{Records: "data", OrArray: true}, text: ` [{}]`, records: 1, array: true},
		"empty array":               {shape: Shape{Records: "data", OrArray: true}, text: `[]`, array: true},
		"neither":                   {shape: Shape{Records: "data", OrArray: true}, text: `7`, refused: true},
		"array that is not allowed": {shape: Shape{Records: "data"}, text: `[{}]`, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			records := 0
			e, err := Split(strings.NewReader(tc.text), tc.shape, func(e *Envelope, _ []byte) error {
				if records++; e.IsArray() != tc.array {
					t.Errorf("IsArray is %v at a record", e.IsArray())
				}
				return nil
			})
			if tc.refused {
				if !errors.Is(err, collector.ErrIncomplete) {
					t.Errorf("error %v, want one that wraps ErrIncomplete", err)
				}
				return
			}
			if err != nil || records != tc.records || e.IsArray() != tc.array {
				t.Errorf("%d records, array %v, error %v", records, e != nil && e.IsArray(), err)
			}
		})
	}
}

func TestMember(t *testing.T) {
	for _, f := range []struct{ text, path, want string }{
		{text: `{"a":1,"b":{"c":"x"}}`, path: "b.c", want: `"x"`},
		{text: `{"a":1}`, want: `{"a":1}`},
		{text: `{"a":1,"a":2}`, path: "a", want: "1"},
		{text: `{"\u0061":1}`, path: "a", want: "1"},
		{text: ` { "a" : [ 1 ] } `, path: "a", want: "[ 1 ]"},
		{text: `{"a":1}`, path: "b"},
		{text: `{"a":1}`, path: "a.b"},
		{text: `[1]`, path: "a"},
		{text: `{"a":`, path: "a"},
		{text: `{"b":{,"a":1}`, path: "a"},
		{text: ``, path: "a"},
	} {
		v := []byte(f.text)
		got := Member(v, f.path)
		if f.path != "" {
			clear(v) // the result must not share its memory
		}
		if string(got) != f.want {
			t.Errorf("Member(%s, %s) is %s, want %s", f.text, f.path, got, f.want)
		}
	}
}

// documentGenerator is a reader of a long document: head, n times part, tail.
type documentGenerator struct {
	next []byte
	head string
	part []byte
	tail string
	n    int
	at   int
}

func (d *documentGenerator) Read(p []byte) (n int, err error) {
	for n < len(p) && d.at <= d.n+2 {
		if len(d.next) == 0 {
			d.step()
		}
		copied := copy(p[n:], d.next)
		d.next = d.next[copied:]
		n += copied
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (d *documentGenerator) step() {
	switch {
	case d.at == 0:
		d.next = []byte(d.head)
	case d.at <= d.n:
		d.next = d.part
	case d.at == d.n+1:
		d.next = []byte(d.tail)
	}
	d.at++
}

// measureMemoryGrowth runs f and returns by how many bytes the memory obtained
// from the system grew.
func measureMemoryGrowth(f func()) uint64 {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.HeapSys - min(after.HeapSys, before.HeapSys)
}

func TestSplitMemoryIsBounded(t *testing.T) {
	volume := 1 << 30
	if raceEnabled {
		volume = 1 << 26
	}
	part := []byte(`{"id":"` + strings.Repeat("x", 2000) + `"},`)
	t.Run("many records", func(t *testing.T) {
		n := volume / len(part)
		got := 0
		grew := measureMemoryGrowth(func() {
			_, err := Split(&documentGenerator{head: `{"d":[`, part: part, n: n, tail: `1]}`}, Shape{Records: "d"}, func(*Envelope, []byte) error {
				got++
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		if got != n+1 || grew > 8<<20 {
			t.Errorf("%d of %d records, memory grew by %d KiB", got, n+1, grew>>10)
		}
	})
	for _, f := range []struct {
		name  string
		g     *documentGenerator
		shape Shape
		most  uint64
		fails string
	}{
		{
			name: "a record without end", g: &documentGenerator{head: `{"d":["`, part: bytes.Repeat([]byte("x"), 8<<20), n: 1 << 7},
			shape: Shape{Records: "d"}, most: 768 << 20, fails: "one value has more than 64 MiB",
		},
		{
			name: "a member without end", g: &documentGenerator{head: `{"x":"`, part: bytes.Repeat([]byte("x"), 8<<20), n: 1 << 7},
			shape: Shape{Records: "d"}, most: 64 << 20, fails: "one value has more than 4 MiB",
		},
		{
			name: "records under another name", g: &documentGenerator{head: `{"x":[`, part: part, n: 1 << 18}, shape: Shape{Records: "d"},
			most: 64 << 20, fails: "one value has more than 4 MiB",
		},
		{
			name:  "members without end",
			g:     &documentGenerator{head: `{"x":1`, part: []byte(`,"` + strings.Repeat("y", 2000) + `":1`), n: 1 << 18},
			shape: Shape{Records: "d"}, most: 128 << 20, fails: "what surrounds the records has more than 16 MiB",
		},
		{
			name: "a name without end", g: &documentGenerator{head: `{"`, part: bytes.Repeat([]byte("x"), 8<<20), n: 1 << 7},
			shape: Shape{Records: "d"}, most: 64 << 20, fails: "one value has more than 4 MiB",
		},
		{
			name: "spaces without end", g: &documentGenerator{head: `{"d":[],`, part: bytes.Repeat([]byte(" "), 8<<20), n: 1 << 7},
			shape: Shape{Records: "d"}, most: 64 << 20, fails: "one value has more than 4 MiB",
		},
		{
			name: "spaces behind the end", g: &documentGenerator{head: `{"d":[]}`, part: bytes.Repeat([]byte(" "), 8<<20), n: 1 << 7},
			shape: Shape{Records: "d"}, most: 64 << 20, fails: "one value has more than 4 MiB",
		},
	} {
		t.Run(f.name, func(t *testing.T) {
			var err error
			grew := measureMemoryGrowth(func() { _, err = Split(f.g, f.shape, nil) })
			assertError(t, err, "too long: ", f.fails)
			if grew > f.most {
				t.Errorf("memory grew by %d MiB", grew>>20)
			}
		})
	}
	t.Run("spaces before the start", func(t *testing.T) {
		g := &documentGenerator{head: ` `, part: bytes.Repeat([]byte(" "), 4096), n: volume >> 18, tail: `[]`}
		var err error
		if grew := measureMemoryGrowth(func() { _, err = Split(g, Shape{}, nil) }); err != nil || grew > 8<<20 {
			t.Errorf("%v, memory grew by %d MiB", err, grew>>20)
		}
	})
}

// TestSplitLongRecord: a record just below the limit is accepted, and its buffer
// is not kept.
func TestSplitLongRecord(t *testing.T) {
	record := `"` + strings.Repeat("x", 60<<20) + `"`
	got, _, err := splitAll(strings.NewReader(`[1,`+record+`,2]`), Shape{})
	if err != nil || len(got) != 3 || got[1] != record {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for range 10 { // more than there are decoders in the pool
		d := decoders.Get().(*jsontext.Decoder)
		if n := cap(d.UnreadBuffer()); n > 4<<20 {
			t.Errorf("a buffer of %d MiB is kept", n>>20)
		}
	}
}

// chunked reads in chunks of random sizes, some of them empty.
type chunked struct {
	r   io.Reader
	rnd *rand.Rand
}

func (c chunked) Read(p []byte) (int, error) {
	n := 1 + c.rnd.IntN(40)
	if c.rnd.IntN(10) == 0 {
		return 0, nil
	}
	return c.r.Read(p[:min(n, len(p))])
}

// FuzzSplit checks that the result does not depend on how a document arrives,
// that records are bytes of the document, in order, and that accepted documents
// are JSON.
func FuzzSplit(f *testing.F) {
	for _, s := range splits {
		if len(s.text) < 1000 { // longer ones only slow down the search
			f.Add(s.text, s.shape.Records, uint64(1))
		}
	}
	f.Add(strings.Repeat("[", 300)+strings.Repeat("]", 300), "", uint64(2))
	f.Fuzz(func(t *testing.T, text, records string, seed uint64) {
		if len(text) > 4096 {
			return
		}
		shape := Shape{Records: records, Errors: []string{"errors"}}
		want, e, err := splitAll(strings.NewReader(text), shape)
		got, e2, err2 := splitAll(chunked{strings.NewReader(text), rand.New(rand.NewPCG(seed, 0))}, shape)
		if !slices.Equal(got, want) || (err == nil) != (err2 == nil) {
			t.Fatalf("in chunks: %q %v, whole: %q %v", got, err2, want, err)
		}
		at := 0
		for i, r := range want {
			n := strings.Index(text[at:], r)
			if n < 0 {
				t.Fatalf("record %d, %q, is not in the rest of the document", i, r)
			}
			at += n + len(r)
			if !jsontext.Value(r).IsValid(lenient...) {
				t.Fatalf("record %q is not JSON", r)
			}
		}
		if err != nil {
			return
		}
		if !jsontext.Value(strings.TrimPrefix(text, "\ufeff")).IsValid(lenient...) {
			t.Fatalf("no error for %q", text)
		}
		if e.Records != len(want) || e2.Records != len(want) || len(e.members) != len(e2.members) {
			t.Fatalf("%d and %d records of %d", e.Records, e2.Records, len(want))
		}
		for path, v := range e.members {
			if !bytes.Equal(v, e2.members[path]) {
				t.Fatalf("member %s is %s in chunks, %s whole", path, e2.members[path], v)
			}
		}
	})
}

// FuzzLink checks that no header makes the parser panic or return text that the
// header does not contain.
func FuzzLink(f *testing.F) {
	f.Add(`<https://x/1?a=b,c;d>; rel="self", <https://x/2>; title="a, \"b\""; rel="next"`)
	f.Add(`<>; rel=next, "`)
	f.Fuzz(func(t *testing.T, line string) {
		if target, found := nextLink(map[string][]string{"Link": {line}}); found && !strings.Contains(line, target) {
			t.Errorf("%q is not in %q", target, line)
		}
		if parts := splitUnquoted(line, ','); strings.Join(parts, ",") != line {
			t.Errorf("%q is split into %q", line, parts)
		}
	})
}
