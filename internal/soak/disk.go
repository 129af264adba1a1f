package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const diskFault = "state: disk full"

// stateDisk is a small file system on which the state directory is, so that it can be
// filled.
type stateDisk struct {
	soak    *soak
	mounted bool
}

// newStateDisk mounts a file system on the state directory. Without the right to mount, the
// state directory is an ordinary one and never full.
func newStateDisk(s *soak) (*stateDisk, error) {
	d := &stateDisk{soak: s}
	if err := os.Mkdir(s.file("state"), 0o700); err != nil {
		return nil, err
	}
	size := 64
	if s.opts.time >= shippedFrom { // the history of many runs
		size = 320
	}
	err := mountMemory(s.file("state"), fmt.Sprintf("size=%dm,mode=0700", size))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		fmt.Println("soak: the state directory is never full, since a mount is not permitted")
		return d, nil
	}
	d.mounted = err == nil
	return d, err
}

// ballastName is the name of the file that fills the disk of the state directory.
const ballastName = "ballast"

// fillFor takes all free space of the state directory for a time.
func (s *stateDisk) fillFor(duration time.Duration) error {
	if !s.mounted {
		return nil
	}
	path := s.soak.file("state", ballastName)
	ballast, err := os.Create(path)
	if err != nil {
		return err
	}
	began := time.Now()
	end := began.Add(duration)
	for block := make([]byte, 64<<10); time.Now().Before(end); {
		// What the daemon removes is taken as well.
		if _, err = ballast.Write(block); err != nil && !sleepContext(s.soak.ctx, 20*time.Millisecond) {
			break
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
		s.soak.faults.count(diskFault, 1)
		s.soak.events.record(diskFault, "", began, time.Now())
	}
	return errors.Join(err, ballast.Close(), os.Remove(path))
}

// unmount makes the state directory an ordinary, empty one.
func (s *stateDisk) unmount() error {
	if !s.mounted {
		return nil
	}
	s.mounted = false
	return unmountMemory(s.soak.file("state"))
}
