package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSimPrintsEnvironmentAndServes(t *testing.T) {
	r, w := io.Pipe()
	stop, done := make(chan os.Signal), make(chan error)
	go func() {
		done <- run([]string{"-vendors", "tenable", "-count", "tenable_assets=7", "-gzip", "off", "-base", "now"}, w, stop)
		_ = w.Close()
	}()
	var lines []string
	sc := bufio.NewScanner(r)
	for sc.Scan() && sc.Text() != "" {
		lines = append(lines, sc.Text())
	}
	if len(lines) != 4 || !strings.Contains(lines[0], "tenable_assets=7") {
		t.Fatalf("printed %q", lines)
	}
	url, ok := strings.CutPrefix(lines[1], "TIO_URL=")
	if !ok {
		t.Fatalf("printed %q", lines[1])
	}
	req, err := http.NewRequest("GET", url+"/vulns/export/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) string { _, v, _ := strings.Cut(lines[i], "="); return v }
	req.Header.Set("X-ApiKeys", "accessKey="+key(2)+";secretKey="+key(3))
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	stop <- os.Interrupt
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSimRefusesBadFlags(t *testing.T) {
	for _, args := range []string{"-vendors none", "-gzip best", "-base today", "-count x", "-count nope=1", "-listen nowhere", "-nope"} {
		if err := run(strings.Fields(args), io.Discard, nil); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
	opts, err := parseOptions(slices.Concat([]string{"-seed", "3"}, []string{"-base", "2026-01-01T00:00:00Z"}))
	if err != nil || opts.Seed != 3 || opts.Base.Year() != 2026 || len(opts.Vendors) == 0 {
		t.Errorf("%+v, %v", opts, err)
	}
}
