package notify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// A simulation is a service of which time passes as the test says. It reports to a real
// HTTP server.
type simulation struct {
	*testing.T
	service *service
	dir     string
	now     time.Time
	state   *state.State
	// Options of the notifier.
	sinks    []string
	late     map[string]time.Time // the streams whose data is late, with its time
	off      []string             // the streams that are off
	reload   error
	controls map[string]*notify.Control // by their ids
	events   []string
	n        *notify.Notifier
	reports  []string // the messages, each with its day and time
}

// startDay is the midnight at which simulations start.
var startDay = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func newSimulation(t *testing.T) *simulation {
	t.Helper()
	s := &simulation{T: t, service: startService(t), dir: t.TempDir(), now: startDay, late: map[string]time.Time{}}
	s.restart()
	t.Cleanup(s.stop)
	return s
}

func (s *simulation) stop() {
	if s.state == nil {
		return
	}
	s.n.Close(time.Minute)
	if err := s.state.Close(); err != nil {
		s.Error(err)
	}
	s.state = nil
}

// restart ends the service and starts another one on its state.
func (s *simulation) restart() {
	s.Helper()
	s.stop()
	var err error
	if s.state, err = local.Open(context.Background(), s.dir, local.Options{Now: func() time.Time { return s.now }}); err != nil {
		s.Fatal(err)
	}
	s.n = notify.New(notify.Options{
		State: s.state, Tenancy: "acme", Host: "host-1", Gather: 20 * time.Second, Log: zap.NewNop(), Waits: []time.Duration{0},
		Now: func() time.Time { return s.now }, Redact: func(text string) string { return strings.ReplaceAll(text, "vendor-secret", "[redacted]") },
		Sinks: func() []string { return s.sinks }, Streams: s.streams, Controls: s.readControls,
		LastReload: func() (time.Time, error) { return startDay, s.reload },
	}, notify.Settings{
		Targets: parseTargets(s.T, s.service.URL+secretPath, ""), Events: s.events, Page: "https://collectord.example.com/",
	})
}

// streams returns the status of the streams that are on.
func (s *simulation) streams(context.Context) ([]freshness.Stream, error) {
	all := []freshness.Stream{}
	for _, stream := range []string{"okta_apps", "okta_devices", "okta_groups", "okta_users"} {
		if slices.Contains(s.off, stream) {
			continue
		}
		one := freshness.Stream{AsOf: s.late[stream], Plan: schedule.StreamStatus{Stream: stream, Schedule: "0 0 * * *"}}
		one.Collector, one.Stream, one.Tenancy = "okta", stream, "acme"
		one.Overdue = !one.AsOf.IsZero() && one.AsOf.Before(s.now.Add(-25*time.Hour))
		all = append(all, one)
	}
	return all, nil
}

// passTime lets time pass, with two checks after five minutes each, and then one every
// half an hour.
func (s *simulation) passTime(d time.Duration) {
	s.Helper()
	step := 5 * time.Minute
	for n, end := 0, s.now.Add(d); s.now.Before(end); n++ {
		if n == 2 {
			step = 30 * time.Minute
		}
		s.now = s.now.Add(min(step, end.Sub(s.now)))
		s.n.Check(s.Context())
		s.receive()
	}
}

// receive notes the messages that were sent.
func (s *simulation) receive() {
	s.Helper()
	for len(s.service.bodies) > 0 {
		text := s.service.nextText(s.T)
		if s.service.status() != 200 {
			continue
		}
		day := int(s.now.Sub(startDay)/(24*time.Hour)) + 1
		s.reports = append(s.reports, fmt.Sprintf("day %d, %s: %s", day, s.now.Format("15:04"), text))
	}
}

// assertReports checks that the messages so far contain the texts, one for each.
func (s *simulation) assertReports(want ...[]string) {
	s.Helper()
	if len(s.reports) != len(want) {
		s.Errorf("%d messages, want %d", len(s.reports), len(want))
	}
	for i, report := range s.reports {
		if i >= len(want) {
			break
		}
		for _, text := range want[i] {
			if !strings.Contains(report, text) {
				s.Errorf("message %d does not contain %q", i+1, text)
			}
		}
		if strings.Contains(report, "vendor-secret") {
			s.Errorf("message %d contains a secret", i+1)
		}
	}
	if s.Failed() {
		s.Logf("the messages:\n\n%s", strings.Join(s.reports, "\n\n"))
	}
}

