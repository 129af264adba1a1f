package vendorsim

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Rec identifies one record of a stream while it is rendered.
type Rec struct {
	// Index counts from 0.
	Index int
	// Hash is [Gen.Hash] of the stream and Index. Variable values are derived
	// from its bits.
	Hash uint64
}

// Slot appends a value that differs from record to record.
type Slot func(dst []byte, r Rec) []byte

// Spec describes a stream of records.
type Spec struct {
	// Name is the name of the stream, such as "okta_users".
	Name string
	// Count is the default number of records.
	Count int
	// CountOf is a stream whose entry in [Options.Counts] also applies to this
	// one. It is for streams that contain the same records in another format.
	CountOf string
	// Bytes is the default mean size of a record.
	Bytes int
	// HugeBytes is the size of the record with the index [HugeIndex]. 0 means
	// that the stream has no huge record.
	HugeBytes int
	// Templates are the templates of a record. The hash of a record selects
	// one. A template is a JSON object in which <<name>> stands for a slot. Two
	// names are built in: <<text>> in a string is filled to reach the desired
	// size, and <<edge>> before the closing brace is replaced with the awkward
	// members of every 50th record. Records of templates without <<text>> do
	// not grow.
	Templates []string
	// Slots are the other names that Templates use.
	Slots map[string]Slot
	// ID appends the key that identifies the record for a client.
	ID Slot
}

// HugeIndex is the index of the record that has [Spec.HugeBytes].
const HugeIndex = 24

// stream renders the records of a Spec.
type stream struct {
	spec      Spec
	salt      uint64
	edgeEvery int
	count     atomic.Int64
	plain     []layout
	edge      []layout
	huge      layout
}

// layout is a template whose fixed parts have been rendered. To render a
// record, copy the pieces and call the slots between them.
type layout []piece

type piece struct {
	fixed string
	slot  Slot // nil after the last fixed part
}

// lengthFactors are the text lengths of records relative to the mean.
var lengthFactors = []float64{0.5, 0.75, 1.0, 1.25, 1.5}

// compileStream renders the fixed parts of all layouts of a stream.
func compileStream(spec Spec, g Gen, edgeEvery int) (*stream, error) {
	if len(spec.Templates) == 0 || spec.ID == nil {
		return nil, errors.New("a spec needs templates and an id")
	}
	st := &stream{spec: spec, salt: g.saltOf(spec.Name), edgeEvery: edgeEvery}
	st.count.Store(int64(spec.Count))
	for n, tmpl := range spec.Templates {
		for k, f := range lengthFactors {
			text := fillerText(g.Hash(spec.Name+" text", n*len(lengthFactors)+k), int(f*float64(spec.Bytes-len(tmpl))))
			l, err := splitAtSlots(fillBuiltins(tmpl, text, ""), spec.Slots)
			if err != nil {
				return nil, err
			}
			st.plain = append(st.plain, l)
		}
		l, err := splitAtSlots(fillBuiltins(tmpl, EdgeText, EdgeMembers), spec.Slots)
		if err != nil {
			return nil, err
		}
		st.edge = append(st.edge, l)
	}
	if spec.HugeBytes > 0 && edgeEvery > 0 {
		text := fillerText(g.Hash(spec.Name+" huge", 0), spec.HugeBytes-len(spec.Templates[0]))
		l, err := splitAtSlots(fillBuiltins(spec.Templates[0], text, ""), spec.Slots)
		if err != nil {
			return nil, err
		}
		st.huge = l
	}
	return st, nil
}

// fillBuiltins replaces the two built-in names of a template.
func fillBuiltins(tmpl, text, edge string) string {
	return strings.NewReplacer("<<text>>", text, "<<edge>>", edge).Replace(tmpl)
}

