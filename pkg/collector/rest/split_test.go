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

// splitAll returns copies of all records that Split passes on.
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
	{"an array", Shape{}, `[{"a":1},{"b":[2]}]`, []string{`{"a":1}`, `{"b":[2]}`}, ""},
	{"an empty array", Shape{}, ` [ ] `, nil, ""},
	{"null for no records", Shape{}, `null`, nil, ""},
	{"a member", Shape{Records: "data"}, `{"data":[{"a":1}]}`, []string{`{"a":1}`}, ""},
	{"a member of null", Shape{Records: "data"}, `{"data":null}`, nil, ""},
	{"behind and before others", Shape{Records: "data"}, `{"x":{"data":[1]},"data":[{"a":1}],"y":"]}"}`, []string{`{"a":1}`}, ""},
	{"a name with escapes", Shape{Records: "data"}, `{"d\u0061ta":[{"a":1}]}`, []string{`{"a":1}`}, ""},
	{"deeper", Shape{Records: "r.i"}, `{"n":1,"r":{"t":2,"i":[{"a":1}],"u":3},"z":4}`, []string{`{"a":1}`}, ""},
	{"deeper still", Shape{Records: "a.b.c"}, `{"a":{"b":{"c":[1]}}}`, []string{`1`}, ""},
	{"absent, optional", Shape{Records: "data", Optional: true}, `{"x":1}`, nil, ""},
	{"absent", Shape{Records: "data"}, `{"x":1}`, nil, "the member data is missing"},
	{"absent deeper", Shape{Records: "r.i"}, `{"r":null}`, nil, "the member r.i is missing"},
	{"on the way of another kind", Shape{Records: "r.i"}, `{"r":[1]}`, nil, "the member r.i is missing"},
	{"twice", Shape{Records: "r.i"}, `{"r":{"i":[1]},"r":{"i":[2]}}`, []string{"1"}, "the member r.i comes twice"},
	{"an object, not an array", Shape{}, `{"error":"x"}`, nil, `want the document to be an array, got {"error":"x"}`},
	{"a text, not an object", Shape{Records: "data"}, `"x"`, nil, `want an object with the member data, got "x"`},
	{"a number for records", Shape{Records: "data"}, `{"data":1}`, nil, "want the member data to be an array, got 1"},
	{"pretty", Shape{Records: "data"}, "{\n\t\"data\" : [\r\n {\n  \"a\" : 1\n } ,\n {} ]\n}\n", []string{"{\n  \"a\" : 1\n }", "{}"}, ""},
	{"brackets in strings", Shape{}, `[{"a":"]}\"]}"},{"b":"[{"}]`, []string{`{"a":"]}\"]}"}`, `{"b":"[{"}`}, ""},
	{"duplicates", Shape{}, `[{"a":1,"a":2}]`, []string{`{"a":1,"a":2}`}, ""},
	{"lone surrogate", Shape{}, `[{"a":"\ud800"}]`, []string{`{"a":"\ud800"}`}, ""},
	{"not UTF-8", Shape{}, "[{\"a\":\"\xff\"}]", []string{"{\"a\":\"\xff\"}"}, ""},
	{"numbers keep their spelling", Shape{}, `[{"a":1e400,"b":1.0,"c":9007199254740993,"d":-0,"e":1E-7}]`, []string{`{"a":1e400,"b":1.0,"c":9007199254740993,"d":-0,"e":1E-7}`}, ""},
	{"other kinds", Shape{}, `[1,"a",null,true,[2]]`, []string{"1", `"a"`, "null", "true", "[2]"}, ""},
	{"byte order mark", Shape{}, "\ufeff[1]", []string{"1"}, ""},
	{"nothing but a byte order mark", Shape{}, "\ufeff", nil, "body is empty"},
	{"as deep as can be", Shape{}, "[" + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + "]", []string{strings.Repeat("[", 9999) + strings.Repeat("]", 9999)}, ""},
	{"deeper than can be", Shape{}, "[" + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + "]", nil, "exceeded max depth"},
	{"errors empty", Shape{Records: "d", Errors: []string{"e", "m.e"}}, `{"d":[],"e":[ ],"m":{"e":{ }}}`, nil, ""},
	{"errors null", Shape{Records: "d", Errors: []string{"e", "m.e"}}, `{"d":[],"e":null,"m":{"e":""}}`, nil, ""},
	{"errors false", Shape{Records: "d", Errors: []string{"e"}}, `{"d":[],"e":false}`, nil, ""},
	{"errors filled", Shape{Records: "d", Errors: []string{"e"}}, `{"e":[{"m":"x"}],"d":[1]}`, []string{"1"}, `the answer carries e: [{"m":"x"}]`},
	{"errors deeper", Shape{Records: "d", Errors: []string{"m.e"}}, `{"d":[1],"m":{"e":"x"}}`, []string{"1"}, `the answer carries m.e: "x"`},
	{"errors on the way to the records", Shape{Records: "r.d", Errors: []string{"r.e.x"}}, `{"r":{"d":[1],"e":{"x":true}}}`, []string{"1"}, `the answer carries r.e.x: true`},
	{"no comma", Shape{}, `[1 2]`, []string{"1"}, "invalid character '2'"},
	{"comma at the end", Shape{}, `[1,]`, []string{"1"}, "invalid character"},
	{"closed by the wrong bracket", Shape{Records: "d"}, `{"d":[1}}`, []string{"1"}, "invalid character '}'"},
	{"trailing garbage", Shape{}, `[1]]`, []string{"1"}, "invalid character ']'"},
	{"second document", Shape{}, "[1]\n[2]", []string{"1"}, "something follows the JSON document"},
	{"cut in a record", Shape{}, `[1,{"a":`, []string{"1"}, "record 2: "},
	{"cut behind a record", Shape{}, `[1,2`, []string{"1", "2"}, "unexpected EOF"},
	{"cut behind the records", Shape{Records: "d"}, `{"d":[1]`, []string{"1"}, "unexpected EOF"},
	{"cut behind a member", Shape{Records: "d"}, `{"d":[1],"n":"x"`, []string{"1"}, "unexpected EOF"},
	{"control character", Shape{}, "[\"a\nb\"]", nil, `invalid character '\n'`},
	{"the name that no document has", Shape{Records: noRecords, Optional: true}, `{"\u0000":[1]}`, []string{"1"}, ""},
}

