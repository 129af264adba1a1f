package epss

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// openScores opens the collector of the simulated file.
func openScores(h *collectortest.Harness) *collector.Collector {
	h.Helper()
	a, err := openAccount(&Settings{On: true, URL: h.Host.URL() + "/epss_scores-current.csv.gz"}, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP = h.HTTP
	return source.NewCollector("epss", a)
}

// scores returns the feed with a number of scores.
func scores(records int) collectortest.Feed {
	return collectortest.Feed{
		Options: func() vendorsim.Options {
			return vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewEPSS()}, Counts: map[string]int{vendorsim.EPSSScores: records}}
		},
		Open: openScores, Stream: "epss_scores", Requests: 1, Path: "/epss_scores-current.csv.gz", Setting: "EPSS_URL",
	}
}

func TestScores(t *testing.T) { scores(300).Test(t) }

func TestScoresUnderRandomFaults(t *testing.T) { scores(60).TestUnderRandomFaults(t) }

// TestFormsOfFile tests forms in which servers send the file, and files that are not
// complete.
func TestFormsOfFile(t *testing.T) {
	for _, tc := range []struct {
		name, form   string
		records      int
		wantRequests int
		wantText     string // of the error; "" if the file is stored
	}{
		{name: "redirect to the date", form: vendorsim.EPSSRedirect, records: 10, wantRequests: 2},
		{name: "compression of the transfer", form: vendorsim.EPSSEncoded, records: 10, wantRequests: 1},
		{name: "no scores", records: 0, wantRequests: 1},
		{name: "no model", form: vendorsim.EPSSNoComment, records: 10, wantText: "the file does not begin with a line that has model_version and score_date"},
		{name: "row cut", form: vendorsim.EPSSShort, records: 10, wantText: "row 10 (line 12) has 2 values, want 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := scores(tc.records)
			collectortest.Run(t, f.Options(), func(h *collectortest.Harness) {
				change := func(b *vendorsim.FeedBehaviour) { b.Form = tc.form }
				if tc.wantText == "" {
					h.AssertRecords(f.ExtractChanged(h, change), h.Records(vendorsim.EPSSScores))
					h.AssertRequests(tc.wantRequests)
					return
				}
				h.Host.Vendor().(*vendorsim.EPSS).ChangeBehaviour(change)
				err := h.ExtractError(openScores(h).Streams[0], time.Hour)
				if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), tc.wantText) {
					t.Errorf("error %v, want %q", err, tc.wantText)
				}
			})
		})
	}
}

// TestFirstLine tests what the records get from the first line of the file, in the
// forms that it had and has.
func TestFirstLine(t *testing.T) {
	for _, tc := range []struct {
		line string
		want []string
	}{
		{line: "#model_version:v2025.03.14,score_date:2025-03-14T00:00:00+0000", want: []string{`_model_version="v2025.03.14"`, `_score_date="2025-03-14T00:00:00+0000"`}},
		{line: "#model_version:v2026.06.15,score_date:2026-07-31T12:03:43Z", want: []string{`_model_version="v2026.06.15"`, `_score_date="2026-07-31T12:03:43Z"`}},
		{line: `#score_date:"x",other:y,model_version:v1`, want: []string{`_score_date="\"x\""`, `_model_version="v1"`}},
		{line: "#model_version:,score_date", want: nil},
	} {
		var got []string
		for _, v := range parseComment(tc.line) {
			got = append(got, v.Name+"="+string(v.Raw))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.line, got, tc.want)
		}
	}
}

func TestSettings(t *testing.T) {
	collectortest.AssertProblem(t, (&Settings{URL: "https://mirror.example/epss.csv.gz"}).Validate(), "")
	collectortest.AssertProblem(t, (&Settings{URL: "https://mirror.example/epss.csv.gz?key=1"}).Validate(), "EPSS_URL")
}
