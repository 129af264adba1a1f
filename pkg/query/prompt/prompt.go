// Package prompt is the interactive prompt of queries on a terminal.
package prompt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/query"
)

// Options are the settings of a prompt.
type Options struct {
	Engine *query.Engine
	// Refresh makes the engine use the newest state. It is called before each query.
	Refresh func(ctx context.Context) error
	// Limits bound each query; Rows and Format can be changed with commands.
	Limits query.Limits
	Format query.Format
	// History is the path of the file of the history. Without one the history ends with
	// the session.
	History string
	// Interrupts receives a signal for each Ctrl-C while a query runs.
	Interrupts <-chan os.Signal
	// Width returns the number of columns of the terminal, which lines of tables do not
	// exceed; 0 is no bound.
	Width func() int
	// Out receives results, and Err errors and notices.
	Out, Err io.Writer
}

// errInterrupted is the cause of a query's end by Ctrl-C.
var errInterrupted = errors.New("interrupted")

// A session is one prompt.
type session struct {
	o       Options
	editor  *editor
	history historyFile
	// streams are those that had data at the last refresh.
	streams []query.StreamData
	columns *columnLoader
	// unread are the streams whose columns a completion has not waited for any longer.
	unread []string
	// pending are the lines of a statement that has not ended.
	pending string
}

// Run reads statements and commands from the terminal, which standard input and standard
// output must be, and runs them until the input ends. Errors of statements are printed.
func Run(ctx context.Context, o Options) (err error) {
	s := &session{o: o, history: historyFile{path: o.History}}
	s.columns = newColumnLoader(func(ctx context.Context, stream string) ([]query.Column, error) {
		limits := s.o.Limits
		limits.Rows = 0
		return s.o.Engine.Columns(ctx, stream, limits)
	})
	defer s.columns.stop()
	if err := s.refreshStreams(ctx); err != nil {
		return err
	}
	if s.editor, err = openEditor(ctx, s.completeLine); err != nil {
		return err
	}
	defer s.editor.close()
	s.openHistory()
	if err := s.printWelcome(); err != nil {
		return err
	}
	for {
		line, err := s.editor.readLine(s.promptText())
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errAborted):
			s.pending = ""
			continue
		case errors.Is(err, io.EOF):
			return s.printText("\n")
		case err != nil:
			return fmt.Errorf("prompt: read from the terminal: %w", err)
		}
		if err := s.enterLine(ctx, line); errors.Is(err, errQuit) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// openHistory loads the lines of former sessions.
func (s *session) openHistory() {
	lines, err := s.history.readLines()
	for _, line := range lines {
		s.editor.line.AppendHistory(line)
	}
	if len(lines) > 0 {
		s.history.last = lines[len(lines)-1]
	}
	if err != nil {
		s.loseHistory(err)
	}
}

// loseHistory says once that the history is not kept.
func (s *session) loseHistory(err error) {
	s.history.path = ""
	s.printError(fmt.Errorf("%w: the history of this session is not kept", err))
}

// rememberLines adds a statement or a command to the history.
func (s *session) rememberLines(lines []string) {
	for _, line := range lines {
		s.editor.line.AppendHistory(line)
	}
	if err := s.history.appendLines(lines); err != nil {
		s.loseHistory(err)
	}
}

// printWelcome prints what the session is about.
func (s *session) printWelcome() error {
	text := fmt.Sprintf("SQL over the last-known data of %s. ", formatCount(int64(len(s.streams)), "stream"))
	if oldest := s.oldestSnapshot(); !oldest.IsZero() {
		text += "The oldest is " + formatAge(oldest) + ". "
	}
	return s.printText(text + "\nStatements end with a semicolon. .tables lists the streams, .help the commands.\n")
}

// oldestSnapshot returns the time of the oldest snapshot.
func (s *session) oldestSnapshot() (oldest time.Time) {
	for _, stream := range s.streams {
		if oldest.IsZero() || stream.Taken.Before(oldest) {
			oldest = stream.Taken
		}
	}
	return oldest
}

// formatAge returns how old data is, such as "3 minutes old".
func formatAge(taken time.Time) string {
	return humanize.RelTime(taken, time.Now(), "old", "in the future")
}

// promptText returns the prompt. That of a further line has the quote that is open.
func (s *session) promptText() string {
	if s.pending == "" {
		return "collectord> "
	}
	return "       .." + openQuote(s.pending) + "> "
}