func TestSplit(t *testing.T) {
	for _, f := range splits {
		t.Run(f.name, func(t *testing.T) {
			for way, r := range map[string]io.Reader{
				"whole":        strings.NewReader(f.text),
				"byte by byte": iotest.OneByteReader(strings.NewReader(f.text)),
				"with the end": iotest.DataErrReader(strings.NewReader(f.text)),
			} {
				got, _, err := splitAll(r, f.shape)
				if !slices.Equal(got, f.want) {
					t.Errorf("%s: %q, want %q", way, got, f.want)
				}
				var b *BodyError
				switch {
				case f.fails == "" && err != nil:
					t.Errorf("%s: %v", way, err)
				case f.fails != "":
					mustHold(t, err, f.fails)
					if !errors.As(err, &b) || !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("%s: %v is no BodyError", way, err)
					}
				}
			}
		})
	}
}

// Every cut of a document is an error: nothing that was cut passes for whole.
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
		t.Error("an array is not told")
	}
}

func TestMember(t *testing.T) {
	for _, f := range []struct{ text, path, want string }{
		{`{"a":1,"b":{"c":"x"}}`, "b.c", `"x"`},
		{`{"a":1}`, "", `{"a":1}`},
		{`{"a":1,"a":2}`, "a", "1"},
		{`{"\u0061":1}`, "a", "1"},
		{` { "a" : [ 1 ] } `, "a", "[ 1 ]"},
		{`{"a":1}`, "b", ""},
		{`{"a":1}`, "a.b", ""},
		{`[1]`, "a", ""},
		{`{"a":`, "a", ""},
		{`{"b":{,"a":1}`, "a", ""},
		{``, "a", ""},
	} {
		v := []byte(f.text)
		got := Member(v, f.path)
		if f.path != "" {
			clear(v) // what is returned is the caller's own
		}
		if string(got) != f.want {
			t.Errorf("Member(%s, %s) is %s, want %s", f.text, f.path, got, f.want)
		}
	}
}

// A generator of a long document: head, n times part with sep between, tail.
type generator struct {
	next []byte
	head string
	part []byte
	tail string
	n    int
	at   int
}

