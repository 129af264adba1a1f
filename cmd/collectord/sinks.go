package main

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// openSinks makes the destinations that are configured. It does no I/O. The
// state, nil where none is open, is where the backups' history comes from.
func openSinks(s config.Store, st *state.State, log *zap.Logger) ([]store.Sink, error) {
	o := sinkOpener{Store: s, state: st, log: log}
	var sinks []store.Sink
	for _, open := range []func() (store.Sink, error){o.file, o.duckdb, o.postgres, o.s3, o.backup} {
		sink, err := open()
		if err != nil {
			return nil, err
		}
		if sink != nil {
			sinks = append(sinks, sink)
		}
	}
	return sinks, nil
}

// sinkOpener makes each destination, or nil where it is off.
type sinkOpener struct {
	config.Store
	state *state.State
	log   *zap.Logger
}

func (o sinkOpener) file() (store.Sink, error) {
	if o.File == "" {
		return nil, nil
	}
	path, err := o.path("STORE_FILE", o.File)
	if err != nil {
		return nil, err
	}
	return store.NewFile(path, store.FileOptions{Memory: int64(o.Store.DuckDB.Memory), Note: o.note("file")})
}

func (o sinkOpener) duckdb() (store.Sink, error) {
	if !o.Store.DuckDB.On() {
		return nil, nil
	}
	path, err := store.ParsePath("STORE_DUCKDB", o.Store.DuckDB.Path)
	if err != nil {
		return nil, err
	}
	return store.NewDuckDB(path, store.DuckDBOptions{
		Replace: o.Store.DuckDB.Mode == "replace", Keep: store.Keep(o.Store.DuckDB.Keep),
		Memory: int64(o.Store.DuckDB.Memory), LockWait: o.Store.DuckDB.LockWait, Note: o.note("duckdb"),
	}), nil
}

func (o sinkOpener) postgres() (store.Sink, error) {
	p := o.Store.Postgres
	if !p.On() {
		return nil, nil
	}
	return store.NewPostgres(store.PostgresOptions{
		URL: p.URL.Reveal(), Host: p.Host, Port: p.Port, User: p.User, Password: p.Password.Reveal(), DBName: p.DBName,
		Schema: p.Schema, JSON: p.JSON, Replace: p.Mode == "replace", Keep: store.Keep(p.Keep), Note: o.note("postgres"),
	})
}

func (o sinkOpener) s3() (store.Sink, error) {
	if !o.Store.S3.On() || o.Store.S3.Key == "" {
		return nil, nil
	}
	key, err := o.path("STORE_AWS_S3_KEY", o.Store.S3.Key)
	if err != nil {
		return nil, err
	}
	return store.NewS3(store.S3Options{
		Bucket: o.Store.S3.Bucket, Key: key.Render, SSE: o.Store.S3.SSE, KMSKeyID: o.Store.S3.KMSKeyID,
		Memory: int64(o.Store.DuckDB.Memory), Note: o.note("s3"),
	})
}

func (o sinkOpener) backup() (store.Sink, error) {
	if !o.Store.S3.On() || o.Store.S3.Backup == "" {
		return nil, nil
	}
	return o.backups()
}

// backups is where the backups lie.
func (o sinkOpener) backups() (*backup.Sink, error) {
	path, err := backup.ParsePath(o.Store.S3.Backup)
	if err != nil {
		return nil, err
	}
	return backup.New(store.S3Options{
		Bucket: o.Store.S3.Bucket, SSE: o.Store.S3.SSE, KMSKeyID: o.Store.S3.KMSKeyID, Note: o.note(backup.Name),
	}, path, o.state, o.log.With(zap.String("sink", backup.Name)))
}

// path parses the target of one file or object per snapshot.
func (o sinkOpener) path(setting, text string) (*store.Path, error) {
	path, err := store.ParsePath(setting, text)
	if err != nil {
		return nil, err
	}
	if _, err := snapshot.FormatOf(text); err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if !path.Uses("TAG") && !path.Uses("UUID") {
		return nil, fmt.Errorf("%s: %q has neither %%TAG nor %%UUID, so that the streams would overwrite each other", setting, text)
	}
	return path, nil
}

// note logs what is worth knowing of a destination, such as what its copy says
// differently from the snapshot.
func (o sinkOpener) note(sink string) func(*snapshot.Snapshot, string) {
	return func(s *snapshot.Snapshot, text string) {
		log := o.log.With(zap.String("sink", sink))
		if s != nil {
			log = log.With(zap.String("stream", s.Stream), zap.String("upload_id", s.UploadID))
		}
		log.Warn(text)
	}
}
