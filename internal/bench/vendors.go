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

// benchVulnerabilities compares the default settings with one request at a
// time.
func benchVulnerabilities(l *lab) (result, error) {
	v, err := l.startSimulator(200_000, "-latency", "100ms", "-bytes", stream+"=1300")
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	ours, err := l.repeatExtraction(v)
	if err != nil {
		return result{}, err
	}
	serial, err := l.extractSerially(v)
	if err != nil {
		return result{}, err
	}
	ratio := medianRatio(serial, ours.runs)
	return result{
		figure: fmt.Sprintf("%.2f s for %d records", medianWall(ours.runs), ours.snapshot.Records),
		ratio:  fmt.Sprintf("%.1f times faster than serial pages of 400 (%.1f s)", ratio, medianWall(serial)),
		met:    ratio >= 20,
		notes:  []string{vulnerabilitiesNote},
	}, nil
}

const vulnerabilitiesNote = "The serial runs, which wait nearly all of the time, run in parallel. The product's runs follow " +
	"one another."

// extractSerially extracts with one request at a time, once for each pair.
func (l *lab) extractSerially(v vendor) ([]measured, error) {
	runs := make([]measured, l.pairs)
	var group errgroup.Group
	for i := range runs {
		dir, err := l.newDir()
		if err != nil {
			return nil, err
		}
		group.Go(func() (err error) {
			runs[i], err = l.runExtraction(v, dir, "FALCON_SPLIT=1", "FALCON_PARALLEL=1", "FALCON_VULNERABILITIES_PAGE=400")
			return errors.Join(err, os.RemoveAll(dir))
		})
	}
	return runs, group.Wait()
}

// slowestVendorTime is the minimum time under the slowest vendor's limit: 50
// requests are allowed in the first minute, so the 51st page can be read only
// at its end.
const slowestVendorTime = time.Minute

// benchVendors runs two collectors of each vendor in one process.
func benchVendors(l *lab) (result, error) {
	dir, err := l.newDir()
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	m, err := runTimed(newCommand(l.ctx, nil, l.self, "worker", "vendors", dir))
	if err != nil {
		return result{}, err
	}
	ratio := m.wall.Seconds() / slowestVendorTime.Seconds()
	return result{
		figure: fmt.Sprintf("%s for %d vendors, %s of CPU", formatSeconds(m.wall), 2*len(sources.All()), formatSeconds(m.cpu)),
		ratio:  fmt.Sprintf("%.3f times the %s that the slowest vendor's limit takes", ratio, formatSeconds(slowestVendorTime)),
		met:    ratio <= 1.05,
		notes:  append(strings.Split(strings.TrimSpace(m.out), "\n"), vendorsNote),
	}, nil
}

const vendorsNote = "Each vendor runs twice, with the vendors' own limits. The slowest is KnowBe4: 50 " +
	"requests a minute, and 51 pages. There is only one run, because the time depends on the clock " +
	"and not on the machine."

// extractAllVendors extracts each vendor twice, from two simulators. args are
// DIR.
func extractAllVendors(ctx context.Context, args []string) error {
	var group errgroup.Group
	began := time.Now()
	for i := range 2 {
		sim, err := vendorsim.Start(vendorsim.Options{
			Vendors: vendorsim.AllVendors(), Seed: uint64(i), EdgeEvery: -1,
			Base: time.Now(), // NVD has a file for each year until then
			// The enrollments have 51 pages of 500.
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
				err := extractSource(ctx, source, values, filepath.Join(args[0], fmt.Sprint(source.Name, i)))
				fmt.Printf("%s %d: %.1f s\n", source.Name, i+1, time.Since(began).Seconds())
				return err
			})
		}
	}
	return group.Wait()
}

// extractSource extracts all streams of a vendor in parallel and seals a
// snapshot of each.
func extractSource(ctx context.Context, source collector.Definition, values map[string]string, dir string) error {
	settings := source.Settings()
	if err := env.ParseWithOptions(settings, env.Options{Environment: values}); err != nil {
		return err
	}
	c, err := source.Open(settings, collector.Options{Version: "bench", Log: zap.NewNop(), Notes: discardedNotes{}})
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var group errgroup.Group
	for _, s := range c.Streams {
		group.Go(func() error {
			w, err := snapshot.Create(filepath.Join(dir, s.Name+".part"),
				snapshot.Header{Collector: c.Name, Stream: s.Name, Tenancy: "bench", UploadID: s.Name, UploadTimestamp: time.Now()})
			if err != nil {
				return err
			}
			if err := s.Extract(ctx, spoolOutput{w}); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			_, err = w.Seal(filepath.Join(dir, s.Name))
			return err
		})
	}
	return group.Wait()
}

// spoolOutput adapts a snapshot writer to the output of an extraction.
type spoolOutput struct{ *snapshot.Writer }

func (o spoolOutput) NewBatch() collector.Batch { return o.Writer.NewBatch() }

// discardedNotes stores no notes.
type discardedNotes struct{}

func (discardedNotes) Note(context.Context, string) (string, error)  { return "", nil }
func (discardedNotes) SetNote(context.Context, string, string) error { return nil }
