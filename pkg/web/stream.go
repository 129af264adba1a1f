package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

const (
	maxChartRuns    = 400 // in the charts
	maxListedRuns   = 50  // in the list
	maxShownRecords = 5
	maxRecordBytes  = 16 << 10
)

// streamData is the data of stream.html.
type streamData struct {
	baseData
	streamRow
	Charts   []chart
	From, To time.Time
	Runs     []state.Run
	More     bool // there are more runs than Runs has
	Queue    []queuedRow
	ShowData bool
	// Protected reports whether a download needs the token.
	Protected bool
}

// queuedRow is a queued delivery.
type queuedRow struct {
	state.Delivery
	Unconfigured bool // the settings do not have the destination
	Action       *action
}

func (u *ui) serveStream(w http.ResponseWriter, r *http.Request) {
	data, found, err := u.readStream(r.Context(), r.PathValue("name"))
	switch {
	case err != nil:
		u.writeInternalError(w, r, err)
	case !found:
		u.serveMissing(w, r, "No such stream", "There is no stream "+r.PathValue("name")+".")
	default:
		u.render(w, r, http.StatusOK, "stream.html", data)
	}
}

func (u *ui) readStream(ctx context.Context, name string) (data streamData, found bool, err error) {
	data.baseData = u.newBaseData(ctx, name)
	data.ShowData, data.Protected = u.ShowData && u.Profiles != nil, u.Access.Open() && !data.Granted
	streams, err := freshness.Read(ctx, u.State, u.Daemon, u.Tenancy, data.Now)
	if err != nil {
		return data, false, err
	}
	for _, s := range streams {
		if s.Stream != name {
			continue
		}
		destinations, err := u.readDestinations(ctx)
		if err != nil {
			return data, true, err
		}
		runs, err := u.State.Runs.ListTenancy(ctx, name, u.Tenancy, maxChartRuns)
		if err != nil {
			return data, true, err
		}
		operator := u.Daemon.Operator()
		data.streamRow = newStreamRow(s, nil, withConfigured(destinations[name], operator.Policy.Sinks, s), data.Now)
		data.streamRow.Actions = data.Token && s.WhyOff == ""
		if data.streamRow.Actions {
			data.streamRow.Cancel = u.newCancelAction(s.Collector, s.Stream)
		}
		data.streamRow.RunAll = data.streamRow.Actions && len(enabledStreams(streams, s.Collector)) > 1
		data.setHistory(runs)
		queue, err := u.State.Queue.List(ctx)
		for _, d := range queue {
			if d.Stream == name && d.Tenancy == u.Tenancy {
				data.Queue = append(data.Queue, queuedRow{Delivery: d, Unconfigured: !slices.Contains(operator.Policy.Sinks, d.Sink)})
			}
		}
		if data.Token {
			data.addActions(operator.Policy.Sinks)
		}
		return data, true, err
	}
	return data, false, nil
}

// setHistory sets the charts and the list of runs. runs has the newest first.
func (s *streamData) setHistory(runs []state.Run) {
	s.Runs = runs
	if len(runs) > maxListedRuns {
		s.Runs, s.More = runs[:maxListedRuns], true
	}
	var records, durations, sizes, failures []float64
	var classes []string
	inARow := 0.0
	for i := len(runs) - 1; i >= 0; i-- {
		r := runs[i]
		if r.Ended.IsZero() {
			continue
		}
		if s.From.IsZero() {
			s.From = r.Started
		}
		s.To = r.Started
		class, shown, failuresShown := barClass(r.Outcome), r, 0.0
		switch class {
		case "good":
			inARow = 0
		case "bad":
			inARow++
			failuresShown = inARow
		default: // a skipped tick has no values
			shown = state.Run{}
		}
		records, sizes = append(records, float64(shown.Records)), append(sizes, float64(shown.Bytes))
		durations = append(durations, shown.Ended.Sub(shown.Started).Seconds())
		failures, classes = append(failures, failuresShown), append(classes, class)
	}
	if len(records) == 0 {
		return
	}
	number := func(v float64) string { return humanize.Comma(int64(v)) }
	s.Charts = []chart{
		barChart("Records", records, classes, number),
		barChart("Duration", durations, classes, func(v float64) string { return formatDuration(time.Duration(v * float64(time.Second))) }),
		barChart("Bytes", sizes, classes, func(v float64) string { return formatSize(int64(v)) }),
		barChart("Failures in a row", failures, classes, number),
	}
}

// recordsData is the data of data.html.
type recordsData struct {
	Err      string
	Records  []string
	Profile  query.Profile
	NoColumn string
}

// serveStreamData serves the columns and first records of a stream's last-known data.
func (u *ui) serveStreamData(w http.ResponseWriter, r *http.Request) {
	if !u.ShowData || u.Profiles == nil {
		u.writeError(w, http.StatusForbidden, errNotShown)
		return
	}
	var data recordsData
	var err error
	name := r.PathValue("name")
	data.Records, err = u.readFirstRecords(r.Context(), name)
	switch {
	case errors.Is(err, state.ErrNoSnapshot):
		data.Err = "There is no data yet."
	case err != nil:
		data.Err = err.Error()
	default:
		if data.Profile, err = u.columnProfile(r.Context(), name); err != nil {
			data.NoColumn = err.Error()
		}
		extendDeadline(w)
	}
	u.render(w, r, http.StatusOK, "data.html", data)
}

// readFirstRecords returns the first records, indented and truncated.
func (u *ui) readFirstRecords(ctx context.Context, stream string) (texts []string, err error) {
	_, err = u.State.Snapshots.EachRecord(ctx, stream, u.Tenancy, func(record []byte) error {
		texts = append(texts, formatRecord(record))
		if len(texts) == maxShownRecords {
			return state.ErrEnough
		}
		return nil
	})
	return texts, err
}

// formatRecord returns a record indented, truncated and as valid UTF-8.
func formatRecord(record []byte) string {
	if len(record) > 4*maxRecordBytes {
		record = record[:4*maxRecordBytes]
	}
	var b bytes.Buffer
	text := string(record)
	if json.Indent(&b, record, "", "  ") == nil {
		text = b.String()
	}
	if len(text) > maxRecordBytes {
		text = text[:maxRecordBytes] + "\n… truncated"
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// columnProfile returns the column profile of the last-known data. It computes it once for each
// snapshot.
func (u *ui) columnProfile(ctx context.Context, stream string) (query.Profile, error) {
	sealed, _, err := u.State.Snapshots.LastKnown(ctx, stream, u.Tenancy)
	if err != nil {
		return query.Profile{}, err
	}
	u.mu.Lock()
	known, ok := u.profiles[stream]
	u.mu.Unlock()
	if ok && known.UploadID == sealed.UploadID {
		return known, nil
	}
	found, err := u.Profiles.Profile(ctx, stream, query.Limits{Time: u.QueryTime, Wait: true})
	if err != nil {
		return found, err
	}
	u.mu.Lock()
	u.profiles[stream] = found
	u.mu.Unlock()
	return found, nil
}

// percent returns the share of filled in all, in percent, rounded down.
func percent(filled, all int64) int64 {
	if all == 0 {
		return 0
	}
	return filled * 100 / all
}
