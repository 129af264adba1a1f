package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

const (
	chartRuns   = 400 // in the charts
	listedRuns  = 50  // in the list
	peekRecords = 5
	peekBytes   = 16 << 10 // of each record
	profileTime = 30 * time.Second
)

type streamPage struct {
	frame
	row
	Charts   []chart
	From, To time.Time
	Runs     []state.Run
	More     bool
	Queue    []state.Delivery
	ShowData bool
}

func (p *pages) stream(w http.ResponseWriter, r *http.Request) {
	page, found, err := p.streamOf(r.Context(), r.PathValue("stream"))
	switch {
	case err != nil:
		p.fail(w, r, err)
	case !found:
		p.show(w, r, http.StatusNotFound, "missing.html", p.frame("No such stream"))
	default:
		p.show(w, r, http.StatusOK, "stream.html", page)
	}
}

func (p *pages) streamOf(ctx context.Context, name string) (page streamPage, found bool, err error) {
	page.frame = p.frame(name)
	page.ShowData = p.ShowData && p.Profiles != nil
	streams, err := Streams(ctx, p.State, p.Daemon, p.Tenancy, page.Now)
	if err != nil {
		return page, false, err
	}
	for _, s := range streams {
		if s.Stream != name {
			continue
		}
		sent, err := p.destinations(ctx)
		if err != nil {
			return page, true, err
		}
		runs, err := p.State.RunsOf(ctx, name, p.Tenancy, chartRuns)
		if err != nil {
			return page, true, err
		}
		page.row = rowOf(s, nil, sent[name], page.Now)
		page.row.Actions = page.frame.Token && s.Standing.Collector != ""
		page.history(runs)
		queue, err := p.State.Queue(ctx)
		for _, d := range queue {
			if d.Stream == name && d.Tenancy == p.Tenancy {
				page.Queue = append(page.Queue, d)
			}
		}
		return page, true, err
	}
	return page, false, nil
}

// history makes the charts and the list of runs, newest first.
func (page *streamPage) history(runs []state.Run) {
	page.Runs = runs
	if len(runs) > listedRuns {
		page.Runs, page.More = runs[:listedRuns], true
	}
	var records, duration, sizes, failures []float64
	var bad []bool
	inARow := 0.0
	for i := len(runs) - 1; i >= 0; i-- {
		r := runs[i]
		if r.Ended.IsZero() {
			continue
		}
		if page.From.IsZero() {
			page.From = r.Started
		}
		page.To = r.Started
		records, sizes = append(records, float64(r.Records)), append(sizes, float64(r.Bytes))
		duration = append(duration, r.Ended.Sub(r.Started).Seconds())
		if good(r.Outcome) {
			inARow = 0
		} else {
			inARow++
		}
		failures = append(failures, inARow)
		bad = append(bad, inARow > 0)
	}
	if len(records) == 0 {
		return
	}
	number := func(v float64) string { return humanize.Comma(int64(v)) }
	page.Charts = []chart{
		barChart("Records", records, bad, number),
		barChart("Duration", duration, bad, func(v float64) string { return took(time.Duration(v * float64(time.Second))) }),
		barChart("Bytes", sizes, bad, func(v float64) string { return size(int64(v)) }),
		barChart("Failures in a row", failures, bad, number),
	}
}

type dataPart struct {
	Err      string
	Records  []string
	Profile  query.Profile
	NoColumn string
}

// data is the peek at a stream's last-known data.
func (p *pages) data(w http.ResponseWriter, r *http.Request) {
	if !p.ShowData || p.Profiles == nil {
		p.refuse(w, http.StatusForbidden, "HTTP_SHOW_DATA is false")
		return
	}
	var part dataPart
	var err error
	name := r.PathValue("stream")
	part.Records, err = p.peek(r.Context(), name)
	switch {
	case errors.Is(err, state.ErrNone):
		part.Err = "There are no data yet."
	case err != nil:
		part.Err = err.Error()
	default:
		if part.Profile, err = p.profile(r.Context(), name); err != nil {
			part.NoColumn = err.Error()
		}
	}
	p.show(w, r, http.StatusOK, "data.html", part)
}

// peek returns the first records, indented and cut.
func (p *pages) peek(ctx context.Context, stream string) (texts []string, err error) {
	sealed, _, err := p.State.LastKnown(ctx, stream, p.Tenancy)
	if err != nil {
		return nil, err
	}
	reader, err := sealed.Reader(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for range peekRecords {
		record, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		texts = append(texts, indented(record))
	}
	return texts, nil
}

func indented(record []byte) string {
	if len(record) > 4*peekBytes {
		record = record[:4*peekBytes]
	}
	var b bytes.Buffer
	text := string(record)
	if json.Indent(&b, record, "", "  ") == nil {
		text = b.String()
	}
	if len(text) > peekBytes {
		text = text[:peekBytes] + "\n… cut"
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// profile describes the columns, from memory while the data are the same.
func (p *pages) profile(ctx context.Context, stream string) (query.Profile, error) {
	sealed, _, err := p.State.LastKnown(ctx, stream, p.Tenancy)
	if err != nil {
		return query.Profile{}, err
	}
	p.mu.Lock()
	known, ok := p.profiles[stream]
	p.mu.Unlock()
	if ok && known.UploadID == sealed.UploadID {
		return known, nil
	}
	found, err := p.Profiles.Profile(ctx, stream, query.Limits{Time: profileTime, Wait: true})
	if err != nil {
		return found, err
	}
	p.mu.Lock()
	p.profiles[stream] = found
	p.mu.Unlock()
	return found, nil
}

// percent is how many of the records have a value.
func percent(filled, all int64) int64 {
	if all == 0 {
		return 0
	}
	return filled * 100 / all
}
