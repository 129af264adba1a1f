package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	stdjson "encoding/json"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"github.com/collectord/collectord/pkg/snapshot"
)

// benchExtract compares the whole program with the minimum that any program
// must do: request the pages, split them and compress the records.
func benchExtract(l *lab) (result, error) {
	const records = 500_000
	v, err := l.startSimulator(records)
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	var s *snapshot.Snapshot
	ours, theirs, err := l.comparePair(l.extractOnce(v, &s), func() (measured, error) {
		dir, err := l.newDir()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		return runTimed(newCommand(l.ctx, v.env, l.self, "worker", "bare", filepath.Join(dir, "records.zst")))
	})
	if err != nil {
		return result{}, err
	}
	r := compareResults(s, ours, theirs, "a bare loop of HTTP, jsontext and zstd", 1)
	r.met = float64(s.Bytes)/medianWall(ours) >= 200e6
	r.notes = append(r.notes, extractNote)
	return r, nil
}

const extractNote = "The program's time is that of `collectord --once` from start to exit, on the same two cores as " +
	"the simulated vendor. The bare loop requests one page of 5,000 after the other, and has no " +
	"spool, no fsync, no checks and no retries."

// runBareLoop reads all pages and writes the compressed records. args are FILE.
func runBareLoop(ctx context.Context, args []string) (err error) {
	base := os.Getenv("FALCON_BASE_URL")
	token, err := fetchToken(ctx, base)
	if err != nil {
		return err
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	packed, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	for after, done := "", false; !done; done = after == "" {
		if after, err = fetchBarePage(ctx, base, token, after, packed); err != nil {
			return err
		}
	}
	return packed.Close()
}

func fetchToken(ctx context.Context, base string) (string, error) {
	form := url.Values{"client_id": {os.Getenv("FALCON_CLIENT_ID")}, "client_secret": {os.Getenv("FALCON_SECRET")}}
	resp, err := http.PostForm(base+"/oauth2/token", form)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var t struct {
		AccessToken string `json:"access_token"`
	}
	return t.AccessToken, stdjson.NewDecoder(resp.Body).Decode(&t)
}

// fetchBarePage writes the records of one page and returns the next cursor.
func fetchBarePage(ctx context.Context, base, token, after string, w io.Writer) (string, error) {
	q := url.Values{"filter": {"cve.id:!['']+last_seen_within:'14'"}, "limit": {"5000"}, "facet": {"cve", "host_info", "remediation"}}
	if after != "" {
		q.Set("after", after)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/spotlight/combined/vulnerabilities/v1?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	return splitResources(jsontext.NewDecoder(resp.Body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)), w)
}

// splitResources writes each element of "resources" as a line, and returns the
// next cursor.
func splitResources(d *jsontext.Decoder, w io.Writer) (after string, err error) {
	if _, err := d.ReadToken(); err != nil {
		return "", err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return "", err
		}
		if name.String() == "resources" {
			if err := writeRecords(d, w); err != nil {
				return "", err
			}
			continue
		}
		value, err := d.ReadValue()
		if err != nil {
			return "", err
		}
		var meta struct {
			Pagination struct {
				After string `json:"after"`
			} `json:"pagination"`
		}
		if stdjson.Unmarshal(value, &meta) == nil && meta.Pagination.After != "" {
			after = meta.Pagination.After
		}
	}
	_, err = d.ReadToken()
	return after, err
}

func writeRecords(d *jsontext.Decoder, w io.Writer) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if _, err := w.Write(append(value, '\n')); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}
