package prompt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/query"
)

// errQuit ends the prompt.
var errQuit = errors.New("quit")

// A command is a line that begins with a dot.
type command struct {
	name, argument, help string
	run                  func(s *session, ctx context.Context, argument string) error
}

// commands are those that the prompt has. The first of a prefix is meant by it.
var commands []command

func init() { // .help lists them
	commands = []command{
		{name: ".tables", help: "list the streams that have data, and how old it is", run: (*session).printTables},
		{name: ".schema", argument: "[STREAM]", help: "list the columns of a stream, or of all", run: (*session).printSchema},
		{name: ".format", argument: "[FORMAT]", help: "print results as " + strings.Join(formatNames(), ", "), run: (*session).setFormat},
		{name: ".rows", argument: "[NUMBER]", help: "print at most this many rows of a result; 0 prints all", run: (*session).setRows},
		{name: ".help", help: "print this list", run: (*session).printHelp},
		{name: ".quit", help: "end, as .exit and Ctrl-D do", run: endSession},
		{name: ".exit", help: "end, as .quit and Ctrl-D do", run: endSession},
	}
}

// formats are the formats of results.
var formats = []query.Format{query.TableFormat, query.CSVFormat, query.RawCSVFormat, query.JSONFormat}

func formatNames() (names []string) {
	for _, f := range formats {
		names = append(names, string(f))
	}
	return names
}

// isCommand reports whether a line is not SQL but a command.
func isCommand(line string) bool {
	line = strings.ToLower(strings.TrimRight(strings.TrimSpace(line), "; "))
	return strings.HasPrefix(line, ".") || strings.HasPrefix(line, `\`) || line == "quit" || line == "exit" || line == "help"
}

// runCommand runs a command.
func (s *session) runCommand(ctx context.Context, line string) error {
	name, argument, _ := strings.Cut(strings.TrimRight(strings.TrimSpace(line), "; "), " ")
	name = strings.ToLower(name)
	if !strings.HasPrefix(name, ".") {
		if strings.HasPrefix(name, `\`) {
			return fmt.Errorf("unknown command %s: commands begin with a dot, .help lists them", name)
		}
		name = "." + name
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("unknown command %s: .help lists the commands", name)
	}
	argument = strings.TrimSpace(argument)
	if argument != "" && commands[i].argument == "" {
		return fmt.Errorf("%s takes no argument, got %q", name, argument)
	}
	return commands[i].run(s, ctx, argument)
}

func endSession(*session, context.Context, string) error { return errQuit }

func (s *session) printHelp(context.Context, string) error {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "%-18s %s\n", strings.TrimSpace(c.name+" "+c.argument), c.help)
	}
	b.WriteString(`
A statement is one SELECT and ends with a semicolon; it may have several lines.
Tab completes, Ctrl-R searches the history, Ctrl-C cancels the query or the line.
In a table, … stands for the rest of a long value; the other formats have all of it.
`)
	return s.printText(b.String())
}

func (s *session) printTables(ctx context.Context, _ string) error {
	if err := s.refreshStreams(ctx); err != nil {
		return err
	}
	if len(s.streams) == 0 {
		return s.printText("no stream has data yet\n")
	}
	width := len("stream")
	for _, stream := range s.streams {
		width = max(width, len(stream.Stream))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s  %10s  %s\n", width, "stream", "records", "data")
	for _, stream := range s.streams {
		fmt.Fprintf(&b, "%-*s  %10d  %s\n", width, stream.Stream, stream.Records, formatAge(stream.Taken))
	}
	return s.printText(b.String())
}

// printSchema prints the columns of a stream, or those of all.
func (s *session) printSchema(ctx context.Context, argument string) error {
	if err := s.refreshStreams(ctx); err != nil {
		return err
	}
	var found []query.StreamData
	for _, stream := range s.streams {
		if argument == "" || strings.EqualFold(strings.Trim(argument, `"`), stream.Stream) {
			found = append(found, stream)
		}
	}
	if len(found) == 0 && argument != "" {
		return fmt.Errorf("no stream %s has data: .tables lists those that have", argument)
	}
	for _, stream := range found {
		columns, err := s.columns.read(ctx, stream)
		if err != nil {
			return err
		}
		if err := s.printText(formatSchema(stream.Stream, columns)); err != nil {
			return err
		}
	}
	return nil
}

// formatSchema returns the columns of a stream as text, with the types as they are, because
// long ones are needed most.
func formatSchema(stream string, columns []query.Column) string {
	width := 0
	for _, c := range columns {
		width = max(width, len(quoteName(c.Name)))
	}
	var b strings.Builder
	b.WriteString(stream + "\n")
	for _, c := range columns {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, quoteName(c.Name), c.Type)
	}
	return b.String()
}

func (s *session) setFormat(_ context.Context, argument string) error {
	if argument == "" {
		return s.printText(fmt.Sprintf("%s\n", s.o.Format))
	}
	if !slices.Contains(formats, query.Format(argument)) {
		return fmt.Errorf(".format is %q: it may be %s; Parquet needs collectord query --format parquet -o FILE", argument, strings.Join(formatNames(), ", "))
	}
	s.o.Format = query.Format(argument)
	return nil
}

func (s *session) setRows(_ context.Context, argument string) error {
	if argument == "" {
		return s.printText(fmt.Sprintf("%d\n", s.o.Limits.Rows))
	}
	n, err := strconv.ParseInt(argument, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf(".rows is %q: it may be a number, or 0 for all rows", argument)
	}
	s.o.Limits.Rows = n
	return nil
}

// formatCount returns a number with its noun, such as "1 row".
func formatCount(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(n) + " " + noun + "s"
}
