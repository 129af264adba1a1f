package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReplayPrintsEnvironmentAndServes(t *testing.T) {
	r, w := io.Pipe()
	stop, done := make(chan os.Signal), make(chan error)
	go func() {
		done <- run([]string{"../testdata/recording"}, w, stop)
		_ = w.Close()
	}()
	sc := bufio.NewScanner(r)
	var lines []string
	for len(lines) < 4 && sc.Scan() {
		lines = append(lines, sc.Text())
	}
	if len(lines) != 4 {
		t.Fatalf("printed %q", lines)
	}
	url, ok := strings.CutPrefix(lines[1], "TIO_URL=")
	if !ok {
		t.Fatalf("printed %q", lines)
	}
	req, err := http.NewRequest("POST", url+"/vulns/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !strings.Contains(string(body), "export_uuid") {
		t.Errorf("%s, %v", body, err)
	}
	stop <- os.Interrupt
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReplayRefusesBadArguments(t *testing.T) {
	for _, args := range []string{"", "none", "-nope", "-listen nowhere ../testdata/recording"} {
		if err := run(strings.Fields(args), io.Discard, nil); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