// queueSnapshot commits a snapshot that is queued for postgres.
func (s *simulation) queueSnapshot(stream string) {
	s.Helper()
	h := snapshot.Header{
		Collector: "okta", Stream: stream, Tenancy: "acme", UploadID: uuid.NewString(), UploadTimestamp: s.now.Truncate(time.Second),
	}
	id, err := s.state.Runs.Begin(s.Context(), state.RunStart{Header: h, Trigger: "test", Started: s.now})
	if err != nil {
		s.Fatal(err)
	}
	writer, err := s.state.Snapshots.Spool(h)
	if err != nil {
		s.Fatal(err)
	}
	batch := writer.NewBatch()
	if err := errors.Join(batch.Append([]byte(`{"id":1}`)), batch.Commit()); err != nil {
		s.Fatal(err)
	}
	if _, err := s.state.Runs.Commit(s.Context(), id, writer, state.RunStats{Records: 1}, state.Policy{Sinks: []string{"postgres"}, SpoolMax: 1 << 20}); err != nil {
		s.Fatal(err)
	}
}

// attemptDeliveries attempts what is next in the queue.
func (s *simulation) attemptDeliveries(err error) {
	s.Helper()
	for {
		next, e := s.state.Queue.Next(s.Context(), "acme")
		if e != nil {
			s.Fatal(e)
		}
		for _, d := range next {
			if err == nil {
				e = errors.Join(e, s.state.Queue.MarkDelivered(s.Context(), d))
			} else {
				e = errors.Join(e, s.state.Queue.ScheduleRetry(s.Context(), d, err, state.Refused, s.now.Add(15*time.Minute)))
			}
		}
		if e != nil {
			s.Fatal(e)
		}
		if err != nil || len(next) == 0 {
			return
		}
	}
}

// TestVendorDownForThreeDays: one message for its four streams, one a day, and one at the
// end, although retries fail every hour.
func TestVendorDownForThreeDays(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	streams := []string{"okta_apps", "okta_devices", "okta_groups", "okta_users"}
	s.passTime(30 * time.Minute)
	for hour := range 72 {
		for i, stream := range streams {
			// The streams have schedules of their own, and fail one after the other.
			s.n.RunFinished([]run.Result{failure(stream, "GET /api/v1: 503 vendor-secret: see status.okta.com")})
			if hour == 0 && i < 3 {
				s.now = s.now.Add(5 * time.Second)
				s.n.Check(s.Context())
			}
		}
		s.passTime(time.Hour)
		if hour == 30 {
			s.restart()
		}
	}
	s.n.RunFinished([]run.Result{success("okta_apps"), success("okta_devices"), success("okta_groups"), success("okta_users")})
	s.passTime(24 * time.Hour)
	all := []string{"okta_apps", "okta_devices", "okta_groups", "okta_users", "collectord on host-1, tenancy acme", "Status page: https://collectord.example.com/"}
	s.assertReports(
		slices.Concat(all, []string{"day 1, 00:35", "okta_users failed: GET /api/v1: 503 [redacted]: see status.okta.com"}),
		slices.Concat(all, []string{"day 2, 00:35", "Still, since 2026-03-01 00:3", "1 day ago: okta_users failed"}),
		slices.Concat(all, []string{"day 3, 00:35", "Still, since 2026-03-01 00:3", "2 days ago: okta_users failed"}),
		slices.Concat(all, []string{"day 4, 00:4", "okta_users works again: 1,234 records. It had failed since 2026-03-01"}),
	)
}

// TestDestinationRefusesForTwoDays with a restart between, which makes what is refused due
// again: no second message because of it, and one when it works.
func TestDestinationRefusesForTwoDays(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.sinks = []string{"postgres"}
	s.queueSnapshot("okta_users")
	s.passTime(time.Hour)
	refusal := errors.New("destination refused: permission denied for table okta_users: GRANT INSERT")
	for hour := range 48 {
		s.attemptDeliveries(refusal)
		if hour == 30 {
			s.restart()
			if err := s.state.Queue.RetryRefusedNow(s.Context(), "acme"); err != nil {
				t.Fatal(err)
			}
		}
		s.passTime(time.Hour)
		if hour == 23 {
			s.queueSnapshot("okta_users")
		}
	}
	s.attemptDeliveries(nil)
	s.passTime(24 * time.Hour)
	s.assertReports(
		[]string{"day 1, 01:10", "The destination postgres receives no snapshots: 1 waits, the oldest for 1 hour: okta_users: destination refused: permission denied for table okta_users: GRANT INSERT", "collectord deliver --to postgres"},
		[]string{"day 2, 01:10", "Still, since 2026-03-01 00:00 UTC, 1 day ago: The destination postgres", "2 wait"},
		[]string{"day 3, 01:10", "The destination postgres receives snapshots again. It had received none since 2026-03-01 00:00 UTC"},
	)
}

