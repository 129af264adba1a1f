// Package osv reads the vulnerabilities of open source packages from OSV.dev.
package osv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of OSV.dev.
type Settings struct {
	Ecosystems string `env:"OSV_ECOSYSTEMS" required:"true" want:"names of ecosystems, separated by commas" example:"PyPI,npm,Go" doc:"The ecosystems to read, as https://storage.googleapis.com/osv-vulnerabilities/ecosystems.txt writes them."`
	URL        string `env:"OSV_URL" envDefault:"https://storage.googleapis.com/osv-vulnerabilities" doc:"Address of the directories of the ecosystems, such as that of a mirror."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, err := s.ecosystems()
	_, addressErr := s.storeURL()
	return source.NonNil(err, addressErr)
}

func (s *Settings) storeURL() (url.URL, error) {
	return source.ParseAddress("OSV_URL", s.URL, "https://storage.googleapis.com/osv-vulnerabilities")
}

// ecosystems returns the names of the ecosystems.
func (s *Settings) ecosystems() ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(s.Ecosystems, ",") {
		name = strings.TrimSpace(name)
		base, version, hasVersion := strings.Cut(name, ":")
		switch {
		case hasVersion:
			return nil, config.Invalid("OSV_ECOSYSTEMS", "%q: all versions are published together: want %q without %q", name, base, ":"+version)
		case name == "" || strings.Trim(name, allowedInNames) != "" || strings.Trim(name, ".") == "":
			return nil, config.Invalid("OSV_ECOSYSTEMS", "%q is not the name of an ecosystem: want names such as PyPI,npm,Go", name)
		case slices.Contains(names, name):
			return nil, config.Invalid("OSV_ECOSYSTEMS", "%q is in the list twice", name)
		}
		names = append(names, name)
	}
	return names, nil
}

const allowedInNames = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .-_"

// Definition describes OSV.dev.
var Definition = source.Define(collector.Info{
	Name:        "osv",
	Title:       "OSV.dev",
	Docs:        "https://google.github.io/osv.dev/data/",
	Permissions: "none",
	IsPublic:    true,
	RateLimit:   "None is published. A run makes one conditional request for each ecosystem, one after the other: archives that have not changed are not downloaded.",
	Streams: []collector.StreamInfo{{
		Name: "osv_vulnerabilities", Records: "a vulnerability of an ecosystem",
		Optional:  []string{"withdrawn", "aliases", "summary", "severity"},
		Endpoints: []string{"GET /{ecosystem}/all.zip"},
		PageSize:  "all vulnerabilities of the ecosystem; npm has about 230,000 in 210 MB",
		Notes: "All vulnerabilities of the ecosystems in OSV_ECOSYSTEMS, also those that were withdrawn. Each record has its ecosystem as `_ecosystem`; one that belongs to several has a record for each. " +
			"An archive is complete if its directory is, and each entry matches its length and checksum. It is stored in STATE_DIR while it is read. " +
			"The records of an ecosystem that has not changed are taken from the last-known data; if none has changed, there is no new snapshot. `aliases` has the CVEs for joins.",
	}},
}, openAccount)

const (
	// maxArchive bounds the bytes of an archive, and maxContent those of its files.
	maxArchive = 4 << 30
	maxContent = 64 << 30
)

// account is the public store.
type account struct {
	api        *rest.Client
	ecosystems []string
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	address, err := s.storeURL()
	if err != nil {
		return nil, err
	}
	ecosystems, err := s.ecosystems()
	if err != nil {
		return nil, err
	}
	api := source.NewFeedClient(address, "OSV_URL", o)
	// A store responds with one of the two to a name that it does not have.
	check := "check OSV_ECOSYSTEMS, whose names are case-sensitive and which ecosystems.txt beside the directories lists, and " + api.Address
	api.Hints[http.StatusForbidden], api.Hints[http.StatusNotFound] = check, check
	return &account{api: api, ecosystems: ecosystems}, nil
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	return []collector.Stream{collector.Stream{Name: "osv_vulnerabilities", Extract: a.extractVulnerabilities, Check: a.Check}}
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error {
	for _, ecosystem := range a.ecosystems {
		if err := a.api.CheckFile(ctx, archiveRequest(ecosystem)); err != nil {
			return fmt.Errorf("ecosystem %s: %w", ecosystem, err)
		}
	}
	return nil
}

// archiveRequest returns the request for the archive of an ecosystem.
func archiveRequest(ecosystem string) rest.Request {
	return rest.Request{Path: "/" + url.PathEscape(ecosystem) + "/all.zip", Header: http.Header{"Accept": {"*/*"}}}
}

// extractVulnerabilities reads the archives that have changed, and takes the records
// of the others from the last-known snapshot.
func (a *account) extractVulnerabilities(ctx context.Context, out collector.Output) error {
	previous := collector.PreviousOf(out)
	selection := a.api.Base.String() + " " + strings.Join(a.ecosystems, ",")
	versions := map[string]version{}
	if note := previous.PreviousNote(ctx, selection); note != "" {
		if err := json.Unmarshal([]byte(note), &versions); err != nil {
			return fmt.Errorf("the note of the last-known data: %w", err)
		}
	}
	unchanged := map[string]int64{} // numbers of records, by ecosystem
	for _, ecosystem := range a.ecosystems {
		read, err := a.readArchive(ctx, ecosystem, versions[ecosystem].Validator, out)
		switch {
		case errors.Is(err, rest.ErrNotModified):
			unchanged[ecosystem] = versions[ecosystem].Records
		case err != nil:
			return fmt.Errorf("ecosystem %s: %w", ecosystem, err)
		default:
			versions[ecosystem] = read
		}
	}
	if len(unchanged) == len(a.ecosystems) {
		return collector.ErrUnchanged
	}
	if err := copyPrevious(ctx, previous, unchanged); err != nil {
		return err
	}
	note, err := json.Marshal(versions)
	if err != nil {
		return err
	}
	previous.SetNote(selection, string(note))
	return nil
}

// A version is what the note of a snapshot says about one archive.
type version struct {
	Validator rest.Validator `json:"validator"`
	Records   int64          `json:"records"`
}

// readArchive writes the vulnerabilities of an ecosystem to out.
func (a *account) readArchive(ctx context.Context, ecosystem string, unless rest.Validator, out collector.Output) (version, error) {
	r := archiveRequest(ecosystem)
	r.Unless = unless
	ofArchive := rest.Extension{Values: []rest.Value{{Name: "_ecosystem", Raw: records.AppendString(nil, ecosystem)}}}
	var record []byte
	var count int64
	header, err := a.api.FetchFile(ctx, r, out, func(resp *rest.Response, each records.Func) (err error) {
		count, err = resp.EachZIPObject(ctx, maxArchive, maxContent, func(raw []byte) (err error) {
			if record, err = ofArchive.Append(record[:0], raw); err != nil {
				return err
			}
			return each(record)
		})
		return err
	})
	return version{rest.ValidatorOf(header), count}, err
}

// copyPrevious writes the records of ecosystems that have not changed to out.
// ecosystems has their numbers.
func copyPrevious(ctx context.Context, out collector.PreviousOutput, ecosystems map[string]int64) error {
	if len(ecosystems) == 0 {
		return nil
	}
	batch := out.NewBatch()
	defer batch.Discard()
	found := map[string]int64{}
	err := out.EachPrevious(ctx, func(record []byte) error {
		ecosystem := rest.TextOf(rest.Member(record, "_ecosystem"))
		if _, isUnchanged := ecosystems[ecosystem]; !isUnchanged {
			return nil
		}
		found[ecosystem]++
		return batch.Append(record)
	})
	if err != nil {
		return fmt.Errorf("records that have not changed: %w", err)
	}
	for ecosystem, want := range ecosystems {
		if found[ecosystem] != want {
			return fmt.Errorf("%w: the last-known data has %d vulnerabilities of %s, its note declares %d", collector.ErrIncomplete, found[ecosystem], ecosystem, want)
		}
	}
	return batch.Commit()
}
