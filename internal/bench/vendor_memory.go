package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// A memoryStream is a stream whose memory is measured at two sizes.
type memoryStream struct {
	vendor, name string
	// small and large are the numbers of records; memorySmall and memoryLarge when 0.
	small, large int
	env          []string
}

const (
	memorySmall, memoryLarge = 100_000, 1_000_000
	// memoryMost is the largest resident memory.
	memoryMost = 96e6
	// memoryBytes is the mean size of a record, as far as its members allow.
	memoryBytes = 600
)

// memoryStreams are the streams with many records whose limits of requests allow to read
// them in seconds. Tests of the other collectors measure the memory in use, on a fake
// clock: TestMemoryDoesNotGrow.
var memoryStreams = []memoryStream{
	{vendor: "epss", name: "epss_scores", small: 30_000, large: 300_000},
	{vendor: "osv", name: "osv_vulnerabilities"},
	{vendor: "nvd", name: "nvd_cves"},
	{vendor: "azure_entra", name: "azure_entra_users", env: []string{"AZURE_SIGN_IN_ACTIVITY=false"}},
	{vendor: "mde", name: "mde_machine_vulnerabilities", env: []string{"MDE_VULNERABILITIES_PAGE=50000"}},
	{vendor: "intune", name: "intune_managed_devices"},
	{vendor: "intune", name: "intune_detected_apps"},
}

// benchVendorMemory measures the peak memory of the program for each of memoryStreams.
func benchVendorMemory(l *lab) (result, error) {
	var figures []string
	worst, met := int64(0), true
	for _, m := range memoryStreams {
		sizes := []int{m.small, m.large}
		if m.large == 0 {
			sizes = []int{memorySmall, memoryLarge}
		}
		var peaks []int64
		for _, n := range sizes {
			peak, err := l.measureStream(m, n)
			if err != nil {
				return result{}, fmt.Errorf("%s with %d records: %w", m.name, n, err)
			}
			peaks = append(peaks, peak)
		}
		most := slices.Max(peaks)
		worst = max(worst, most)
		met = met && (float64(most) < memoryMost || float64(peaks[1]) <= 1.1*float64(peaks[0]))
		figures = append(figures, fmt.Sprintf("%s: %s at %d, %s at %d", m.name, formatMB(peaks[0]), sizes[0], formatMB(peaks[1]), sizes[1]))
	}
	return result{
		figure: "at most " + formatMB(worst), ratio: fmt.Sprintf("%.2f of 96 MB", float64(worst)/memoryMost), met: met,
		notes: []string{strings.Join(figures, "; ") + "."},
	}, nil
}

// measureStream returns the peak memory of a run of a stream with n records.
func (l *lab) measureStream(m memoryStream, n int) (peak int64, err error) {
	v, err := l.startVendor("-vendors", m.vendor, "-gzip", "off", "-edge-every", "-1", "-count", fmt.Sprintf("%s=%d", m.name, n),
		"-bytes", fmt.Sprintf("%s=%d", m.name, memoryBytes), "-base", time.Now().AddDate(0, 0, -30).Format(time.RFC3339)) // NVD has a file for each year until then
	if err != nil {
		return 0, err
	}
	defer v.stop()
	dir, err := l.newDir()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	run, err := l.runExtractionOf(m.name, v, dir, m.env...)
	return run.rss, err
}
