package external

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/internal/supervise"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

func TestMain(m *testing.M) {
	if supervise.IsWorker(os.Args[1:]) {
		os.Exit(supervise.Work())
	}
	os.Exit(m.Run())
}

// writeFiles writes files into a new directory, by their names.
func writeFiles(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loadOne returns the file with a text, and the settings of its collector.
func loadOne(t *testing.T, text string, environ ...string) (*File, *config.Section) {
	t.Helper()
	files, problems := Load(writeFiles(t, map[string]string{"hr.yaml": text}), Reserved{}, nil)
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	d := files[0].Definition()
	section := &config.Section{Name: d.Name, Into: d.Settings(), Collector: true, OnByDefault: d.OnByDefault}
	env, err := config.Open(config.Source{Environ: environ, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.Load(&config.Settings{}, section); err != nil {
		t.Fatal(err)
	}
	return files[0], section
}

// memory is an output that keeps the records of committed batches.
type memory struct {
	mu      sync.Mutex
	records []string
}

func (m *memory) NewBatch() collector.Batch { return &memoryBatch{to: m} }

func (m *memory) Reset() error { return nil }

type memoryBatch struct {
	to      *memory
	records []string
}

func (b *memoryBatch) Append(record []byte) error {
	b.records = append(b.records, string(record))
	return nil
}

func (b *memoryBatch) Commit() error {
	b.to.mu.Lock()
	defer b.to.mu.Unlock()
	b.to.records = append(b.to.records, b.records...)
	b.records = nil
	return nil
}

func (b *memoryBatch) Discard() { b.records = nil }

// An extraction is the result of a run of all streams of a file.
type extraction struct {
	records map[string][]string
	errs    map[string]error
	doubts  map[string][]collector.Doubt
	log     *observer.ObservedLogs
}

// extractStreams runs the streams of a collector as a run does; without names all.
func extractStreams(ctx context.Context, t *testing.T, f *File, section *config.Section, names ...string) *extraction {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	c, err := f.Definition().Open(section.Into, collector.Options{Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		names = f.StreamNames()
	}
	e := &extraction{records: map[string][]string{}, errs: map[string]error{}, doubts: map[string][]collector.Doubt{}, log: logs}
	group := collector.NewGroup(names...)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, s := range c.Streams {
		if !slices.Contains(names, s.Name) {
			continue
		}
		all.Go(func() {
			defer group.EndStream(s.Name)
			out, stats := &memory{}, &collector.Stats{}
			err := s.Extract(collector.WithStats(collector.WithGroup(ctx, group), stats), out)
			mu.Lock()
			defer mu.Unlock()
			e.records[s.Name], e.errs[s.Name], e.doubts[s.Name] = out.records, err, stats.Doubts()
		})
	}
	all.Wait()
	return e
}

// requireError checks that all streams failed with an error that contains a text.
func (e *extraction) requireError(t *testing.T, want string) {
	t.Helper()
	for stream, err := range e.errs {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", stream, err, want)
		}
	}
}

// requireRecords checks that all streams succeeded with these records.
func (e *extraction) requireRecords(t *testing.T, want map[string][]string) {
	t.Helper()
	for stream, err := range e.errs {
		if err != nil {
			t.Errorf("%s: %v", stream, err)
		}
	}
	if diff := cmp.Diff(want, e.records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// script returns the text of a file whose program is a shell script, with more keys.
func script(more, text string) string {
	var b strings.Builder
	b.WriteString("name: hr\ncommand:\n- sh\n- -c\n- |\n")
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String() + "\n" + more
}

const (
	oneStream  = "streams: [{name: hr_people}]\n"
	twoStreams = "streams: [{name: hr_people}, {name: hr_teams}]\n"
)

func TestOneStream(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, script(oneStream, `cat <<'END'
 {"id": 1,  "half": "\ud800", "id": 2, "_end": {}}

{}
{"é": 1e400}
{"_end": {"hr_people": 3}}
END`))
	extractStreams(t.Context(), t, f, section).requireRecords(t, map[string][]string{
		"hr_people": {`{"id": 1,  "half": "\ud800", "id": 2, "_end": {}}`, `{}`, `{"é": 1e400}`},
	})
}

// TestSeveralStreams: one run of the program has the records of all streams, and those of
// streams that do not run are left out.
func TestSeveralStreams(t *testing.T) {
	t.Parallel()
	counter := filepath.Join(t.TempDir(), "runs")
	f, section := loadOne(t, script(twoStreams, fmt.Sprintf(`echo "$COLLECTORD_STREAMS" >>%s
echo '{"stream": "hr_people", "record": {"id":1 }}'
echo '{"record": {"id":2}, "stream": "hr_teams"}'
echo '{"_end": {"hr_people": 1, "hr_teams": 1}}'`, counter)))
	extractStreams(t.Context(), t, f, section).requireRecords(t, map[string][]string{"hr_people": {`{"id":1 }`}, "hr_teams": {`{"id":2}`}})
	extractStreams(t.Context(), t, f, section, "hr_teams").requireRecords(t, map[string][]string{"hr_teams": {`{"id":2}`}})
	if text, err := os.ReadFile(counter); err != nil || string(text) != "hr_people,hr_teams\nhr_teams\n" {
		t.Errorf("the program was started for %q, %v", text, err)
	}
}

func TestOutputThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ streams, output, want string }{
		"no end line":        {streams: oneStream, output: `{"id": 1}`, want: `incomplete: the program ended well, but did not print the end line: want {"_end": {"hr_people": 1}}`},
		"nothing":            {streams: oneStream, output: ``, want: `did not print the end line: want {"_end": {"hr_people": 0}}`},
		"wrong count":        {streams: oneStream, output: "{\"id\": 1}\n{\"_end\": {\"hr_people\": 2}}", want: "incomplete: the end line says 2 records of hr_people, but 1 were printed"},
		"count missing":      {streams: twoStreams, output: `{"_end": {"hr_people": 0}}`, want: "incomplete: the end line does not have the number of records of hr_teams"},
		"count of no stream": {streams: oneStream, output: `{"_end": {"hr_persons": 0}}`, want: `line 1 of the output names the stream "hr_persons", which hr.yaml does not have: it has hr_people`},
		"no count":           {streams: oneStream, output: `{"_end": {"hr_people": "1"}}`, want: "line 1 of the output is not an end line: want one whole number"},
		"end of no object":   {streams: oneStream, output: `{"_end": 1}`, want: `line 1 of the output is not an end line: want {"_end": {"hr_people": 3}}`},
		"after the end":      {streams: oneStream, output: "{\"_end\": {\"hr_people\": 0}}\n\n{\"id\": 1}", want: "line 3 of the output is after the end line"},
		"array":              {streams: oneStream, output: "{\"id\": 1}\n[1]", want: `line 2 of the output is not a JSON object: it begins with "[1]"`},
		"text":               {streams: oneStream, output: "Reading people", want: `line 1 of the output is not a JSON object: it begins with "Reading people"; let the program print anything else to standard error`},
		"cut":                {streams: oneStream, output: `{"id": `, want: "hr: incomplete: the output ends in the middle of line 1, with the exit status 0: let the program end after whole lines only"},
		"cut character":      {streams: oneStream, output: "{\"id\": \"\xc3", want: "the output ends in the middle of line 1"},
		"text at the end":    {streams: oneStream, output: "{\"id\": 1}\nReading teams", want: `line 2 of the output is not a JSON object: it begins with "Reading teams"`},
		"cut within a line":  {streams: oneStream, output: "{\"id\": \n{}", want: "line 1 of the output is not valid JSON"},
		"two objects":        {streams: oneStream, output: `{} {}`, want: `line 1 of the output has more than one JSON object: it continues with "{}"`},
		"not UTF-8":          {streams: oneStream, output: "{\"id\": \"\xff\"}", want: "line 1 of the output is not UTF-8"},
		"no stream":          {streams: twoStreams, output: `{"id": 1}`, want: `line 1 of the output is not {"stream": "…", "record": {…}}`},
		"other members":      {streams: twoStreams, output: `{"stream": "hr_people", "record": {}, "x": 1}`, want: `is not {"stream"`},
		"unknown stream":     {streams: twoStreams, output: `{"stream": "hr", "record": {}}`, want: `names the stream "hr"`},
		"stream twice":       {streams: twoStreams, output: `{"stream": "hr_people", "stream": "hr_teams", "record": {}}`, want: `has the member "stream" twice`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := writeFiles(t, map[string]string{"output": tc.output})
			f, section := loadOne(t, script(tc.streams, "cat "+dir+"/output"))
			e := extractStreams(t.Context(), t, f, section)
			e.requireError(t, tc.want)
			e.requireError(t, "hr: ")
		})
	}
}

func TestProgramsThatFail(t *testing.T) {
	t.Parallel()
	const good = `echo '{"_end": {"hr_people": 0}}'; `
	for name, tc := range map[string]struct {
		more, script string
		want         string
		is           error
	}{
		"exit status":      {script: good + "echo starting >&2; echo the disk is full >&2; exit 3", want: "exit status 3: the disk is full: nothing of its output is used", is: collector.ErrIncomplete},
		"refused":          {script: "exit 77", want: "exit status 77", is: collector.ErrRefused},
		"signal":           {script: good + "kill -9 $$", want: "signal: killed: the system may have been out of memory", is: collector.ErrIncomplete},
		"dies mid-line":    {script: `echo '{"id": 1}'; printf '{"id": '; echo the disk is full >&2; exit 1`, want: "/sh: exit status 1: the disk is full: nothing of its output is used; its standard error is in the log", is: collector.ErrIncomplete},
		"killed mid-line":  {script: `echo '{"id": 1}'; printf '{"id": '; echo reading page 2 >&2; kill -9 $$`, want: "signal: killed: reading page 2: the system may have been out of memory", is: collector.ErrIncomplete},
		"refused mid-line": {script: `printf '{"id": '; exit 77`, want: "exit status 77", is: collector.ErrRefused},
		"dies half way":    {script: `echo '{"id": 1}'; exit 1`, want: "exit status 1", is: collector.ErrIncomplete},
		"timeout":          {more: "timeout: 1s\n", script: "sleep 100000", want: "hr: the program took longer than its timeout, 1s: raise timeout in hr.yaml", is: context.DeadlineExceeded},
		"idle":             {more: "idle_timeout: 1s\n", script: "sleep 100000", want: "no progress for 1s: the program printed nothing", is: collector.ErrIdle},
		"too large":        {more: "memory: 64MiB\n", script: `exec python3 -c 'bytearray(1 << 30)'`, want: "MemoryError", is: collector.ErrIncomplete},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, section := loadOne(t, script(oneStream+tc.more, tc.script))
			e := extractStreams(t.Context(), t, f, section)
			e.requireError(t, tc.want)
			if err := e.errs["hr_people"]; !errors.Is(err, tc.is) {
				t.Errorf("%v, want %v", err, tc.is)
			}
		})
	}
}

