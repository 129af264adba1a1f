package doctor

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// The clock's bounds: TLS and tokens bear a minute, S3 refuses after fifteen.
const (
	clockWarning = time.Minute
	clockFailure = 5 * time.Minute
)

// ClockAgainst compares this machine's clock with the Date of what a server
// answers to a request without credentials. ok is false when it did not answer.
func ClockAgainst(ctx context.Context, client *http.Client, address string) (f Finding, ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return Finding{}, false
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return Finding{}, false
	}
	_ = resp.Body.Close() // a HEAD has none
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return Finding{}, false
	}
	// Dates have whole seconds, and were made somewhere on the way.
	return clock(began.Add(time.Since(began)/2).Sub(theirs).Round(time.Second), req.URL.Host), true
}

// clock judges how much this machine's clock is ahead of another's.
func clock(ahead time.Duration, who string) Finding {
	f := Finding{Group: "clock", Check: "this machine's", Result: OK, Text: "as that of " + who + ", within " + max(ahead.Abs(), time.Second).String()}
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	if ahead.Abs() > clockWarning {
		f.Result = Warning
		f.Text = fmt.Sprintf("%s %s that of %s", ahead.Abs(), word, who)
		f.Advice = "set it by NTP: tokens and signatures carry the time, and S3 refuses those that are wrong by 15 minutes"
	}
	if ahead.Abs() > clockFailure {
		f.Result = Failed
	}
	return f
}
