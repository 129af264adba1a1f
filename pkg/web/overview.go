package web

import (
	"cmp"
	"context"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/state"
)

// sparkRuns is how many of the last runs a sparkline shows.
const sparkRuns = 30

// row is a stream in the overview.
type row struct {
	Stream
	Age          string
	Spark        template.HTML
	Took         string
	Next         string
	NextAt       time.Time
	Schedule     string
	Destinations []destination
	Notes        []note
	Progress     *progress
	First        bool // of its collector
	Actions      bool
}

// note is a sentence below a row.
type note struct {
	Kind string // error, warning or info
	Text string
}

// destination is how the deliveries of a stream to one sink stand.
type destination struct {
	Sink string
	// State is stored, queued, retrying or refused.
	State, Text, Err string
	Last, Next       time.Time
	Attempts, Queued int
}

// progress is a running extraction.
type progress struct {
	Records, Rate, Pages, Requests, Retries int64
	Elapsed                                 string
	Step, Wait                              string
	Share                                   int // of the last run's records, percent; 0 when unknown
}

type overviewPage struct {
	frame
	Rows    []row
	Off     []Off
	Summary []tally
	Queued  int
}

type tally struct {
	State Freshness
	Count int
}

// severity is the order of the summary.
var severity = []Freshness{Late, Never, Failing, Restored, Running, Fresh, NoTicks}

func (p *pages) overview(w http.ResponseWriter, r *http.Request) {
	page, err := p.overviewOf(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.show(w, r, http.StatusOK, "overview.html", page)
}

func (p *pages) overviewOf(ctx context.Context) (page overviewPage, err error) {
	page.frame = p.frame("collectord")
	streams, err := Streams(ctx, p.State, p.Daemon, p.Tenancy, page.Now)
	if err != nil {
		return page, err
	}
	sent, err := p.destinations(ctx)
	if err != nil {
		return page, err
	}
	var names []string
	for _, s := range streams {
		names = append(names, s.Stream)
	}
	points, err := p.State.Recent(ctx, p.Tenancy, names, sparkRuns)
	if err != nil {
		return page, err
	}
	counts := map[Freshness]int{}
	for i, s := range streams {
		one := rowOf(s, points[s.Stream], sent[s.Stream], page.Now)
		one.First = i == 0 || streams[i-1].Collector != s.Collector
		one.Actions = page.Token && s.Standing.Collector != ""
		page.Rows = append(page.Rows, one)
		page.Queued += s.Queued
		counts[s.Freshness]++
	}
	for _, f := range severity {
		if counts[f] > 0 {
			page.Summary = append(page.Summary, tally{f, counts[f]})
		}
	}
	page.Off = p.Daemon.Off()
	return page, nil
}

func rowOf(s Stream, points []state.Point, sent []destination, now time.Time) row {
	r := row{Stream: s, Age: ago(now, s.Taken), Spark: sparkline(points), Destinations: sent, Schedule: s.Standing.Schedule, NextAt: s.Standing.Next}
	if n := len(points); n > 0 {
		r.Took = took(points[n-1].Took)
	}
	switch {
	case s.Standing.Collector == "":
		r.Next = "collector is off"
	case s.Standing.Next.IsZero():
		r.Next = "no schedule"
	case !s.Standing.Next.After(now):
		r.Next = "now"
	default:
		r.Next = ago(now, s.Standing.Next)
	}
	if s.Live != nil {
		r.Progress = progressOf(s, now)
	}
	r.Notes = notesOf(s, sent, now)
	return r
}

func progressOf(s Stream, now time.Time) *progress {
	n, elapsed := s.Live.Stats.Read(), now.Sub(s.Live.Started)
	p := &progress{Records: n.Records, Pages: n.Pages, Requests: n.Requests, Retries: n.Retries, Elapsed: took(elapsed), Step: n.Step}
	if seconds := elapsed.Seconds(); seconds >= 1 {
		p.Rate = int64(float64(n.Records) / seconds)
	}
	if n.WaitUntil.After(now) {
		p.Wait = "waiting for " + cmp.Or(n.WaitFor, "the vendor") + " until " + n.WaitUntil.UTC().Format("15:04:05 UTC")
	}
	if s.Records > 0 {
		p.Share = int(min(99, n.Records*100/s.Records))
	}
	return p
}

// notesOf says what somebody should know about a stream.
func notesOf(s Stream, sent []destination, now time.Time) (notes []note) {
	if s.Held {
		notes = append(notes, note{"warning", "A new snapshot with far fewer records is held back. If the loss is real, release it: collectord accept " + s.Stream})
	}
	if s.LastFailure.After(s.LastSuccess) && s.FailureErr != "" {
		kind := "error"
		if s.Freshness == Running {
			kind = "info"
		}
		notes = append(notes, note{kind, "Failed " + ago(now, s.LastFailure) + " ago: " + strings.TrimSpace(s.FailureErr)})
	}
	if s.Source == state.Restored {
		notes = append(notes, note{"info", "The data are from the backup; no run has succeeded on this machine since."})
	}
	for _, d := range sent {
		if d.Err != "" {
			notes = append(notes, note{"error", d.Sink + ", tried " + times(d.Attempts) + ": " + d.Err})
		}
	}
	return notes
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return humanize.Comma(int64(n)) + " times"
}

// destinations are those of each stream, by name.
func (p *pages) destinations(ctx context.Context) (map[string][]destination, error) {
	stored, err := p.State.Stored(ctx)
	if err != nil {
		return nil, err
	}
	queue, err := p.State.Queue(ctx)
	if err != nil {
		return nil, err
	}
	now := p.Now()
	found := map[[2]string]*destination{}
	at := func(stream, sink string) *destination {
		key := [2]string{stream, sink}
		if found[key] == nil {
			found[key] = &destination{Sink: sink, State: "stored"}
		}
		return found[key]
	}
	for _, s := range stored {
		// A destination that never stored the stream and has nothing queued for
		// it is none any more.
		if s.Tenancy == p.Tenancy && !s.LastSuccess.IsZero() {
			at(s.Stream, s.Sink).Last = s.LastSuccess
		}
	}
	for _, d := range queue {
		if d.Tenancy == p.Tenancy {
			at(d.Stream, d.Sink).enqueue(d)
		}
	}
	all := map[string][]destination{}
	for key, d := range found {
		d.describe(now)
		all[key[0]] = append(all[key[0]], *d)
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b destination) int { return strings.Compare(a.Sink, b.Sink) })
	}
	return all, nil
}

// enqueue counts a queued delivery; the first one says how it goes.
func (d *destination) enqueue(q state.Delivery) {
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

func (d *destination) describe(now time.Time) {
	switch {
	case d.Queued == 0:
		d.Text = "stored " + ago(now, d.Last) + " ago"
	case d.Next.After(now):
		d.Text = humanize.Comma(int64(d.Queued)) + " queued, next try " + ago(now, d.Next)
	default:
		d.Text = humanize.Comma(int64(d.Queued)) + " queued"
	}
}
