package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var client = &http.Client{Timeout: 30 * time.Second}

// sendRequest sends a request to the daemon and returns the body and the status
// of the response.
func (in *instance) sendRequest(ctx context.Context, method, path string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, in.url+path, nil)
	if err != nil {
		return nil, 0, err
	}
	if method == http.MethodPost {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return body, resp.StatusCode, err
}

func (in *instance) getPage(ctx context.Context, path string) ([]byte, int, error) {
	return in.sendRequest(ctx, http.MethodGet, path)
}

func (in *instance) postAPI(ctx context.Context, path string) (int, error) {
	_, status, err := in.sendRequest(ctx, http.MethodPost, path)
	return status, err
}

// decodeAPI decodes a response of the API into a value.
func (in *instance) decodeAPI(ctx context.Context, path string, into any) error {
	body, status, err := in.getPage(ctx, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %.200s", path, status, body)
	}
	return json.Unmarshal(body, into)
}

// isCollectorRunning reports whether a collector is running or queued. "" means any
// collector.
func (in *instance) isCollectorRunning(ctx context.Context, name string) (bool, error) {
	var response struct {
		Collectors []struct {
			Collector string `json:"collector"`
			Running   bool   `json:"running"`
			Queued    bool   `json:"queued"`
		} `json:"collectors"`
	}
	if err := in.decodeAPI(ctx, "/api/v1/collectors", &response); err != nil {
		return false, err
	}
	for _, c := range response.Collectors {
		if (c.Running || c.Queued) && (name == "" || c.Collector == name) {
			return true, nil
		}
	}
	streams, err := in.streamStatuses(ctx)
	for _, one := range streams { // also those that were switched off during a run
		if one.Running != nil && (name == "" || one.Collector == name) {
			return true, nil
		}
	}
	return false, err
}

// A streamStatus is the status of a stream in the API.
type streamStatus struct {
	Collector string           `json:"collector"`
	Stream    string           `json:"stream"`
	Queued    int              `json:"queued_deliveries"`
	On        bool             `json:"on"`
	Schedule  string           `json:"schedule"`
	Running   *json.RawMessage `json:"running"`
}

func (in *instance) streamStatuses(ctx context.Context) ([]streamStatus, error) {
	var response struct {
		Streams []streamStatus `json:"streams"`
	}
	err := in.decodeAPI(ctx, "/api/v1/status", &response)
	return response.Streams, err
}

// queuedDeliveries returns the number of queued deliveries.
func (in *instance) queuedDeliveries(ctx context.Context) (n int, err error) {
	streams, err := in.streamStatuses(ctx)
	for _, one := range streams {
		n += one.Queued
	}
	return n, err
}

// reloadSettings sends SIGHUP and waits until the settings have been reloaded.
// good states whether they are valid.
func (in *instance) reloadSettings(ctx context.Context, good bool) error {
	type status struct {
		Reload struct {
			At    time.Time `json:"at"`
			Error string    `json:"error"`
		} `json:"last_reload"`
	}
	var before status
	if err := in.decodeAPI(ctx, "/api/v1/status", &before); err != nil {
		return err
	}
	if err := in.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return waitUntil(ctx, "SIGHUP", func() (bool, error) {
		var now status
		if err := in.decodeAPI(ctx, "/api/v1/status", &now); err != nil || !now.Reload.At.After(before.Reload.At) {
			return false, err
		}
		if good == (now.Reload.Error != "") {
			return false, fmt.Errorf("valid settings: %v, but last_reload has the error %q", good, now.Reload.Error)
		}
		return true, nil
	})
}

// A scrape holds the values of /metrics by name and labels, as they are written
// there.
type scrape map[string]float64

func parseMetrics(text []byte) (scrape, error) {
	found := scrape{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			return nil, fmt.Errorf("/metrics: %q has no value", line)
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("/metrics: %q: %w", line, err)
		}
		found[line[:at]] = v
	}
	return found, lines.Err()
}

func (in *instance) scrapeMetrics(ctx context.Context) (scrape, error) {
	body, status, err := in.getPage(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics: status %d", status)
	}
	return parseMetrics(body)
}
