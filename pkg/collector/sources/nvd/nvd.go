// Package nvd reads the vulnerabilities of NIST's National Vulnerability Database: first
// from its yearly files, then what was modified since.
package nvd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of the National Vulnerability Database.
type Settings struct {
	On       bool          `env:"NVD" required:"true" doc:"Read the vulnerabilities. They are public."`
	Key      config.Secret `env:"NVD_API_KEY" doc:"API key. It is optional, and allows ten times as many requests."`
	Endpoint string        `env:"NVD_ENDPOINT" envDefault:"https://services.nvd.nist.gov/rest/json/cves/2.0" want:"a URL" doc:"Address of the API of vulnerabilities, such as that of a mirror."`
	Feeds    string        `env:"NVD_FEEDS" envDefault:"https://nvd.nist.gov/feeds/json/cve/2.0" want:"a URL" doc:"Address of the directory of the yearly files, such as that of a mirror."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, apiErr := s.endpointURL()
	_, feedsErr := s.feedsURL()
	return source.NonNil(apiErr, feedsErr)
}

func (s *Settings) endpointURL() (url.URL, error) {
	return source.ParseAddress("NVD_ENDPOINT", s.Endpoint, "https://services.nvd.nist.gov/rest/json/cves/2.0")
}

func (s *Settings) feedsURL() (url.URL, error) {
	return source.ParseAddress("NVD_FEEDS", s.Feeds, "https://nvd.nist.gov/feeds/json/cve/2.0")
}

// Definition describes the National Vulnerability Database.
var Definition = source.Define(collector.Info{
	Name:        "nvd",
	Title:       "NIST National Vulnerability Database",
	IsPublic:    true,
	Docs:        "https://nvd.nist.gov/developers/vulnerabilities",
	Permissions: "none; a key is optional. NIST asks products that use the data to show this notice: This product uses data from the NVD API but is not endorsed or certified by the NVD.",
	RateLimit: "5 requests in 30 seconds, 50 with NVD_API_KEY. The collector makes one request in 6 seconds, or in 0.6 seconds with the key, and one at a time from the files. " +
		"The API refuses requests beyond the limit with 403, which is repeated after a wait.",
	Streams: []collector.StreamInfo{{
		Name: "nvd_cves", Records: "a CVE, the member `cve` of the API's and the files' lists",
		Endpoints: []string{"GET /feeds/json/cve/2.0/nvdcve-2.0-{year}.json.gz", "GET /rest/json/cves/2.0"},
		PageSize:  "2,000 CVEs; the files have all CVEs of a year",
		Notes: "All CVEs since 1999, about 300,000, also those that were rejected, whose vulnStatus is Rejected. " +
			"The first run reads the yearly files and checks each with the size and the SHA-256 that NIST publishes beside it. " +
			"Later runs request only the CVEs that were modified since, and take the others from the last snapshot; without any the data is unchanged. " +
			"The files are read again after 30 days, which corrects what the API does not report as modified, and whenever the last snapshot is missing, damaged, or was made with other addresses.",
		Optional: []string{
			"vulnStatus", "cveTags", "metrics.cvssMetricV40", "metrics.cvssMetricV31", "metrics.cvssMetricV30", "metrics.cvssMetricV2",
			"weaknesses", "configurations", "cisaExploitAdd", "cisaActionDue", "cisaRequiredAction", "cisaVulnerabilityName",
		},
	}},
}, openAccount)

// account is the database.
type account struct {
	api, files *rest.Client
	path, dir  string // of the API and of the files
	selection  string
	key        string
	now        func() time.Time
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	endpoint, err := s.endpointURL()
	if err != nil {
		return nil, err
	}
	feeds, err := s.feedsURL()
	if err != nil {
		return nil, err
	}
	a := &account{
		path: endpoint.Path, dir: feeds.Path, key: strings.TrimSpace(s.Key.Reveal()), now: time.Now,
		selection: endpoint.String() + " " + feeds.String(),
	}
	// The second rate spreads the requests that the first one allows.
	var auth rest.Auth
	rates := []rest.Rate{{N: 5, Per: 31 * time.Second}, {N: 1, Per: 6 * time.Second}}
	if a.key != "" {
		auth = rest.StaticHeader{Name: "apiKey", Value: a.key}
		rates = []rest.Rate{{N: 50, Per: 31 * time.Second}, {N: 1, Per: 600 * time.Millisecond}}
	}
	apiAddress, filesAddress := source.DescribeAddress("NVD_ENDPOINT", endpoint), source.DescribeAddress("NVD_FEEDS", feeds)
	endpoint.Path, feeds.Path = "", ""
	a.api = source.NewClient(endpoint, "NVD_ENDPOINT", auth, map[string]rest.Limit{"": {Concurrent: 1, Rates: rates}}, o)
	a.api.Address = apiAddress
	a.api.Hints = map[int]string{
		http.StatusUnauthorized: "check NVD_API_KEY",
		http.StatusForbidden:    "the API refuses more requests for now, or a proxy or firewall blocks the host: try again after some minutes, and check " + apiAddress,
		http.StatusNotFound:     "check NVD_API_KEY, and " + apiAddress,
	}
	a.api.Classify = classifyRefusal
	// The API asks for a wait of 0 seconds when its limit is exceeded.
	a.api.Retry = rest.Retry{First: 10 * time.Second}
	a.files = source.NewClient(feeds, "NVD_FEEDS", nil, map[string]rest.Limit{"": {Concurrent: 1}}, o)
	a.files.Address = filesAddress
	blocked := "the files are public, so that a proxy or firewall may block the host: check " + filesAddress
	a.files.Hints = map[int]string{http.StatusUnauthorized: blocked, http.StatusForbidden: blocked}
	return a, nil
}

// classifyRefusal returns the verdict on a response. The API has no permissions: with
// 403 it asks to slow down.
func classifyRefusal(s *rest.StatusError, usual rest.Verdict) rest.Verdict {
	if s.Status == http.StatusForbidden {
		return rest.Limited
	}
	return usual
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{collector.Stream{Name: "nvd_cves", Extract: a.extractCVEs, Check: a.checkCVEs}}
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error {
	_, err := a.api.Fetch(ctx, rest.Request{Path: a.path + "?resultsPerPage=1&startIndex=0"}, apiShape, &rest.MemoryOutput{}, nil)
	return a.addMessage(err)
}

// checkCVEs implements collector.Stream's Check.
func (a *account) checkCVEs(ctx context.Context) error {
	_, err := a.fetchMeta(ctx, firstYear)
	return errors.Join(a.Check(ctx), err)
}

// addMessage adds to a refusal of the API the reason that it has in a header.
func (a *account) addMessage(err error) error {
	var s *rest.StatusError
	if !errors.As(err, &s) || s.Header.Get("message") == "" {
		return err
	}
	message := s.Header.Get("message")
	if a.key != "" {
		message = strings.ReplaceAll(message, a.key, "(redacted)")
	}
	return fmt.Errorf("%w: the API's reason: %.200q", err, message)
}

const (
	// longestWindow is the longest period of modifications that a request may name.
	longestWindow = 120 * 24 * time.Hour
	// overlap is how far a window reaches back before the end of the last one: CVEs
	// become visible in the API some time after the time that they bear.
	overlap = 24 * time.Hour
	// fileDelay is how old the content of a file may be. The files are written once a
	// day; NIST's own file of modifications covers eight days.
	fileDelay = 8 * 24 * time.Hour
	// rebuildAfter is the time after which the files are read again.
	rebuildAfter = 30 * 24 * time.Hour
)

// extractCVEs writes what was modified, and then all other CVEs, from the last snapshot
// or from the files.
func (a *account) extractCVEs(ctx context.Context, out collector.Output) error {
	previous := collector.PreviousOf(out)
	now := a.now().UTC()
	last := parseNote(previous.PreviousNote(ctx, a.selection))
	if !last.isUsable(now) {
		return a.rebuild(ctx, previous, now)
	}
	changes, err := a.readChanges(ctx, out, last.End, now)
	if err != nil {
		return err
	}
	if len(changes.hashes) == 0 {
		return collector.ErrUnchanged
	}
	same, err := copyOthers(out, changes, func(read func([]byte) error) error { return previous.EachPrevious(ctx, read) })
	if err != nil {
		return err
	}
	if same == len(changes.hashes) {
		return collector.ErrUnchanged
	}
	previous.SetNote(a.selection, note{End: now, Rebuilt: last.Rebuilt}.String())
	return nil
}

// rebuild writes all CVEs from the files and from the API.
func (a *account) rebuild(ctx context.Context, out collector.PreviousOutput, now time.Time) error {
	years, err := a.fetchYears(ctx, now)
	if err != nil {
		return err
	}
	from := now.Add(-fileDelay + overlap)
	if last := years[len(years)-1]; last < now.Year() { // whose file does not exist yet, but perhaps CVEs of some weeks before
		from = time.Date(now.Year()-1, time.December, 1, 0, 0, 0, 0, time.UTC)
	}
	changes, err := a.readChanges(ctx, out, from, now)
	if err != nil {
		return err
	}
	for _, year := range years {
		if err := a.copyFile(ctx, out, year, changes); err != nil {
			return err
		}
	}
	out.SetNote(a.selection, note{End: now, Rebuilt: now}.String())
	return nil
}
