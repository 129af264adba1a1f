package snapshot

import "testing"

func TestEscapeSurrogates(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"\u0000\n\\ud800"}`:           `{"a":"\u0000\n\\ud800"}`,
		`{"a":"\ud83d\ude00"}`:              `{"a":"\ud83d\ude00"}`,
		`{"a":"\ud800"}`:                    `{"a":"\\ud800"}`,
		`{"a":"\uD800\uD800\uDC00"}`:        `{"a":"\\uD800\uD800\uDC00"}`,
		`{"a":"\uDFFFx\ud800\u0041"}`:       `{"a":"\\uDFFFx\\ud800\u0041"}`,
		`{"\\\udc00":1,"b":"\ud7ff\ue000"}`: `{"\\\\udc00":1,"b":"\ud7ff\ue000"}`,
	} {
		got, fixed := EscapeSurrogates(nil, []byte(in))
		if string(got) != want || fixed != (in != want) {
			t.Errorf("%s gives %s, %t, want %s", in, got, fixed, want)
		}
	}
}
