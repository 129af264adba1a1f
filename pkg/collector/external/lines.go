package external

import (
	"bytes"
	"fmt"
	"strconv"
)

// endMember is the only member of the end line.
const endMember = "_end"

// A lineProtocol reads records, one in a line, and the end line. When a file has one stream,
// a line is a record; when it has several, it is {"stream": "name", "record": {…}}.
type lineProtocol struct {
	*splitter
	single bool
	ended  bool
}

func (lp *lineProtocol) readLine(line []byte, number int64) error {
	if lp.ended {
		return lineError(number, "is after the end line: let the program print it last")
	}
	members, err := lp.session.readLineObject(line, number)
	if err != nil {
		return err
	}
	if len(members) == 1 && members[0].name == endMember {
		lp.ended = true
		return lp.checkCounts(members[0].value, number)
	}
	if lp.single {
		for _, s := range lp.streams {
			err = s.passRecord(line)
		}
		return err
	}
	return lp.readEnvelope(members, number)
}

// readEnvelope reads a record with the name of its stream.
func (lp *lineProtocol) readEnvelope(members []member, number int64) error {
	name, err := findMember(members, "stream", number)
	if err != nil {
		return err
	}
	record, err := findMember(members, "record", number)
	if err != nil {
		return err
	}
	text, isText := textOf(name)
	if len(members) != 2 || !isText || len(record) == 0 || record[0] != '{' {
		return lineError(number, `is not {"stream": "…", "record": {…}}, as that of a file with several streams`)
	}
	s := lp.streams[text]
	if s == nil {
		return lp.unknownStream(text, number)
	}
	return s.passRecord(record)
}

// checkCounts compares the counts of the end line with the records.
func (lp *lineProtocol) checkCounts(counts []byte, number int64) error {
	if counts[0] != '{' {
		return lineError(number, `is not an end line: want {"_end": {"%s": 3}} with the number of records of each stream`, lp.tapNames()[0])
	}
	members, err := lp.session.readLineObject(counts, number)
	if err != nil {
		return err
	}
	counted := map[string]bool{}
	for _, m := range members {
		s := lp.streams[m.name]
		if s == nil {
			return lp.unknownStream(m.name, number)
		}
		n, err := strconv.ParseInt(string(m.value), 10, 64)
		if err != nil || counted[m.name] {
			return lineError(number, "is not an end line: want one whole number for %s, not %s", m.name, lp.session.quote(m.value, 40))
		}
		counted[m.name] = true
		if n != s.records {
			return fmt.Errorf("%w", incomplete("the end line says %d records of %s, but %d were printed", n, m.name, s.records))
		}
	}
	for _, s := range lp.streams {
		if !counted[s.tapName] && (s.requested || s.records > 0) {
			return incomplete("the end line does not have the number of records of %s: want 0 if there are none", s.tapName)
		}
	}
	return nil
}

func (lp *lineProtocol) finish() error {
	if lp.ended {
		return nil
	}
	var counts bytes.Buffer
	for i, name := range lp.tapNames() {
		if i > 0 {
			counts.WriteString(", ")
		}
		fmt.Fprintf(&counts, "%q: %d", name, lp.streams[name].records)
	}
	return incomplete(`the program ended well, but did not print the end line: want {"_end": {%s}} as its last line, if these are all records`, counts.String())
}
