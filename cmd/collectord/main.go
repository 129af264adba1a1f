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

	"github.com/collectord/collectord/internal/supervise"
	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/query"
)

// version is set by the linker.
var version = "devel"

func main() {
	if len(os.Args) == 2 && os.Args[1] == query.WorkerCommand {
		os.Exit(query.Work())
	}
	if supervise.IsWorker(os.Args[1:]) {
		os.Exit(supervise.Work())
	}
	os.Exit(runProgram())
}

// runProgram runs the command line and returns the exit code.
func runProgram() int {
	limitMemory()
	s := catchSignals()
	defer s.ignore()
	p := &program{stdout: os.Stdout, stderr: os.Stderr, from: settingSources{environ: os.Environ()}, signals: s}
	err := rootCommand(p).ExecuteContext(s.ctx)
	if err != nil && !errors.Is(err, errReported) {
		printError(err)
	}
	var e *signalError
	if errors.As(context.Cause(s.ctx), &e) && err != nil {
		return e.code()
	}
	return exitCode(err)
}

// printError writes the error to standard error, with priorities for the journal.
func printError(err error) {
	prefix := ""
	if systemd.InJournal(os.Stderr) {
		prefix = systemd.Priority(zapcore.ErrorLevel)
	}
	for line := range strings.Lines("collectord: " + err.Error() + "\n") {
		fmt.Fprint(os.Stderr, prefix+line)
	}
}

// gcPercent is the value of GOGC. An extraction uses 24 MB, its buffers, and
// produces garbage slowly; with Go's default of 100 the garbage of a long extraction
// would grow to the same size.
const gcPercent = 30

// limitMemory sets Go's memory limit to that of the control group and makes the
// garbage collector run early. GOMEMLIMIT and GOGC take precedence.
func limitMemory() {
	_, _ = memlimit.Set() // without a control group there is no limit
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