// splitAtSlots splits a filled template at its slots.
func splitAtSlots(tmpl string, slots map[string]Slot) (layout, error) {
	var l layout
	for {
		before, rest, found := strings.Cut(tmpl, "<<")
		if !found {
			return append(l, piece{fixed: tmpl}), nil
		}
		name, after, closed := strings.Cut(rest, ">>")
		slot := slots[name]
		if !closed || slot == nil {
			return nil, fmt.Errorf("template has no slot named %q", name)
		}
		l = append(l, piece{before, slot})
		tmpl = after
	}
}

// recAt returns the Rec of record i.
func (st *stream) recAt(i int) Rec {
	return Rec{Index: i, Hash: hashAt(st.salt, i)}
}

// appendRecord appends record i.
func (st *stream) appendRecord(dst []byte, i int) []byte {
	r := st.recAt(i)
	for _, p := range st.chooseLayout(r) {
		dst = append(dst, p.fixed...)
		if p.slot != nil {
			dst = p.slot(dst, r)
		}
	}
	return dst
}

// chooseLayout returns the layout of a record.
func (st *stream) chooseLayout(r Rec) layout {
	switch {
	case r.Index == HugeIndex && st.huge != nil:
		return st.huge
	case st.edgeEvery > 0 && r.Index%st.edgeEvery == st.edgeEvery-1:
		return st.edge[r.Index/st.edgeEvery%len(st.edge)]
	default:
		return st.plain[r.Hash>>40%uint64(len(st.plain))]
	}
}

// mustStream returns a stream by name. It panics if there is none: names come
// from tests and from vendors, never from a request.
func (s *Server) mustStream(name string) *stream {
	st := s.streams[name]
	if st == nil {
		panic("vendorsim: no stream named " + name)
	}
	return st
}

// RecordCount returns the number of records that a stream has now.
func (s *Server) RecordCount(stream string) int { return int(s.mustStream(stream).count.Load()) }

// SetCount changes the number of records of a stream and of the streams whose
// CountOf it is. The remaining records keep their bytes, and existing export
// jobs keep their count.
func (s *Server) SetCount(stream string, n int) {
	s.mustStream(stream).count.Store(int64(n))
	for _, st := range s.streams {
		if st.spec.CountOf == stream {
			st.count.Store(int64(n))
		}
	}
}

// Record returns the exact bytes that the vendor serves for record i of a
// stream.
func (s *Server) Record(stream string, i int) []byte { return s.AppendRecord(nil, stream, i) }

// AppendRecord appends the bytes of record i of a stream to dst.
func (s *Server) AppendRecord(dst []byte, stream string, i int) []byte {
	return s.mustStream(stream).appendRecord(dst, i)
}

// writeSize is the number of bytes that are rendered before they are written to
// the connection.
const writeSize = 128 << 10

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeSize+writeSize/2); return &b }}

// WriteRecords writes the records with the given indices, in their order and
// separated by commas, between before and after. It buffers only part of them
// at a time. Errors are those of w.
func (s *Server) WriteRecords(w io.Writer, before, stream string, indices iter.Seq[int], after string) error {
	st := s.mustStream(stream)
	held := writeBuffers.Get().(*[]byte)
	defer writeBuffers.Put(held)
	buf := append((*held)[:0], before...)
	first := true
	for i := range indices {
		if !first {
			buf = append(buf, ',')
		}
		first = false
		if buf = st.appendRecord(buf, i); len(buf) >= writeSize {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	buf = append(buf, after...)
	if cap(buf) <= 2*writeSize { // a buffer that the huge record has grown is not reused
		*held = buf
	}
	_, err := w.Write(buf)
	return err
}

// RecordID returns the key of record i of a stream, as its [Spec] defines it.
func (s *Server) RecordID(stream string, i int) string {
	st := s.mustStream(stream)
	return string(st.spec.ID(nil, st.recAt(i)))
}

// Streams returns the names of the streams of a host.
func (h *Host) Streams() []string { return slices.Clone(h.server.names[h.Name()]) }