// TestErrorNamesTheLogOnlyWithLines: the error of a program without a word to standard error
// does not send its reader to the log.
func TestErrorNamesTheLogOnlyWithLines(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, script(oneStream, "exit 3"))
	err := extractStreams(t.Context(), t, f, section).errs["hr_people"]
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: nothing of its output is used") {
		t.Errorf("error %v", err)
	}
}

// TestEndlessOutputIsStopped: a program whose output is refused does not block, and one that
// prints without end is stopped.
func TestEndlessOutputIsStopped(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, script(oneStream, "echo x; yes '{}'"))
	extractStreams(t.Context(), t, f, section).requireError(t, "line 1 of the output is not a JSON object")
}

// TestCancelledStreamStopsAll: when the run of one stream ends, the program is stopped, and
// the other stream fails with the same error.
func TestCancelledStreamStopsAll(t *testing.T) {
	t.Parallel()
	started := filepath.Join(t.TempDir(), "started")
	f, section := loadOne(t, script(twoStreams, ": >"+started+"; sleep 100000"))
	c, err := f.Definition().Open(section.Into, collector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	group := collector.NewGroup(f.StreamNames()...)
	cause := errors.New("the disk is full")
	first, cancel := context.WithCancelCause(collector.WithGroup(t.Context(), group))
	errs := make(chan error, 2)
	go func() { errs <- c.Streams[0].Extract(first, &memory{}) }()
	go func() { errs <- c.Streams[1].Extract(collector.WithGroup(t.Context(), group), &memory{}) }()
	for _, err := os.Stat(started); err != nil; _, err = os.Stat(started) {
		time.Sleep(time.Millisecond)
	}
	cancel(cause)
	for range 2 {
		if err := <-errs; !errors.Is(err, cause) {
			t.Errorf("%v, want %v", err, cause)
		}
	}
}

// TestStreamThatEndsBeforeIsNotWaitedFor: a stream whose run ends before it extracts, such
// as by a full disk, does not keep the others from running.
func TestStreamThatEndsBeforeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, script(twoStreams, `echo '{"_end": {"'$COLLECTORD_STREAMS'": 0}}'`))
	c, err := f.Definition().Open(section.Into, collector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	group := collector.NewGroup(f.StreamNames()...)
	group.EndStream("hr_people")
	if err := c.Streams[1].Extract(collector.WithGroup(t.Context(), group), &memory{}); err != nil {
		t.Error(err)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, script(oneStream+`
variables:
- HR_TOKEN
- {name: HR_URL, secret: false, required: false}
- {name: HR_UNSET, required: false}
`, `echo "the token is $HR_TOKEN of $HR_URL" >&2
test "$HOME" = "$PWD" && test "$TMPDIR" = "$PWD" || exit 9
echo "{\"names\": \"$(env | cut -d= -f1 | grep -v '^_$\|^SHLVL$' | sort | tr '\n' ' ')\"}"; echo '{"_end": {"hr_people": 1}}'`),
		"HR_TOKEN=verysecret", "HR_URL=https://hr.example.com")
	e := extractStreams(t.Context(), t, f, section)
	e.requireRecords(t, map[string][]string{"hr_people": {`{"names": "COLLECTORD_STREAMS HOME HR_TOKEN HR_URL LANG PATH PWD TMPDIR "}`}})
	want := "the token is [redacted] of https://hr.example.com"
	if got := e.log.FilterMessage("standard error of the program").All(); len(got) != 1 || got[0].ContextMap()["line"] != want {
		t.Errorf("logged %v, want %s", got, want)
	}
	if !section.Active {
		t.Error("the collector is off")
	}
	if _, section := loadOne(t, script(oneStream+"variables: [HR_TOKEN]\n", "exit")); section.Active || !slices.Equal(section.Missing, []string{"HR_TOKEN"}) {
		t.Errorf("without its variable the collector is on, or %q are missing", section.Missing)
	}
	if _, section := loadOne(t, script(oneStream, "exit")); !section.Active {
		t.Error("a collector without variables is off")
	}
}

