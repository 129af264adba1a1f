// Command collectord extracts security data from vendors' APIs on a schedule
// and delivers complete snapshots of it to files, DuckDB, Postgres and S3.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	// Go's memory limit follows the control group's. Where no group can be seen
	// there is none to follow.
	_, _ = memlimit.Set()
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
