package external

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/collectord/collectord/internal/redact"
	"github.com/collectord/collectord/internal/supervise"
	"github.com/collectord/collectord/pkg/collector"
)

// A runningProgram is a program that was started.
type runningProgram struct {
	*supervise.Process
	account *account
	path    string
	stdout  *os.File
	stderr  *errorLog
	active  func() // called when the program prints something
}

// startProgram starts a command for streams. active is called, from several goroutines,
// when the program prints something.
func (a *account) startProgram(command, streams []string, active func()) (_ *runningProgram, err error) {
	path, err := a.resolve(command)
	if err != nil {
		return nil, err
	}
	if err := a.checkWorkingDirectory(); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "collectord-exec-")
	if err != nil {
		return nil, fmt.Errorf("create the directory of the program: %w: set TMPDIR to a directory that the service can write to", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(scratch))
		}
	}()
	args := append([]string{filepath.Base(path)}, command[1:]...)
	if a.singer != nil {
		more, err := a.singer.writeFiles(scratch, a, streams)
		if err != nil {
			return nil, err
		}
		args = append(args, more...)
	}
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdout.Close(), stdoutEnd.Close())
	}
	process, err := supervise.Start(supervise.Program{
		Path: path, Args: args, Env: a.environment(scratch, streams), Dir: a.workingDirectory(scratch),
		Memory: a.memory, Grace: a.grace, Remove: scratch,
	}, stdoutEnd, stderrEnd)
	if err != nil {
		return nil, errors.Join(err, stdout.Close(), stderr.Close())
	}
	p := &runningProgram{Process: process, account: a, path: path, stdout: stdout, active: active}
	p.stderr = p.startErrorLog(stderr)
	return p, nil
}

// environment returns the environment of the program: the variables of the file, and those
// that any program needs. None of the service's own environment but PATH is in it.
func (a *account) environment(scratch string, streams []string) (env []string) {
	env = []string{
		"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + scratch, "TMPDIR=" + scratch,
		"COLLECTORD_STREAMS=" + strings.Join(streams, ","),
	}
	for name, value := range a.values {
		env = append(env, name+"="+value)
	}
	return env
}

// workingDirectory returns the working directory of the program.
func (a *account) workingDirectory(scratch string) string {
	if a.directory != "" {
		return a.directory
	}
	return scratch
}

// maxLine bounds a line of the output, without its line break.
const maxLine = 64 << 20

// readLines calls read with each line of the output that is not empty, until the end of the
// output or an error. It closes the output.
func (rp *runningProgram) readLines(read func(line []byte, number int64) error) error {
	defer rp.stdout.Close()
	r := bufio.NewReaderSize(rp.stdout, 256<<10)
	var long []byte
	for number := int64(1); ; number++ {
		line, err := r.ReadSlice('\n')
		rp.active()
		long = long[:0]
		for errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, line...); len(long) > maxLine {
				return lineError(number, "has more than 64 MiB: want one record in a line")
			}
			line, err = r.ReadSlice('\n')
			rp.active()
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the output of %s: %w", rp.path, err)
		}
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 {
			readErr := read(trimmed, number)
			switch {
			case readErr != nil && err != nil && isCut(trimmed):
				return &cutLineError{number}
			case readErr != nil:
				return readErr
			}
		}
		if err != nil {
			return nil
		}
	}
}

