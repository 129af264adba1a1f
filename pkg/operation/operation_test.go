package operation

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// newOperator returns an operator with the destinations file and postgres, and the number
// of times that it reported a changed queue.
func newOperator(t *testing.T) (o *Operator, changes *int) {
	t.Helper()
	st, err := local.Open(t.Context(), t.TempDir(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	changes = new(int)
	return &Operator{
		State: st, Tenancy: "acme", Streams: []string{"okta_users", "snyk_issues"}, Destinations: []string{"file", "postgres", "s3"},
		Policy: state.Policy{Sinks: []string{"file", "postgres"}, GuardDropPercent: 50}, Queued: func() { *changes++ }, Log: zap.NewNop(),
	}, changes
}

// collectUsers adds a run of okta_users with n records whose upload id is id.
func collectUsers(t *testing.T, o *Operator, id string, n int) state.Outcome {
	t.Helper()
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: o.Tenancy, UploadID: id, UploadTimestamp: time.Now().UTC().Truncate(time.Second)}
	run, err := o.State.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	if err != nil {
		t.Fatal(err)
	}
	w, err := o.State.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	for range n {
		if err := batch.Append([]byte(`{"id":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	done, err := o.State.Runs.Commit(t.Context(), run, w, state.RunStats{}, o.Policy)
	if err != nil {
		t.Fatal(err)
	}
	return done.Outcome
}

// queued returns the queue as text.
func queued(t *testing.T, o *Operator) string {
	t.Helper()
	queue, err := o.State.Queue.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, d := range queue {
		words = append(words, d.UploadID+">"+d.Sink)
	}
	return strings.Join(words, " ")
}

// requireRefused fails the test unless err is a RefusedError of a reason whose text has a
// part.
func requireRefused(t *testing.T, err error, reason Reason, part string) {
	t.Helper()
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Reason != reason || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want a refusal of the reason %d with %q", err, reason, part)
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	o, changes := newOperator(t)
	collectUsers(t, o, "id-1", 10)
	if outcome := collectUsers(t, o, "id-2", 1); outcome != state.Held {
		t.Fatalf("the outcome is %s", outcome)
	}
	_, err := o.Accept(t.Context(), "none")
	requireRefused(t, err, Unknown, `"none" is not a stream`)
	lock, err := o.State.Locks.LockStream("okta_users", o.Tenancy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Accept(t.Context(), "okta_users"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("while it is collected: error %v, want ErrLocked", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	info, err := o.Accept(t.Context(), "okta_users")
	if err != nil || info.UploadID != "id-2" || info.Records != 1 {
		t.Errorf("accepted %+v, error %v", info, err)
	}
	if _, err := o.Accept(t.Context(), "okta_users"); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("again: error %v, want ErrNoSnapshot", err)
	}
	if got := queued(t, o); got != "id-1>file id-1>postgres id-2>file id-2>postgres" || *changes != 1 {
		t.Errorf("queued %s after %d changes", got, *changes)
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	o, _ := newOperator(t)
	collectUsers(t, o, "id-1", 1)
	collectUsers(t, o, "id-2", 1)
	_, err := o.DropFirst(t.Context(), "disk", "okta_users", "")
	requireRefused(t, err, Unknown, `"disk" is not a destination: want one of file, postgres, s3`)
	_, err = o.DropFirst(t.Context(), "s3", "okta_users", "")
	requireRefused(t, err, Conflict, "no queued delivery of okta_users to s3")
	_, err = o.DropFirst(t.Context(), "postgres", "okta_users", "id-2")
	requireRefused(t, err, Conflict, "upload id-2 is not the first in the queue, which is id-1")
	lock, err := o.State.Locks.LockDelivery("postgres", "okta_users", o.Tenancy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.DropFirst(t.Context(), "postgres", "okta_users", ""); !errors.Is(err, state.ErrLocked) {
		t.Errorf("while it is delivered: error %v, want ErrLocked", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	d, err := o.DropFirst(t.Context(), "postgres", "okta_users", "id-1")
	if err != nil || d.UploadID != "id-1" || d.Left != 1 {
		t.Errorf("dropped %+v, error %v", d, err)
	}
	_, err = o.DropAll(t.Context(), "disk")
	requireRefused(t, err, Unknown, "is not a destination")
	_, err = o.DropAll(t.Context(), "postgres")
	requireRefused(t, err, Conflict, "postgres is configured")
	o.Policy.Sinks = []string{"file"}
	if n, err := o.DropAll(t.Context(), "postgres"); err != nil || n != 1 {
		t.Errorf("dropped %d, error %v, want 1", n, err)
	}
	if got := queued(t, o); got != "id-1>file id-2>file" {
		t.Errorf("queued %s", got)
	}
}

func TestRedeliver(t *testing.T) {
	t.Parallel()
	o, changes := newOperator(t)
	_, _, err := o.Redeliver(t.Context(), nil, nil)
	requireRefused(t, err, Conflict, "no snapshot is known yet")
	_, _, err = o.Redeliver(t.Context(), nil, []string{"snyk_issues"})
	requireRefused(t, err, Conflict, `"snyk_issues" has no last-known snapshot`)
	_, _, err = o.Redeliver(t.Context(), nil, []string{"none"})
	requireRefused(t, err, Unknown, `"none"`)
	collectUsers(t, o, "id-1", 1)
	queue, err := o.State.Queue.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range queue {
		if err := o.State.Queue.MarkDelivered(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err = o.Redeliver(t.Context(), []string{"s3"}, nil)
	requireRefused(t, err, Unknown, `"s3" is not configured; these destinations are: file, postgres`)
	if got := queued(t, o); got != "" || *changes != 0 {
		t.Errorf("refused, but queued %q after %d changes", got, *changes)
	}
	deliveries, to, err := o.Redeliver(t.Context(), []string{"postgres"}, []string{"okta_users"})
	if err != nil || len(deliveries) != 1 || deliveries[0].UploadID != "id-1" || strings.Join(to, " ") != "postgres" {
		t.Errorf("queued %+v to %v, error %v", deliveries, to, err)
	}
	if got := queued(t, o); got != "id-1>postgres" || *changes != 1 {
		t.Errorf("queued %q after %d changes", got, *changes)
	}
	o.Policy.Sinks = nil
	_, _, err = o.Redeliver(t.Context(), nil, nil)
	requireRefused(t, err, Conflict, "no destination is configured")
}
