package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// ErrLocked means that another process, or another part of this one, is doing
// the same just now.
var ErrLocked = errors.New("locked")

// A Lock is held until Unlock, or until the process dies, however it dies.
type Lock struct{ file *flock.Flock }

// Unlock gives the lock back.
func (l *Lock) Unlock() error {
	if err := l.file.Unlock(); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// owner is what a lock's file says about who holds it.
type owner struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

// Lock takes the right to run a collector. It does not wait: the error wraps
// ErrLocked and says who has it.
func (s *State) Lock(collector string) (*Lock, error) {
	return s.lock("collector~"+fileName(collector), collector+" is being collected")
}

// LockDelivery takes the right to deliver a stream to a sink. It does not
// wait: the error wraps ErrLocked and says who has it. Whoever got it asks
// Queued before delivering: the one before may have delivered the same.
func (s *State) LockDelivery(sink, stream string) (*Lock, error) {
	return s.lock("delivery~"+fileName(sink)+"~"+fileName(stream), stream+" is being delivered to "+sink)
}

// LockRestore takes the right to restore a stream of a tenancy from a backup.
// It does not wait: the error wraps ErrLocked and says who has it.
func (s *State) LockRestore(stream, tenancy string) (*Lock, error) {
	return s.lock(restoreName(stream, tenancy), stream+" is being restored")
}

func (s *State) lock(name, what string) (*Lock, error) {
	path := filepath.Join(s.dir, "locks", name)
	file := flock.New(path, flock.SetPermissions(0o600))
	got, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if !got {
		return nil, fmt.Errorf("%w: %s%s", ErrLocked, what, holder(path))
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	text, err := json.Marshal(owner{os.Getpid(), host, s.now().UTC().Truncate(time.Second), command(os.Args)})
	if err == nil {
		// It only serves others' messages: a full disk must not stop a delivery,
		// which gives disk back.
		_ = os.WriteFile(path, text, 0o600)
	}
	return &Lock{file}, nil
}

// command is the program's call without what may be long or private.
func command(args []string) string {
	words := []string{filepath.Base(args[0])}
	for _, a := range args[1:] {
		if len(words) == 4 {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// holder says who holds the lock at path, as far as its file tells.
func holder(path string) string {
	var o owner
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &o) != nil || o.PID == 0 {
		return " by another process"
	}
	return fmt.Sprintf(" by process %d on %s since %s (%s)", o.PID, o.Host, o.Since.Format("2006-01-02 15:04:05 MST"), o.Command)
}
