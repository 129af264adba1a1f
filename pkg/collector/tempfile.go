package collector

import (
	"context"
	"errors"
	"os"
)

type createTempKey struct{}

// WithTempFiles returns a copy of ctx in which CreateTemp calls create.
func WithTempFiles(ctx context.Context, create func() (*os.File, error)) context.Context {
	return context.WithValue(ctx, createTempKey{}, create)
}

// CreateTemp returns an empty temporary file for an extraction, such as for an
// archive that cannot be read while it arrives. It is in the spool of the stream,
// whose disk has room for the data. It has no name, and is gone when it is closed
// or the process ends. A context without an extraction has the temporary
// directory of the system.
func CreateTemp(ctx context.Context) (*os.File, error) {
	if create, ok := ctx.Value(createTempKey{}).(func() (*os.File, error)); ok {
		return create()
	}
	f, err := os.CreateTemp("", "collectord-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
