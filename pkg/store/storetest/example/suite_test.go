package example

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m, storetest.Child{OpenSink: openSink}) }

// openSink opens the sink of a job in a child process; dir is its place.
func openSink(_, dir string) (store.Sink, error) { return New(Options{Dir: dir}) }

func TestSinks(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Name: "lines",
		New: func(t *testing.T) (store.Sink, storetest.Place) {
			s, err := New(Options{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			return s, place{s}
		},
		Breakages: map[string]storetest.Breakage{
			"no permission": {
				Refused: true,
				Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
					dir := p.(place).sink.opts.Dir
					return storetest.Job{Place: dir, Snapshots: []string{s.Dir()}}.RunUnprivileged(t, dir, 0o700)
				},
			},
		},
	})
}

// A place reads back what a sink has written.
type place struct{ sink *Sink }

func (p place) Latest(t *testing.T, h snapshot.Header) []string {
	path := p.sink.path(h)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return storetest.DecodeFile(t, path, text)
}

func (p place) All(t *testing.T, h snapshot.Header) []string { return p.Latest(t, h) }
