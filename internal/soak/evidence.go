package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// evidence is what there is at the end, read where it lies.
type evidence struct {
	runs     []state.Run // oldest first
	counts   []state.Count
	stored   []state.Stored
	known    map[string]string // upload id of the last-known snapshot, by stream
	queued   int
	tables   map[string]table           // by database
	order    map[string][]ledgerEntry   // of Postgres' list, by stream
	objects  map[string]map[string]file // by place and stream
	left     []string                   // files that must not be there
	uploads  []string                   // unfinished, in S3
	folders  map[string]int             // snapshots kept, by stream
	log      []logLine
	odd      []string // lines of the log that are no entries
	shown    int      // and lines with a secret
	restored int      // exit code of the restore on a new machine
}

// A key names a snapshot.
type key struct{ stream, id string }

// A table has, by snapshot, its records.
type table map[key]*rows

// rows are the records of a snapshot in a table.
type rows struct {
	sums  [][sha256.Size]byte
	first int64 // place of the first
	odd   string
}

type ledgerEntry struct {
	id      string
	records int
	at      time.Time
}

// A file is one that holds a snapshot.
type file struct {
	sum     [sha256.Size]byte // of all bytes
	ids     []string          // the upload ids in it
	content content
	err     error
}

type logLine struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	Stream  string `json:"stream"`
	ID      string `json:"upload_id"`
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
}

// tail is what collectord adds to a record.
var tail = regexp.MustCompile(`,"_tenancy":"` + tenancy + `","_upload_timestamp":"[0-9: -]+","_upload_id":"([0-9a-f-]{36})"\}$`)

// split parts a stored record into the vendor's own and the upload id.
func split(record []byte) (vendor []byte, id string, err error) {
	at := tail.FindSubmatchIndex(record)
	if at == nil {
		return nil, "", fmt.Errorf("a record ends with %.150q", record[max(0, len(record)-150):])
	}
	return append(slices.Clone(record[:at[0]]), '}'), string(record[at[2]:at[3]]), nil
}

// add puts a record into the table.
func (t table) add(stream string, place int64, record []byte) {
	vendor, id, err := split(record)
	k := key{stream, id}
	if t[k] == nil {
		t[k] = &rows{first: place}
	}
	if err != nil {
		t[k].odd = err.Error()
		return
	}
	t[k].sums = append(t[k].sums, sha256.Sum256(vendor))
}

// gather reads everything.
func (s *soak) gather() (*evidence, error) {
	e := &evidence{known: map[string]string{}, tables: map[string]table{}, order: map[string][]ledgerEntry{}, objects: map[string]map[string]file{}, folders: map[string]int{}}
	return e, errors.Join(
		s.readState(e), s.readPostgres(e), s.readDuckDB(e), s.readFolders(e), s.readUploads(e), s.readLog(e), s.restore(e), s.readFiles(e),
	)
}

func (s *soak) readState(e *evidence) (err error) {
	st, err := state.Open(s.ctx, s.file("state"), state.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if e.runs, err = st.Runs(s.ctx, "", 1<<30); err != nil {
		return err
	}
	slices.Reverse(e.runs)
	if e.counts, err = st.Counts(s.ctx); err != nil {
		return err
	}
	if e.stored, err = st.Stored(s.ctx); err != nil {
		return err
	}
	heads, err := st.Heads(s.ctx)
	if err != nil {
		return err
	}
	e.queued = len(heads)
	for _, stream := range allStreams() {
		last, _, err := st.LastKnown(s.ctx, stream, tenancy)
		if errors.Is(err, state.ErrNone) {
			continue
		}
		if err == nil {
			err = last.Verify(s.ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: the last-known snapshot: %w", stream, err)
		}
		e.known[stream] = last.UploadID
	}
	return nil
}

// readFolders looks for what should be gone.
func (s *soak) readFolders(e *evidence) error {
	for _, dir := range []string{s.file("state", "spool"), s.file("state", "kept"), s.file("tmp")} {
		e.left = append(e.left, filesIn(dir)...)
	}
	for _, path := range filesIn(s.file("source")) {
		if filepath.Base(path) != tenancy+".json" {
			e.left = append(e.left, path)
		}
	}
	beside, err := filepath.Glob(s.dest.duckdb() + "*")
	if err != nil {
		return err
	}
	for _, path := range beside {
		if path != s.dest.duckdb() {
			e.left = append(e.left, path)
		}
	}
	for _, stream := range allStreams() {
		found, err := filepath.Glob(s.file("state", "snapshots", stream, tenancy, "*"))
		if err != nil {
			return err
		}
		e.folders[stream] = len(found)
	}
	return nil
}

// places are where each stream has a file, and which.
func (s *soak) places() map[string]func(stream string) string {
	object := func(prefix string) func(string) string {
		return func(stream string) string { return s.dest.s3.Object(bucket, prefix+"/"+stream+"/"+tenancy+".json") }
	}
	return map[string]func(string) string{
		"file":    func(stream string) string { return s.file("source", stream, tenancy+".json") },
		"S3":      object("source"),
		"backup":  object("backup"),
		"restore": func(stream string) string { return s.file("new", "source", stream, tenancy+".json") },
	}
}

func (s *soak) readFiles(e *evidence) error {
	for place, path := range s.places() {
		e.objects[place] = map[string]file{}
		for _, stream := range allStreams() {
			e.objects[place][stream] = readFile(s.ctx, path(stream))
		}
	}
	return nil
}

func readFile(ctx context.Context, path string) (f file) {
	text, err := os.ReadFile(path)
	if err != nil {
		return file{err: err}
	}
	f.sum = sha256.Sum256(text)
	var sums [][sha256.Size]byte
	f.err = snapshot.Decode(ctx, strings.NewReader(string(text)), snapshot.Format{Kind: snapshot.JSON}, func(record []byte) error {
		vendor, id, err := split(record)
		if !slices.Contains(f.ids, id) {
			f.ids = append(f.ids, id)
		}
		sums = append(sums, sha256.Sum256(vendor))
		return err
	})
	f.content = contentOf(sums)
	return f
}

// restore has a new machine take everything from the backup.
func (s *soak) restore(e *evidence) error {
	if err := os.MkdirAll(s.file("new"), 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(s.ctx, s.opts.binary, "restore")
	cmd.Dir = s.file("new")
	cmd.Env = append(s.environment(), s.vendors.env()...)
	cmd.Env = append(append(cmd.Env, s.dest.s3env(s.dest.s3.Addr())...),
		"STATE_DIR="+s.file("new", "state"), "STORE_FILE="+s.file("new", "source", "%TAG", "%TENANCY.json"))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return err
	}
	e.restored = cmd.ProcessState.ExitCode()
	return os.WriteFile(s.file("new", "log"), out, 0o600)
}

func (s *soak) readLog(e *evidence) error {
	f, err := os.Open(s.file("daemon.log"))
	if err != nil {
		return err
	}
	defer f.Close()
	secrets := s.daemon.secrets()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line logLine
		text := lines.Text()
		if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(text, secret) }) {
			e.shown++
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			e.odd = append(e.odd, text)
			continue
		}
		e.log = append(e.log, line)
	}
	return lines.Err()
}
