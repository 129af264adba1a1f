package prompt

import (
	"bytes"
	"io"
	"strings"
)

// The sequences that switch bracketed paste on and off, and that a terminal then sends
// before and after a text that is pasted.
const (
	enablePaste  = "\x1b[?2004h"
	disablePaste = "\x1b[?2004l"
	pasteBegin   = "\x1b[200~"
	pasteEnd     = "\x1b[201~"
)

// A pasteReader reads what a terminal sends, without the sequences around pasted text. Tabs
// in pasted text are spaces, since the line editor would complete words at tabs, and other
// control characters are left out.
type pasteReader struct {
	r       io.Reader
	pending []byte // what was read and may be the beginning of a sequence
	ready   []byte // what Read has not returned yet
	pasting bool
	err     error
}

// Read implements io.Reader.
func (p *pasteReader) Read(b []byte) (int, error) {
	buf := make([]byte, 4096)
	for len(p.ready) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		var n int
		n, p.err = p.r.Read(buf)
		p.pending = append(p.pending, buf[:n]...)
		p.filterPending()
	}
	n := copy(b, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}

// filterPending moves what is complete from pending to ready.
func (p *pasteReader) filterPending() {
	for {
		mark := pasteBegin
		if p.pasting {
			mark = pasteEnd
		}
		i := bytes.Index(p.pending, []byte(mark))
		if i < 0 {
			keep := p.beginningOf(mark)
			p.emitText(p.pending[:len(p.pending)-keep])
			p.pending = bytes.Clone(p.pending[len(p.pending)-keep:])
			return
		}
		p.emitText(p.pending[:i])
		p.pending = p.pending[i+len(mark):]
		p.pasting = !p.pasting
	}
}

// shortestBeginning is the length from which the beginning of pasteBegin waits for its
// rest. Shorter ones are keys, such as Escape.
const shortestBeginning = len("\x1b[2")

// beginningOf returns the length of the beginning of mark at the end of pending.
func (p *pasteReader) beginningOf(mark string) int {
	least := 1
	if !p.pasting {
		least = shortestBeginning
	}
	for n := min(len(mark)-1, len(p.pending)); n >= least && p.err == nil; n-- {
		if bytes.HasSuffix(p.pending, []byte(mark[:n])) {
			return n
		}
	}
	return 0
}

// emitText adds text to ready.
func (p *pasteReader) emitText(text []byte) {
	if !p.pasting {
		p.ready = append(p.ready, text...)
		return
	}
	clean := strings.NewReplacer("\r\n", "\r", "\n", "\r", "\t", "    ").Replace(string(text))
	for _, b := range []byte(clean) {
		if b == '\r' || b >= ' ' && b != 0x7f {
			p.ready = append(p.ready, b)
		}
	}
}
