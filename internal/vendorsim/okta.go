package vendorsim

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// OktaUsers is the stream of [Okta]: all users, deprovisioned ones included.
const OktaUsers = "okta_users"

// OktaToken is the API token that [NewOkta] accepts.
const OktaToken = "00sim-okta-token"

// oktaPage is the largest page; larger limits are clamped to it.
const oktaPage = 200

// Okta simulates an Okta organisation's listing of users: cursors in Link
// headers, deprovisioned users behind a filter, and the headers of the rate
// limit.
type Okta struct {
	host *Host

	mu     sync.Mutex
	how    OktaBehaviour
	status map[int]string // of users whose status was changed
}

// OktaBehaviour is what the listing does where organisations differ.
type OktaBehaviour struct {
	// Forbidden refuses the token's creator the right to list users.
	Forbidden bool
	// EmptyLast gives the last page with users a next link, which leads to an
	// empty page.
	EmptyLast bool
	// EmptyBetween puts an empty page with a next link after each page with
	// users but the last.
	EmptyBetween bool
}

// NewOkta returns a simulated Okta organisation for one [Server].
func NewOkta() *Okta { return &Okta{status: map[int]string{}} }

// Name returns "okta".
func (o *Okta) Name() string { return "okta" }

// Env returns the OKTA_ settings.
func (o *Okta) Env(url string) []string {
	return []string{"OKTA_DOMAIN=" + url, "OKTA_TOKEN=" + OktaToken}
}

// Configure changes how the listing behaves.
func (o *Okta) Configure(change func(*OktaBehaviour)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.how)
}

// SetStatus changes the status of user i, as an administrator does while a
// client reads. The user's record shows it from then on.
func (o *Okta) SetStatus(i int, status string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status[i] = status
}

// Status returns the status of user i.
func (o *Okta) Status(i int) string { return o.statusOf(o.host.server.stream(OktaUsers).rec(i)) }

func (o *Okta) statusOf(r Rec) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, changed := o.status[r.Index]; changed {
		return s
	}
	return oktaStatuses[r.Hash>>8%uint64(len(oktaStatuses))]
}

// Limits returns the limit "okta": one bucket for the endpoint, told in every
// answer. A rejection for concurrency tells zeros, and a reset that is advice.
func (o *Okta) Limits() []Limit {
	return []Limit{{
		Name:         "okta",
		LimitNumbers: LimitNumbers{Max: 600, Window: time.Minute},
		Headers: func(h http.Header, q Quota) {
			h.Set("Date", q.Now.UTC().Format(http.TimeFormat))
			h.Set("X-Rate-Limit-Limit", strconv.Itoa(q.Max))
			h.Set("X-Rate-Limit-Remaining", strconv.Itoa(q.Remaining))
			h.Set("X-Rate-Limit-Reset", q.ResetUnix())
		},
		Reject: func(w http.ResponseWriter, _ *http.Request, _ Quota) {
			oktaError(w, http.StatusTooManyRequests, "E0000047", "API call exceeded rate limit due to too many requests.")
		},
	}}
}

// Routes returns the API.
func (o *Okta) Routes(h *Host) *http.ServeMux {
	o.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/users", o.guard(o.users))
	mux.HandleFunc("/", o.guard(func(w http.ResponseWriter, r *http.Request) {
		oktaError(w, http.StatusNotFound, "E0000022", "The endpoint does not support the provided HTTP method")
	}))
	return mux
}

// guard checks the token before a handler.
func (o *Okta) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Okta-Request-Id", fmt.Sprintf("%032x", o.host.Unique()))
		switch {
		case r.Header.Get("Authorization") != "SSWS "+OktaToken:
			oktaError(w, http.StatusUnauthorized, "E0000011", "Invalid token provided")
		case o.behaviour().Forbidden:
			oktaError(w, http.StatusForbidden, "E0000006", "You do not have permission to perform the requested action")
		default:
			next(w, r)
		}
	}
}

func (o *Okta) behaviour() OktaBehaviour {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.how
}

