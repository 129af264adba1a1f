package prompt

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestPasteReader(t *testing.T) {
	for name, tc := range map[string]struct{ sent, want string }{
		"typed text":                  {sent: "SELECT\t1;\r\x1b[A\x1b\x03", want: "SELECT\t1;\r\x1b[A\x1b\x03"},
		"pasted text":                 {sent: "a" + pasteBegin + "SELECT\t1,\r\n\t2;\n" + pasteEnd + "\tb", want: "aSELECT    1,\r    2;\r\tb"},
		"pasted control characters":   {sent: pasteBegin + "a\x03\x04\x1b[31m\x7fb" + pasteEnd, want: "a[31mb"},
		"the other sequence":          {sent: pasteEnd + pasteBegin + pasteBegin + pasteEnd, want: pasteEnd + "[200~"},
		"characters of several bytes": {sent: pasteBegin + "größe 日本" + pasteEnd, want: "größe 日本"},
		"no end":                      {sent: pasteBegin + "a\x1b[20", want: "a[20"},
	} {
		t.Run(name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once": strings.NewReader(tc.sent), "byte for byte": iotest.OneByteReader(strings.NewReader(tc.sent)),
			} {
				if how == "byte for byte" && strings.Contains(tc.sent, pasteBegin) {
					continue // keys that begin like a sequence are passed on at once
				}
				if got, err := io.ReadAll(&pasteReader{r: r}); err != nil || string(got) != tc.want {
					t.Errorf("%s: %q, %v, expected %q", how, got, err, tc.want)
				}
			}
		})
	}
}

// TestPasteSequencesInParts checks that a sequence is found that arrives in two reads.
func TestPasteSequencesInParts(t *testing.T) {
	for i := shortestBeginning; i < len(pasteBegin); i++ {
		for j := 1; j < len(pasteEnd); j++ {
			r, w := io.Pipe()
			go func() {
				for _, part := range []string{pasteBegin[:i], pasteBegin[i:] + "a\tb" + pasteEnd[:j], pasteEnd[j:] + "\t"} {
					_, _ = io.WriteString(w, part) // a pipe in memory
				}
				w.Close()
			}()
			if got, err := io.ReadAll(&pasteReader{r: r}); err != nil || string(got) != "a    b\t" {
				t.Errorf("split after %d and %d: %q, %v", i, j, got, err)
			}
		}
	}
}

// TestKeysAreNotDelayed checks that a key is passed on before the next one is pressed, also
// one that begins like a sequence.
func TestKeysAreNotDelayed(t *testing.T) {
	for _, key := range []string{"a", "\x1b", "\x1b[", "\x1b[A", "\x1bb"} {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, key) }() // a pipe in memory
		got := make([]byte, len(key))
		if _, err := io.ReadFull(&pasteReader{r: r}, got); err != nil || string(got) != key {
			t.Errorf("%q, %v, expected %q", got, err, key)
		}
		w.Close()
	}
}
