package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
)

func restoreCommand(p *program) *cobra.Command {
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		ValidArgsFunction: completeNames(p, true),
		Use:               "restore [collector|stream ...]", Short: "Restore last-known snapshots from the backups in S3",
		Long: `restore reads the backups in STORE_AWS_S3_BUCKET, checks them, and makes each the
last-known snapshot of its stream if none or an older one is known on this machine.
It also restores the file of STORE_FILE if that is missing. Without names it restores
the streams that are switched on, or all streams if no collector is on.

With --to it writes the backups below another directory, as <stream>/<tenancy>.json,
and changes nothing else.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := p.load()
			if err != nil {
				return err
			}
			if to == "" {
				if err := a.becomeStateOwner(); err != nil {
					return err
				}
			}
			from, err := sinks.OpenBackup(a.settings.Store, a.log)
			if err != nil {
				return &exitError{exitSettings, err}
			}
			if from == nil && sinks.IsBackupOff(a.settings.Store) {
				return &exitError{exitSettings, errors.New("STORE_AWS_S3_BACKUP: off: there are no backups to restore from")}
			}
			if from == nil {
				return &exitError{exitSettings, errors.New("STORE_AWS_S3_BUCKET: not set: there are no backups to restore from")}
			}
			defer a.closeDestinations([]store.Sink{from})
			streams, err := a.streamsToRestore(args)
			if err != nil {
				return err
			}
			if to != "" {
				return a.saveBackups(cmd.Context(), from, streams, to, asJSON)
			}
			return a.restore(cmd.Context(), streams, asJSON)
		},
	}
	addJSONFlag(cmd, &asJSON)
	cmd.Flags().StringVar(&to, "to", "", "write the backups into this directory and leave the state alone")
	return cmd
}

// streamsToRestore returns the streams that the names choose; without names those
// of the active collectors, or of all when none is active.
func (a *assembly) streamsToRestore(names []string) (streams []backup.Stream, err error) {
	definitions := a.definitions
	if on, _ := a.active(); len(names) == 0 && len(on) > 0 {
		definitions = on
	}
	for _, name := range names {
		if a.indexOf(name) < 0 {
			return nil, usageError(fmt.Errorf("%q is neither a collector nor a stream%s; `collectord list` shows them", name, a.suggestSource(name)))
		}
	}
	for _, d := range definitions {
		chosen, ok := chooseStreams(d, names)
		if !ok {
			continue
		}
		if len(chosen) == 0 {
			chosen = a.streamsToRestoreOf(d, len(names) > 0)
		}
		for _, name := range chosen {
			streams = append(streams, backup.Stream{Collector: d.Name, Name: name})
		}
	}
	return streams, nil
}

// streamsToRestoreOf returns the streams of a collector, without those that are off
// unless the collector was named.
func (a *assembly) streamsToRestoreOf(d collector.Definition, named bool) (streams []string) {
	for _, stream := range d.Streams {
		if _, own := a.findStream(stream.Name); named || own.Off == "" {
			streams = append(streams, stream.Name)
		}
	}
	return streams
}

// restore restores the streams into the state directory and prints the results.
func (a *assembly) restore(ctx context.Context, streams []backup.Stream, asJSON bool) (err error) {
	if err := a.openTenancyState(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.closeState()) }()
	defer a.closeEngine()
	sinks, err := a.openDestinations()
	if err != nil {
		return err
	}
	defer a.closeDestinations(sinks)
	a.registerDestinations(ctx, sinks) // before the restore, so that nothing restored is delivered to them
	recovered := map[string]bool{}
	for _, s := range streams {
		if !recovered[s.Collector] {
			a.recoverSnapshots(ctx, s.Collector, nil, sinks)
		}
		recovered[s.Collector] = true
	}
	return a.reportRestored(a.newRestorer(sinks).Run(ctx, streams), a.stateDir(), asJSON)
}

// restoreAtStart begins to restore the last-known snapshots of the jobs' streams, and
// waits for it up to RESTORE_TIMEOUT. What is not restored by then continues in the
// background until ctx ends. onEnded is called, when there are backups, with the
// result of each stream.
func (a *assembly) restoreAtStart(ctx context.Context, p *parts, onEnded func(backup.Result)) *backup.Restoration {
	for _, job := range p.jobs {
		a.recoverSnapshots(ctx, job.Collector.Name, nil, p.sinks)
	}
	return a.beginRestore(ctx, p.jobs, p.sinks, onEnded)
}

// beginRestore begins to restore the jobs' streams and waits up to RESTORE_TIMEOUT.
func (a *assembly) beginRestore(ctx context.Context, jobs []run.Job, sinks []store.Sink, onEnded func(backup.Result)) *backup.Restoration {
	var streams []backup.Stream
	for _, job := range jobs {
		streams = append(streams, streamsOf(job)...)
	}
	r := a.newRestorer(sinks)
	if r.Backup != nil {
		r.Ended = onEnded
	}
	restoration := r.Begin(ctx, streams)
	restoration.WaitWithin(a.settings.Restore.Timeout)
	return restoration
}

// finishRestore waits for the restores that continue in the background, except for
// those of streams that a run has just collected.
func finishRestore(restoration *backup.Restoration, results []run.Result) {
	for _, r := range results {
		if r.Outcome == state.Success {
			restoration.Supersede(r.Stream)
		}
	}
	restoration.Wait()
}

// recoverSnapshots accepts the complete snapshots that an interrupted process has
// left of the streams of a collector, all of them when streams is empty, so that a
// backup does not replace newer data on this machine.
func (a *assembly) recoverSnapshots(ctx context.Context, name string, streams []string, sinks []store.Sink) {
	var free []string
	for _, d := range a.definitions {
		for _, stream := range d.Streams {
			if d.Name != name || len(streams) > 0 && !slices.Contains(streams, stream.Name) {
				continue
			}
			lock, err := a.state.Locks.LockStream(stream.Name, a.settings.Tenancy)
			if err != nil {
				continue // the process that holds the lock has recovered them
			}
			defer func() {
				if err := lock.Unlock(); err != nil {
					a.log.Error("recover", zap.String("stream", stream.Name), zap.Error(err))
				}
			}()
			free = append(free, stream.Name)
		}
	}
	if len(free) == 0 {
		return
	}
	found, err := a.state.Recover(ctx, name, a.settings.Tenancy, a.policy(sinks), free...)
	found.Log(a.log)
	if err != nil {
		a.log.Error("recover", zap.String("collector", name), zap.Error(err))
	}
}

func streamsOf(job run.Job) (streams []backup.Stream) {
	for _, name := range job.StreamNames() {
		streams = append(streams, backup.Stream{Collector: job.Collector.Name, Name: name})
	}
	return streams
}

// saveBackups writes the backups of the streams from S3 below a directory and
// prints the results.
func (a *assembly) saveBackups(ctx context.Context, from *backup.Sink, streams []backup.Stream, dir string, asJSON bool) error {
	var results []backup.Result
	for _, s := range streams {
		h := snapshot.Header{Collector: s.Collector, Stream: s.Name, Tenancy: a.settings.Tenancy}
		info, _, err := from.Save(ctx, h, dir)
		outcome, err := backup.OutcomeOf(true, err)
		results = append(results, backup.Result{Stream: s, Info: info, Outcome: outcome, Err: err})
	}
	return a.reportRestored(results, dir, asJSON)
}

// reportRestored prints the result of each stream, as text or as JSON, and returns the
// error that gives the exit code.
func (a *assembly) reportRestored(results []backup.Result, dir string, asJSON bool) error {
	failed := 0
	for _, r := range results {
		if r.Err != nil {
			failed++
		}
	}
	var failure error
	if failed > 0 {
		verb := "were"
		if failed == 1 {
			verb = "was"
		}
		failure = &exitError{exitPartial, fmt.Errorf("%d of %s %s not restored", failed, english.Plural(len(results), "stream", ""), verb)}
	}
	if asJSON {
		return errors.Join(failure, writeJSON(a.stdout, a.newRestoreView(results, dir, failure)))
	}
	return errors.Join(failure, a.printRestored(results))
}

// printRestored prints the result of each stream as text.
func (a *assembly) printRestored(results []backup.Result) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tOUTCOME\tDATA OF\tRECORDS\tFILE")
	for _, r := range results {
		file := "-"
		if r.FilePut {
			file = "put back"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", r.Name, r.Outcome, formatTime(r.Info.UploadTimestamp), r.Info.Records, file)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			fmt.Fprintf(a.stdout, "%s: %v\n", r.Name, r.Err)
		}
	}
	return nil
}
