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

// maxMemory is what a process may take to spool, seal and read a snapshot.
const maxMemory = 128 << 20

// TestMemoryDoesNotGrow measures a process of its own that makes and reads a
// snapshot of a million records of 2 KB. The race detector makes that slow,
// so with it there are a tenth as many; what shows that memory does not grow
// is, then as well, that the last nine tenths take no more than the first.
func TestMemoryDoesNotGrow(t *testing.T) {
	cmd := childProcess("million")
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
	// What reading and encoding take comes on top at the end.
	if late > maxMemory || late > early+32<<20 {
		t.Errorf("%d MiB after a tenth, %d MiB at the end, at most %d are allowed", early>>20, late>>20, maxMemory>>20)
	}
}

// measureMillion prints records and bytes of the snapshot and the process's
// highest memory after a tenth of the work and after all of it.
func measureMillion() {
	dir, err := os.MkdirTemp("", "million")
	if err != nil {
		die(err)
	}
	info, early, err := makeMillion(dir)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		die(err)
	}
	fmt.Println(info.Records, info.Bytes, early, highWater())
}

func makeMillion(dir string) (info Info, early uint64, err error) {
	w, err := Create(filepath.Join(dir, "spool"), testHeader)
	if err != nil {
		return info, 0, err
	}
	const perPage, side = 1000, 4
	for done := 0; done < million; done += perPage * side {
		if done >= million/10 && early == 0 {
			early = highWater()
		}
		var pages sync.WaitGroup
		errs := make([]error, side)
		for i := range side {
			pages.Go(func() { errs[i] = writePage(w, done+i*perPage, perPage) })
		}
		pages.Wait()
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

// writePage keeps n records of 2 KB as one page.
func writePage(w *Writer, from, n int) error {
	rnd := rand.New(rand.NewPCG(uint64(from), 0))
	record := []byte(`{"id":"000000000000","text":"` + strings.Repeat("a text that is not all the same ", 58) + `"}`)
	p := w.Page()
	defer p.Discard()
	for i := range n {
		copy(record[7:19], fmt.Sprintf("%012d", from+i))
		for at := 30; at < len(record)-10; at += 40 {
			record[at] = byte('a' + rnd.IntN(26))
		}
		if err := p.Append(record); err != nil {
			return err
		}
	}
	return p.Commit()
}

// highWater is the most memory that the process has had, in bytes.
func highWater() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		die(err)
	}
	_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
	kib, err := strconv.ParseUint(string(bytes.Fields(after)[0]), 10, 64)
	if err != nil {
		die(err)
	}
	return kib << 10
}

// A disk that is full fails the page, in words, and the space comes back.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	out, err := childProcess("full", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 6 {
		t.Fatalf("%q", lines)
	}
	for i, want := range []string{
		"small pages: spool: ", "then another: spool: ", "then Seal: spool: ", "one long page: spool: ", "then a small one: <nil>", "left: ",
	} {
		if !strings.HasPrefix(lines[i], want) || i < 4 && !strings.Contains(lines[i], "file too large") {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	if lines[5] != "left: 0" || names(t, dir) != "" {
		t.Errorf("%s, the folder holds %q", lines[5], names(t, dir))
	}
}

// writeUntilFull works below dir with files of at most 4 MiB, which is as a
// full disk but that other processes have room.
func writeUntilFull(dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 4 << 20, Max: 4 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		die(err)
	}
	page := func(w *Writer, records, size int) error {
		p := w.Page()
		defer p.Discard()
		for i := range records {
			if err := p.Append([]byte(incompressible(size + i))); err != nil {
				return err
			}
		}
		return p.Commit()
	}
	spool := filepath.Join(dir, "spool")
	w, err := Create(spool, testHeader)
	if err != nil {
		die(err)
	}
	for n := 0; err == nil && n < 1000; n++ {
		err = page(w, 1, 100_000)
	}
	fmt.Println("small pages:", err)
	fmt.Println("then another:", page(w, 1, 10))
	_, err = w.Seal(filepath.Join(dir, "sealed"))
	fmt.Println("then Seal:", err)
	if err := w.Abort(); err != nil {
		die(err)
	}
	// A page that fails in its own file leaves the spool as it was.
	if w, err = Create(spool, testHeader); err != nil {
		die(err)
	}
	fmt.Println("one long page:", page(w, 100, 100_000))
	fmt.Println("then a small one:", page(w, 1, 10))
	if err := w.Abort(); err != nil {
		die(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		die(err)
	}
	fmt.Println("left:", len(entries))
}

// A process that is killed at any moment leaves whole snapshots, among them
// each that it has spoken of, and spools, which nobody takes for one.
func TestKilled(t *testing.T) {
	rounds := 25
	var sealed, spools int
	for round := range rounds {
		dir := t.TempDir()
		said := killAtRandom(t, dir, uint64(round))
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, e := range entries {
			place := filepath.Join(dir, e.Name())
			if strings.HasPrefix(e.Name(), "spool") {
				spools++
				if _, err := Open(place); err == nil && !strings.Contains(names(t, place), manifestName) {
					t.Errorf("%s passes for a snapshot", e.Name())
				}
				continue
			}
			sealed++
			found[e.Name()] = true
			if err := check(t, place); err != nil {
				t.Errorf("%s: %v", e.Name(), err)
			}
			if s, err := Open(place); err == nil && s.Records != killedRecords {
				t.Errorf("%s has %d records", e.Name(), s.Records)
			}
		}
		for _, name := range said {
			if !found[name] {
				t.Errorf("%s was sealed and is gone", name)
			}
		}
	}
	t.Logf("%d kills left %d snapshots and %d spools", rounds, sealed, spools)
	if sealed < rounds || spools == 0 {
		t.Errorf("%d kills left %d snapshots and %d spools: they do not hit", rounds, sealed, spools)
	}
}

const killedRecords = 30

// killAtRandom lets a child seal snapshots in dir, kills it soon after its
// first, and returns those that it has spoken of.
func killAtRandom(t *testing.T, dir string, seed uint64) (said []string) {
	t.Helper()
	cmd := childProcess("crash", dir)
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
		said = append(said, lines.Text())
		if kill == nil {
			kill = time.AfterFunc(time.Duration(rand.New(rand.NewPCG(seed, 0)).Int64N(int64(30*time.Millisecond))), func() {
				_ = cmd.Process.Kill()
			})
		}
	}
	err = cmd.Wait()
	if !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return said
}

// sealForEver seals snapshots below dir and says the name of each.
func sealForEver(dir string) {
	for n := 0; ; n++ {
		w, err := Create(filepath.Join(dir, fmt.Sprintf("spool-%d", n)), testHeader)
		if err != nil {
			die(err)
		}
		for i := range 3 {
			if err := writePage(w, i*10, killedRecords/3); err != nil {
				die(err)
			}
		}
		name := fmt.Sprintf("sealed-%d", n)
		if _, err := w.Seal(filepath.Join(dir, name)); err != nil {
			die(err)
		}
		fmt.Println(name)
	}
}
