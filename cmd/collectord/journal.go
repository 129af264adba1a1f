package main

import (
	"fmt"
	"os"
	"syscall"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// inJournal tells whether f is the stream that systemd leads to the journal.
func inJournal(f *os.File) bool {
	var device, inode uint64
	if n, err := fmt.Sscanf(os.Getenv("JOURNAL_STREAM"), "%d:%d", &device, &inode); n != 2 || err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(stat.Dev) == device && stat.Ino == inode
}

// prioritized puts the priority before each line, as the journal reads it.
type prioritized struct{ zapcore.Encoder }

// Clone implements zapcore.Encoder.
func (p *prioritized) Clone() zapcore.Encoder { return &prioritized{p.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder.
func (p *prioritized) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := p.Encoder.EncodeEntry(e, fields)
	if err != nil {
		return nil, err
	}
	text := priority(e.Level) + line.String()
	line.Reset()
	line.AppendString(text)
	return line, nil
}

// priority is syslog's for a level.
func priority(level zapcore.Level) string {
	switch {
	case level >= zapcore.DPanicLevel:
		return "<2>"
	case level == zapcore.ErrorLevel:
		return "<3>"
	case level == zapcore.WarnLevel:
		return "<4>"
	case level == zapcore.InfoLevel:
		return "<6>"
	}
	return "<7>"
}