// TestSlowDestination is reported when its queue is older than six hours.
func TestSlowDestination(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.sinks = []string{"postgres"}
	s.queueSnapshot("okta_users")
	s.passTime(8 * time.Hour)
	s.attemptDeliveries(nil)
	s.passTime(time.Hour)
	s.assertReports([]string{"day 1, 06:40", "1 waits, the oldest for 6 hours"}, []string{"day 1, 08:10", "receives snapshots again"})
}

// TestLateData is reported once it lasts, and not beside the failure of the stream.
func TestLateData(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.late["okta_users"] = startDay.Add(-26 * time.Hour)
	s.late["okta_groups"] = startDay.Add(-26 * time.Hour)
	s.n.RunFinished([]run.Result{failure("okta_groups", "no response")})
	s.passTime(26 * time.Hour)
	s.late["okta_users"] = s.now
	s.passTime(time.Hour)
	s.assertReports(
		[]string{"okta_groups failed"},
		[]string{"day 1, 01:10", "okta_users is late: its data is of 2026-02-27 22:00 UTC, and it runs on the schedule 0 0 * * *", "collectord status"},
		[]string{"day 2, 00:", "okta_groups failed", "okta_users is late"},
		[]string{"day 2, 02:10", "okta_users is no longer late."},
	)
}

// TestCatchingUpIsNotReported: data that is late at the start, until the first run.
func TestCatchingUpIsNotReported(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.late["okta_users"] = startDay.Add(-26 * time.Hour)
	s.passTime(10 * time.Minute)
	s.late["okta_users"] = s.now
	s.passTime(time.Hour)
	s.assertReports()
}

// TestRestoreFailsAtTheStart and succeeds later, also that of another start.
func TestRestoreFailsAtTheStart(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.n.RestoreEnded("okta_users", errors.New("HEAD s3://bucket: no response"))
	s.n.RestoreEnded("okta_groups", nil)
	s.passTime(30 * time.Minute)
	s.restart()
	s.n.RestoreEnded("okta_users", errors.New("HEAD s3://bucket: no response"))
	s.passTime(30 * time.Minute)
	s.n.RestoreEnded("okta_users", nil)
	s.passTime(48 * time.Hour)
	s.assertReports(
		[]string{"day 1, 00:10", "okta_users was not restored from its backup: HEAD s3://bucket: no response", "collectord restore okta_users"},
		[]string{"day 1, 01:10", "okta_users no longer waits for the restore"},
	)
}

// TestRunReplacesARestore: restores that go on failing do not matter after a run.
func TestRunReplacesARestore(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	for hour := range 4 {
		s.n.RestoreEnded("okta_users", errors.New("no response"))
		s.passTime(time.Hour)
		if hour == 1 {
			s.queueSnapshot("okta_users")
		}
	}
	s.assertReports([]string{"day 1, 00:10", "was not restored"}, []string{"day 1, 02:", "no longer waits for the restore"})
}

// TestShortProblemsAreNotReported: those that end while the message waits for others.
func TestShortProblemsAreNotReported(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.n.RestoreEnded("okta_users", errors.New("no response"))
	s.n.Check(t.Context())
	s.now = s.now.Add(10 * time.Second)
	s.n.RestoreEnded("okta_users", nil)
	s.passTime(time.Hour)
	s.assertReports()
}

// TestFailedReload is reported until the settings are in force, also by a restart.
func TestFailedReload(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.reload = errors.New("SCHEDULE: \"0 0 30 2 *\" never occurs")
	s.passTime(25 * time.Hour)
	s.reload = nil
	s.restart()
	s.passTime(time.Hour)
	s.assertReports(
		[]string{"SCHEDULE: \"0 0 30 2 *\" never occurs", "collectord check"},
		[]string{"Still, since 2026-03-01"},
		[]string{"The settings are in force again."},
	)
}