func (g *generator) Read(p []byte) (n int, err error) {
	for n < len(p) && g.at <= g.n+2 {
		if len(g.next) == 0 {
			g.step()
		}
		copied := copy(p[n:], g.next)
		g.next = g.next[copied:]
		n += copied
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (g *generator) step() {
	switch {
	case g.at == 0:
		g.next = []byte(g.head)
	case g.at <= g.n:
		g.next = g.part
	case g.at == g.n+1:
		g.next = []byte(g.tail)
	}
	g.at++
}

// peak runs f and returns by how much the memory taken from the system grew.
func peak(f func()) uint64 {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.HeapSys - min(after.HeapSys, before.HeapSys)
}

func TestSplitMemoryIsBounded(t *testing.T) {
	volume := 1 << 30
	if underRace {
		volume = 1 << 26
	}
	part := []byte(`{"id":"` + strings.Repeat("x", 2000) + `"},`)
	t.Run("many records", func(t *testing.T) {
		n := volume / len(part)
		got := 0
		grew := peak(func() {
			_, err := Split(&generator{head: `{"d":[`, part: part, n: n, tail: `1]}`}, Shape{Records: "d"}, func(*Envelope, []byte) error {
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
		g     *generator
		shape Shape
		most  uint64
		fails string
	}{
		{"a record without end", &generator{head: `{"d":["`, part: bytes.Repeat([]byte("x"), 8<<20), n: 1 << 7}, Shape{Records: "d"}, 512 << 20, "one value has more than 64 MiB"},
		{"a member without end", &generator{head: `{"x":"`, part: bytes.Repeat([]byte("x"), 8<<20), n: 1 << 7}, Shape{Records: "d"}, 64 << 20, "one value has more than 4 MiB"},
		{"records under another name", &generator{head: `{"x":[`, part: part, n: 1 << 18}, Shape{Records: "d"}, 64 << 20, "one value has more than 4 MiB"},
		{"members without end", &generator{head: `{"x":1`, part: []byte(`,"` + strings.Repeat("y", 2000) + `":1`), n: 1 << 18}, Shape{Records: "d"}, 128 << 20, "what surrounds the records has more than 16 MiB"},
		{"a name without end", &generator{head: `{"`, part: bytes.Repeat([]byte("x"), 8<<20), n: 1 << 7}, Shape{Records: "d"}, 64 << 20, "one value has more than 4 MiB"},
		{"spaces without end", &generator{head: `{"d":[],`, part: bytes.Repeat([]byte(" "), 8<<20), n: 1 << 7}, Shape{Records: "d"}, 64 << 20, "one value has more than 4 MiB"},
		{"spaces behind the end", &generator{head: `{"d":[]}`, part: bytes.Repeat([]byte(" "), 8<<20), n: 1 << 7}, Shape{Records: "d"}, 64 << 20, "one value has more than 4 MiB"},
	} {
		t.Run(f.name, func(t *testing.T) {
			var err error
			grew := peak(func() { _, err = Split(f.g, f.shape, nil) })
			mustHold(t, err, "too long: ", f.fails)
			if grew > f.most {
				t.Errorf("memory grew by %d MiB", grew>>20)
			}
		})
	}
	t.Run("spaces before the start", func(t *testing.T) {
		g := &generator{head: ` `, part: bytes.Repeat([]byte(" "), 4096), n: volume >> 18, tail: `[]`}
		var err error
		if grew := peak(func() { _, err = Split(g, Shape{}, nil) }); err != nil || grew > 8<<20 {
			t.Errorf("%v, memory grew by %d MiB", err, grew>>20)
		}
	})
}

// A record just below the bound passes, and does not stay in memory.
func TestSplitLongRecord(t *testing.T) {
	record := `"` + strings.Repeat("x", 60<<20) + `"`
	got, _, err := splitAll(strings.NewReader(`[1,`+record+`,2]`), Shape{})
	if err != nil || len(got) != 3 || got[1] != record {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for range 10 { // whatever decoder is taken from the pool
		d := decoders.Get().(*jsontext.Decoder)
		if n := cap(d.UnreadBuffer()); n > 4<<20 {
			t.Errorf("a buffer of %d MiB is kept", n>>20)
		}
	}
}

// chunked reads in chunks of random sizes, sometimes of none.
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

// FuzzSplit checks that how a document arrives never changes what comes of
// it, that records are bytes of the document, in order, and that what passes
// is JSON.
func FuzzSplit(f *testing.F) {
	for _, s := range splits {
		if len(s.text) < 1000 { // longer ones only slow the search down
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
				t.Fatalf("record %q is no JSON", r)
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

// FuzzLink checks that no header makes the parser fail or find what is not
// there.
func FuzzLink(f *testing.F) {
	f.Add(`<https://x/1?a=b,c;d>; rel="self", <https://x/2>; title="a, \"b\""; rel="next"`)
	f.Add(`<>; rel=next, "`)
	f.Fuzz(func(t *testing.T, line string) {
		if target, found := nextLink(map[string][]string{"Link": {line}}); found && !strings.Contains(line, target) {
			t.Errorf("%q is not in %q", target, line)
		}
		if parts := cutOutside(line, ','); strings.Join(parts, ",") != line {
			t.Errorf("%q is cut into %q", line, parts)
		}
	})
}
