package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/url"
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
func newLogger(w io.Writer, terminal bool, s config.Log, level zap.AtomicLevel) *zap.Logger {
	level.SetLevel(levelOf(s))
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
	if inJournal(os.Stderr) {
		form = &prioritized{form}
	}
	return zap.New(zapcore.NewCore(form, zapcore.Lock(zapcore.AddSync(w)), level))
}

func levelOf(s config.Log) zapcore.Level {
	level, err := zapcore.ParseLevel(s.Level)
	if err != nil { // the settings allow only levels that parse
		return zapcore.InfoLevel
	}
	return level
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// A redactor hides secrets by their value, as the last line of defence: no
// part of the program prints one, but a vendor's own error text might.
type redactor struct {
	mu       sync.Mutex
	secrets  map[string]bool
	replacer *strings.Replacer
}

// shortestSecret is the length below which a value is too common a text to be
// hidden wherever it stands.
const shortestSecret = 6

func newRedactor(secrets []string) *redactor {
	r := &redactor{secrets: map[string]bool{}}
	r.learn(secrets)
	return r
}

// learn hides further secrets; those known before stay hidden.
func (r *redactor) learn(secrets []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		if len(s) < shortestSecret {
			continue
		}
		for _, form := range forms(s) {
			r.secrets[form] = true
		}
	}
	// Of two secrets, one within the other, the longer must be found first.
	all := slices.SortedFunc(maps.Keys(r.secrets), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	})
	var pairs []string
	for _, s := range all {
		pairs = append(pairs, s, "[redacted]")
	}
	r.replacer = strings.NewReplacer(pairs...)
}

// forms are the ways in which a secret may stand in a text: as it is, and as
// JSON, URLs and basic authentication write it.
func forms(secret string) []string {
	all := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))}
	if quoted, err := json.Marshal(secret); err == nil {
		all = append(all, string(quoted[1:len(quoted)-1]))
	}
	return all
}

func (r *redactor) hide(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.replacer.Replace(text)
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
	text := r.by.hide(string(p))
	if _, err := io.Copy(r.to, bytes.NewReader([]byte(text))); err != nil {
		return 0, err
	}
	return len(p), nil
}
