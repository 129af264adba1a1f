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

// ask makes a request.
func (in *instance) ask(ctx context.Context, method, path string) ([]byte, int, error) {
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

func (in *instance) get(ctx context.Context, path string) ([]byte, int, error) {
	return in.ask(ctx, http.MethodGet, path)
}

func (in *instance) post(ctx context.Context, path string) (int, error) {
	_, status, err := in.ask(ctx, http.MethodPost, path)
	return status, err
}

// read decodes an answer of the API.
func (in *instance) read(ctx context.Context, path string, into any) error {
	body, status, err := in.get(ctx, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %.200s", path, status, body)
	}
	return json.Unmarshal(body, into)
}

// running tells whether a collector runs; any of them for "".
func (in *instance) running(ctx context.Context, name string) (bool, error) {
	var answer struct {
		Collectors []struct {
			Collector string `json:"collector"`
			Running   bool   `json:"running"`
		} `json:"collectors"`
	}
	if err := in.read(ctx, "/api/v1/collectors", &answer); err != nil {
		return false, err
	}
	for _, c := range answer.Collectors {
		if c.Running && (name == "" || c.Collector == name) {
			return true, nil
		}
	}
	return false, nil
}

// queued counts what waits for destinations.
func (in *instance) queued(ctx context.Context) (n int, err error) {
	var answer struct {
		Streams []struct {
			Queued int `json:"queued_deliveries"`
		} `json:"streams"`
	}
	err = in.read(ctx, "/api/v1/status", &answer)
	for _, s := range answer.Streams {
		n += s.Queued
	}
	return n, err
}

// hangUp sends SIGHUP and waits until the settings were read.
func (in *instance) hangUp(ctx context.Context, good bool) error {
	type status struct {
		Reload struct {
			At    time.Time `json:"at"`
			Error string    `json:"error"`
		} `json:"last_reload"`
	}
	var before status
	if err := in.read(ctx, "/api/v1/status", &before); err != nil {
		return err
	}
	if err := in.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return await(ctx, "SIGHUP", func() (bool, error) {
		var now status
		if err := in.read(ctx, "/api/v1/status", &now); err != nil || !now.Reload.At.After(before.Reload.At) {
			return false, err
		}
		if good == (now.Reload.Error != "") {
			return false, fmt.Errorf("the settings were good: %v; last_reload says %q", good, now.Reload.Error)
		}
		return true, nil
	})
}

// A scrape is what /metrics said: values by name and labels as they stand there.
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

func (in *instance) metrics(ctx context.Context) (scrape, error) {
	body, status, err := in.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics: status %d", status)
	}
	return parseMetrics(body)
}
