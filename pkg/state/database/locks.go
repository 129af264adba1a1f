package database

import (
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/pkg/state"
)

// Locks keep two processes, and two goroutines of one, from doing the same work at once.
type Locks struct{ *core }

// streamLock returns the name of the lock for collecting a stream.
func streamLock(stream, tenancy string) string {
	return "stream~" + FileName(stream) + "~" + FileName(tenancy)
}

// LockStream implements [state.Locks].
func (l *Locks) LockStream(stream, tenancy string) (state.Lock, error) {
	return l.locker.Acquire(streamLock(stream, tenancy), stream+" is being collected")
}

// LockDelivery implements [state.Locks].
func (l *Locks) LockDelivery(sink, stream, tenancy string) (state.Lock, error) {
	return l.locker.Acquire("delivery~"+FileName(sink)+"~"+FileName(stream)+"~"+FileName(tenancy), stream+" is being delivered to "+sink)
}

// LockRestore implements [state.Locks].
func (l *Locks) LockRestore(stream, tenancy string) (state.Lock, error) {
	return l.locker.Acquire(restoreName(stream, tenancy), stream+" is being restored")
}

// ServiceLock is the name of the lock of the service.
const ServiceLock = "service"

// LockService implements [state.Locks].
func (l *Locks) LockService() (state.Lock, error) {
	return l.locker.Acquire(ServiceLock, "the service is led")
}

// HoldTenancy implements [state.Locks].
func (l *Locks) HoldTenancy(tenancy string) (state.Lock, error) { return l.locker.HoldTenancy(tenancy) }

// ShortCommand returns the start of a command line, without arguments that may
// be long or private.
func ShortCommand(args []string) string {
	words := []string{filepath.Base(args[0])}
	for _, a := range args[1:] {
		if len(words) == 4 {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
