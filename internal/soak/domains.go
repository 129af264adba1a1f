package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// examineDomains returns the contents of the streams of domains without faults, by a run
// of the program. Their records are what servers show.
func (s *soak) examineDomains(v *vendors) (map[string]content, error) {
	dir := s.file("domains")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(s.ctx, s.opts.binary, "--once", "domains")
	cmd.Dir = dir
	cmd.Env = append(append(s.baseEnvironment(), v.sim.Host("domains").Env()...), extraSettings...)
	cmd.Env = append(cmd.Env, "STATE_DIR="+filepath.Join(dir, "state"), "STORE_FILE="+filepath.Join(dir, "%TAG.json"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("examine the domains: %w: %s", err, out)
	}
	contents := map[string]content{}
	for _, stream := range streamsByVendor["domains"] {
		f := readFile(s.ctx, filepath.Join(dir, stream+".json"))
		if f.err != nil {
			return nil, f.err
		}
		contents[stream] = f.content
	}
	return contents, os.RemoveAll(dir)
}

// mayHaveFailedLookups reports whether the records of a run may have failed look-ups in
// place of values: of domains, when a fault or a wrong clock occurred during the run.
func (s *soak) mayHaveFailedLookups(r state.Run) bool {
	if r.Collector != "domains" {
		return false
	}
	causes := s.events.during(r.Started.Add(-faultTime), r.Ended.Add(time.Second), func(one event) bool {
		return one.about == "domains" || one.kind == clockFault
	})
	return len(causes) > 0
}
