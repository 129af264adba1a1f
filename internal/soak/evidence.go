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
	"github.com/collectord/collectord/pkg/state/local"
)

// evidence is the final state of the daemon and of all destinations.
type evidence struct {
	runs         []state.Run // oldest first
	counts       []state.Count
	sinkStatuses []state.SinkStatus
	lastKnown    map[string]string // upload id of the last-known snapshot, by stream
	queued       int
	tables       map[string]table           // by database
	order        map[string][]ledgerEntry   // of _collectord_snapshots in Postgres, by stream
	files        map[string]map[string]file // by location and stream
	leftovers    []string                   // files that must not exist
	uploads      []string                   // unfinished uploads in S3
	snapshotDirs map[string]int             // number of snapshots in the state directory, by stream
	log          []logLine
	malformed    []string // lines of the log that are not JSON
	secretLines  int      // number of lines with a secret
	alerts       []*alertEpisode
	restoreCode  int // exit code of the restore on a new machine
}

// A key identifies a snapshot.
type key struct{ stream, id string }

// A table holds the records of a database table by snapshot.
type table map[key]*rows

// rows are the records of one snapshot in a table.
type rows struct {
	sums      [][sha256.Size]byte
	first     int64 // position of the first
	malformed string
}

type ledgerEntry struct {
	id      string
	records int
	at      time.Time
}

// A file is a file or an object with a snapshot.
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

// addedMembers matches the members that collectord adds to a record.
var addedMembers = regexp.MustCompile(`,"_tenancy":"` + tenancy + `","_upload_timestamp":"[0-9: -]+","_upload_id":"([0-9a-f-]{36})"\}$`)

// splitRecord splits a stored record into the vendor's record and the upload
// id.
func splitRecord(record []byte) (vendor []byte, id string, err error) {
	at := addedMembers.FindSubmatchIndex(record)
	if at == nil {
		return nil, "", fmt.Errorf("a record ends with %.150q", record[max(0, len(record)-150):])
	}
	return append(slices.Clone(record[:at[0]]), '}'), string(record[at[2]:at[3]]), nil
}

// addRecord adds a record to the table.
func (t table) addRecord(stream string, place int64, record []byte) {
	vendor, id, err := splitRecord(record)
	k := key{stream, id}
	if t[k] == nil {
		t[k] = &rows{first: place}
	}
	if err != nil {
		t[k].malformed = err.Error()
		return
	}
	t[k].sums = append(t[k].sums, sha256.Sum256(vendor))
}

// gatherEvidence reads all evidence.
func (s *soak) gatherEvidence() (_ *evidence, err error) {
	e := &evidence{
		lastKnown: map[string]string{}, tables: map[string]table{}, order: map[string][]ledgerEntry{},
		files: map[string]map[string]file{}, snapshotDirs: map[string]int{},
	}
	e.alerts, err = s.prometheus.readAlerts()
	return e, errors.Join(
		err, s.readState(e), s.readPostgres(e), s.readDuckDB(e), s.readDirectories(e), s.readUploads(e),
		s.readLog(e), s.restoreOnNewMachine(e), s.readFiles(e),
	)
}

