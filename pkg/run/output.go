package run

import (
	"context"
	"errors"
	"io/fs"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// output writes the records of an extraction into the spool and counts them. It
// implements collector.ResumableOutput and collector.PreviousOutput.
type output struct {
	w      *snapshot.Writer
	stats  *collector.Stats
	chunks state.ExportChunks
	last   *lastKnown
	log    *zap.Logger
}

var (
	_ collector.ResumableOutput = (*output)(nil)
	_ collector.PreviousOutput  = (*output)(nil)
)

func (o *output) NewBatch() collector.Batch { return &batch{Batch: o.w.NewBatch(), stats: o.stats} }

func (o *output) Reset() error {
	o.stats.ResetBatches()
	return o.w.Reset()
}

// batch is a snapshot.Batch that counts its records when they are committed.
type batch struct {
	*snapshot.Batch
	stats *collector.Stats
}

func (b *batch) Commit() error {
	records, bytes := b.Size()
	if err := b.Batch.Commit(); err != nil {
		return err
	}
	b.stats.CountBatch(records, bytes)
	return nil
}

func (o *output) FindJob(request string) (string, error) { return o.chunks.Find(request) }

func (o *output) OtherJobs(request string) ([]string, error) { return o.chunks.Others(request) }

func (o *output) BeginJob(request, job string) error {
	kept, err := o.chunks.Begin(request, job)
	if kept > 0 {
		o.log.Info("continuing an export job that was cut off", zap.String("job", job), zap.Int("chunks_kept", kept))
	}
	return err
}

func (o *output) DropJob() error { return o.chunks.Drop() }

func (o *output) ReuseChunk(ctx context.Context, key string) (bool, error) {
	records, bytes, err := o.chunks.CopyTo(ctx, o.w, key)
	if state.IsUnusableChunk(err) {
		if !errors.Is(err, fs.ErrNotExist) {
			o.log.Warn("a kept chunk cannot be used; it is fetched again", zap.String("chunk", key), zap.Error(err))
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	o.stats.CountBatch(records, bytes)
	return true, nil
}

func (o *output) SaveChunk(key string) collector.Output {
	return &chunkOutput{o, o.chunks.ChunkDir(key)}
}

// chunkOutput is the output of one export chunk. Its batches are also saved in dir.
type chunkOutput struct {
	*output
	dir string
}

func (o *chunkOutput) NewBatch() collector.Batch {
	return &chunkBatch{batch{Batch: o.w.NewBatch(), stats: o.stats}, o.dir}
}

type chunkBatch struct {
	batch
	dir string
}

func (c *chunkBatch) Commit() error {
	records, bytes := c.Size()
	if err := c.CommitTo(c.dir); err != nil {
		return err
	}
	c.stats.CountBatch(records, bytes)
	return nil
}
