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

// OktaUsers is the stream of [Okta]: all users, including deprovisioned ones.
const OktaUsers = "okta_users"

// OktaToken is the API token that [NewOkta] accepts.
const OktaToken = "00sim-okta-token"

// maxOktaPage is the largest page size. Larger limits are clamped to it.
const maxOktaPage = 200

// Okta simulates an Okta organisation's listing of users: cursors in Link
// headers, deprovisioned users behind a filter, and the headers of the rate
// limit.
type Okta struct {
	host *Host

	mu     sync.Mutex
	config OktaBehaviour
	status map[int]string // statuses that were changed, by user index
}

// OktaBehaviour configures what differs between organisations.
type OktaBehaviour struct {
	// Forbidden makes the response 403, as when the creator of the token may
	// not list users.
	Forbidden bool
	// EmptyLast gives the last page with users a next link, which leads to an
	// empty page.
	EmptyLast bool
	// EmptyBetween adds an empty page with a next link after each page with
	// users except the last.
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

// ChangeBehaviour changes how the listing behaves.
func (o *Okta) ChangeBehaviour(change func(*OktaBehaviour)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.config)
}

// SetStatus changes the status of user i, as an administrator may do while a
// client reads. Later responses contain the new status.
func (o *Okta) SetStatus(i int, status string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status[i] = status
}

// Status returns the status of user i.
func (o *Okta) Status(i int) string {
	return o.userStatus(o.host.server.mustStream(OktaUsers).recAt(i))
}

func (o *Okta) userStatus(r Rec) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, changed := o.status[r.Index]; changed {
		return s
	}
	return oktaStatuses[r.Hash>>8%uint64(len(oktaStatuses))]
}

// Limits returns the limit "okta": one bucket for the endpoint, whose state is
// in the headers of every response. A rejection for concurrency has zeros and a
// reset time that is only advice.
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
			writeOktaError(w, http.StatusTooManyRequests, "E0000047", "API call exceeded rate limit due to too many requests.")
		},
	}}
}

// Routes returns the API.
func (o *Okta) Routes(h *Host) *http.ServeMux {
	o.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/users", o.requireSSWSToken(o.serveUsers))
	mux.HandleFunc("/", o.requireSSWSToken(func(w http.ResponseWriter, r *http.Request) {
		writeOktaError(w, http.StatusNotFound, "E0000022", "The endpoint does not support the provided HTTP method")
	}))
	return mux
}

// requireSSWSToken checks the token of a request before next handles it.
func (o *Okta) requireSSWSToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Okta-Request-Id", fmt.Sprintf("%032x", o.host.Unique()))
		switch {
		case !o.host.acceptsHeader(r, "SSWS", OktaToken):
			writeOktaError(w, http.StatusUnauthorized, "E0000011", "Invalid token provided")
		case o.behaviour().Forbidden:
			writeOktaError(w, http.StatusForbidden, "E0000006", "You do not have permission to perform the requested action")
		default:
			next(w, r)
		}
	}
}

func (o *Okta) behaviour() OktaBehaviour {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.config
}

// serveUsers writes a page of the listing.
func (o *Okta) serveUsers(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	fits, err := o.parseUserFilter(q.Get("filter"))
	if err != nil {
		writeOktaError(w, http.StatusBadRequest, "E0000031", "Invalid search criteria.")
		return
	}
	at, empty, ok := parseOktaCursor(q.Get("after"))
	if !ok {
		writeOktaError(w, http.StatusBadRequest, "E0000001", "Api validation failed: after")
		return
	}
	size := o.host.PageLimit(OktaUsers, maxOktaPage)
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		size = min(size, n)
	}
	config := o.behaviour()
	var page []int
	if !empty {
		page, at = o.scanUsers(fits, at, size)
	}
	_, last := o.scanUsers(fits, at, 1)
	more := last != at || config.EmptyLast && len(page) > 0
	o.setLinkHeaders(w, r, q, at, more, config.EmptyBetween && !empty && last != at)
	w.Header().Set("Content-Type", "application/json")
	_ = o.host.server.WriteRecords(w, "[", OktaUsers, slices.Values(page), "]")
}

// scanUsers returns up to n users for which fits returns true, starting at
// index at, and the index after the last of them. If there are none, that is
// at.
func (o *Okta) scanUsers(fits func(Rec) bool, at, n int) (page []int, after int) {
	st := o.host.server.mustStream(OktaUsers)
	after = at
	for i, count := at, int(st.count.Load()); i < count && len(page) < n; i++ {
		if fits(st.recAt(i)) {
			page, after = append(page, i), i+1
		}
	}
	return page, after
}

// setLinkHeaders sets the Link headers: self and next in separate lines, or in
// one line separated by a comma. If empty is set, the next page is an empty
// one.
func (o *Okta) setLinkHeaders(w http.ResponseWriter, r *http.Request, q url.Values, at int, more, empty bool) {
	self := fmt.Sprintf(`<%s%s>; rel="self"`, o.host.URL(), r.URL.RequestURI())
	if !more {
		w.Header().Add("Link", self)
		return
	}
	q.Set("after", formatOktaCursor(at, empty))
	next := fmt.Sprintf(`<%s%s?%s>; rel="next"`, o.host.URL(), r.URL.Path, q.Encode())
	if at%2 == 0 {
		w.Header().Add("Link", self+", "+next)
		return
	}
	w.Header().Add("Link", self)
	w.Header().Add("Link", next)
}

// oktaCursorMask makes cursors opaque.
const oktaCursorMask = 0x5deece66d1ce4e5b

func formatOktaCursor(at int, empty bool) string {
	n := uint64(at) << 1
	if empty {
		n |= 1
	}
	return "200u" + string(AppendHex(nil, n^oktaCursorMask, 16))
}

// parseOktaCursor parses a cursor of formatOktaCursor. "" is the start.
func parseOktaCursor(after string) (at int, empty, ok bool) {
	if after == "" {
		return 0, false, true
	}
	text, ok := strings.CutPrefix(after, "200u")
	n, err := strconv.ParseUint(text, 16, 64)
	n ^= oktaCursorMask
	return int(n >> 1), n&1 != 0, ok && err == nil
}

// parseUserFilter parses comparisons of status, id and lastUpdated that are
// joined by "and". Without a filter, deprovisioned users are left out.
func (o *Okta) parseUserFilter(text string) (func(Rec) bool, error) {
	if text == "" {
		return func(r Rec) bool { return o.userStatus(r) != "DEPROVISIONED" }, nil
	}
	var all []func(Rec) bool
	for term := range strings.SplitSeq(text, " and ") {
		var name, op, value string
		if _, err := fmt.Sscanf(strings.TrimSpace(term), "%s %s %q", &name, &op, &value); err != nil {
			return nil, err
		}
		fits, err := o.parseUserTerm(name, op, value)
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

func (o *Okta) parseUserTerm(name, op, value string) (func(Rec) bool, error) {
	switch {
	case name == "status" && op == "eq":
		return func(r Rec) bool { return o.userStatus(r) == value }, nil
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

// writeOktaError writes an error in the platform's format.
func writeOktaError(w http.ResponseWriter, code int, errorCode, summary string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"errorCode":"`+errorCode+`","errorSummary":"`+summary+
		`","errorLink":"`+errorCode+`","errorId":"oaesim","errorCauses":[]}`)
}
