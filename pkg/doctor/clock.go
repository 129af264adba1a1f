package doctor

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// The bounds of the clock's error: TLS and tokens tolerate a minute, S3 refuses
// requests after fifteen.
const (
	clockWarning = time.Minute
	clockFailure = 5 * time.Minute
)

// ClockAgainst compares this machine's clock with the Date header of a server's
// response to a request without credentials. ok is false without such a header.
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
	_ = resp.Body.Close() // the response to HEAD has none
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return Finding{}, false
	}
	// Date has whole seconds, and was set between the request and the response.
	ours := began.Add(time.Since(began) / 2)
	return clockFinding(ours.Sub(theirs).Round(time.Second), req.URL.Host), true
}

// clockFinding returns the finding about a clock that is ahead of a server's.
func clockFinding(ahead time.Duration, server string) Finding {
	f := Finding{Group: "clock", Check: "this machine's", Result: OK}
	f.Text = fmt.Sprintf("agrees with that of %s to within %s", server, max(ahead.Abs(), time.Second))
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	if ahead.Abs() > clockWarning {
		f.Result = Warning
		f.Text = fmt.Sprintf("%s %s that of %s", ahead.Abs(), direction, server)
		f.Advice = "set it by NTP: tokens and signatures contain the time, and S3 refuses those that are wrong by 15 minutes"
	}
	if ahead.Abs() > clockFailure {
		f.Result = Failed
	}
	return f
}
