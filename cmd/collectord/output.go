package main

import (
	"io"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/collectord/collectord/internal/redact"
	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/config"
)

// output is what a command writes to. Secrets are removed from all of it.
type output struct {
	stdout, stderr io.Writer
	log            *zap.Logger
	level          zap.AtomicLevel // of log
	terminal       *terminal       // standard error, nil when it is no terminal
	redactor       *redact.Set
}

// shortestSecret is the length below which a value is too common a text to be
// hidden wherever it occurs.
const shortestSecret = 6

// newOutput returns the output that the configuration asks for, on the program's
// streams.
func newOutput(stdout, stderr io.Writer, c *configuration) *output {
	redactor := redact.NewSet(shortestSecret, c.secrets...)
	o := &output{
		stdout: redactor.Writer(stdout), stderr: redactor.Writer(stderr),
		level: zap.NewAtomicLevelAt(logLevel(c.settings.Log)), redactor: redactor,
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		o.terminal = newTerminal(o.stderr, stderrWidth)
		o.stderr = o.terminal
	}
	o.log = newLogger(o.stderr, o.terminal != nil, c.settings.Log, o.level)
	return o
}

// quietLog keeps all but errors out of the log of a command that people read the result
// of. LOG_LEVEL=debug shows everything.
func (o *output) quietLog() {
	if o.level.Level() > zapcore.DebugLevel {
		o.level.SetLevel(zapcore.ErrorLevel)
	}
}

// stderrWidth returns the number of columns of the terminal.
func stderrWidth() int {
	width, _, err := term.GetSize(int(os.Stderr.Fd()))
	if err != nil {
		return 80
	}
	return width
}

// newLogger returns the program's log: lines for people on a terminal, JSON
// otherwise, unless LOG_FORMAT says which.
func newLogger(w io.Writer, onTerminal bool, s config.Log, level zap.AtomicLevel) *zap.Logger {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey = "ts"
	c.EncodeTime = inUTC(zapcore.RFC3339TimeEncoder)
	c.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(c)
	if s.Format == "console" || s.Format == "auto" && onTerminal {
		c.EncodeTime = inUTC(zapcore.TimeEncoderOfLayout("2006-01-02 15:04:05Z"))
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		c.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(c)
	}
	if systemd.InJournal(os.Stderr) {
		encoder = systemd.NewJournalEncoder(encoder)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level))
}

// inUTC returns an encoder of times in UTC.
func inUTC(encode zapcore.TimeEncoder) zapcore.TimeEncoder {
	return func(t time.Time, out zapcore.PrimitiveArrayEncoder) { encode(t.UTC(), out) }
}

func logLevel(s config.Log) zapcore.Level {
	level, err := zapcore.ParseLevel(s.Level)
	if err != nil { // the settings allow only levels that parse
		return zapcore.InfoLevel
	}
	return level
}