// TestStandardErrorIsBounded: long lines are cut, so that the beginning of a secret at the
// cut is hidden, and of too many lines some are left out.
func TestStandardErrorIsBounded(t *testing.T) {
	t.Parallel()
	f, section := loadOne(t, script(oneStream+"variables: [HR_TOKEN]\n", `python3 -c '
import os, sys
sys.stderr.write("x" * 4090 + os.environ["HR_TOKEN"] + "y" * 10000 + "\n")
sys.stderr.write("\x1b[31mred\n" + "z\n" * 5000 + "last " + os.environ["HR_TOKEN"] + "\n")'
exit 1`), "HR_TOKEN=verysecrettoken")
	e := extractStreams(t.Context(), t, f, section)
	e.requireError(t, "exit status 1: last [redacted]: ")
	lines := e.log.FilterMessage("standard error of the program").All()
	if len(lines) < errorLineBurst || len(lines) > 5002 {
		t.Fatalf("%d lines", len(lines))
	}
	if got, want := lines[0].ContextMap()["line"], strings.Repeat("x", 4090)+"[redacted]…"; got != want {
		t.Errorf("logged %v, want %s", got, want)
	}
	if got := lines[1].ContextMap()["line"]; got != "[31mred" {
		t.Errorf("logged %q", got)
	}
	left := e.log.FilterMessageSnippet("were left out of the log").All()
	if len(lines) < 5003 && len(left) != 1 {
		t.Errorf("%d lines, and %d warnings", len(lines), len(left))
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ more, want string }{
		"none":    {},
		"good":    {more: "check: [sh, -c, 'echo ignored; exit 0']\n"},
		"bad":     {more: "check: [sh, -c, 'echo wrong password >&2; exit 77']\n", want: "hr: credentials refused: /"},
		"missing": {more: "check: [/no/such/program]\n", want: "hr: command: /no/such/program does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, section := loadOne(t, script(oneStream+tc.more, "exit 1"))
			c, err := f.Definition().Open(section.Into, collector.Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = c.Check(t.Context())
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if err := c.Streams[0].Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
