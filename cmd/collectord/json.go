package main

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/delivery"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store/sinks"
)

// The views below are the documents of --json, which docs/reference/json.md describes. A
// member is never missing: it is null where there is no value. Times are in UTC.

// addJSONFlag adds the flag --json to a command.
func addJSONFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print one JSON document instead of text")
}

// writeJSON writes a document.
func writeJSON(w io.Writer, view any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(view)
}

// orNull returns nil for the zero value.
func orNull[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// timeOrNull returns the time in UTC, and nil for the zero time.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// errorOrNull returns the text of an error, and nil for none.
func errorOrNull(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	return &text
}

// doubtsOrNone returns the doubts as an array also when there are none.
func doubtsOrNone(doubts snapshot.Doubts) snapshot.Doubts {
	if doubts == nil {
		return snapshot.Doubts{}
	}
	return doubts
}

// A statusView is the document of status --json.
type statusView struct {
	Version     string              `json:"version"`
	Now         time.Time           `json:"now"`
	Tenancy     string              `json:"tenancy"`
	StateDir    string              `json:"state_dir"`
	StateExists bool                `json:"state_exists"`
	Settings    *string             `json:"settings_error"`
	Reload      *string             `json:"failed_reload"`
	Streams     []streamStatusView  `json:"streams"`
	Queued      []queuedStatusView  `json:"queued"`
	Skipped     []skippedStatusView `json:"skipped"`
}

type streamStatusView struct {
	Collector   string          `json:"collector"`
	Stream      string          `json:"stream"`
	Tenancy     string          `json:"tenancy"`
	On          bool            `json:"on"`
	Why         *string         `json:"why"`
	Schedule    *string         `json:"schedule"`
	Next        *time.Time      `json:"next"`
	Retry       bool            `json:"next_is_retry"`
	Taken       *time.Time      `json:"data_timestamp"`
	Checked     *time.Time      `json:"checked"`
	Age         *float64        `json:"age_seconds"`
	Late        bool            `json:"late"`
	LateSince   *time.Time      `json:"late_since"`
	Records     int64           `json:"records"`
	Source      *string         `json:"source"`
	LastSuccess *time.Time      `json:"last_success"`
	LastFailure *time.Time      `json:"last_failure"`
	LastError   *string         `json:"last_error"`
	Held        bool            `json:"held"`
	Queued      int             `json:"queued_deliveries"`
	Doubts      snapshot.Doubts `json:"doubts"`
}

type queuedStatusView struct {
	Sink       string     `json:"sink"`
	Stream     string     `json:"stream"`
	Tenancy    string     `json:"tenancy"`
	UploadID   string     `json:"upload_id"`
	Taken      time.Time  `json:"data_timestamp"`
	Records    int64      `json:"records"`
	Queued     time.Time  `json:"queued"`
	NextTry    *time.Time `json:"next_try"`
	Attempts   int        `json:"attempts"`
	Class      *string    `json:"class"`
	Error      *string    `json:"error"`
	Configured bool       `json:"configured"`
}

type skippedStatusView struct {
	Sink      string    `json:"sink"`
	Stream    string    `json:"stream"`
	Snapshots int       `json:"snapshots"`
	Last      time.Time `json:"last_data_timestamp"`
}

// newView returns the document of the tenancy.
func (t *tenancyStatus) newView(r *statusReport) statusView {
	now := r.now
	v := statusView{
		Version: version, Now: now.UTC().Truncate(time.Millisecond), Tenancy: t.settings.Tenancy, StateDir: r.stateDir, StateExists: r.missing == nil, Reload: orNull(t.reload),
		Settings: errorOrNull(t.problem),
		Streams:  []streamStatusView{}, Queued: []queuedStatusView{}, Skipped: []skippedStatusView{},
	}
	for _, s := range t.streams {
		why := t.reasonOff(s.Stream)
		v.Streams = append(v.Streams, streamStatusView{
			Collector: s.Collector, Stream: s.Stream, Tenancy: s.Tenancy,
			On: why == "", Why: orNull(why), Schedule: orNull(t.scheduleOf(s.Stream)),
			Next: timeOrNull(s.next), Retry: s.isRetry, Late: !s.lateSince.IsZero(), LateSince: timeOrNull(s.lateSince), Taken: timeOrNull(s.Taken), Checked: timeOrNull(s.Checked),
			Age: ageOrNull(s.DataTime(), now), Records: s.Records,
			Source: orNull(string(s.Source)), LastSuccess: timeOrNull(s.LastSuccess), LastFailure: timeOrNull(s.LastFailure),
			LastError: orNull(s.FailureErr), Held: s.Held, Queued: s.Queued, Doubts: doubtsOrNone(s.Doubts),
		})
	}
	for _, d := range t.queue {
		v.Queued = append(v.Queued, queuedStatusView{
			Sink: d.Sink, Stream: d.Stream, Tenancy: d.Tenancy, UploadID: d.UploadID, Taken: d.Taken, Records: d.Records,
			Queued: d.Queued, NextTry: timeOrNull(d.NextTry), Attempts: d.Attempts, Class: orNull(string(d.Class)), Error: orNull(d.Err),
			Configured: !t.isUnknownSink(d.Sink),
		})
	}
	for _, s := range t.skipped {
		v.Skipped = append(v.Skipped, skippedStatusView{s.sink, s.stream, len(s.taken), s.taken[0]})
	}
	return v
}

// ageOrNull returns the seconds since a time, and nil for the zero time.
func ageOrNull(t, now time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	age := now.Sub(t).Truncate(time.Millisecond).Seconds()
	return &age
}

// scheduleOf returns the schedule of a stream as it is written; "" when the stream is off.
func (a *assembly) scheduleOf(stream string) string {
	if a.reasonOff(stream) != "" {
		return ""
	}
	return a.calendarOf(stream).String()
}

// isOfResults reports whether a stream has the results of controls.
func isOfResults(stream string) bool {
	return stream == control.DetailStream || stream == control.SummaryStream
}

// reasonOff returns why a stream is off, be it that its collector is; "" if it is on.
func (a *assembly) reasonOff(stream string) string {
	section, own := a.findStream(stream)
	if isOfResults(stream) {
		return freshness.WhyResults
	}
	if section == nil && a.problem != nil {
		return "unknown, because the settings have problems"
	}
	if section == nil {
		return "no collector has this stream"
	}
	if !section.Active {
		_, why := sectionState(section)
		return why
	}
	return own.Off
}

// A listView is the document of list --json.
type listView struct {
	Version    string              `json:"version"`
	Tenancy    string              `json:"tenancy"`
	Error      *string             `json:"error"`
	Collectors []collectorListView `json:"collectors"`
}

type collectorListView struct {
	Collector string           `json:"collector"`
	Title     string           `json:"title"`
	On        bool             `json:"on"`
	Why       *string          `json:"why"`
	Missing   []string         `json:"missing"`
	Streams   []streamListView `json:"streams"`
}

type streamListView struct {
	Stream string  `json:"stream"`
	On     bool    `json:"on"`
	Why    *string `json:"why"`
}

func (a *assembly) newListView() listView {
	v := listView{Version: version, Tenancy: a.settings.Tenancy, Error: errorOrNull(a.problem), Collectors: []collectorListView{}}
	for _, section := range a.sections {
		_, why := sectionState(section)
		c := collectorListView{
			Collector: section.Name, Title: section.Title, On: section.Active, Why: orNull(why),
			Missing: append([]string{}, section.Missing...), Streams: []streamListView{},
		}
		for _, stream := range section.Streams {
			why := a.reasonOff(stream.Name)
			c.Streams = append(c.Streams, streamListView{stream.Name, why == "", orNull(why)})
		}
		v.Collectors = append(v.Collectors, c)
	}
	return v
}

// A checkView is the document of check --json.
type checkView struct {
	Version       string                 `json:"version"`
	Usable        bool                   `json:"usable"`
	Errors        []string               `json:"errors"`
	Warnings      []string               `json:"warnings"`
	Tenancy       string                 `json:"tenancy"`
	StateDir      string                 `json:"state_dir"`
	Streams       []streamCheckView      `json:"streams"`
	Destinations  []destinationCheckView `json:"destinations"`
	Notifications []string               `json:"notifications"`
	Libraries     []libraryCheckView     `json:"libraries"`
	// Probes is null without --connect.
	Probes         []probeCheckView `json:"probes"`
	WithoutRefused *string          `json:"collectors_without_refused"`
}

type streamCheckView struct {
	Collector string     `json:"collector"`
	Stream    string     `json:"stream"`
	On        bool       `json:"on"`
	Why       *string    `json:"why"`
	Schedule  *string    `json:"schedule"`
	Zone      string     `json:"zone"`
	Next      *time.Time `json:"next"`
}

type destinationCheckView struct {
	Sink string  `json:"sink"`
	On   bool    `json:"on"`
	Why  *string `json:"why"`
}

type libraryCheckView struct {
	Name   string `json:"name"`
	Origin string `json:"origin"`
}

type probeCheckView struct {
	Kind     string             `json:"kind"`
	Name     string             `json:"name"`
	OK       bool               `json:"ok"`
	Text     *string            `json:"text"`
	Error    *string            `json:"error"`
	Warnings []probeWarningView `json:"warnings"`
}

type probeWarningView struct {
	Text   string  `json:"text"`
	Advice *string `json:"advice"`
}

// newCheckView returns the document about valid settings. probes is nil without --connect.
func (a *assembly) newCheckView(c *checkReport, now time.Time) checkView {
	v := checkView{
		Version: version, Usable: true, Errors: []string{}, Warnings: append(append([]string{}, c.warnings...), c.cautions...),
		Tenancy: a.settings.Tenancy, StateDir: a.stateDir(), Streams: []streamCheckView{}, Destinations: []destinationCheckView{},
		Notifications: []string{}, Libraries: []libraryCheckView{}, WithoutRefused: orNull(a.withoutRefused(c.probes)),
	}
	for _, section := range a.sections {
		for _, stream := range section.Streams {
			if !section.Active {
				continue
			}
			v.Streams = append(v.Streams, streamCheckView{
				section.Name, stream.Name, stream.Off == "", orNull(stream.Off), orNull(a.scheduleOf(stream.Name)),
				a.settings.Schedule.Zone.String(), timeOrNull(a.nextRun(stream.Name, now)),
			})
		}
	}
	for _, name := range c.destinations {
		v.Destinations = append(v.Destinations, destinationCheckView{Sink: name, On: true})
	}
	if sinks.IsBackupOff(a.settings.Store) {
		v.Destinations = append(v.Destinations, destinationCheckView{Sink: backup.Name, Why: orNull(backup.Setting)})
	}
	v.Notifications = append(v.Notifications, c.notifications...)
	for _, l := range a.libraries {
		v.Libraries = append(v.Libraries, libraryCheckView{l.Name, l.Origin})
	}
	if c.probes == nil {
		return v
	}
	v.Probes = []probeCheckView{}
	for _, p := range c.ran() {
		view := probeCheckView{Kind: p.Kind, Name: p.Name, OK: p.Err == nil, Error: errorOrNull(p.Err), Warnings: []probeWarningView{}}
		if p.Err == nil {
			view.Text = orNull(p.Summary("ok"))
		}
		for _, o := range p.Observations {
			view.Warnings = append(view.Warnings, probeWarningView{o.Text, orNull(o.Advice)})
		}
		v.Probes = append(v.Probes, view)
	}
	return v
}

// newRefusedView returns the document of check --json about settings of a tenancy that cannot
// be used; the tenancy is "" where it is not known.
func newRefusedView(tenancy string, err error) checkView {
	warnings := []string{}
	if explained := (*explainedError)(nil); errors.As(err, &explained) {
		err, warnings = explained.error, explained.warnings
	}
	return checkView{
		Version: version, Errors: errorTexts(err), Warnings: warnings, Tenancy: tenancy,
		Streams: []streamCheckView{}, Destinations: []destinationCheckView{}, Notifications: []string{}, Libraries: []libraryCheckView{},
	}
}

// An onceView is the document of --once --json.
type onceView struct {
	Version     string           `json:"version"`
	Now         time.Time        `json:"now"`
	Tenancy     string           `json:"tenancy"`
	StateDir    string           `json:"state_dir"`
	Streams     []onceStreamView `json:"streams"`
	Undelivered int              `json:"queued_deliveries"`
	Error       *string          `json:"error"`
}

type onceStreamView struct {
	Collector    string          `json:"collector"`
	Stream       string          `json:"stream"`
	Outcome      string          `json:"outcome"`
	UploadID     *string         `json:"upload_id"`
	Records      int64           `json:"records"`
	Bytes        int64           `json:"bytes"`
	Duration     float64         `json:"duration_seconds"`
	Error        *string         `json:"error"`
	Doubts       snapshot.Doubts `json:"doubts"`
	Destinations []deliveryView  `json:"destinations"`
}

type deliveryView struct {
	Sink   string  `json:"sink"`
	Status string  `json:"status"`
	Error  *string `json:"error"`
}

// newView returns the document about the run. failure is the error of the command.
func (r *runOfTenancy) newView(failure error) onceView {
	v := onceView{
		Version: version, Now: time.Now().UTC().Truncate(time.Millisecond), Tenancy: r.settings.Tenancy, StateDir: r.stateDir(),
		Streams: []onceStreamView{}, Undelivered: len(r.undelivered), Error: errorOrNull(failure),
	}
	for _, result := range r.results {
		s := onceStreamView{
			Collector: result.Collector, Stream: result.Stream, Outcome: string(result.Outcome), UploadID: orNull(result.UploadID), Records: result.Records, Bytes: result.Bytes,
			Duration: result.Duration.Round(time.Millisecond).Seconds(), Error: errorOrNull(result.Err), Doubts: doubtsOrNone(result.Doubts),
		}
		s.Destinations = newDestinationViews(result.UploadID, result.Stream, sinkNames(r.parts.sinks), r.deliverer.DeliveryStatus)
		v.Streams = append(v.Streams, s)
	}
	return v
}

// newDestinationViews returns what the destinations have of a snapshot.
func newDestinationViews(uploadID, stream string, sinks []string, status deliveryStatus) []deliveryView {
	views := []deliveryView{}
	for _, sink := range sinks {
		d := status(uploadID, stream, sink)
		label := d.Label()
		if label == "-" {
			label = "none"
		}
		views = append(views, deliveryView{sink, label, errorOrNull(d.Err)})
	}
	return views
}

// deliveryStatus is delivery.Deliverer.DeliveryStatus.
type deliveryStatus = func(uploadID, stream, sink string) delivery.Status

// A deliverView is the document of deliver --json.
type deliverView struct {
	Version     string              `json:"version"`
	Tenancy     string              `json:"tenancy"`
	Streams     []deliverStreamView `json:"streams"`
	Undelivered int                 `json:"queued_deliveries"`
	Error       *string             `json:"error"`
}

type deliverStreamView struct {
	Stream       string         `json:"stream"`
	UploadID     *string        `json:"upload_id"`
	Taken        *time.Time     `json:"data_timestamp"`
	Records      int64          `json:"records"`
	Destinations []deliveryView `json:"destinations"`
}

// newDeliverView returns the document about a delivery to the sinks, which queued deliveries
// are left of. failure is the error of the command.
func (a *assembly) newDeliverView(
	streams []operation.Redelivery, sinks []string, status deliveryStatus, queued int, failure error,
) deliverView {
	v := deliverView{
		Version: version, Tenancy: a.settings.Tenancy, Streams: []deliverStreamView{}, Undelivered: queued, Error: errorOrNull(failure),
	}
	for _, s := range streams {
		v.Streams = append(v.Streams, deliverStreamView{
			s.Stream, orNull(s.UploadID), timeOrNull(s.Taken), s.Records, newDestinationViews(s.UploadID, s.Stream, sinks, status),
		})
	}
	return v
}

// A restoreView is the document of restore --json.
type restoreView struct {
	Version string              `json:"version"`
	Tenancy string              `json:"tenancy"`
	Dir     string              `json:"directory"`
	Streams []restoreStreamView `json:"streams"`
	Error   *string             `json:"error"`
}

type restoreStreamView struct {
	Collector string     `json:"collector"`
	Stream    string     `json:"stream"`
	Outcome   string     `json:"outcome"`
	Taken     *time.Time `json:"data_timestamp"`
	Records   int64      `json:"records"`
	FilePut   bool       `json:"file_restored"`
	Error     *string    `json:"error"`
}

// newRestoreView returns the document about a restore into a directory. failure is the
// error of the command.
func (a *assembly) newRestoreView(results []backup.Result, dir string, failure error) restoreView {
	v := restoreView{Version: version, Tenancy: a.settings.Tenancy, Dir: dir, Streams: []restoreStreamView{}, Error: errorOrNull(failure)}
	for _, r := range results {
		v.Streams = append(v.Streams, restoreStreamView{
			r.Collector, r.Name, string(r.Outcome), timeOrNull(r.Info.UploadTimestamp), r.Info.Records, r.FilePut, errorOrNull(r.Err),
		})
	}
	return v
}

// A tenancyListView is the document of tenancy list --json.
type tenancyListView struct {
	Version   string            `json:"version"`
	Tenancies []tenancyListItem `json:"tenancies"`
}

type tenancyListItem struct {
	Tenancy string  `json:"tenancy"`
	File    *string `json:"file"`
	State   string  `json:"state"`
	Error   *string `json:"error"`
	Streams int64   `json:"streams"`
	Queued  int64   `json:"queued_deliveries"`
	Bytes   int64   `json:"bytes"`
}

func newTenancyListView(all []knownTenancy) tenancyListView {
	v := tenancyListView{Version: version, Tenancies: []tenancyListItem{}}
	for _, t := range all {
		v.Tenancies = append(v.Tenancies, tenancyListItem{
			t.name, orNull(t.file), t.state, errorOrNull(t.err), t.usage.Streams, t.usage.Queued, t.usage.Bytes,
		})
	}
	return v
}

// A forgetView is the document of tenancy forget --json.
type forgetView struct {
	Version     string  `json:"version"`
	Tenancy     string  `json:"tenancy"`
	Deleted     bool    `json:"deleted"`
	Streams     int64   `json:"streams"`
	Queued      int64   `json:"queued_deliveries"`
	Runs        int64   `json:"runs"`
	Controls    int64   `json:"controls"`
	ControlDays int64   `json:"control_days"`
	Notes       int64   `json:"notes"`
	Bytes       int64   `json:"bytes"`
	Error       *string `json:"error"`
}

// newForgetView returns the document about what the state had of a tenancy. failure is the
// error of the command.
func newForgetView(u state.TenancyUsage, failure error) forgetView {
	return forgetView{
		Version: version, Tenancy: u.Tenancy, Deleted: failure == nil, Streams: u.Streams, Queued: u.Queued, Runs: u.Runs,
		Controls: u.Controls, ControlDays: u.ControlDays, Notes: u.Notes, Bytes: u.Bytes, Error: errorOrNull(failure),
	}
}
