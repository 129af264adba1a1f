package rss

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A mapping is a range of this process's memory that maps a part of a file.
type mapping struct {
	from, to uintptr
	// unmodified reports whether the memory equals the file. The linker writes
	// into parts of the program before it makes them read-only: pointers into
	// other libraries, without which the next C++ exception ends the process.
	unmodified bool
}

// ReleaseProgramMemory releases the memory in which the program's own file is
// mapped. Memory that is used again is mapped again, without reading the disk as
// long as the kernel has it in its cache. The program touches a little of each of
// its parts when it starts, and the kernel maps the neighbourhood of each access:
// four times the memory that the program needs afterwards.
func ReleaseProgramMemory() error {
	mappings, err := programMappings()
	if err != nil {
		return err
	}
	for _, m := range mappings {
		if !m.unmodified {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}

// programMappings returns the mappings of the program's own file that are not
// writable.
func programMappings() ([]mapping, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer smaps.Close()
	var found []mapping
	ours := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		line := lines.Text()
		name, value, _ := strings.Cut(line, ":")
		switch {
		case name == "Anonymous" && ours: // the amount that the process has modified
			found[len(found)-1].unmodified = strings.TrimSpace(value) == "0 kB"
		case strings.Contains(name, "-"): // 00400000-00a9a000 r--p 00000000 fd:00
			fields := strings.Fields(line)
			ours = len(fields) == 6 && fields[5] == self && !strings.Contains(fields[1], "w")
			if !ours {
				continue
			}
			var m mapping
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to); err != nil {
				return nil, fmt.Errorf("/proc/self/smaps: %q: %w", line, err)
			}
			found = append(found, m)
		}
	}
	return found, lines.Err()
}
