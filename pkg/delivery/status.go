package delivery

import (
	"errors"
	"fmt"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// A Status is the state of the delivery of one snapshot to one destination.
type Status struct {
	// Stored reports whether the destination has the snapshot.
	Stored bool
	// Err is the error of the last attempt; nil when none has failed.
	Err error
	// End is how the delivery ended if it was not made.
	End state.DeliveryEnd
}

// Label returns the status as one word: "stored", "refused", "waiting", the end of a
// delivery that was not made, or "-" when there was no attempt.
func (s Status) Label() string {
	switch {
	case s.Stored:
		return "stored"
	case s.End != "":
		return string(s.End)
	case errors.Is(s.Err, store.ErrRefused):
		return "refused"
	case s.Err != nil:
		return "waiting"
	}
	return "-"
}

// statusKey identifies the deliveries of a stream to a destination.
type statusKey struct{ stream, sink string }

// uploadStatus is the status of the delivery of an upload.
type uploadStatus struct {
	uploadID string
	Status
}

// DeliveryStatus returns the status of a delivery. It knows only the attempts of this
// process, and of the deliveries of a stream to a destination only the last. Snapshots are
// delivered in order: when an earlier one fails, this one waits for it.
func (d *Deliverer) DeliveryStatus(uploadID, stream, sink string) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.statuses[statusKey{stream, sink}]; s.uploadID == uploadID {
		return s.Status
	} else if s.Err != nil {
		return Status{Err: fmt.Errorf("an earlier snapshot waits: %w", s.Err)}
	}
	return Status{}
}

func (d *Deliverer) setStatus(q state.Delivery, s Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.statuses[statusKey{q.Stream, q.Sink}] = uploadStatus{q.UploadID, s}
}
