package store

import (
	"context"
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// Info describes a destination without its settings.
type Info struct {
	// Name is the destination's name, see Sink.Name.
	Name string
	// Title is the heading of its settings in the reference: "Postgres".
	Title string
}

// Options are what the program gives every destination that it opens.
type Options struct {
	// Memory bounds the memory of DuckDB in bytes, for destinations that use
	// it; 0 means 768 MB.
	Memory int64
	// Repair reports whether files and objects have U+FFFD in place of escapes
	// that many programs refuse, see snapshot.RepairEscapes.
	Repair bool
	// Declared are the members of records whose kinds are known before there is a value, by
	// the stream's name, for typed views.
	Declared map[string][]columns.Remembered
	// Parquet returns a snapshot as a Parquet file, which is made once for all
	// destinations. It may be nil for destinations that are not written to.
	Parquet ParquetFunc
	// Note receives the destination's notes; nil drops them.
	Note NoteFunc
	// Log receives the log lines of destinations that write some; nil drops
	// them.
	Log *zap.Logger
}

// A ParquetFunc returns a snapshot as a Parquet file, with the types of the stream's
// earlier files. The caller closes the file. The error wraps snapshot.ErrDamaged when the
// snapshot cannot be read.
type ParquetFunc func(ctx context.Context, s *snapshot.Snapshot) (ParquetFile, error)

// A ParquetFile is a snapshot as a Parquet file. WriteTo writes its content.
type ParquetFile interface {
	io.WriterTo
	io.Closer
	// Size returns the size of the file in bytes.
	Size() int64
	// Notes say how the file differs from the records or from earlier files, one
	// sentence each.
	Notes() []string
}

// A ParquetStorer is a Sink that may store Parquet files.
type ParquetStorer interface{ StoresParquet() bool }

// StoresParquet reports whether s stores Parquet files. It is false for a Sink that is no
// [ParquetStorer].
func StoresParquet(s Sink) bool {
	p, ok := s.(ParquetStorer)
	return ok && p.StoresParquet()
}

// A Definition describes a kind of destination and opens it. [Define] makes
// one.
type Definition struct {
	Info
	// NewSettings returns a pointer to an empty settings struct, for package
	// config to fill. Definitions with the same type of settings share one
	// struct.
	NewSettings func() any
	// Open opens the destination with settings that NewSettings returned and
	// package config filled. It does no I/O. It returns a nil Sink when the
	// settings leave the destination off.
	Open func(settings any, o Options) (Sink, error)
}

// Define returns the definition of a destination whose settings have the type
// S. open returns a nil Sink when the settings leave the destination off.
func Define[S any](info Info, open func(settings *S, o Options) (Sink, error)) Definition {
	return Definition{
		Info:        info,
		NewSettings: func() any { return new(S) },
		Open: func(settings any, o Options) (Sink, error) {
			return open(settings.(*S), o)
		},
	}
}

// LocalSettings is implemented by the settings of destinations that use a disk
// of this machine.
type LocalSettings interface {
	// LocalDir returns the name of the setting that chooses the place and the
	// directory that it names, up to the first variable. The directory is ""
	// when the destination is off or its path is invalid.
	LocalDir() (setting, dir string)
	// SwitchOff switches the destination off.
	SwitchOff()
}

// A Caution says why valid settings may not be what a person wants.
type Caution struct {
	// Text begins with the name of the setting.
	Text string
	// Urgent is whether each start logs it, not only the commands that examine
	// the settings.
	Urgent bool
}

// CautiousSettings is implemented by the settings of destinations that have
// cautions.
type CautiousSettings interface {
	// Cautions returns what a person should know about the settings.
	Cautions() []Caution
}

// TenancyCaution returns a caution if two tenancies that have the same template
// text, the value of a setting, would have the same paths.
func TenancyCaution(setting, text string) []Caution {
	path, err := ParsePath(setting, text)
	if err != nil || path.Uses("TENANCY") || path.Uses("UUID") {
		return nil
	}
	return []Caution{{
		Text: fmt.Sprintf("%s: %q has no %%TENANCY: if another tenancy has the same, one of the two is refused: put %%TENANCY into it", setting, text),
	}}
}

// NetworkCaution returns a caution if dir, the directory of a database that a
// setting chooses, is on a network file system.
func NetworkCaution(setting, dir string) []Caution {
	name := durable.NetworkFileSystem(dir)
	if name == "" {
		return nil
	}
	return []Caution{{Urgent: true, Text: fmt.Sprintf("%s: %s is on a network file system, %s: locks and a crash can damage the database there: choose a directory on a disk of this machine",
		setting, dir, name)}}
}

// TemplateDir returns the directory of the path template text, the value of a
// setting: "" when text is empty or invalid. It is a helper for
// implementations of [LocalSettings].
func TemplateDir(setting, text string) string {
	path, err := ParsePath(setting, text)
	if err != nil {
		return ""
	}
	return path.Directory()
}
