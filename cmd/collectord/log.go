package main

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/collectord/collectord/pkg/config"
)

// newLogger makes the program's log: lines for people on a terminal, JSON for
// programs otherwise.
func newLogger(w io.Writer, terminal bool, s config.Log) *zap.Logger {
	level, err := zapcore.ParseLevel(s.Level)
	if err != nil { // the settings allow only levels that parse
		level = zapcore.InfoLevel
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.TimeKey = "ts"
	encoder.EncodeTime = zapcore.RFC3339TimeEncoder
	encoder.EncodeDuration = zapcore.StringDurationEncoder
	form := zapcore.NewJSONEncoder(encoder)
	if s.Format == "console" || s.Format == "auto" && terminal {
		encoder.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
		encoder.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder.ConsoleSeparator = "  "
		form = zapcore.NewConsoleEncoder(encoder)
	}
	return zap.New(zapcore.NewCore(form, zapcore.Lock(zapcore.AddSync(w)), level))
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// A redactor hides secrets by their value, as the last line of defence: no
// part of the program prints one, but a vendor's own error text might.
type redactor struct{ replacer *strings.Replacer }

// shortestSecret is the length below which a value is too common a text to be
// hidden wherever it stands.
const shortestSecret = 6

func newRedactor(secrets []string) *redactor {
	// Of two secrets, one within the other, the longer must be found first.
	secrets = slices.Clone(secrets)
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range secrets {
		if len(s) >= shortestSecret {
			pairs = append(pairs, s, "[redacted]")
		}
	}
	return &redactor{strings.NewReplacer(pairs...)}
}

func (r *redactor) writer(w io.Writer) io.Writer { return &redacting{to: w, by: r} }

// redacting hides secrets in what is written, each write by itself: callers
// write whole lines.
type redacting struct {
	mu sync.Mutex
	to io.Writer
	by *redactor
}

// Write implements io.Writer.
func (r *redacting) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := r.by.replacer.Replace(string(p))
	if _, err := io.Copy(r.to, bytes.NewReader([]byte(text))); err != nil {
		return 0, err
	}
	return len(p), nil
}
