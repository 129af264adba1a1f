package web

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/state"
)

// sparkRuns is how many of the last runs a sparkline shows.
const sparkRuns = 30

// streamRow is a stream on the status data.
type streamRow struct {
	freshness.Stream
	Age          string
	Spark        template.HTML
	Took         string
	Next         string
	NextAt       time.Time
	Schedule     string
	Destinations []destinationStatus
	Notices      []notice
	Progress     *progressView
	First        bool // the first stream of its collector
	Actions      bool // whether the stream can be run
	RunAll       bool // whether to offer a run of all streams of the collector
	Cancel       *action
}

// notice is a sentence about a stream.
type notice struct {
	Kind   string // error, warning or info
	Text   string
	Action *action
	// Sink and Err are set for the error of a destination.
	Sink, Err string
}

// destinationStatus is the status of the deliveries of a stream to one destination.
type destinationStatus struct {
	Sink string
	// State is stored, queued, retrying or refused.
	State, Text, Err string
	Last, Next       time.Time
	Attempts, Queued int
	Action           *action
}

// progressView is the progress of a running extraction.
type progressView struct {
	Records, Rate, Pages, Requests, Retries int64
	Elapsed                                 string
	Step, Wait                              string
	Service                                 string // that executes it, if it is another one
	Share                                   int    // of the records of the last run, in percent; 0 when unknown
}

// overviewData is the data of overview.html.
type overviewData struct {
	baseData
	Rows    []streamRow
	Off     []DisabledCollector
	Summary []labelCount
	// Problems are the errors of destinations that several streams have.
	Problems []notice
	Queued   int
	Services *servicesBox
}

// labelCount is the number of streams with a label.
type labelCount struct {
	State freshness.Label
	Count int
}

// summaryOrder is the order of the labels in the summary.
var summaryOrder = []freshness.Label{
	freshness.Late, freshness.Never, freshness.Failing, freshness.Restored, freshness.Running, freshness.Fresh, freshness.Results, freshness.Off,
}

func (u *ui) serveOverview(w http.ResponseWriter, r *http.Request) {
	data, err := u.readOverview(r.Context())
	if err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	u.render(w, r, http.StatusOK, "overview.html", data)
}

func (u *ui) readOverview(ctx context.Context) (data overviewData, err error) {
	data.baseData = u.newBaseData(ctx, "collectord")
	streams, err := freshness.Read(ctx, u.State, u.Daemon, u.Tenancy, data.Now)
	if err != nil {
		return data, err
	}
	destinations, err := u.readDestinations(ctx)
	if err != nil {
		return data, err
	}
	var names []string
	for _, s := range streams {
		names = append(names, s.Stream)
	}
	points, err := u.State.Runs.Recent(ctx, u.Tenancy, names, sparkRuns)
	if err != nil {
		return data, err
	}
	counts := map[freshness.Label]int{}
	for i, s := range streams {
		row := newStreamRow(s, points[s.Stream], destinations[s.Stream], data.Now)
		if row.Took == "" && len(points[s.Stream]) > 0 { // all of them were skipped
			last, err := u.State.Runs.LastEnded(ctx, s.Collector, s.Stream, u.Tenancy)
			if err != nil {
				return data, err
			}
			row.setTook(last.Ended.Sub(last.Started), last.ID != 0)
		}
		row.First = i == 0 || streams[i-1].Collector != s.Collector
		row.Actions = data.Token && s.WhyOff == ""
		if row.Actions {
			row.Cancel = u.newCancelAction(s.Collector, s.Stream)
		}
		enabled := enabledStreams(streams, s.Collector)
		row.RunAll = row.Actions && len(enabled) > 1 && enabled[0] == s.Stream
		data.Rows = append(data.Rows, row)
		data.Queued += s.Queued
		counts[s.Freshness]++
	}
	for _, label := range summaryOrder {
		if counts[label] > 0 {
			data.Summary = append(data.Summary, labelCount{label, counts[label]})
		}
	}
	data.joinProblems()
	data.Off, data.Services = u.Daemon.Disabled(), u.newServicesBox(ctx, u.isOwn, false)
	return data, nil
}

