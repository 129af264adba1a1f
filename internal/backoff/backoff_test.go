package backoff_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/backoff"
)

func TestWait(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy backoff.Policy
		want   []time.Duration // after 1, 2, 3 ... failures
	}{
		{
			name:   "doubles up to the longest wait",
			policy: backoff.Policy{First: 5 * time.Minute, Longest: time.Hour},
			want:   []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, time.Hour},
		},
		{
			name:   "grows by its factor",
			policy: backoff.Policy{First: 2 * time.Second, Longest: 8 * time.Second, Growth: 1.5},
			want:   []time.Duration{2 * time.Second, 3 * time.Second, 4500 * time.Millisecond, 6750 * time.Millisecond, 8 * time.Second},
		},
		{
			name:   "the longest wait bounds the first",
			policy: backoff.Policy{First: 5 * time.Second, Longest: time.Second},
			want:   []time.Duration{time.Second, time.Second},
		},
		{
			name:   "does not overflow",
			policy: backoff.Policy{First: math.MaxInt64 / 2, Longest: math.MaxInt64},
			want:   []time.Duration{math.MaxInt64 / 2, math.MaxInt64},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []time.Duration
			for failures := 1; failures <= len(test.want); failures++ {
				got = append(got, test.policy.Wait(failures))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("waits are %v, want %v", got, test.want)
			}
		})
	}
}

func TestWaitIsLongestAfterManyFailures(t *testing.T) {
	p := backoff.Policy{First: time.Second, Longest: 15 * time.Minute}
	if wait := p.Wait(math.MaxInt); wait != 15*time.Minute {
		t.Errorf("the wait is %v, want 15m", wait)
	}
}

func TestRandomShare(t *testing.T) {
	p := backoff.Policy{First: time.Second, Longest: time.Minute, Random: 0.25}
	seen := map[time.Duration]bool{}
	for range 100 {
		wait := p.Wait(3)
		if wait < 3*time.Second || wait > 4*time.Second {
			t.Fatalf("the wait is %v, want 3s to 4s", wait)
		}
		seen[wait] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d of 100 waits are different", len(seen))
	}
}
