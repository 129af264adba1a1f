package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// maxMemory is how much a process may use to spool, seal and read a snapshot.
const maxMemory = 128 << 20

// TestMemoryDoesNotGrow measures a child process that writes and reads a snapshot of
// a million records of 2 KB, or a tenth of that with the race detector, which is
// slow. The last nine tenths must not need more memory than the first.
func TestMemoryDoesNotGrow(t *testing.T) {
	cmd := newChild("million")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var records, bytes, early, late uint64
	if _, err := fmt.Sscan(string(out), &records, &bytes, &early, &late); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%d records, %d MB: %d MiB after a tenth, %d MiB at the end", records, bytes/1e6, early>>20, late>>20)
	if records != million || bytes < million*2000 {
		t.Errorf("%d records of %d bytes", records, bytes)
	}
	// The end includes the memory for reading and encoding.
	if late > maxMemory || late > early+maxGrowth {
		t.Errorf("%d MiB after a tenth, %d MiB at the end, want at most %d", early>>20, late>>20, maxMemory>>20)
	}
}

// measureMillion prints the records and bytes of the snapshot, and the peak memory of
// the process after a tenth of the work and after all of it.
func measureMillion() {
	dir, err := os.MkdirTemp("", "million")
	if err != nil {
		exitWithError(err)
	}
	info, early, err := spoolMillion(dir)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		exitWithError(err)
	}
	fmt.Println(info.Records, info.Bytes, early, highWater())
}

func spoolMillion(dir string) (info Info, early uint64, err error) {
	w, err := Create(filepath.Join(dir, "spool"), testHeader)
	if err != nil {
		return info, 0, err
	}
	const perBatch, parallel = 1000, 4
	for done := 0; done < million; done += perBatch * parallel {
		if done >= million/10 && early == 0 {
			early = highWater()
		}
		var batches sync.WaitGroup
		errs := make([]error, parallel)
		for i := range parallel {
			batches.Go(func() { errs[i] = commitLargeBatch(w, done+i*perBatch, perBatch) })
		}
		batches.Wait()
		if err := errors.Join(errs...); err != nil {
			return info, 0, err
		}
	}
	s, err := w.Seal(filepath.Join(dir, "sealed"))
	if err != nil {
		return info, 0, err
	}
	return s.Info, early, s.Encode(context.Background(), io.Discard, Format{Kind: JSON})
}

// commitLargeBatch commits n records of 2 KB as one batch.
func commitLargeBatch(w *Writer, from, n int) error {
	rnd := rand.New(rand.NewPCG(uint64(from), 0))
	record := []byte(`{"id":"000000000000","text":"` + strings.Repeat("a text that is not all the same ", 58) + `"}`)
	b := w.NewBatch()
	defer b.Discard()
	for i := range n {
		copy(record[7:19], fmt.Sprintf("%012d", from+i))
		for at := 30; at < len(record)-10; at += 40 {
			record[at] = byte('a' + rnd.IntN(26))
		}
		if err := b.Append(record); err != nil {
			return err
		}
	}
	return b.Commit()
}

// highWater returns the peak memory of the process, in bytes.
func highWater() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		exitWithError(err)
	}
	_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
	kib, err := strconv.ParseUint(string(bytes.Fields(after)[0]), 10, 64)
	if err != nil {
		exitWithError(err)
	}
	return kib << 10
}