// minJoined is the number of streams from which the same error of a destination is shown
// once, above the streams.
const minJoined = 3

// joinProblems moves the errors of destinations that several streams have from their rows
// to Problems.
func (o *overviewData) joinProblems() {
	type problem struct{ sink, err string }
	streams := map[problem]int{}
	for _, row := range o.Rows {
		for _, s := range row.Destinations {
			if s.Err != "" {
				streams[problem{s.Sink, s.Err}]++
			}
		}
	}
	for p, n := range streams {
		if n < minJoined {
			continue
		}
		o.Problems = append(o.Problems, notice{Kind: "error", Text: fmt.Sprintf("%s, for %d streams: %s", p.sink, n, p.err)})
		for i := range o.Rows {
			o.Rows[i].Notices = slices.DeleteFunc(o.Rows[i].Notices, func(n notice) bool {
				return n.Err == p.err && n.Sink == p.sink
			})
		}
	}
	slices.SortFunc(o.Problems, func(a, b notice) int { return strings.Compare(a.Text, b.Text) })
}

// enabledStreams returns the names of a collector's streams that are on.
func enabledStreams(streams []freshness.Stream, collector string) (names []string) {
	for _, s := range streams {
		if s.Collector == collector && s.WhyOff == "" {
			names = append(names, s.Stream)
		}
	}
	return names
}

func newStreamRow(s freshness.Stream, points []state.Point, destinations []destinationStatus, now time.Time) streamRow {
	r := streamRow{
		Stream: s, Age: formatAge(now, s.DataTime()), Spark: sparkline(points), Destinations: destinations,
		Schedule: s.Plan.Schedule, NextAt: s.Plan.Next,
	}
	for _, p := range points {
		r.setTook(p.Took, p.Outcome != state.Skipped)
	}
	switch {
	case s.HasResults():
		r.Next = "after runs"
	case s.WhyOff != "":
		r.Next = "off"
	case s.Plan.Queued:
		r.Next = "queued"
	case s.Plan.Next.IsZero():
		r.Next = "no schedule"
	case !s.Plan.Next.After(now):
		r.Next = "now"
	case s.Plan.Next.Equal(s.Plan.Retry):
		r.Next = "retry " + formatAge(now, s.Plan.Next)
	default:
		r.Next = formatAge(now, s.Plan.Next)
	}
	if s.Active != nil {
		r.Progress = newProgressView(s, now)
	}
	r.Notices = newNotices(s, destinations, now)
	return r
}

// setTook sets the duration of the last run, unless that was skipped.
func (s *streamRow) setTook(took time.Duration, ran bool) {
	if ran {
		s.Took = formatDuration(took)
	}
}

func newProgressView(s freshness.Stream, now time.Time) *progressView {
	progress, elapsed := s.Active.Progress(), now.Sub(s.Active.Started)
	v := &progressView{
		Records: progress.Records, Pages: progress.Pages, Requests: progress.Requests, Retries: progress.Retries,
		Elapsed: formatDuration(elapsed), Step: progress.Step, Service: s.Active.Node,
	}
	if seconds := elapsed.Seconds(); seconds >= 1 {
		v.Rate = int64(float64(progress.Records) / seconds)
	}
	v.Wait = progress.DescribeWait(now)
	if s.Records > 0 {
		v.Share = int(min(99, progress.Records*100/s.Records))
	}
	return v
}

