package delivery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/store"
)

// fullDiskChild is an environment variable. It makes the test binary run the child of
// TestFullStateDisk.
const fullDiskChild = "COLLECTORD_DELIVERY_FULL_DISK"

// TestFullStateDisk delivers from a state directory on a full disk of 3 MB. With the reserve
// everything is recorded. Without it everything is stored once, and recorded when there is
// room. Where the system permits no mount, a limit on the size of files stands in for the
// disk, and the reserve cannot help.
func TestFullStateDisk(t *testing.T) {
	for _, mode := range []string{"reserve", "no reserve"} {
		t.Run(mode, func(t *testing.T) { runFullDiskChild(t, mode) })
	}
}

// runFullDiskChild runs the child process in a name space of its own, in which it may mount a
// disk, or without a disk.
func runFullDiskChild(t *testing.T, mode string) {
	t.Helper()
	dir := t.TempDir()
	newCommand := func(mode string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullStateDiskChild$", "-test.v")
		cmd.Env = append(os.Environ(), fullDiskChild+"="+mode, fullDiskChild+"_DIR="+dir)
		return cmd
	}
	cmd := newCommand(mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		out, err = newCommand("limit").CombinedOutput()
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A smallDisk is a file system that can be filled.
type smallDisk struct {
	t    *testing.T
	dir  string
	mode string
}

// mountSmallDisk mounts a disk of 3 MB on dir, or returns a disk that is full by a limit on
// the size of files.
func mountSmallDisk(t *testing.T, dir, mode string) *smallDisk {
	t.Helper()
	d := &smallDisk{t: t, dir: dir, mode: mode}
	if mode != "limit" {
		if err := syscall.Mount("collectord-test", dir, "tmpfs", 0, "size=3m"); err != nil {
			d.mode = "limit"
		}
	}
	signal.Ignore(syscall.SIGXFSZ)
	return d
}

func (s *smallDisk) setLimit(bytes uint64) {
	s.t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		s.t.Fatal(err)
	}
	limit.Cur = min(bytes, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		s.t.Fatal(err)
	}
}

// fill takes all free space.
func (s *smallDisk) fill() {
	s.t.Helper()
	if s.mode == "limit" {
		s.setLimit(1)
		return
	}
	f, err := os.Create(filepath.Join(s.dir, "ballast"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		s.t.Fatalf("filling the disk: %v", err)
	}
}

// free gives the space back that fill took.
func (s *smallDisk) free() {
	s.t.Helper()
	if s.mode == "limit" {
		s.setLimit(1 << 40)
		return
	}
	if err := os.Remove(filepath.Join(s.dir, "ballast")); err != nil {
		s.t.Fatal(err)
	}
}

// TestFullDiskAtStart checks that an open that fails because the disk is full is recognized,
// and that it works when there is room.
func TestFullDiskAtStart(t *testing.T) { runFullDiskChild(t, "start") }

// assertStart is the child of TestFullDiskAtStart.
func assertStart(t *testing.T, disk *smallDisk) {
	t.Helper()
	if disk.mode == "limit" {
		return // the limit does not concern files that are mapped
	}
	dir := filepath.Join(disk.dir, "state")
	open := func() error {
		st, err := local.Open(t.Context(), dir, local.Options{})
		if err != nil {
			return err
		}
		return st.Close()
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "reserve")); err != nil {
		t.Fatal(err)
	}
	disk.fill()
	if err := open(); !local.IsDiskFull(err) {
		t.Errorf("on a full disk without a reserve: %v, want an error for which IsDiskFull is true", err)
	}
	disk.free()
	if err := open(); err != nil {
		t.Errorf("with room: %v", err)
	}
}

// TestFullStateDiskChild is the child process of TestFullStateDisk.
func TestFullStateDiskChild(t *testing.T) {
	mode := os.Getenv(fullDiskChild)
	if mode == "" {
		return
	}
	const deliveries = 20
	disk := mountSmallDisk(t, os.Getenv(fullDiskChild+"_DIR"), mode)
	if mode == "start" {
		assertStart(t, disk)
		return
	}
	st := openFullDiskState(t, disk, deliveries)
	defer st.Close()
	sink := &countingSink{}
	d := New(st, "default", []store.Sink{sink}, 15*time.Minute, 0, zap.NewNop())
	clock := time.Now()
	d.Now = func() time.Time { return clock }
	queued := func() int {
		t.Helper()
		queue, err := st.Queue.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(queue)
	}
	deliverFor := func(minutes int) {
		for range minutes * 60 {
			var all sync.WaitGroup
			d.startDue(context.Background(), context.Background(), &all)
			all.Wait()
			clock = clock.Add(time.Second)
		}
	}
	deliverFor(5)
	if n := sink.writes.Load(); n != deliveries {
		t.Errorf("%d writes while the disk was full, want %d", n, deliveries)
	}
	if n := queued(); disk.mode == "reserve" && n > 0 {
		t.Errorf("%d deliveries are still queued, want none", n)
	} else if disk.mode != "reserve" && n == 0 {
		t.Error("nothing is queued any more: the disk was not full")
	}
	disk.free()
	deliverFor(2)
	if n := sink.writes.Load(); n != deliveries || queued() != 0 {
		t.Errorf("%d writes and %d queued when there was room, want %d and 0", n, queued(), deliveries)
	}
}

// openFullDiskState queues deliveries, fills the disk and opens the state again, since the
// log of a state that is opened has no free room yet.
func openFullDiskState(t *testing.T, disk *smallDisk, deliveries int) *state.State {
	t.Helper()
	dir := filepath.Join(disk.dir, "state")
	st, err := local.Open(t.Context(), dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range deliveries {
		collectSnapshot(t, st, fmt.Sprintf("okta_%d", n), 1, state.Policy{Sinks: []string{"counting"}})
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if disk.mode == "reserve" { // it is also the room to open the state again
		disk.fill()
	}
	st, err = local.Open(t.Context(), dir, local.Options{})
	if err != nil {
		t.Fatalf("open on a full disk: %v", err)
	}
	if disk.mode == "no reserve" {
		if err := os.Remove(filepath.Join(dir, "reserve")); err != nil {
			t.Fatal(err)
		}
	}
	if disk.mode != "reserve" {
		disk.fill()
	}
	return st
}
