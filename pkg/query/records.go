package query

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/collectord/collectord/pkg/snapshot"
)

// largeRecord is the size in bytes from which records are large. DuckDB needs
// minutes for records of 20 MB in a compressed file.
const largeRecord = 1 << 20

// recordsSummary describes the records of a snapshot.
type recordsSummary struct {
	largest   int  // size of the largest one in bytes
	large     int  // number of large ones
	surrogate bool // one may have an escape that is half of a character, which DuckDB refuses
}

// inspectRecords reads the whole snapshot, which verifies it.
func inspectRecords(ctx context.Context, sealed *snapshot.Snapshot) (sum recordsSummary, err error) {
	err = eachRecord(ctx, sealed, func(record []byte) error {
		sum.largest = max(sum.largest, len(record))
		if len(record) >= largeRecord {
			sum.large++
		}
		sum.surrogate = sum.surrogate || bytes.Contains(record, []byte(`\ud`)) || bytes.Contains(record, []byte(`\uD`))
		return nil
	})
	return sum, err
}

// eachRecord calls visit for each record of the snapshot.
func eachRecord(ctx context.Context, sealed *snapshot.Snapshot, visit func(record []byte) error) (err error) {
	r, err := sealed.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		record, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(record); err != nil {
			return err
		}
	}
}

// writeRecords writes the records, in the form that DuckDB accepts, to the new file
// at path. Before them it writes a shortened copy of each large one: DuckDB tries
// whether the texts of a column are dates until one is not, and trying that with a
// long text takes minutes.
func writeRecords(ctx context.Context, sealed *snapshot.Snapshot, path string) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriterSize(file, 1<<20)
	var buf []byte
	for _, short := range []bool{true, false} {
		err := eachRecord(ctx, sealed, func(record []byte) error {
			if short && len(record) < largeRecord {
				return nil
			}
			if buf, _ = snapshot.EscapeSurrogates(buf[:0], record); short {
				buf = shortenTexts(buf)
			}
			_, err := out.Write(append(buf, '\n'))
			return err
		})
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// shortenTexts replaces the long texts in record, a JSON object, by a short one, in
// place. Names stay.
func shortenTexts(record []byte) []byte {
	const long = 1 << 10
	short := record[:0]
	for i := 0; i < len(record); {
		if record[i] != '"' {
			short = append(short, record[i])
			i++
			continue
		}
		end := i + 1
		for end < len(record) && record[end] != '"' {
			if record[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(record))
		rest := bytes.TrimLeft(record[end:min(end+long, len(record))], " \t")
		if end-i > long && !bytes.HasPrefix(rest, []byte(":")) {
			short = append(short, `"-"`...)
		} else {
			short = append(short, record[i:end]...)
		}
		i = end
	}
	return short
}