// enterLine runs the statements that end in the line, or a command. It returns an error
// only if the session cannot go on.
func (s *session) enterLine(ctx context.Context, line string) error {
	drainSignals(s.o.Interrupts)
	if s.pending == "" && isCommand(line) {
		s.rememberLines([]string{strings.TrimSpace(line)})
		return s.reportError(ctx, s.runInterruptible(ctx, func(ctx context.Context) error { return s.runCommand(ctx, line) }))
	}
	statements, rest := splitStatements(s.pending + line + "\n")
	s.pending = rest
	for _, statement := range statements {
		s.rememberLines(historyLines(statement))
		err := s.runInterruptible(ctx, func(ctx context.Context) error { return s.runStatement(ctx, statement) })
		if reported := s.reportError(ctx, err); reported != nil {
			return reported
		}
		if err != nil { // what follows on the line may depend on it
			s.pending = ""
			return nil
		}
	}
	return nil
}

// drainSignals forgets the signals that were received.
func drainSignals(signals <-chan os.Signal) {
	for {
		select {
		case <-signals:
		default:
			return
		}
	}
}

// runInterruptible calls do with a context that Ctrl-C cancels.
func (s *session) runInterruptible(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-s.o.Interrupts:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	})
	err := do(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		err = errInterrupted
	}
	cancel(nil)
	watching.Wait()
	return err
}

// reportError prints the error of a statement. It returns those that end the session.
func (s *session) reportError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errQuit):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errInterrupted):
		return s.printText("cancelled\n")
	}
	s.printError(err)
	return nil
}

// runStatement runs a statement and prints its result.
func (s *session) runStatement(ctx context.Context, text string) error {
	if err := s.refreshStreams(ctx); err != nil {
		return err
	}
	limits := s.o.Limits
	limits.Width = s.o.Width()
	summary, err := s.o.Engine.Query(ctx, text, s.o.Format, limits, s.o.Out)
	if err != nil {
		return err
	}
	_, err = io.WriteString(s.o.Err, s.describeSummary(summary))
	return err
}

// describeSummary returns the line after a result.
func (s *session) describeSummary(summary query.Summary) string {
	var b strings.Builder
	rows := formatCount(summary.Rows, "row")
	if summary.Truncated {
		rows = "the first " + rows + ", .rows 0 prints all"
	}
	fmt.Fprintf(&b, "(%s, %.1f s", rows, summary.Took.Seconds())
	for i, stream := range summary.Streams {
		separator := ", "
		if i == 0 {
			separator = "; "
		}
		fmt.Fprintf(&b, "%s%s is %s", separator, stream.Stream, formatAge(stream.Taken))
	}
	b.WriteString(")\n")
	return b.String()
}

// refreshStreams makes the session use the newest snapshots. Nothing may be reading those
// of before then.
func (s *session) refreshStreams(ctx context.Context) error {
	s.columns.stop()
	if err := s.o.Refresh(ctx); err != nil {
		return err
	}
	streams, err := s.o.Engine.StreamData(ctx)
	if err != nil {
		return err
	}
	s.streams = streams
	return nil
}

// completeLine completes the word before the cursor. pos is a number of characters.
func (s *session) completeLine(line string, pos int) (head string, texts []string, tail string) {
	characters := []rune(line)
	head, tail = string(characters[:pos]), string(characters[pos:])
	c := completer{streams: s.streamNames, columns: s.completionColumns}
	s.unread = nil
	length, texts := c.completeText(s.pending+head, tail)
	if len(s.unread) > 0 {
		s.noteUnread()
		if len(texts) == 0 { // the editor shows the line again
			texts = []string{head[len(head)-length:]}
		}
	}
	return head[:len(head)-length], texts, tail
}

// noteUnread says below the line that is being edited which columns are missing in a
// completion. The terminal is in raw mode.
func (s *session) noteUnread() {
	_, _ = fmt.Fprintf(s.o.Err, "\r\n(the columns of %s are being read: press Tab again)\r\n", strings.Join(s.unread, ", ")) // as in printError
}

func (s *session) streamNames() (names []string) {
	for _, stream := range s.streams {
		names = append(names, stream.Stream)
	}
	return names
}

// printText writes text for people.
func (s *session) printText(text string) error {
	_, err := io.WriteString(s.o.Out, text)
	return err
}

// printError prints an error of a statement.
func (s *session) printError(err error) {
	text := bytes.TrimSpace([]byte("error: " + strings.TrimPrefix(err.Error(), "query: ")))
	_, _ = s.o.Err.Write(append(text, '\n')) // the terminal is gone, which the next line shows
}
