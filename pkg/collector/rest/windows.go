package rest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// A Window is a part of a period of time, from From up to and including To where the
// vendor includes the end, and up to but not including To where it does not.
type Window struct{ From, To time.Time }

// Windows divide a period into windows that a vendor accepts in one listing.
type Windows struct {
	// From is the start of the period, and To its end. To is chosen once, before the
	// first request: what changes afterwards belongs to the next period.
	From, To time.Time
	// Longest is the length of the longest window that the vendor accepts, such as
	// 120 days.
	Longest time.Duration
	// Overlap is how far each window reaches into the one before it, and the first
	// one before From, for vendors whose records become visible some time after the
	// time that they bear. Records in an overlap are received twice: the caller
	// stores each once.
	Overlap time.Duration
	// Inclusive means that the vendor includes both ends of a window, in steps of
	// Resolution. The next window then begins one step after the end of the last one.
	// Otherwise the end is excluded, and the next window begins at it.
	Inclusive bool
	// Resolution is the smallest difference between two times of the vendor, such as
	// a millisecond. From and To are cut to it.
	Resolution time.Duration
}

// Split returns the windows, the oldest first. Together they cover the period without a
// gap. There is none if the period is empty.
func (w Windows) Split() ([]Window, error) {
	resolution := max(w.Resolution, time.Nanosecond)
	from, to := w.From.Truncate(resolution), w.To.Truncate(resolution)
	step := time.Duration(0)
	if w.Inclusive {
		step = resolution
	}
	if w.Longest <= w.Overlap+step {
		return nil, fmt.Errorf("windows of %v cannot overlap by %v", w.Longest, w.Overlap)
	}
	var all []Window
	for start := from; start.Before(to) || w.Inclusive && start.Equal(to); {
		one := Window{From: start.Add(-w.Overlap)}
		one.To = one.From.Add(w.Longest)
		if one.To.After(to) {
			one.To = to
		}
		all = append(all, one)
		start = one.To.Add(step)
	}
	return all, nil
}

// A WindowedListing is a listing that is read window by window.
type WindowedListing struct {
	Windows Windows
	// Listing returns the listing of one window.
	Listing func(w Window) Listing
}

// WalkWindows writes the records of all windows to out, the oldest window first, and
// returns their number. It is an error if the period is empty.
func (c *Client) WalkWindows(ctx context.Context, l WindowedListing, out collector.Output) (records int64, err error) {
	windows, err := l.Windows.Split()
	if err != nil {
		return 0, err
	}
	if len(windows) == 0 {
		return 0, errors.New("the period of the windows is empty: check the clock")
	}
	for _, window := range windows {
		listing := l.Listing(window)
		if listing.Expired != nil {
			return records, errors.New("a listing of a window cannot start over: the output has the records of others")
		}
		n, err := c.Walk(ctx, listing, out)
		records += n
		if err != nil {
			return records, fmt.Errorf("%s to %s: %w", window.From.UTC().Format(time.RFC3339), window.To.UTC().Format(time.RFC3339), err)
		}
	}
	return records, nil
}
