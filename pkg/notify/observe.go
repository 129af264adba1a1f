package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

const (
	// queueLimit is the age of the oldest queued snapshot at which its destination is a
	// problem. It is that of the alert CollectordQueueGrowing.
	queueLimit = 6 * time.Hour
	// lateLimit is how long data must be late to be a problem: after a start, a run that
	// catches up is usually faster.
	lateLimit = 15 * time.Minute
)

// An observation is what the state and the program say at one moment.
type observation struct {
	now     time.Time
	streams map[string]state.StreamStatus // those of the tenancy, by name
	// status has the streams with their schedules, and sinks the destinations. They are
	// nil in a program that does not know them.
	status   []freshness.Stream
	sinks    []string
	queue    []state.Delivery   // of the tenancy
	attempts []state.SinkStatus // of the tenancy
	restores map[string]restoreResult
	controls Controls
	// reload is the error of the last reload; reloads reports whether it is known.
	reload  error
	reloads bool
	// unusable are the errors of the tenancies that cannot be used.
	unusable map[string]error
}

// A restoreResult is the result of the restore of a stream.
type restoreResult struct {
	at  time.Time
	err error
}

// observe reads what verdicts follow from.
func (n *Notifier) observe(ctx context.Context) (o observation, err error) {
	o = observation{now: n.Now().UTC(), streams: map[string]state.StreamStatus{}}
	streams, err := n.State.TenancyStreams(ctx, n.Tenancy)
	if err != nil {
		return o, err
	}
	for _, s := range streams {
		o.streams[s.Stream] = s
	}
	if o.queue, err = n.State.Queue.List(ctx); err != nil {
		return o, err
	}
	if o.attempts, err = n.State.Queue.SinkStatuses(ctx); err != nil {
		return o, err
	}
	o.queue = slices.DeleteFunc(o.queue, func(d state.Delivery) bool { return d.Tenancy != n.Tenancy })
	o.attempts = slices.DeleteFunc(o.attempts, func(s state.SinkStatus) bool { return s.Tenancy != n.Tenancy })
	if n.Streams != nil {
		if o.status, err = n.Streams(ctx); err != nil {
			return o, err
		}
	}
	if n.Sinks != nil {
		o.sinks = append([]string{}, n.Sinks()...) // not nil if there is none
	}
	if n.LastReload != nil {
		o.reloads = true
		_, o.reload = n.LastReload()
	}
	if n.Unusable != nil {
		o.unusable = n.Unusable()
	}
	if n.Controls != nil {
		if o.controls, err = n.Controls(ctx); err != nil {
			return o, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o.restores = maps.Clone(n.restores)
	return o, nil
}

// findVerdicts returns a verdict for each problem that something is known about, by its
// key.
func (n *Notifier) findVerdicts(b *book, settings Settings, seen observation, results map[string]run.Result) map[string]verdict {
	all := map[string]verdict{}
	add := func(event, subject string, v verdict) {
		v.Seen = seen.now
		if v.Since.IsZero() {
			v.Since = seen.now
		}
		v.Text, v.Advice = n.Redact(v.Text), n.Redact(v.Advice)
		all[problemKey(event, subject)] = v
	}
	for key, r := range b.Problems {
		event, subject := splitKey(key)
		if s, ok := seen.streams[subject]; ok && r.Open && r.isOutdated(event, s) {
			add(event, subject, verdict{state: ended, end: fmt.Sprintf("%s records", humanize.Comma(s.Records))})
		}
	}
	for stream, r := range results {
		if isFailure(r) {
			add(eventFailure, stream, verdict{problem: failureOf(r)})
		} else {
			add(eventFailure, stream, verdict{state: ended, end: fmt.Sprintf("%s records", humanize.Comma(r.Records))})
		}
	}
	for stream, r := range seen.restores {
		// A run that has succeeded since brought newer data, and a new backup.
		if r.err != nil && !seen.streams[stream].LastSuccess.After(r.at) {
			add(eventRestore, stream, verdict{problem: restoreProblem(stream, r.err)})
		} else {
			add(eventRestore, stream, verdict{state: ended})
		}
	}
	switch {
	case seen.reload != nil:
		add(eventReload, "settings", verdict{problem: reloadProblem(seen.reload)})
	case seen.reloads:
		add(eventReload, "settings", verdict{state: ended})
	}
	for subject, v := range judgeTenancies(b, seen) {
		add(eventReload, subject, v)
	}
	for sink, v := range judgeSinks(b, seen) {
		add(eventDestination, sink, v)
	}
	for _, c := range seen.controls.All {
		add(eventControl, c.ID, n.controlVerdict(c))
	}
	for stream, v := range n.judgeAges(b, seen, all) {
		add(eventLate, stream, v)
	}
	for key := range b.Problems {
		event, subject := splitKey(key)
		if !settings.reports(event) || seen.isOff(event, subject) {
			add(event, subject, verdict{state: forgotten})
		}
	}
	maps.DeleteFunc(all, func(key string, v verdict) bool {
		event, _ := splitKey(key)
		return v.state == present && !settings.reports(event)
	})
	return all
}

// isOutdated reports whether the state says that the problem of a stream has ended, also
// when that happened in another process.
func (r *record) isOutdated(event string, s state.StreamStatus) bool {
	switch event {
	case eventFailure:
		return s.LastSuccess.After(r.Seen) || r.Held && !s.Held
	case eventRestore:
		return s.LastSuccess.After(r.Seen)
	}
	return false
}

// isOff reports whether the stream, the control or the destination of a problem is off now.
func (o observation) isOff(event, subject string) bool {
	switch event {
	case eventFailure, eventLate, eventRestore:
		isOn := func(s freshness.Stream) bool { return s.Stream == subject && s.WhyOff == "" }
		return o.status != nil && !slices.ContainsFunc(o.status, isOn)
	case eventControl:
		return !slices.ContainsFunc(o.controls.All, func(c Control) bool { return c.ID == subject })
	case eventDestination:
		return o.sinks != nil && !slices.Contains(o.sinks, subject)
	}
	return false
}

// isFailure reports whether a result is a failure of the stream. Runs that were
// cancelled by the end of the program, or skipped because of another run, are not.
func isFailure(r run.Result) bool {
	return r.Outcome == state.Failed || r.Outcome == state.Timeout || r.Outcome == state.Held
}

// failureOf returns the problem of a stream with the result of a run.
func failureOf(r run.Result) problem {
	p := problem{Text: r.Stream + " failed: " + failureText(r), Held: r.Outcome == state.Held}
	switch {
	case p.Held:
		p.Advice = "Check whether the vendor's account lost assets or permissions; if the loss is real: collectord accept " + r.Stream
	case errors.Is(r.Err, collector.ErrRefused), errors.Is(r.Err, collector.ErrForbidden):
		p.Advice = "Renew the credentials or their permissions (docs/reference/collectors.md), then run the collector again."
	}
	return p
}

func failureText(r run.Result) string {
	if r.Outcome == state.Held {
		return fmt.Sprintf("%s records after %s before (GUARD_DROP): the new snapshot is held",
			humanize.Comma(r.Records), humanize.Comma(r.LastRecords))
	}
	if r.Err == nil {
		return string(r.Outcome)
	}
	return truncate(r.Err.Error())
}

func restoreProblem(stream string, err error) problem {
	return problem{
		Text:   stream + " was not restored from its backup: " + truncate(err.Error()),
		Advice: "Check the bucket and its keys, then: collectord restore " + stream + ". The next successful run of the stream also ends this.",
	}
}

func reloadProblem(err error) problem {
	return problem{
		Text:   "The settings were not all reloaded: " + truncate(err.Error()),
		Advice: "Fix this and reload again: collectord check finds errors before a restart does, which would fail because of them.",
	}
}

// tenancySubject begins the subject of the problem of a tenancy that cannot be used.
const tenancySubject = "tenancy "

// judgeTenancies returns a verdict for each tenancy that cannot be used, or could not be used
// before.
func judgeTenancies(b *book, seen observation) map[string]verdict {
	all := map[string]verdict{}
	for key := range b.Problems {
		if event, subject := splitKey(key); event == eventReload && strings.HasPrefix(subject, tenancySubject) {
			all[subject] = verdict{state: ended}
		}
	}
	for name, err := range seen.unusable {
		all[tenancySubject+name] = verdict{problem: problem{
			Text:   "The tenancy " + name + " cannot be used: " + truncate(err.Error()),
			Advice: "Nothing of it is collected. Fix its file and reload: collectord check --tenancy " + strconv.Quote(name) + " finds errors.",
		}}
	}
	return all
}

// judgeSinks returns a verdict for each destination. A start and a reload make refused
// deliveries due again, so that a problem ends only when nothing is queued whose last
// attempt failed.
func judgeSinks(b *book, seen observation) map[string]verdict {
	failed := map[[2]string]bool{} // whether the last attempt failed, by destination and stream
	for _, s := range seen.attempts {
		failed[[2]string{s.Sink, s.Stream}] = s.LastFailure.After(s.LastSuccess)
	}
	queues := map[string]*queueStatus{}
	for _, sink := range seen.sinks {
		queues[sink] = &queueStatus{sink: sink}
	}
	for _, d := range seen.queue {
		if q := queues[d.Sink]; q != nil {
			q.addDelivery(d, failed[[2]string{d.Sink, d.Stream}])
		}
	}
	verdicts := map[string]verdict{}
	for sink, q := range queues {
		known := b.Problems[problemKey(eventDestination, sink)]
		switch {
		case q.refusing || q.isOld(seen.now) || known != nil && known.Open && q.failing:
			verdicts[sink] = verdict{problem: q.problem(seen.now)}
		default:
			verdicts[sink] = verdict{state: ended}
		}
	}
	return verdicts
}

// A queueStatus is what waits for a destination.
type queueStatus struct {
	sink     string
	waiting  int
	oldest   time.Time
	refusing bool   // a snapshot is refused
	failing  bool   // the last attempt of a stream with a queued snapshot failed
	err      string // of a refused snapshot, otherwise of any
}

// addDelivery adds a queued delivery, whose stream's last attempt failed or not.
func (q *queueStatus) addDelivery(d state.Delivery, failed bool) {
	q.waiting++
	if q.oldest.IsZero() || d.Queued.Before(q.oldest) {
		q.oldest = d.Queued
	}
	q.failing = q.failing || failed
	if d.Err != "" && (q.err == "" || d.Class == state.Refused && !q.refusing) {
		q.err = d.Stream + ": " + truncate(d.Err)
	}
	q.refusing = q.refusing || d.Class == state.Refused
}

func (q *queueStatus) isOld(now time.Time) bool {
	return !q.oldest.IsZero() && now.Sub(q.oldest) >= queueLimit
}

// problem returns the problem of the destination.
func (q *queueStatus) problem(now time.Time) problem {
	text := fmt.Sprintf("The destination %s receives no snapshots: %s, the oldest for %s",
		q.sink, countWaiting(q.waiting), formatDuration(now.Sub(q.oldest)))
	if q.err != "" {
		text += ": " + q.err
	}
	return problem{
		Text: text, Since: q.oldest.UTC().Truncate(time.Second),
		Advice: "Runs and other destinations continue. What waits is delivered when the cause is fixed, at once with: collectord deliver --to " + q.sink,
	}
}

func countWaiting(n int) string {
	if n == 1 {
		return "1 waits"
	}
	return fmt.Sprintf("%d wait", n)
}

// judgeAges returns a verdict for each stream with a schedule about the age of its data. A
// stream that fails is not reported again when its data gets late.
func (n *Notifier) judgeAges(b *book, seen observation, verdicts map[string]verdict) map[string]verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	ages := map[string]verdict{}
	for _, s := range seen.status {
		if !s.Overdue {
			delete(n.firstLate, s.Stream)
			ages[s.Stream] = verdict{state: ended}
			continue
		}
		first, known := n.firstLate[s.Stream]
		if !known {
			first = seen.now
			n.firstLate[s.Stream] = first
		}
		fails, judged := verdicts[problemKey(eventFailure, s.Stream)]
		reported := b.Problems[problemKey(eventFailure, s.Stream)]
		failing := judged && fails.state == present || !judged && reported != nil && reported.Open
		if !failing && seen.now.Sub(first) >= lateLimit {
			ages[s.Stream] = verdict{problem: lateProblem(s)}
		}
	}
	return ages
}

func lateProblem(s freshness.Stream) problem {
	p := problem{
		Text:   fmt.Sprintf("%s is late: no run has brought data yet", s.Stream),
		Since:  s.AsOf.UTC(),
		Advice: "See what its last runs say: collectord status. If none ran, check SCHEDULE and the clock.",
	}
	if !s.AsOf.IsZero() {
		p.Text = fmt.Sprintf("%s is late: its data is of %s, and it runs on the schedule %s", s.Stream, formatUTC(s.AsOf), s.Plan.Schedule)
	}
	return p
}
