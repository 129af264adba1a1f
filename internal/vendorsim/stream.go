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

// Rec names one record of a stream while it is rendered.
type Rec struct {
	// Index counts from 0.
	Index int
	// Hash is [Gen.Hash] of the stream and Index: take variable values from
	// its bits.
	Hash uint64
}

// Slot appends the value of a place that differs from record to record.
type Slot func(dst []byte, r Rec) []byte

// Spec describes a stream of records.
type Spec struct {
	// Name is the table tag of the stream: "okta_users".
	Name string
	// Count is the default number of records.
	Count int
	// CountOf names a stream whose entry in [Options.Counts] also counts for
	// this one, for two spellings of the same records.
	CountOf string
	// Bytes is the default mean size of a record.
	Bytes int
	// HugeBytes is the size of the one record with the index [HugeIndex]; 0
	// for a stream that has none.
	HugeBytes int
	// Templates are the shapes of a record, of which each record has one by
	// its hash. A shape is a JSON object in which <<name>> stands for a slot.
	// Two names are built in: <<text>> inside a string is filled to reach the
	// wanted size, <<edge>> before the closing brace takes the awkward
	// members of every 50th record. Shapes without <<text>> do not grow.
	Templates []string
	// Slots are the other names used in Templates.
	Slots map[string]Slot
	// ID appends the key by which a client tells records apart.
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

// layout is a template with its fixed parts rendered: what remains is to copy
// the pieces and to run the slots between them.
type layout []piece

type piece struct {
	fixed string
	slot  Slot // nil behind the last fixed part
}

// stretch are the text lengths of a stream's records relative to the mean.
var stretch = []float64{0.5, 0.75, 1.0, 1.25, 1.5}

// compile renders the fixed parts of all layouts.
func compile(spec Spec, g Gen, edgeEvery int) (*stream, error) {
	if len(spec.Templates) == 0 || spec.ID == nil {
		return nil, errors.New("a spec needs templates and an id")
	}
	st := &stream{spec: spec, salt: g.salt(spec.Name), edgeEvery: edgeEvery}
	st.count.Store(int64(spec.Count))
	for n, tmpl := range spec.Templates {
		for k, f := range stretch {
			text := filler(g.Hash(spec.Name+" text", n*len(stretch)+k), int(f*float64(spec.Bytes-len(tmpl))))
			l, err := split(fill(tmpl, text, ""), spec.Slots)
			if err != nil {
				return nil, err
			}
			st.plain = append(st.plain, l)
		}
		l, err := split(fill(tmpl, EdgeText, EdgeMembers), spec.Slots)
		if err != nil {
			return nil, err
		}
		st.edge = append(st.edge, l)
	}
	if spec.HugeBytes > 0 && edgeEvery > 0 {
		text := filler(g.Hash(spec.Name+" huge", 0), spec.HugeBytes-len(spec.Templates[0]))
		l, err := split(fill(spec.Templates[0], text, ""), spec.Slots)
		if err != nil {
			return nil, err
		}
		st.huge = l
	}
	return st, nil
}

// fill sets the two built-in places of a template.
func fill(tmpl, text, edge string) string {
	return strings.NewReplacer("<<text>>", text, "<<edge>>", edge).Replace(tmpl)
}

// split cuts a filled template at its slots.
func split(tmpl string, slots map[string]Slot) (layout, error) {
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

// rec returns what the slots need to know of record i.
func (st *stream) rec(i int) Rec {
	return Rec{Index: i, Hash: hashAt(st.salt, i)}
}

// append appends record i.
func (st *stream) append(dst []byte, i int) []byte {
	r := st.rec(i)
	for _, p := range st.layoutOf(r) {
		dst = append(dst, p.fixed...)
		if p.slot != nil {
			dst = p.slot(dst, r)
		}
	}
	return dst
}

// layoutOf chooses the shape of a record.
func (st *stream) layoutOf(r Rec) layout {
	switch {
	case r.Index == HugeIndex && st.huge != nil:
		return st.huge
	case st.edgeEvery > 0 && r.Index%st.edgeEvery == st.edgeEvery-1:
		return st.edge[r.Index/st.edgeEvery%len(st.edge)]
	default:
		return st.plain[r.Hash>>40%uint64(len(st.plain))]
	}
}

// stream returns a stream by name and panics when there is none: the name is
// written in a test or a vendor file, never read from a request.
func (s *Server) stream(name string) *stream {
	st := s.streams[name]
	if st == nil {
		panic("vendorsim: no stream named " + name)
	}
	return st
}

// Count returns the number of records that a stream has now.
func (s *Server) Count(stream string) int { return int(s.stream(stream).count.Load()) }

// SetCount changes the number of records of a stream, and of those whose
// count follows it: the records that remain keep their bytes. Export jobs that
// already exist keep their own count.
func (s *Server) SetCount(stream string, n int) {
	s.stream(stream).count.Store(int64(n))
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
	return s.stream(stream).append(dst, i)
}

// writeSize is how much is rendered before it goes to the connection.
const writeSize = 128 << 10

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeSize+writeSize/2); return &b }}

// WriteRecords writes the records with the given indices, in their order and
// separated by commas, between before and after. It holds no more than a
// write buffer of them at a time. The error is that of w.
func (s *Server) WriteRecords(w io.Writer, before, stream string, indices iter.Seq[int], after string) error {
	st := s.stream(stream)
	held := writeBuffers.Get().(*[]byte)
	defer writeBuffers.Put(held)
	buf := append((*held)[:0], before...)
	first := true
	for i := range indices {
		if !first {
			buf = append(buf, ',')
		}
		first = false
		if buf = st.append(buf, i); len(buf) >= writeSize {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	buf = append(buf, after...)
	if cap(buf) <= 2*writeSize { // a buffer grown by the huge record is not kept
		*held = buf
	}
	_, err := w.Write(buf)
	return err
}

// RecordID returns the key of record i of a stream, as its [Spec] defines it.
func (s *Server) RecordID(stream string, i int) string {
	st := s.stream(stream)
	return string(st.spec.ID(nil, st.rec(i)))
}

// Streams returns the names of the streams of a host.
func (h *Host) Streams() []string { return slices.Clone(h.server.names[h.Name()]) }
