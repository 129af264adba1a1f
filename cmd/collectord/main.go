// Command collectord extracts security data from vendors' APIs on a schedule
// and delivers complete snapshots of it to files, DuckDB, Postgres and S3.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	_ "time/tzdata" // the machine may have no time zones

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap/zapcore"
)

// version is set when the program is built.
var version = "devel"

func main() {
	os.Exit(run())
}

func run() int {
	boundMemory()
	s := catchSignals()
	defer s.stop()
	cmd := rootCommand(&app{stdout: os.Stdout, stderr: os.Stderr, signals: s})
	err := cmd.ExecuteContext(s.ctx)
	if err != nil && err.Error() != "" {
		prefix := ""
		if inJournal(os.Stderr) {
			prefix = priority(zapcore.ErrorLevel)
		}
		for line := range strings.Lines("collectord: " + err.Error() + "\n") {
			fmt.Fprint(os.Stderr, prefix+line)
		}
	}
	var e *signalError
	if errors.As(context.Cause(s.ctx), &e) && err != nil {
		return e.code()
	}
	return exitCode(err)
}

// gcPercent is how much garbage may lie beside what is in use, in percent. An
// extraction has 24 MB in use, its buffers, and makes little garbage, which by
// Go's default would grow to as much over a long one.
const gcPercent = 30

// boundMemory has Go's memory limit follow the control group's, and collects
// garbage early. GOMEMLIMIT and GOGC change either.
func boundMemory() {
	// Where no group can be seen there is none to follow.
	_, _ = memlimit.Set()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
