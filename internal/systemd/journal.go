package systemd

import (
	"fmt"
	"os"
	"syscall"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// InJournal reports whether f is the stream that systemd connects to the journal.
func InJournal(f *os.File) bool {
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

// NewJournalEncoder returns an encoder that writes the journal's priority before
// each line of the given encoder.
func NewJournalEncoder(e zapcore.Encoder) zapcore.Encoder { return &journalEncoder{e} }

type journalEncoder struct{ zapcore.Encoder }

// Clone implements zapcore.Encoder.
func (j *journalEncoder) Clone() zapcore.Encoder { return &journalEncoder{j.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder.
func (j *journalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := j.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	text := Priority(entry.Level) + line.String()
	line.Reset()
	line.AppendString(text)
	return line, nil
}

// Priority returns the prefix by which the journal reads the syslog priority of a
// line.
func Priority(level zapcore.Level) string {
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