func (s *soak) readState(e *evidence) (err error) {
	st, err := local.Open(s.ctx, s.file("state"), local.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if e.runs, err = st.Runs.List(s.ctx, "", 1<<30); err != nil {
		return err
	}
	slices.Reverse(e.runs)
	for i := range e.runs {
		e.runs[i].Started, e.runs[i].Ended = trueTime(e.runs[i].Started), trueTime(e.runs[i].Ended)
	}
	if e.counts, err = st.Runs.OutcomeCounts(s.ctx); err != nil {
		return err
	}
	if e.sinkStatuses, err = st.Queue.SinkStatuses(s.ctx); err != nil {
		return err
	}
	heads, err := st.Queue.Next(s.ctx, tenancy)
	if err != nil {
		return err
	}
	e.queued = len(heads)
	for _, stream := range allStreams() {
		last, _, err := st.Snapshots.LastKnown(s.ctx, stream, tenancy)
		if errors.Is(err, state.ErrNoSnapshot) {
			continue
		}
		if err == nil {
			err = last.Verify(s.ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: the last-known snapshot: %w", stream, err)
		}
		e.lastKnown[stream] = last.UploadID
	}
	return nil
}

// readDirectories lists files that should have been removed, and counts
// snapshots.
func (s *soak) readDirectories(e *evidence) error {
	for _, dir := range []string{s.file("state", "spool"), s.file("state", "kept"), s.file("tmp")} {
		e.leftovers = append(e.leftovers, filesIn(dir)...)
	}
	for _, path := range filesIn(s.file("source")) {
		if filepath.Base(path) != tenancy+".json" {
			e.leftovers = append(e.leftovers, path)
		}
	}
	beside, err := filepath.Glob(s.destinations.duckdbPath() + "*")
	if err != nil {
		return err
	}
	for _, path := range beside {
		if path != s.destinations.duckdbPath() {
			e.leftovers = append(e.leftovers, path)
		}
	}
	for _, stream := range allStreams() {
		found, err := filepath.Glob(s.file("state", "snapshots", stream, tenancy, "*"))
		if err != nil {
			return err
		}
		e.snapshotDirs[stream] = len(found)
	}
	return nil
}

// streamFiles returns, by location, functions that return the path of a
// stream's file.
func (s *soak) streamFiles() map[string]func(stream string) string {
	objectPath := func(prefix string) func(string) string {
		return func(stream string) string {
			return s.destinations.s3.Object(bucket, prefix+"/"+stream+"/"+tenancy+".json")
		}
	}
	return map[string]func(string) string{
		"file":    func(stream string) string { return s.file("source", stream, tenancy+".json") },
		"S3":      objectPath("source"),
		"backup":  objectPath("backup"),
		"restore": func(stream string) string { return s.file("new", "source", stream, tenancy+".json") },
	}
}

func (s *soak) readFiles(e *evidence) error {
	for place, path := range s.streamFiles() {
		e.files[place] = map[string]file{}
		for _, stream := range allStreams() {
			e.files[place][stream] = readFile(s.ctx, path(stream))
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
		vendor, id, err := splitRecord(record)
		if !slices.Contains(f.ids, id) {
			f.ids = append(f.ids, id)
		}
		sums = append(sums, sha256.Sum256(vendor))
		return err
	})
	f.content = contentOf(sums)
	return f
}

// restoreOnNewMachine restores everything from the backup into a new state
// directory.
func (s *soak) restoreOnNewMachine(e *evidence) error {
	if err := os.MkdirAll(s.file("new"), 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(s.ctx, s.opts.binary, "restore")
	cmd.Dir = s.file("new")
	vendorEnv, keys := s.vendors.settingsEnv()
	cmd.Env = append(s.baseEnvironment(), vendorEnv...)
	for vendor, key := range keys { // a restore requests nothing from a vendor
		cmd.Env = append(cmd.Env, keyVariables[vendor]+"="+key)
	}
	cmd.Env = append(append(cmd.Env, s.destinations.s3Settings(s.destinations.s3.Addr())...),
		"STATE_DIR="+s.file("new", "state"), "STORE_FILE="+s.file("new", "source", "%TAG", "%TENANCY.json"))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return err
	}
	e.restoreCode = cmd.ProcessState.ExitCode()
	return os.WriteFile(s.file("new", "log"), out, 0o600)
}

func (s *soak) readLog(e *evidence) error {
	f, err := os.Open(s.file("daemon.log"))
	if err != nil {
		return err
	}
	defer f.Close()
	secrets := s.daemon.allSecrets()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line logLine
		text := lines.Text()
		if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(text, secret) }) {
			e.secretLines++
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			e.malformed = append(e.malformed, text)
			continue
		}
		e.log = append(e.log, line)
	}
	return lines.Err()
}