// newNotices returns the notices about a stream.
func newNotices(s freshness.Stream, destinations []destinationStatus, now time.Time) (notices []notice) {
	switch {
	case s.HasResults():
		notices = append(notices, notice{Kind: "info", Text: "The stream has the results of controls. They are measured after runs of the streams that they read."})
	case s.WhyOff != "":
		text := "The stream is off: " + s.WhyOff + "."
		if !s.Taken.IsZero() {
			text += " Its last-known data is kept."
		}
		notices = append(notices, notice{Kind: "info", Text: text})
	}
	if s.Held {
		notices = append(notices, notice{Kind: "warning", Text: describeHeld(s)})
	}
	if s.Overdue {
		notices = append(notices, notice{Kind: "error", Text: "The data is late since " + s.Deadline.UTC().Format("2006-01-02 15:04:05 UTC") + "."})
	}
	isHeld := s.Held && s.Last.Outcome == state.Held // which the notice above says
	if s.LastFailure.After(s.LastSuccess) && s.FailureErr != "" && (s.WhyOff == "" || s.HasResults()) && !isHeld {
		kind := "error"
		if s.Freshness == freshness.Running {
			kind = "info"
		}
		notices = append(notices, notice{Kind: kind, Text: "Failed " + formatAge(now, s.LastFailure) + " ago: " + strings.TrimSpace(s.FailureErr)})
	}
	if s.Source == state.Restored && s.Checked.IsZero() {
		notices = append(notices, notice{Kind: "info", Text: "The data is from the backup; no run has succeeded on this machine since."})
	}
	if len(s.Doubts) > 0 {
		notices = append(notices, notice{Kind: "warning", Text: "accepted: " + s.Doubts.String()})
	}
	for _, d := range destinations {
		if d.Err != "" {
			notices = append(notices, notice{
				Kind: "error", Text: d.Sink + ", after " + formatAttempts(d.Attempts) + ": " + d.Err, Sink: d.Sink, Err: d.Err,
			})
		}
	}
	return notices
}

// describeHeld returns what is known about the held snapshot of a stream.
func describeHeld(s freshness.Stream) string {
	text := "A new snapshot with far fewer records is held"
	if s.Last.Outcome == state.Held {
		text += ": " + s.Last.Err
	}
	return text + ". If the loss is real, accept it: collectord accept " + s.Stream
}

// formatAttempts returns "1 attempt", "2 attempts" and so on.
func formatAttempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return humanize.Comma(int64(n)) + " attempts"
}

// readDestinations returns the status of the destinations of each stream, ordered by name.
func (u *ui) readDestinations(ctx context.Context) (map[string][]destinationStatus, error) {
	stored, err := u.State.Queue.SinkStatuses(ctx)
	if err != nil {
		return nil, err
	}
	queue, err := u.State.Queue.List(ctx)
	if err != nil {
		return nil, err
	}
	now := u.Now()
	found := map[[2]string]*destinationStatus{}
	statusOf := func(stream, sink string) *destinationStatus {
		key := [2]string{stream, sink}
		if found[key] == nil {
			found[key] = &destinationStatus{Sink: sink, State: "stored"}
		}
		return found[key]
	}
	for _, s := range stored {
		// A destination that never stored the stream and has nothing queued for it is not
		// configured any more.
		if s.Tenancy == u.Tenancy && !s.LastSuccess.IsZero() {
			statusOf(s.Stream, s.Sink).Last = s.LastSuccess
		}
	}
	for _, d := range queue {
		if d.Tenancy == u.Tenancy {
			statusOf(d.Stream, d.Sink).addQueued(d)
		}
	}
	all := map[string][]destinationStatus{}
	for key, d := range found {
		d.setText(now)
		all[key[0]] = append(all[key[0]], *d)
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b destinationStatus) int { return strings.Compare(a.Sink, b.Sink) })
	}
	return all, nil
}

// addQueued adds a queued delivery. The first one determines the state.
func (d *destinationStatus) addQueued(q state.Delivery) {
	if d.Queued++; d.Queued > 1 {
		return
	}
	d.Err, d.Attempts, d.Next = q.Err, q.Attempts, q.NextTry
	switch {
	case q.Err == "":
		d.State = "queued"
	case q.Class == state.Refused:
		d.State = "refused"
	default:
		d.State = "retrying"
	}
}

// setText sets the text from the other fields.
func (d *destinationStatus) setText(now time.Time) {
	switch {
	case d.Queued == 0:
		d.Text = "stored " + formatAge(now, d.Last) + " ago"
	case d.Next.After(now):
		d.Text = humanize.Comma(int64(d.Queued)) + " queued, next attempt " + formatAge(now, d.Next)
	default:
		d.Text = humanize.Comma(int64(d.Queued)) + " queued"
	}
}
