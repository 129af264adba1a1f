package delivery

import (
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// A memo is what a Deliverer remembers about a queued delivery, since the queue could not
// record it, as on a full disk, or need not. Without it, such a delivery would be made
// again and again.
type memo struct {
	// notBefore is the time before which the delivery is not attempted.
	notBefore time.Time
	// stored reports whether the destination has the snapshot. Only the record in the queue
	// is missing.
	stored bool
	// attempts is the number of failed attempts that the queue has not recorded, and class
	// the class of the last.
	attempts int
	class    state.Class
	// stateFailures is the number of times in succession that the state could not lock,
	// read or record the delivery.
	stateFailures int
}

// A deliveryKey identifies a delivery also when the database gives the ids of lost ones again.
type deliveryKey struct {
	id       int64
	uploadID string
}

func keyOf(q state.Delivery) deliveryKey { return deliveryKey{q.ID, q.UploadID} }

// memoOf returns the memo of a delivery.
func (d *Deliverer) memoOf(q state.Delivery) memo {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.memos[keyOf(q)]
}

// updateMemo changes the memo of a delivery.
func (d *Deliverer) updateMemo(q state.Delivery, change func(*memo)) memo {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.memos[keyOf(q)]
	change(&m)
	d.memos[keyOf(q)] = m
	return m
}

// forgetMemo removes the memo of a delivery.
func (d *Deliverer) forgetMemo(q state.Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.memos, keyOf(q))
}

// forgetEnded removes the memos of deliveries that are not in queue any more.
func (d *Deliverer) forgetEnded(queue []state.Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.memos) == 0 {
		return
	}
	kept := map[deliveryKey]memo{}
	for _, q := range queue {
		if m, ok := d.memos[keyOf(q)]; ok {
			kept[keyOf(q)] = m
		}
	}
	for id := range d.running {
		if m, ok := d.memos[id]; ok {
			kept[id] = m
		}
	}
	d.memos = kept
}

// dueAt returns the time from which a delivery may be attempted.
func (d *Deliverer) dueAt(q state.Delivery) time.Time {
	if at := d.memoOf(q).notBefore; at.After(q.NextTry) {
		return at
	}
	return q.NextTry
}

// RetryNow makes every delivery due at once whose wait only this process knows, and looks
// at the queue.
func (d *Deliverer) RetryNow() {
	d.mu.Lock()
	for id, m := range d.memos {
		m.notBefore = time.Time{}
		d.memos[id] = m
	}
	d.mu.Unlock()
	d.Wake()
}

// postpone makes a delivery due later in this process.
func (d *Deliverer) postpone(q state.Delivery, wait time.Duration) {
	at := d.timeNow().Add(wait)
	d.updateMemo(q, func(m *memo) { m.notBefore = at })
}

// postponeForState makes a delivery due later in this process because the state could not
// lock, read or record it. It returns the number of times in succession and the wait.
func (d *Deliverer) postponeForState(q state.Delivery) (failures int, wait time.Duration) {
	now := d.timeNow()
	d.updateMemo(q, func(m *memo) {
		m.stateFailures++
		failures, wait = m.stateFailures, deliveryBackoff(maxRecordWait).Wait(m.stateFailures)
		m.notBefore = now.Add(wait)
	})
	return failures, wait
}