// TestFlappingStream: after some messages one a day, and the last one says that it works.
func TestFlappingStream(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	for range 24 {
		s.n.RunFinished([]run.Result{failure("okta_users", "no response")})
		s.passTime(time.Hour)
		s.n.RunFinished([]run.Result{success("okta_users")})
		s.passTime(time.Hour)
	}
	s.passTime(48 * time.Hour)
	s.assertReports(
		[]string{"day 1, 00:", "okta_users failed"}, []string{"day 1, 01:", "okta_users works again"},
		[]string{"day 1, 02:", "okta_users failed"},
		[]string{"day 1, 03:", "okta_users works again", "It fails and recovers again and again: the next message about it follows in a day."},
		[]string{"day 2, 03:", "It has failed 12 times since the last message about it.", "okta_users works again", "again and again"},
		[]string{"day 3, 03:", "It has failed 10 times", "okta_users works again"},
	)
}

// TestTargetIsDown for a day: its messages arrive later, in order, and say of when they
// are.
func TestTargetIsDown(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.service.status = func() int { return 503 }
	s.n.RunFinished([]run.Result{failure("okta_users", "no response")})
	s.passTime(12 * time.Hour)
	s.restart()
	s.n.RunFinished([]run.Result{success("okta_users")})
	s.passTime(12 * time.Hour)
	if c := s.n.Counts(); c.Failed < 20 || c.Failed > 60 || c.Waiting != 2 || c.Sent != 0 {
		t.Errorf("after 12 hours: %+v", c)
	}
	s.service.status = func() int { return 200 }
	s.passTime(time.Hour)
	if c := s.n.Counts(); c.Sent != 2 || c.Waiting != 0 || c.Dropped != 0 {
		t.Errorf("at the end: %+v", c)
	}
	s.assertReports(
		[]string{"Delayed, this is of 2026-03-01 00:10 UTC, 1 day ago:", "okta_users failed"},
		[]string{"Delayed, this is of 2026-03-01 12:10 UTC, 12 hours ago:", "okta_users works again"},
	)
}

// TestOldMessagesAreGivenUp after a week.
func TestOldMessagesAreGivenUp(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.service.status = func() int { return 503 }
	s.n.RunFinished([]run.Result{failure("okta_users", "no response")})
	s.n.Check(t.Context())
	s.now = s.now.Add(time.Minute)
	s.n.Check(t.Context())
	s.now = s.now.Add(8 * 24 * time.Hour)
	s.n.Check(t.Context())
	if c := s.n.Counts(); c.Dropped != 1 {
		t.Errorf("%+v", c)
	}
}

// TestEventsAreChosen by NOTIFY_EVENTS.
func TestEventsAreChosen(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.events = []string{"reload"}
	s.restart()
	s.reload = errors.New("bad settings")
	s.n.RunFinished([]run.Result{failure("okta_users", "no response"), successWithDoubts("okta_groups", "fewer")})
	s.n.RestoreEnded("okta_users", errors.New("no response"))
	s.late["okta_users"] = startDay.Add(-26 * time.Hour)
	s.passTime(time.Hour)
	s.assertReports([]string{"bad settings"})
}

// TestWhatIsOffIsForgotten: streams and destinations that the settings do not have any more.
func TestWhatIsOffIsForgotten(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.sinks = []string{"postgres"}
	s.queueSnapshot("okta_groups")
	s.n.RunFinished([]run.Result{failure("okta_users", "no response")})
	s.passTime(8 * time.Hour)
	s.off, s.sinks = []string{"okta_users"}, nil
	s.passTime(48 * time.Hour)
	s.assertReports([]string{"okta_users failed"}, []string{"The destination postgres receives no snapshots"})
}

// TestSuccessOfAnotherProcess ends a failure: that of a collectord --once beside the
// service, or one before a kill.
func TestSuccessOfAnotherProcess(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.n.RunFinished([]run.Result{failure("okta_users", "no response")})
	s.passTime(time.Hour)
	s.queueSnapshot("okta_users")
	s.restart()
	s.passTime(time.Hour)
	s.assertReports([]string{"okta_users failed"}, []string{"okta_users works again: 1 records."})
}