// users answers a page of the listing.
func (o *Okta) users(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	fits, err := o.filter(q.Get("filter"))
	if err != nil {
		oktaError(w, http.StatusBadRequest, "E0000031", "Invalid search criteria.")
		return
	}
	at, empty, ok := oktaCursor(q.Get("after"))
	if !ok {
		oktaError(w, http.StatusBadRequest, "E0000001", "Api validation failed: after")
		return
	}
	size := o.host.PageLimit(OktaUsers, oktaPage)
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		size = min(size, n)
	}
	how := o.behaviour()
	var page []int
	if !empty {
		page, at = o.scan(fits, at, size)
	}
	_, last := o.scan(fits, at, 1)
	more := last != at || how.EmptyLast && len(page) > 0
	o.links(w, r, q, at, more, how.EmptyBetween && !empty && last != at)
	w.Header().Set("Content-Type", "application/json")
	_ = o.host.server.WriteRecords(w, "[", OktaUsers, slices.Values(page), "]")
}

// scan returns up to n users that fit, from index at on, and the index after
// them; that is at when there are none.
func (o *Okta) scan(fits func(Rec) bool, at, n int) (page []int, after int) {
	st := o.host.server.stream(OktaUsers)
	after = at
	for i, count := at, int(st.count.Load()); i < count && len(page) < n; i++ {
		if fits(st.rec(i)) {
			page, after = append(page, i), i+1
		}
	}
	return page, after
}

// links sets the Link headers: self and next in lines of their own, or in one
// line joined by a comma. empty makes the next page an empty one.
func (o *Okta) links(w http.ResponseWriter, r *http.Request, q url.Values, at int, more, empty bool) {
	self := fmt.Sprintf(`<%s%s>; rel="self"`, o.host.URL(), r.URL.RequestURI())
	if !more {
		w.Header().Add("Link", self)
		return
	}
	q.Set("after", oktaAfter(at, empty))
	next := fmt.Sprintf(`<%s%s?%s>; rel="next"`, o.host.URL(), r.URL.Path, q.Encode())
	if at%2 == 0 {
		w.Header().Add("Link", self+", "+next)
		return
	}
	w.Header().Add("Link", self)
	w.Header().Add("Link", next)
}

// oktaMask makes cursors opaque.
const oktaMask = 0x5deece66d1ce4e5b

func oktaAfter(at int, empty bool) string {
	n := uint64(at) << 1
	if empty {
		n |= 1
	}
	return "200u" + string(AppendHex(nil, n^oktaMask, 16))
}

// oktaCursor reads what oktaAfter made; "" is the start.
func oktaCursor(after string) (at int, empty, ok bool) {
	if after == "" {
		return 0, false, true
	}
	text, ok := strings.CutPrefix(after, "200u")
	n, err := strconv.ParseUint(text, 16, 64)
	n ^= oktaMask
	return int(n >> 1), n&1 != 0, ok && err == nil
}

// filter understands comparisons of status, id and lastUpdated joined by
// "and". Without a filter, deprovisioned users are left out.
func (o *Okta) filter(text string) (func(Rec) bool, error) {
	if text == "" {
		return func(r Rec) bool { return o.statusOf(r) != "DEPROVISIONED" }, nil
	}
	var all []func(Rec) bool
	for term := range strings.SplitSeq(text, " and ") {
		var name, op, value string
		if _, err := fmt.Sscanf(strings.TrimSpace(term), "%s %s %q", &name, &op, &value); err != nil {
			return nil, err
		}
		fits, err := o.term(name, op, value)
		if err != nil {
			return nil, err
		}
		all = append(all, fits)
	}
	return func(r Rec) bool {
		for _, fits := range all {
			if !fits(r) {
				return false
			}
		}
		return true
	}, nil
}

func (o *Okta) term(name, op, value string) (func(Rec) bool, error) {
	switch {
	case name == "status" && op == "eq":
		return func(r Rec) bool { return o.statusOf(r) == value }, nil
	case name == "id" && op == "eq":
		return func(r Rec) bool { return string(oktaID(nil, r)) == value }, nil
	case name == "lastUpdated" && strings.Contains(" gt ge lt le ", " "+op+" "):
		base := o.host.Gen().Base
		return func(r Rec) bool {
			c := strings.Compare(oktaUpdated(base, r).Format(LayoutMillis), value)
			return c == 0 && op[1] == 'e' || c < 0 && op[0] == 'l' || c > 0 && op[0] == 'g'
		}, nil
	}
	return nil, fmt.Errorf("filter: %s %s", name, op)
}

// oktaError writes an error in the platform's shape.
func oktaError(w http.ResponseWriter, code int, errorCode, summary string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"errorCode":"`+errorCode+`","errorSummary":"`+summary+
		`","errorLink":"`+errorCode+`","errorId":"oaesim","errorCauses":[]}`)
}
