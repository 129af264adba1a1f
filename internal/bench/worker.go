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
)

// work is what this program does in processes of its own, so that time and
// memory of one thing are measured and of nothing else.
func work(ctx context.Context, args []string) error {
	kinds := map[string]func(context.Context, []string) error{
		"write": writeSinks, "duckdb": loadNDJSON, "bare": bareLoop, "vendors": tenVendors,
	}
	if len(args) == 0 || kinds[args[0]] == nil {
		return fmt.Errorf("no worker for %q", args)
	}
	return kinds[args[0]](ctx, args[1:])
}

// writeSinks stores a snapshot in destinations at once: DIR SINK...
func writeSinks(ctx context.Context, args []string) (err error) {
	fmt.Print(ready)
	defer fmt.Print(done)
	s, err := snapshot.Open(args[0])
	if err != nil {
		return err
	}
	// The same snapshot is stored many times, and is a new one each time.
	s.UploadID += "-" + os.Getenv("BENCH_NUMBER")
	if dir := os.Getenv("BENCH_PROFILES"); dir != "" {
		stop, err := profile(filepath.Join(dir, args[1]))
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
	file := map[string]string{"file": "records.json", "duckdb": "records.duckdb"}[name]
	switch name {
	case "file", "duckdb":
		path, err := store.ParsePath("STORE", filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		if name == "duckdb" {
			return store.NewDuckDB(path, store.DuckDBOptions{}), nil
		}
		return store.NewFile(path, store.FileOptions{})
	case "postgres":
		return store.NewPostgres(store.PostgresOptions{URL: os.Getenv("BENCH_POSTGRES"), Schema: "bench", JSON: "json"})
	case "s3":
		return store.NewS3(store.S3Options{Bucket: "bench", Key: func(snapshot.Header) string { return "ours.json" }})
	}
	return nil, fmt.Errorf("no destination %q", name)
}

// profile writes NAME.cpu and NAME.heap until it is stopped.
func profile(name string) (stop func() error, err error) {
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
