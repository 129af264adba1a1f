package vendorsim

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fixedStatus returns a kind of fault with the same response each time.
func fixedStatus(name string, code int, body string, headers ...string) FaultKind {
	return requestFault(name, func(*FaultInjection) Effect { return Status(code, body, headers...) })
}

// retryAfter returns a wait as the header Retry-After has it.
func (f *FaultInjection) retryAfter() string {
	return strconv.Itoa(int(max(1, f.wait(2*time.Minute)/time.Second)))
}

// statusFaultKinds are responses with a status that is no success, which any
// vendor or anything before it can send.
var statusFaultKinds = []FaultKind{
	requestFault("429 with Retry-After", func(f *FaultInjection) Effect {
		return Status(429, `{"error":"slow down"}`, "Retry-After", f.retryAfter())
	}),
	requestFault("429 with a date", func(f *FaultInjection) Effect {
		wait := f.wait(2 * time.Minute)
		return func(next http.Handler) http.Handler {
			until := f.host.Now().Add(wait).UTC().Format(http.TimeFormat)
			return Status(429, `{"error":"slow down"}`, "Retry-After", until)(next)
		}
	}),
	requestFault("429 with HTML", func(f *FaultInjection) Effect { return HTML(429, "Retry-After", f.retryAfter()) }),
	fixedStatus("429 without a wait", 429, `{"statusCode":429,"error":"Too Many Requests","message":"rate limit"}`),
	requestFault("503 with Retry-After", func(f *FaultInjection) Effect { return Status(503, "", "Retry-After", f.retryAfter()) }),
	fixedStatus("500", 500, `{"error":"internal"}`),
	requestFault("502 with HTML", func(*FaultInjection) Effect { return HTML(502) }),
	fixedStatus("504", 504, "upstream request timeout"),
	fixedStatus("408", 408, ""),
	fixedStatus("524", 524, "error code: 524"),
	fixedStatus("400", 400, `{"error":"bad request"}`),
	fixedStatus("401", 401, `{"errors":[{"code":401,"message":"access denied, invalid bearer token"}]}`),
	requestFault("401 with HTML", func(*FaultInjection) Effect { return HTML(401) }),
	fixedStatus("403", 403, `{"error":"forbidden"}`),
	requestFault("403 with HTML", func(*FaultInjection) Effect { return HTML(403, "Server", "proxy") }),
	fixedStatus("404", 404, `{"error":"not found"}`),
	requestFault("404 with HTML", func(*FaultInjection) Effect { return HTML(404, "Server", "proxy") }),
	fixedStatus("407", 407, "proxy authentication required"),
	fixedStatus("410", 410, `{"error":"gone"}`),
	fixedStatus("413", 413, "request entity too large"),
	fixedStatus("431", 431, ""),
	fixedStatus("redirect to a login page", 302, "", "Location", "https://login.example.test/start"),
}

// bodyFaultKinds are damaged, late and wrong bodies, and connections that break.
var bodyFaultKinds = []FaultKind{
	requestFault("connection reset before the body", func(*FaultInjection) Effect { return Reset(0) }),
	requestFault("connection reset", func(*FaultInjection) Effect { return Reset(Half) }),
	requestFault("body cut", func(*FaultInjection) Effect { return Truncate(Half) }),
	requestFault("end of the transfer lost", func(*FaultInjection) Effect { return Truncate(1 << 30) }),
	requestFault("JSON cut", func(*FaultInjection) Effect { return CutBody(Half) }),
	requestFault("gzip cut", func(*FaultInjection) Effect { return CutGzip(Half) }),
	requestFault("length too long", func(*FaultInjection) Effect { return LongLength(10) }),
	requestFault("response lost", func(*FaultInjection) Effect { return LoseResponse(504, "upstream request timeout") }),
	requestFault("HTML at 200", func(*FaultInjection) Effect { return HTML(200) }),
	requestFault("errors beside 200", func(*FaultInjection) Effect { return Errors("something went wrong") }),
	fixedStatus("empty body at 200", 200, ""),
	fixedStatus("text at 200", 200, "OK"),
	requestFault("slow response", func(f *FaultInjection) Effect { return Slow(f.wait(3 * time.Minute)) }),
	requestFault("slow body", func(f *FaultInjection) Effect { return Drip(16<<10, f.wait(20*time.Second)) }),
	{Name: "hang", inject: func(f *FaultInjection) { f.spread(Hang()) }},
	{Name: "stall", inject: func(f *FaultInjection) { f.spread(HangAfter(Half)) }},
	{Name: "page repeated", Stale: true, inject: func(f *FaultInjection) {
		f.injectFault(Fault{When: samePath(f.skip(), listingOf), Times: max(2, f.times()), Do: Repeat()})
	}},
	tokenFault("crowdstrike", "token request refused", HTML(503)),
	tokenFault("crowdstrike", "token response lost", LoseResponse(504, "gone")),
}