// isCut reports whether a line is the beginning of a JSON object.
func isCut(line []byte) bool {
	d := jsontext.NewDecoder(bytes.NewBuffer(line), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	_, err := d.ReadValue()
	return errors.Is(err, io.ErrUnexpectedEOF)
}

// A cutLineError is the error of an output that ends in the middle of a line.
type cutLineError struct{ number int64 }

func (e *cutLineError) Error() string {
	return incomplete("the output ends in the middle of line %d, with the exit status 0: let the program end after whole lines only, and with another status when it fails", e.number).Error()
}

func (e *cutLineError) Unwrap() error { return collector.ErrIncomplete }

// lineError returns the error of a line of the output.
func lineError(number int64, format string, args ...any) error {
	return fmt.Errorf("line %d of the output %s", number, fmt.Sprintf(format, args...))
}

// discardOutput reads the output to its end, so that the program is not blocked.
func (rp *runningProgram) discardOutput() {
	_ = rp.readLines(func([]byte, int64) error { return nil })
}

// exitRefused is the exit status of a program whose credentials are refused, as EX_NOPERM
// of sysexits.h.
const exitRefused = 77

// waitSuccess waits for the end of the program and returns an error unless it succeeded.
func (rp *runningProgram) waitSuccess() error {
	exit, err := rp.Wait()
	last := rp.stderr.wait()
	switch {
	case exit.Left > 0 && err == nil && rp.account.singer != nil:
		// A tap prints no end line, so that what these processes would have printed is
		// missing without a sign.
		return incomplete("%s: it ended before %d processes that it had started, which were killed: let the tap wait for them", rp.path, exit.Left)
	case exit.Left > 0:
		rp.account.log.Warn("the program ended before processes that it had started; they were killed", zap.Int("processes", exit.Left))
	}
	if err != nil || exit == (supervise.Exit{Left: exit.Left}) {
		return err
	}
	text := fmt.Sprintf("%s: %v", rp.path, exit)
	if last != "" {
		text += ": " + last
	}
	switch {
	case exit.Problem != "":
		return errors.New(text)
	case exit.Code == exitRefused:
		return fmt.Errorf("%w: %s", collector.ErrRefused, text)
	case exit.Signal == "killed":
		text += ": the system may have been out of memory"
	}
	text += ": nothing of its output is used"
	if last != "" {
		text += "; its standard error is in the log"
	}
	return incomplete("%s", text)
}

// The bounds of what is logged of standard error.
const (
	maxErrorLine   = 4 << 10
	errorLines     = 20 // per second
	errorLineBurst = 500
	maxLastLine    = 500
)

// An errorLog logs the lines of standard error.
type errorLog struct {
	done chan struct{}
	last string // the last line, after done
}

// wait waits for the end of standard error and returns the last line.
func (e *errorLog) wait() string {
	<-e.done
	return e.last
}

// startErrorLog begins to log the lines of standard error, without secrets.
func (rp *runningProgram) startErrorLog(stderr *os.File) *errorLog {
	l := &errorLog{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		defer stderr.Close()
		limit := rate.NewLimiter(errorLines, errorLineBurst)
		left := 0
		r := bufio.NewReaderSize(stderr, maxErrorLine)
		for {
			line, cut, err := readErrorLine(r)
			if err != nil && line == "" {
				break
			}
			rp.active()
			if line = rp.account.cleanLine(line, cut); line == "" {
				continue
			}
			l.last = shortenLine(line, maxLastLine)
			if !limit.Allow() {
				left++
				continue
			}
			rp.account.log.Info("standard error of the program", zap.String("line", line))
		}
		if left > 0 {
			rp.account.log.Warn("lines of standard error were left out of the log: the program prints too many", zap.Int("lines", left))
		}
	}()
	return l
}

// readErrorLine reads one line, of which it returns the beginning; cut reports that it was
// longer.
func readErrorLine(r *bufio.Reader) (line string, cut bool, err error) {
	part, more, err := r.ReadLine()
	line, cut = string(part), more
	for more && err == nil {
		_, more, err = r.ReadLine()
	}
	return line, cut, err
}

// cleanLine returns a line of standard error for the log: without secrets and control
// characters.
func (a *account) cleanLine(line string, cut bool) string {
	if cut {
		line += redact.CutMark
	}
	// Secrets may have characters that are replaced.
	line = strings.ToValidUTF8(a.redact.Redact(line), "\ufffd")
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, line))
}

// shortenLine returns the beginning of a text.
func shortenLine(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + redact.CutMark
	}
	return text
}
