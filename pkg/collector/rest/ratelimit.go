package rest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// quotaState is what a response reports about one limit.
type quotaState struct {
	limit    float64 // 0 if it is not known
	left     float64
	reset    time.Duration
	hasReset bool
}

// isUsedUp reports whether no more than the share reserve of the limit is left.
func (q quotaState) isUsedUp(reserve float64) bool { return q.left <= reserve*q.limit }

// parseRateLimits returns the limits that the standard headers report. These
// are RateLimit and RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers
// (RateLimit: "default";r=50;t=30), RateLimit as its seventh version has it
// (limit=100, remaining=50, reset=30), and the three headers of the versions
// before. The times are numbers of seconds.
func parseRateLimits(h http.Header) []quotaState {
	values := h.Values("RateLimit")
	if len(values) == 0 {
		return parseRateLimitTrio(h)
	}
	if list, err := httpsfv.UnmarshalList(values); err == nil {
		return readRateLimitList(list, h.Values("RateLimit-Policy"))
	}
	if dict, err := httpsfv.UnmarshalDictionary(values); err == nil {
		return readRateLimitDictionary(dict)
	}
	return nil
}

// readRateLimitList returns the limits of a list of named policies. Those that
// do not count requests are left out.
func readRateLimitList(list httpsfv.List, policies []string) []quotaState {
	limits, others := readPolicies(policies)
	var all []quotaState
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok || others[item.Value] {
			continue
		}
		left, ok := numberParam(item.Params, "r")
		if !ok {
			continue
		}
		state := quotaState{left: left, limit: limits[item.Value]}
		state.setReset(numberParam(item.Params, "t"))
		all = append(all, state)
	}
	return all
}

// readPolicies returns the limits of policies by their names, and the names of
// those that do not count requests, but bytes or requests at the same time.
func readPolicies(values []string) (limits map[any]float64, others map[any]bool) {
	limits, others = map[any]float64{}, map[any]bool{}
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return limits, others
	}
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			continue
		}
		if unit, ok := item.Params.Get("qu"); ok && unit != "requests" {
			others[item.Value] = true
		}
		if quota, ok := numberParam(item.Params, "q"); ok {
			limits[item.Value] = quota
		}
	}
	return limits, others
}

func readRateLimitDictionary(dict *httpsfv.Dictionary) []quotaState {
	number := func(name string) (float64, bool) {
		member, ok := dict.Get(name)
		if !ok {
			return 0, false
		}
		item, ok := member.(httpsfv.Item)
		if !ok {
			return 0, false
		}
		return numberOf(item.Value)
	}
	left, ok := number("remaining")
	if !ok {
		return nil
	}
	state := quotaState{left: left}
	state.limit, _ = number("limit")
	state.setReset(number("reset"))
	return []quotaState{state}
}

// parseRateLimitTrio evaluates RateLimit-Limit, whose first item is the limit
// that the others refer to, RateLimit-Remaining and RateLimit-Reset.
func parseRateLimitTrio(h http.Header) []quotaState {
	first, _, _ := strings.Cut(h.Get("RateLimit-Limit"), ",")
	limit, err1 := strconv.ParseFloat(strings.TrimSpace(first), 64)
	left, err2 := strconv.ParseFloat(strings.TrimSpace(h.Get("RateLimit-Remaining")), 64)
	if err1 != nil || err2 != nil || limit <= 0 {
		return nil
	}
	state := quotaState{limit: limit, left: left}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(h.Get("RateLimit-Reset")), 64)
	state.setReset(seconds, err == nil)
	return []quotaState{state}
}

func (q *quotaState) setReset(seconds float64, ok bool) {
	if ok && seconds >= 0 {
		q.reset, q.hasReset = time.Duration(min(seconds, maxWaitSeconds)*float64(time.Second)), true
	}
}

func numberParam(params *httpsfv.Params, name string) (float64, bool) {
	v, ok := params.Get(name)
	if !ok {
		return 0, false
	}
	return numberOf(v)
}

func numberOf(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// standardWait returns how long the standard headers ask to wait: until the
// last one of the limits is reset of which no more than the share reserve is
// left. pause is for a limit without the time of its reset.
func standardWait(h http.Header, reserve float64, pause time.Duration) (wait time.Duration, ok bool) {
	for _, q := range parseRateLimits(h) {
		if !q.isUsedUp(reserve) {
			continue
		}
		reset := q.reset
		if !q.hasReset {
			reset = pause
		}
		wait, ok = max(wait, reset), true
	}
	return wait, ok
}
