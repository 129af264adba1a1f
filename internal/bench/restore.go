package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store/s3"
)

// restoredRecords is the number of records of 2 KB in the backup that is restored.
const restoredRecords = 1_000_000

// maxRestoreMemory is the target for the memory of a restore, in bytes.
const maxRestoreMemory = 96_000_000

// benchRestore compares the restore of a backup of 2 GB with the SDK's download of
// the same object to a file, followed by one verification of the file.
func benchRestore(l *lab) (result, error) {
	s, err := l.testSnapshot(restoredRecords)
	if err != nil {
		return result{}, err
	}
	env, err := l.prepareS3()
	if err != nil {
		return result{}, err
	}
	env = append(env, "STORE_AWS_S3_BUCKET=bench", "STORE_FILE=off", "LOG_FORMAT=json")
	if _, err := runTimed(newCommand(l.ctx, env, l.self, "worker", "backup", s.Dir())); err != nil {
		return result{}, err
	}
	sdk, err := l.buildProgram("internal/bench/s3uploader")
	if err != nil {
		return result{}, err
	}
	var downloads, verifications []measured
	ours, theirs, err := l.comparePair(l.restoreCommand(env), func() (measured, error) {
		dir, err := l.newDir()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "backup.json")
		download, err := runTimed(newCommand(l.ctx, env, sdk, "download", file, "bench", backupKey))
		if err != nil {
			return measured{}, err
		}
		verification, err := runTimed(newCommand(l.ctx, nil, l.self, "worker", "verify", file))
		downloads, verifications = append(downloads, download), append(verifications, verification)
		return measured{
			wall: download.wall + verification.wall, cpu: download.cpu + verification.cpu, rss: max(download.rss, verification.rss),
		}, err
	})
	if err != nil {
		return result{}, err
	}
	r := compareResults(s, ours, theirs, "the SDK's download and one verification", 1)
	r.ratio += fmt.Sprintf("; download %.1f s, verification %.1f s, both %s", medianWall(downloads), medianWall(verifications), formatCPUPerGB(s.Bytes, medianCPU(theirs)))
	r.met = r.met && peakRSS(ours) <= maxRestoreMemory
	r.notes = append(r.notes, restoreNote)
	return r, nil
}

const restoreNote = "`collectord restore` with an empty state: it downloads, checks every record, computes the SHA-256 of the " +
	"records, compresses them and seals the snapshot. The other side is two programs: the SDK's transfermanager with its defaults " +
	"writes the object to a file, and a second one reads the file, checks that every record is a JSON object and computes the " +
	"SHA-256. The S3 server runs on the same cores."

// backupKey is the key of the backup of the benchmark's stream.
const backupKey = "backup/" + stream + "/default.json"

// restoreCommand returns a run of the program that restores into a new state.
func (l *lab) restoreCommand(env []string) runFunc {
	return func() (measured, error) {
		binary, err := l.buildProgram("cmd/collectord")
		if err != nil {
			return measured{}, err
		}
		dir, err := l.newDir()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		cmd := newCommand(l.ctx, append(env, "STATE_DIR="+filepath.Join(dir, "state")), binary, "restore", stream)
		cmd.Dir = dir
		return runTimed(cmd)
	}
}

// writeBackup writes the backup of a snapshot. args are DIR.
func writeBackup(ctx context.Context, args []string) error {
	s, err := snapshot.Open(args[0])
	if err != nil {
		return err
	}
	path, err := backup.ParsePath("backup/%TAG/%TENANCY.json")
	if err != nil {
		return err
	}
	sink, err := backup.New(s3.Options{Bucket: "bench"}, path, nil, zap.NewNop())
	if err != nil {
		return err
	}
	return errors.Join(sink.Write(ctx, s), sink.Close())
}

// verifyFile checks that a file is an array of JSON objects, and prints their
// SHA-256 as NDJSON. args are FILE.
func verifyFile(ctx context.Context, args []string) error {
	fmt.Print(readyMark)
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if err := snapshot.Decode(ctx, f, snapshot.Format{Kind: snapshot.JSON}, func(record []byte) error {
		sum.Write(record) // it never fails
		sum.Write([]byte{'\n'})
		return nil
	}); err != nil {
		return err
	}
	fmt.Print(doneMark)
	fmt.Printf("%x\n", sum.Sum(nil))
	return nil
}
