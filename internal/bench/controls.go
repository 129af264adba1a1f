package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// The data and the targets of the controls.
const (
	controlledRecords = 500_000
	controlCount      = 22
	controlsSeconds   = 60
	controlsMemory    = 1.5 * (1 << 30) // bytes
)

// writeControls writes the files of controls that join all hosts with all of their
// vulnerabilities, each of another severity and age, to a directory.
func writeControls(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	severities := []string{"CRITICAL", "HIGH", "MEDIUM", "LOW"}
	for i := range controlCount {
		text := fmt.Sprintf(`metric_id: vulnerabilities_%d
title: Hosts without vulnerabilities of a severity and an age
category: Vulnerabilities
slo: [0.80, 0.95]
weight: 1
query: |
  SELECT h.hostname AS resource, 'host' AS resource_type,
    CASE WHEN count(v.aid) = 0 THEN 1 ELSE 0 END AS compliance,
    'vulnerabilities: ' || count(v.aid) AS detail
  FROM {{ ref('%s') }} AS h
  LEFT JOIN {{ ref('%s') }} AS v
    ON v.aid = h.device_id AND v.cve.severity = '%s' AND CAST(v.created_timestamp AS DATE) < current_date - %d
  GROUP BY h.device_id, h.hostname
`, i, hostStream, stream, severities[i%len(severities)], i)
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)+".yml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// benchControls measures controls over snapshots that no query has used before.
func benchControls(l *lab) (result, error) {
	v, err := l.startSimulator(controlledRecords, "-count", fmt.Sprintf("%s=%d", hostStream, queriedHosts))
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	dir, err := l.newDir()
	if err != nil {
		return result{}, err
	}
	if _, err := l.runExtraction(v, dir); err != nil {
		return result{}, err
	}
	if _, err := l.runExtractionOf(hostStream, v, dir); err != nil {
		return result{}, err
	}
	files := filepath.Join(dir, "controls")
	if err := writeControls(files); err != nil {
		return result{}, err
	}
	m, err := l.runWithPeak(dir, []string{"CONTROLS=" + files}, "controls", "--format", "csv")
	if err != nil {
		return result{}, err
	}
	return result{
		figure: fmt.Sprintf("%s, %s", formatSeconds(m.wall), formatMB(m.rss)),
		ratio:  fmt.Sprintf("%.2f of %d s", m.wall.Seconds()/controlsSeconds, controlsSeconds),
		met:    m.wall.Seconds() < controlsSeconds && float64(m.rss) < controlsMemory,
		notes:  []string{"One run of `collectord controls`, which makes the copies in columns first, and stores a row for each host and control."},
	}, nil
}
