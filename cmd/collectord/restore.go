package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// restorer brings back what is missing, from the backups and to the files that
// are among sinks.
func (a *app) restorer(st *state.State, sinks []store.Sink) *backup.Restorer {
	r := &backup.Restorer{State: st, Tenancy: a.settings.Tenancy, Log: a.log}
	for _, s := range sinks {
		switch s := s.(type) {
		case *backup.Sink:
			r.Backup = s
		case *store.File:
			r.File = s
		}
	}
	return r
}

// restoreAtStart brings back the last-known snapshots of the jobs' streams
// before their first run, and tells ended of each when there are backups. It
// takes RESTORE_TIMEOUT at most and stops nothing. It returns the streams that
// are worth another try.
func (a *app) restoreAtStart(ctx context.Context, st *state.State, sinks []store.Sink, jobs []schedule.Job, ended func(backup.Result)) []backup.Stream {
	var streams []backup.Stream
	for _, job := range jobs {
		a.recover(ctx, st, job.Collector.Name, sinks)
		streams = append(streams, streamsOf(job)...)
	}
	r := a.restorer(st, sinks)
	if r.Backup != nil {
		r.Ended = ended
	}
	return r.Within(ctx, a.settings.Restore.Timeout, streams)
}

// recover takes in what the last process left, so that a backup does not take
// the place of what is on this machine and not yet known.
func (a *app) recover(ctx context.Context, st *state.State, name string, sinks []store.Sink) {
	lock, err := st.Lock(name)
	if err != nil {
		return // whoever runs it has done so
	}
	found, err := st.Recover(ctx, name, a.policy(sinks))
	found.Log(a.log)
	if err := errors.Join(err, lock.Unlock()); err != nil {
		a.log.Error("recover", zap.String("collector", name), zap.Error(err))
	}
}

func streamsOf(job schedule.Job) (streams []backup.Stream) {
	for _, name := range job.StreamNames() {
		streams = append(streams, backup.Stream{Collector: job.Collector.Name, Name: name})
	}
	return streams
}

func (a *app) restoreCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		ValidArgsFunction: completeNames(true),
		Use:               "restore [collector|stream ...]", Short: "Restore last-known snapshots from the backups in S3",
		Long: `restore reads the backups in STORE_AWS_S3_BUCKET, checks them, and makes each the
last-known snapshot of its stream where none or an older one is known here; the
file that STORE_FILE names is put back where it is missing. Without names it
restores the collectors that are switched on, or all when none is.

With --to it writes the backups below another folder, as <stream>/<tenancy>.json,
and changes nothing else.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(); err != nil {
				return err
			}
			if !a.settings.Store.S3.On() || a.settings.Store.S3.Backup == "" {
				return &exitError{exitSettings, errors.New("STORE_AWS_S3_BUCKET: not set: there are no backups to restore from")}
			}
			streams, err := a.restorable(args)
			if err != nil {
				return err
			}
			if to != "" {
				return a.saveTo(cmd.Context(), streams, to)
			}
			return a.restore(cmd.Context(), streams)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "write the backups into this folder and leave the state alone")
	return cmd
}

// restorable are the streams that names choose.
func (a *app) restorable(names []string) (streams []backup.Stream, err error) {
	on, _ := a.active()
	among := a.sources
	if len(names) == 0 && len(on) > 0 {
		among = on
	}
	for _, name := range names {
		if a.sourceOf(name) < 0 {
			return nil, usage(fmt.Errorf("%q is no collector and no stream; `collectord list` shows them", name))
		}
	}
	for _, s := range among {
		chosen, ok := choose(s, names)
		if !ok {
			continue
		}
		if len(chosen) == 0 {
			for _, stream := range s.Streams {
				chosen = append(chosen, stream.Name)
			}
		}
		for _, name := range chosen {
			streams = append(streams, backup.Stream{Collector: s.Name, Name: name})
		}
	}
	return streams, nil
}

// restore restores into the state folder.
func (a *app) restore(ctx context.Context, streams []backup.Stream) (err error) {
	st, err := a.openState(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	sinks, err := a.sinks()
	if err != nil {
		return err
	}
	defer closeSinks(sinks, a.log)
	done := map[string]bool{}
	for _, s := range streams {
		if !done[s.Collector] {
			a.recover(ctx, st, s.Collector, sinks)
		}
		done[s.Collector] = true
	}
	return a.reportRestore(a.restorer(st, sinks).Run(ctx, streams))
}

// saveTo writes the backups below the folder to.
func (a *app) saveTo(ctx context.Context, streams []backup.Stream, to string) error {
	from, err := sinkOpener{Store: a.settings.Store, log: a.log}.backups()
	if err != nil {
		return &exitError{exitSettings, err}
	}
	defer closeSinks([]store.Sink{from}, a.log)
	var results []backup.Result
	for _, s := range streams {
		r := backup.Result{Stream: s}
		h := snapshot.Header{Collector: s.Collector, Stream: s.Name, Tenancy: a.settings.Tenancy}
		r.Info, r.Outcome, r.Err = save(ctx, from, h, to)
		results = append(results, r)
	}
	return a.reportRestore(results)
}

func save(ctx context.Context, from *backup.Sink, h snapshot.Header, to string) (snapshot.Info, backup.Outcome, error) {
	info, _, err := from.Save(ctx, h, to)
	outcome, err := backup.OutcomeOf(true, err)
	return info, outcome, err
}

// reportRestore prints what became of each stream and chooses the exit code.
func (a *app) reportRestore(results []backup.Result) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tOUTCOME\tDATA OF\tRECORDS\tFILE")
	failed := 0
	for _, r := range results {
		file := "-"
		if r.FilePut {
			file = "put back"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", r.Name, r.Outcome, when(r.Info.UploadTimestamp), r.Info.Records, file)
		if r.Err != nil {
			failed++
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			fmt.Fprintf(a.stdout, "%s: %v\n", r.Name, r.Err)
		}
	}
	if failed > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d of %d streams were not restored", failed, len(results))}
	}
	return nil
}
