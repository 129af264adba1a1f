package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/snapshot"
)

// benchVulnerabilities compares the defaults with one request at a time.
func benchVulnerabilities(l *lab) (result, error) {
	v, err := l.simulate(200_000, "-latency", "100ms", "-bytes", stream+"=1300")
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	ours, err := l.extractions(v)
	if err != nil {
		return result{}, err
	}
	serial, err := l.serially(v)
	if err != nil {
		return result{}, err
	}
	ratio := ratios(serial, ours.runs)
	return result{
		figure: fmt.Sprintf("%.2f s for %d records", walls(ours.runs), ours.snapshot.Records),
		ratio:  fmt.Sprintf("%.1f times faster than serial pages of 400 (%.1f s)", ratio, walls(serial)),
		met:    ratio >= 20,
		notes:  []string{"The serial runs, which wait nearly all of the time, go on at the same time; ours one after the other."},
	}, nil
}

// serially has one request at a time, as often as there are pairs.
func (l *lab) serially(v vendor) ([]measured, error) {
	runs := make([]measured, l.pairs)
	var group errgroup.Group
	for i := range runs {
		dir, err := l.folder()
		if err != nil {
			return nil, err
		}
		group.Go(func() (err error) {
			runs[i], err = l.extract(v, dir, "FALCON_SPLIT=1", "FALCON_PARALLEL=1", "FALCON_VULNERABILITIES_PAGE=400")
			return errors.Join(err, os.RemoveAll(dir))
		})
	}
	return runs, group.Wait()
}

// slowest is what the slowest vendor's limit allows: 50 requests in the first
// minute, so that the 51st page comes at its end.
const slowest = time.Minute

// benchVendors runs ten collectors in one process.
func benchVendors(l *lab) (result, error) {
	dir, err := l.folder()
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	m, err := timed(program(l.ctx, nil, l.self, "worker", "vendors", dir))
	if err != nil {
		return result{}, err
	}
	ratio := m.wall.Seconds() / slowest.Seconds()
	return result{
		figure: fmt.Sprintf("%s for ten vendors, %s of CPU", seconds(m.wall), seconds(m.cpu)),
		ratio:  fmt.Sprintf("%.3f times the %s that the slowest vendor's limit takes", ratio, seconds(slowest)),
		met:    ratio <= 1.05,
		notes:  append(strings.Split(strings.TrimSpace(m.out), "\n"), "Each of the five vendors twice, with the vendors' own limits. The slowest is KnowBe4: 50 requests a minute, and 51 pages. One run, since the clock makes it, not the machine."),
	}, nil
}

// tenVendors extracts each vendor twice, from two simulators, into DIR.
func tenVendors(ctx context.Context, args []string) error {
	var group errgroup.Group
	began := time.Now()
	for i := range 2 {
		sim, err := vendorsim.Start(vendorsim.Options{
			Vendors: vendorsim.All(), Seed: uint64(i), EdgeEvery: -1,
			// 51 pages of 500.
			Counts: map[string]int{"knowbe4_enrollments": 25_250},
		})
		if err != nil {
			return err
		}
		defer sim.Close()
		values := map[string]string{}
		for _, h := range sim.Hosts() {
			for _, line := range h.Env() {
				name, value, _ := strings.Cut(line, "=")
				values[name] = value
			}
		}
		for _, source := range sources.All() {
			group.Go(func() error {
				err := pull(ctx, source, values, filepath.Join(args[0], fmt.Sprint(source.Name, i)))
				fmt.Printf("%s %d: %.1f s\n", source.Name, i+1, time.Since(began).Seconds())
				return err
			})
		}
	}
	return group.Wait()
}

// pull seals a snapshot of each stream of a source, all at once.
func pull(ctx context.Context, source collector.Source, values map[string]string, dir string) error {
	settings := source.Settings()
	if err := env.ParseWithOptions(settings, env.Options{Environment: values}); err != nil {
		return err
	}
	c, err := source.Open(settings, collector.Options{Version: "bench", Log: zap.NewNop(), Notes: noNotes{}})
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var group errgroup.Group
	for _, s := range c.Streams {
		group.Go(func() error {
			w, err := snapshot.Create(filepath.Join(dir, s.Name+".part"), snapshot.Header{Collector: c.Name, Stream: s.Name, Tenancy: "bench", UploadID: s.Name, UploadTimestamp: time.Now()})
			if err != nil {
				return err
			}
			if err := s.Extract(ctx, output{w}); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			_, err = w.Seal(filepath.Join(dir, s.Name))
			return err
		})
	}
	return group.Wait()
}

// output is a spool as an extraction sees it.
type output struct{ *snapshot.Writer }

func (o output) Page() collector.Page { return o.Writer.Page() }

// noNotes forgets.
type noNotes struct{}

func (noNotes) Note(context.Context, string) (string, error)  { return "", nil }
func (noNotes) SetNote(context.Context, string, string) error { return nil }
