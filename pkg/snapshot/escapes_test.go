package snapshot

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestEscapeFilter(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"x"}`:                          `{"a":"x"}`,
		`{"a":"\u0000"}`:                     `{"a":"U+FFFD"}`,
		`{"a":"\\u0000"}`:                    `{"a":"\\u0000"}`,
		`{"a":"\\\u0000"}`:                   `{"a":"\\U+FFFD"}`,
		`{"a":"\u0001\u00000"}`:              `{"a":"\u0001U+FFFD0"}`,
		`{"a":"\ud83d\ude00"}`:               `{"a":"\ud83d\ude00"}`,
		`{"a":"\uD83D\uDE00\uD83D"}`:         `{"a":"\uD83D\uDE00U+FFFD"}`,
		`{"a":"\ud83d\ud83d\ude00"}`:         `{"a":"U+FFFD\ud83d\ude00"}`,
		`{"a":"\ude00\ud83d"}`:               `{"a":"U+FFFDU+FFFD"}`,
		`{"a":"\ud83dx\ude00"}`:              `{"a":"U+FFFDxU+FFFD"}`,
		`{"a":"\ud83d\n","\udfff":"\ud7ff"}`: `{"a":"U+FFFD\n","U+FFFD":"\ud7ff"}`,
		`{"a":"\ud83d\u0000"}`:               `{"a":"U+FFFDU+FFFD"}`,
		`{"a":"\"\\","b":"\ue000"}`:          `{"a":"\"\\","b":"\ue000"}`,
	} {
		want := strings.ReplaceAll(want, "U+FFFD", "\ufffd")
		for split := range len(in) + 1 {
			var out bytes.Buffer
			f := &escapeFilter{out: &out, repair: true}
			for _, part := range []string{in[:split], in[split:], "\n", in, "\n"} {
				if n, err := f.Write([]byte(part)); err != nil || n != len(part) {
					t.Fatal(n, err)
				}
			}
			if err := f.finish(); err != nil {
				t.Fatal(err)
			}
			if out.String() != want+"\n"+want+"\n" {
				t.Errorf("%s in two parts, the first of %d bytes: got %q", in, split, out.String())
			}
			if wantRecords := map[bool]int64{true: 2}[in != want]; f.records != wantRecords {
				t.Errorf("%s: %d records, want %d", in, f.records, wantRecords)
			}
		}
	}
}

func TestEncodeForOthers(t *testing.T) {
	records := []string{`{"a":"\u0000\ud800"}`, `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, `{"a":"\udc00"}`}
	s := sealRecords(t, records...)
	for _, f := range []Format{{Kind: JSON}, {Kind: NDJSON}, {Kind: NDJSON, Compression: "zstd"}} {
		var exact, kept, repaired bytes.Buffer
		if err := s.Encode(context.Background(), &exact, f); err != nil {
			t.Fatal(err)
		}
		for repair, out := range map[bool]*bytes.Buffer{false: &kept, true: &repaired} {
			if n, err := s.EncodeForOthers(context.Background(), out, f, repair); err != nil || n != 2 {
				t.Errorf("%v, repair %t: %d records, want 2: %v", f, repair, n, err)
			}
		}
		if !bytes.Equal(exact.Bytes(), kept.Bytes()) {
			t.Errorf("%v: the bytes differ without repair", f)
		}
		if f.Compression == "" {
			if bad := bytes.Contains(repaired.Bytes(), []byte(`\u0000`)); bad || repaired.Len() != exact.Len()-9 {
				t.Errorf("%v: repaired %.100q of %d bytes, want %d", f, repaired.Bytes(), repaired.Len(), exact.Len()-9)
			}
		}
	}
}

func TestRepairEscapes(t *testing.T) {
	for _, test := range []struct{ record, want string }{
		{record: `{"a":"\u0000"}`, want: `{"a":"�"}`},
		{record: `{"a\u0000":"x\u0000\u0000y"}`, want: `{"a�":"x��y"}`},
		{record: `{"a":"\\u0000"}`, want: `{"a":"\\u0000"}`},
		{record: `{"a":"\\\u0000\u0000x"}`, want: `{"a":"\\��x"}`},
		{record: `{"a":"\ud83d\ude00"}`, want: `{"a":"\ud83d\ude00"}`},
		{record: `{"a":"\uD83D\uDE00"}`, want: `{"a":"\uD83D\uDE00"}`},
		{record: `{"a":"\ud83d\ud83d\ude00"}`, want: `{"a":"�\ud83d\ude00"}`},
		{record: `{"a":"\ud83d"}`, want: `{"a":"�"}`},
		{record: `{"a":"\ud83d\\ude00"}`, want: `{"a":"�\\ude00"}`},
		{record: `{"a":"\\ud83d\ude00"}`, want: `{"a":"\\ud83d�"}`},
		{record: `{"a":"\ude00\u0041\n"}`, want: `{"a":"�\u0041\n"}`},
		{record: `{"a":"\ud83dx\u00e9\u0000"}`, want: `{"a":"�x\u00e9�"}`},
		{record: `{"a":"\ud8`, want: `{"a":"\ud8`},
		{record: `{"a":1}`, want: `{"a":1}`},
	} {
		got, changed := RepairEscapes([]byte("before"), []byte(test.record))
		if !changed {
			got = append(got, test.record...)
		}
		if string(got) != "before"+test.want || changed != (test.record != test.want) {
			t.Errorf("RepairEscapes(%s) = %s, %v, want %s", test.record, got, changed, test.want)
		}
	}
}
