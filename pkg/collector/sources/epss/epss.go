// Package epss reads the daily scores of the Exploit Prediction Scoring System.
package epss

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// Settings are the settings of the scores.
type Settings struct {
	On  bool   `env:"EPSS" required:"true" doc:"Read the scores. They are public and need no key."`
	URL string `env:"EPSS_URL" envDefault:"https://epss.empiricalsecurity.com/epss_scores-current.csv.gz" doc:"Address of the file, such as that of a mirror or of another day."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, err := s.fileURL()
	return source.NonNil(err)
}

func (s *Settings) fileURL() (url.URL, error) {
	return source.ParseAddress("EPSS_URL", s.URL, "https://mirror.example/epss_scores-current.csv.gz")
}

// Definition describes the scores.
var Definition = source.Define(collector.Info{
	Name:        "epss",
	Title:       "Exploit Prediction Scoring System",
	Docs:        "https://www.first.org/epss/data_stats",
	Permissions: "none",
	IsPublic:    true,
	RateLimit:   source.FeedRateLimit,
	Streams: []collector.StreamInfo{{
		Name: "epss_scores", Records: "the score of a CVE",
		Endpoints: []string{"GET /epss_scores-current.csv.gz"},
		PageSize:  "all scores, about 300,000",
		Notes: "FIRST asks to be named where scores are published. The file is CSV. Its columns `cve`, `epss` and `percentile` are strings with the text of the file: cast them, as in `epss::DOUBLE`. " +
			"The first line of the file says which model computed the scores, and of which day they are; each record has them as `_model_version` and `_score_date`. " +
			"A new model changes many scores at once. The file is published once a day, usually at about 12:00 UTC; a run before that finds that nothing has changed.",
	}},
}, openAccount)

// account is the file of scores.
type account struct {
	api     *rest.Client
	request rest.Request
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	address, err := s.fileURL()
	if err != nil {
		return nil, err
	}
	return &account{api: source.NewFeedClient(address, "EPSS_URL", o), request: source.FileRequest(address)}, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{collector.Stream{Name: "epss_scores", Extract: a.extractScores, Check: a.Check}}
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error { return a.api.CheckFile(ctx, a.request) }

func (a *account) extractScores(ctx context.Context, out collector.Output) error {
	return rest.FetchIfChanged(ctx, a.request, a.request.Path, out, func(r rest.Request) (http.Header, error) {
		return a.api.FetchFile(ctx, r, out, readScores)
	})
}

// errNoModel means that the file does not say what its scores are.
var errNoModel = errors.New("the file does not begin with a line that has model_version and score_date")

// readScores reads the file. Some servers declare its compression as that of the
// transfer, so that it is decompressed already.
func readScores(resp *rest.Response, each records.Func) error {
	file, err := records.GunzipIfNeeded(resp.Body, source.MaxFeed)
	if err != nil {
		return err
	}
	var ofFile rest.Extension
	csv := records.CSV{Columns: []string{"cve", "epss", "percentile"}, Comment: func(line string) error {
		ofFile.Values = parseComment(line)
		return nil
	}}
	var record []byte
	_, err = csv.Each(file, func(row []byte) (err error) {
		if len(ofFile.Values) != 2 {
			return &records.FormatError{Err: errNoModel}
		}
		if record, err = ofFile.Append(record[:0], row); err != nil {
			return err
		}
		return each(record)
	})
	return err
}

// parseComment returns the members that each record gets from the first line, such
// as "#model_version:v2025.03.14,score_date:2025-03-14T00:00:00+0000".
func parseComment(line string) (values []rest.Value) {
	for pair := range strings.SplitSeq(strings.TrimPrefix(line, "#"), ",") {
		name, value, _ := strings.Cut(pair, ":")
		if (name == "model_version" || name == "score_date") && value != "" {
			values = append(values, rest.Value{Name: "_" + name, Raw: records.AppendString(nil, value)})
		}
	}
	return values
}
