package nvd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// firstYear is the year of the first file, which also has the CVEs of earlier years.
const firstYear = 2002

// fetchYears returns the years that have files, the oldest first. At the start of a year
// its own file may not exist yet.
func (a *account) fetchYears(ctx context.Context, now time.Time) (years []int, err error) {
	for year := firstYear; year < now.Year(); year++ {
		years = append(years, year)
	}
	_, err = a.fetchMeta(ctx, now.Year())
	if rest.HasStatus(err, http.StatusNotFound) && len(years) > 0 && now.YearDay() <= lateFile {
		return years, nil
	}
	return append(years, now.Year()), err
}

// lateFile is the last day of a year on which its file may not exist. What was modified
// since the month before the year is then not much to ask for.
const lateFile = 90

// fileMeta is the description that NIST publishes beside a file.
type fileMeta struct {
	// size and sum are the number of bytes and the SHA-256, in lower-case hexadecimal,
	// of the JSON document.
	size int64
	sum  string
}

// fetchMeta returns the description of the file of a year.
func (a *account) fetchMeta(ctx context.Context, year int) (meta fileMeta, err error) {
	err = a.files.Do(ctx, rest.Request{Path: a.filePath(year) + ".meta"}, func(resp *rest.Response) (err error) {
		if err := resp.RefusePage(); err != nil {
			return err
		}
		meta, err = parseMeta(resp.Body)
		return err
	})
	return meta, err
}

func (a *account) filePath(year int) string {
	return a.dir + "/nvdcve-2.0-" + strconv.Itoa(year)
}

// parseMeta reads a description: lines with a name, a colon and a value.
func parseMeta(r io.Reader) (meta fileMeta, err error) {
	meta.size = -1
	text, err := io.ReadAll(io.LimitReader(r, 4<<10))
	if err != nil {
		return meta, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		switch name {
		case "size":
			if meta.size, err = strconv.ParseInt(value, 10, 64); err != nil {
				meta.size = -1
			}
		case "sha256":
			meta.sum = strings.ToLower(value)
		}
	}
	if raw, err := hex.DecodeString(meta.sum); err != nil || len(raw) != sha256.Size || meta.size < 0 {
		return meta, &rest.BodyError{Err: fmt.Errorf("the file does not have the size and sha256 of the one beside it: %.80q", text)}
	}
	return meta, nil
}

const (
	// maxFile bounds the bytes of a file's document.
	maxFile = 8 << 30
	// fileReads bounds how often a file is read that differs from its description,
	// which are replaced one after the other.
	fileReads = 4
	// fileWait is the wait before it is read again.
	fileWait = 30 * time.Second
)

// errOtherFile means that a file is not the one that was described.
var errOtherFile = errors.New("the file is not the one that its .meta file describes")

// copyFile writes the CVEs of a year's file that were not modified.
func (a *account) copyFile(ctx context.Context, out collector.Output, year int, modified changes) error {
	for reads := 1; ; reads++ {
		meta, err := a.fetchMeta(ctx, year)
		if err != nil {
			return err
		}
		_, err = a.files.FetchFile(ctx, rest.Request{Path: a.filePath(year) + ".json.gz"}, out, func(resp *rest.Response, each records.Func) error {
			return readYearFile(resp.Body, meta, year, modified, each)
		})
		if !errors.Is(err, errOtherFile) || reads == fileReads {
			return err
		}
		if err := rest.Sleep(ctx, fileWait, "the file and its description"); err != nil {
			return err
		}
	}
}

// readYearFile passes the CVEs of a file that were not modified to each.
func readYearFile(r io.Reader, meta fileMeta, year int, modified changes, each records.Func) error {
	plain, err := records.GunzipIfNeeded(r, maxFile)
	if err != nil {
		return err
	}
	sum := sha256.New()
	counted := &countedReader{r: io.TeeReader(plain, sum)}
	seen := map[string]struct{}{}
	envelope, err := rest.Split(counted, apiShape, func(_ *rest.Envelope, raw []byte) error {
		id, record, err := unwrap(raw)
		if err != nil {
			return err
		}
		if err := checkYear(id, year); err != nil {
			return err
		}
		if _, twice := seen[id]; twice {
			return fmt.Errorf("%w: the file has %s twice", collector.ErrIncomplete, id)
		}
		seen[id] = struct{}{}
		if _, found := modified.hashes[id]; found {
			return nil
		}
		return each(record)
	})
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, counted); err != nil { // what follows the document
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != meta.sum || counted.n != meta.size {
		return fmt.Errorf("%w: %w: %d bytes with the SHA-256 %s, want %d with %s",
			collector.ErrIncomplete, errOtherFile, counted.n, got, meta.size, meta.sum)
	}
	if total, ok := envelope.Count("totalResults"); ok && total != int64(envelope.Records) {
		return fmt.Errorf("%w: the file has %d of %d declared CVEs", collector.ErrIncomplete, envelope.Records, total)
	}
	return nil
}

// checkYear returns an error if a CVE belongs to the file of another year, which may
// have it as well.
func checkYear(id string, year int) error {
	text, _, _ := strings.Cut(strings.TrimPrefix(id, "CVE-"), "-")
	of, err := strconv.Atoi(text)
	if err != nil || max(of, firstYear) != year {
		return fmt.Errorf("%w: %s is in the file of %d", collector.ErrIncomplete, id, year)
	}
	return nil
}

// A countedReader counts the bytes that are read from r.
type countedReader struct {
	r io.Reader
	n int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
