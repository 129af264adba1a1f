package config

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/collectord/collectord/internal/redact"
)

// Secret is a value that must not be shown. Printing, encoding and logging it write
// "[redacted]"; only [Secret.Reveal] returns the value. There are two exceptions,
// because fmt does not call a value's methods there: unexported fields, so keep it
// in exported ones, and verbs that do not fit the type ("%p", or "%s" of a struct
// that contains a pointer to another).
type Secret string

// Reveal returns the value itself.
func (s Secret) Reveal() string { return string(s) }

// IsSet reports whether the value is not empty.
func (s Secret) IsSet() bool { return s != "" }

// String implements [fmt.Stringer], which zap's fields use as well.
func (s Secret) String() string { return redact.Hidden }

// GoString implements [fmt.GoStringer].
func (s Secret) GoString() string { return redact.Hidden }

// Format implements [fmt.Formatter] for every verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redact.Hidden) }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(redact.Hidden), nil }

// MarshalJSON implements [encoding/json.Marshaler].
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redact.Hidden + `"`), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redact.Hidden) }

// UnmarshalText implements [encoding.TextUnmarshaler]: any text is valid.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}