// tokenFault is a kind of fault of the requests for a token, which replaces one
// that was revoked.
func tokenFault(vendor, name string, do Effect) FaultKind {
	return FaultKind{Name: name, Vendor: vendor, inject: func(f *FaultInjection) {
		f.injectFault(Fault{When: isTokenRequest, Times: f.times(), Do: do})
		f.host.vendor.(interface{ Revoke() }).Revoke()
	}}
}

// listingOf returns what the requests for all pages of one listing have in
// common.
func listingOf(r *http.Request) string {
	q := r.URL.Query()
	for _, position := range []string{"after", "offset", "cursor", "page", "starting_after", "limit", "per_page", "$skiptoken", "$skip"} {
		q.Del(position)
	}
	return strings.Join([]string{r.Method, r.URL.Path, q.Encode()}, " ")
}

var oktaFaultKinds = []FaultKind{
	oktaBehaves("empty last page", func(b *OktaBehaviour, on bool) { b.EmptyLast = on }),
	oktaBehaves("empty pages between", func(b *OktaBehaviour, on bool) { b.EmptyBetween = on }),
	oktaBehaves("permission missing", func(b *OktaBehaviour, on bool) { b.Forbidden = on }),
	{Name: "quota used by others", Vendor: "okta", inject: func(f *FaultInjection) {
		f.limitRequests("okta", LimitNumbers{Max: 3, Window: time.Minute})
	}},
	{Name: "users deprovisioned while they are read", Vendor: "okta", Hides: true, inject: func(f *FaultInjection) {
		first, n := f.draw.Random.IntN(f.host.server.RecordCount(OktaUsers)), 1+f.draw.Random.IntN(8)
		f.whileRead(func() {
			for i := first; i < min(first+n, f.host.server.RecordCount(OktaUsers)); i++ {
				f.host.vendor.(*Okta).SetStatus(i, "DEPROVISIONED")
			}
		})
	}},
}

func oktaBehaves(name string, set func(b *OktaBehaviour, on bool)) FaultKind {
	return FaultKind{Name: name, Vendor: "okta", inject: func(f *FaultInjection) {
		o := f.host.vendor.(*Okta)
		f.undo = append(f.undo, func() { o.ChangeBehaviour(func(b *OktaBehaviour) { set(b, false) }) })
		o.ChangeBehaviour(func(b *OktaBehaviour) { set(b, true) })
	}}
}

var knowBe4FaultKinds = []FaultKind{
	knowBe4Behaves("no cursors", func(b *KnowBe4Behaviour, on bool) { b.Older = on }),
	knowBe4Behaves("cursors refused", func(b *KnowBe4Behaviour, on bool) { b.Older, b.RefuseCursor = on, on }),
	knowBe4Behaves("empty last page", func(b *KnowBe4Behaviour, on bool) { b.EmptyLast = on }),
	knowBe4Behaves("cursors are numbers", func(b *KnowBe4Behaviour, on bool) { b.NumberCursor = on }),
	knowBe4Behaves("permission missing", func(b *KnowBe4Behaviour, on bool) { b.Forbidden = on }),
	{Name: "quota used by others", Vendor: "knowbe4", inject: func(f *FaultInjection) {
		f.limitRequests("knowbe4-minute", LimitNumbers{Max: 2, Window: time.Minute})
	}},
	{Name: "quota used by others, without Retry-After", Vendor: "knowbe4", inject: func(f *FaultInjection) {
		k := f.host.vendor.(*KnowBe4)
		k.ChangeBehaviour(func(b *KnowBe4Behaviour) { b.SilentLimit = true })
		f.limitRequests("knowbe4-minute", LimitNumbers{Max: 2, Window: time.Minute})
		f.undo = append(f.undo, func() { k.ChangeBehaviour(func(b *KnowBe4Behaviour) { b.SilentLimit = false }) })
	}},
	{Name: "enrollments removed while they are read", Vendor: "knowbe4", Hides: true, inject: func(f *FaultInjection) {
		k, count := f.host.vendor.(*KnowBe4), f.host.server.RecordCount(KnowBe4Enrollments)
		f.gone = true
		for range 1 + f.draw.Random.IntN(3) {
			first, n := f.draw.Random.IntN(count), 1+f.draw.Random.IntN(25)
			f.whileRead(func() {
				for i := first; i < min(first+n, count); i++ {
					f.hideRecord(KnowBe4Enrollments, i)
					k.RemoveEnrollment(i)
				}
			})
		}
	}},
}

func knowBe4Behaves(name string, set func(b *KnowBe4Behaviour, on bool)) FaultKind {
	return FaultKind{Name: name, Vendor: "knowbe4", inject: func(f *FaultInjection) {
		k := f.host.vendor.(*KnowBe4)
		f.undo = append(f.undo, func() { k.ChangeBehaviour(func(b *KnowBe4Behaviour) { set(b, false) }) })
		k.ChangeBehaviour(func(b *KnowBe4Behaviour) { set(b, true) })
	}}
}
