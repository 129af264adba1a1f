package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/duckdb"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/postgres"
	"github.com/collectord/collectord/pkg/store/s3"
)

// runWorker runs one part of a case in this process, so that its time and
// memory are measured alone.
func runWorker(ctx context.Context, args []string) error {
	kinds := map[string]func(context.Context, []string) error{
		"write": writeSinks, "duckdb": loadNDJSON, "bare": runBareLoop, "vendors": extractAllVendors,
		"backup": writeBackup, "verify": verifyFile, "query": runBareQuery, "peak": runPeak,
	}
	if len(args) == 0 || kinds[args[0]] == nil {
		return fmt.Errorf("no worker for %q", args)
	}
	return kinds[args[0]](ctx, args[1:])
}

// writeSinks stores a snapshot in several destinations at the same time. args
// are DIR SINK...
func writeSinks(ctx context.Context, args []string) (err error) {
	fmt.Print(readyMark)
	defer fmt.Print(doneMark)
	s, err := snapshot.Open(args[0])
	if err != nil {
		return err
	}
	// The same snapshot is stored many times. Each time it needs a new upload
	// id.
	s.UploadID += "-" + os.Getenv("BENCH_NUMBER")
	if dir := os.Getenv("BENCH_PROFILES"); dir != "" {
		stop, err := startProfile(filepath.Join(dir, args[1]))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	var group errgroup.Group
	for _, name := range args[1:] {
		sink, err := openSink(name, os.Getenv("BENCH_DIR"))
		if err != nil {
			return err
		}
		defer sink.Close()
		group.Go(func() error { return sink.Write(ctx, s) })
	}
	return group.Wait()
}

func openSink(name, dir string) (store.Sink, error) {
	switch name {
	case "file":
		path, err := store.ParsePath("STORE", filepath.Join(dir, "records.json"))
		if err != nil {
			return nil, err
		}
		return file.New(file.Options{Path: path})
	case "duckdb":
		path, err := store.ParsePath("STORE", filepath.Join(dir, "records.duckdb"))
		if err != nil {
			return nil, err
		}
		return duckdb.New(duckdb.Options{Path: path})
	case "postgres":
		return postgres.New(postgres.Options{URL: os.Getenv("BENCH_POSTGRES"), Schema: "bench", JSON: "json"})
	case "s3":
		return s3.New(s3.Options{Bucket: "bench", Key: func(snapshot.Header) string { return "ours.json" }})
	}
	return nil, fmt.Errorf("no destination %q", name)
}

// startProfile starts a CPU profile in NAME.cpu. stop ends it and writes
// NAME.heap.
func startProfile(name string) (stop func() error, err error) {
	f, err := os.Create(name + ".cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		h, err := os.Create(name + ".heap")
		if err != nil {
			return errors.Join(err, f.Close())
		}
		runtime.GC()
		return errors.Join(pprof.WriteHeapProfile(h), h.Close(), f.Close())
	}, nil
}