// On a full disk the batch fails with an explanation, and Abort frees the space.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	out, err := newChild("full", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 6 {
		t.Fatalf("%q", lines)
	}
	for i, want := range []string{
		"small batches: spool: ", "then another: spool: ", "then Seal: spool: ", "one large batch: spool: ", "then a small one: <nil>", "left: ",
	} {
		if !strings.HasPrefix(lines[i], want) || i < 4 && !strings.Contains(lines[i], "file too large") {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	if lines[5] != "left: 0" || entryNames(t, dir) != "" {
		t.Errorf("%s, the directory contains %q", lines[5], entryNames(t, dir))
	}
}

// writeUntilFull works in dir with files of at most 4 MiB. This has the effect of a
// full disk for this process only.
func writeUntilFull(dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 4 << 20, Max: 4 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		exitWithError(err)
	}
	commit := func(w *Writer, records, size int) error {
		b := w.NewBatch()
		defer b.Discard()
		for i := range records {
			if err := b.Append([]byte(incompressible(size + i))); err != nil {
				return err
			}
		}
		return b.Commit()
	}
	spool := filepath.Join(dir, "spool")
	w, err := Create(spool, testHeader)
	if err != nil {
		exitWithError(err)
	}
	for n := 0; err == nil && n < 1000; n++ {
		err = commit(w, 1, 100_000)
	}
	fmt.Println("small batches:", err)
	fmt.Println("then another:", commit(w, 1, 10))
	_, err = w.Seal(filepath.Join(dir, "sealed"))
	fmt.Println("then Seal:", err)
	if err := w.Abort(); err != nil {
		exitWithError(err)
	}
	// A batch that fails in its own file does not change the spool.
	if w, err = Create(spool, testHeader); err != nil {
		exitWithError(err)
	}
	fmt.Println("one large batch:", commit(w, 100, 100_000))
	fmt.Println("then a small one:", commit(w, 1, 10))
	if err := w.Abort(); err != nil {
		exitWithError(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		exitWithError(err)
	}
	fmt.Println("left:", len(entries))
}

// A process that is killed at any moment leaves complete snapshots, including each
// one that it has reported, and spools, which Open does not accept.
func TestKilled(t *testing.T) {
	const kills = 25
	var sealed, spools int
	for n := range kills {
		dir := t.TempDir()
		reported := killAtRandom(t, dir, uint64(n))
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if strings.HasPrefix(e.Name(), "spool") {
				spools++
				if _, err := Open(path); err == nil && !strings.Contains(entryNames(t, path), manifestName) {
					t.Errorf("Open accepted %s", e.Name())
				}
				continue
			}
			sealed++
			found[e.Name()] = true
			if err := readEveryWay(t, path); err != nil {
				t.Errorf("%s: %v", e.Name(), err)
			}
			if s, err := Open(path); err == nil && s.Records != killedRecords {
				t.Errorf("%s has %d records", e.Name(), s.Records)
			}
		}
		for _, name := range reported {
			if !found[name] {
				t.Errorf("%s was sealed and is missing", name)
			}
		}
	}
	t.Logf("%d kills left %d snapshots and %d spools", kills, sealed, spools)
	if sealed < kills || spools == 0 {
		t.Errorf("%d kills left %d snapshots and %d spools: they came too early or too late", kills, sealed, spools)
	}
}

const killedRecords = 30

// killAtRandom starts a child that seals snapshots in dir, kills it soon after the
// first one, and returns the names that the child has reported.
func killAtRandom(t *testing.T, dir string, seed uint64) (reported []string) {
	t.Helper()
	cmd := newChild("crash", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var kill *time.Timer
	for lines.Scan() {
		reported = append(reported, lines.Text())
		if kill == nil {
			kill = time.AfterFunc(time.Duration(rand.New(rand.NewPCG(seed, 0)).Int64N(int64(30*time.Millisecond))), func() {
				_ = cmd.Process.Kill()
			})
		}
	}
	err = cmd.Wait()
	if !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("the child was not killed: %v", err)
	}
	return reported
}

// sealForever seals snapshots in dir and prints the name of each.
func sealForever(dir string) {
	for n := 0; ; n++ {
		w, err := Create(filepath.Join(dir, fmt.Sprintf("spool-%d", n)), testHeader)
		if err != nil {
			exitWithError(err)
		}
		for i := range 3 {
			if err := commitLargeBatch(w, i*10, killedRecords/3); err != nil {
				exitWithError(err)
			}
		}
		name := fmt.Sprintf("sealed-%d", n)
		if _, err := w.Seal(filepath.Join(dir, name)); err != nil {
			exitWithError(err)
		}
		fmt.Println(name)
	}
}
