package vendorsim

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// KnowBe4Enrollments is the stream of [KnowBe4].
const KnowBe4Enrollments = "knowbe4_enrollments"

// KnowBe4Token is the API token that [NewKnowBe4] accepts.
const KnowBe4Token = "sim.knowbe4.token"

// maxKnowBe4Page is the largest page size. Larger values are clamped to it.
const maxKnowBe4Page = 500

// KnowBe4 simulates the training enrollments of KnowBe4's reporting API with
// both of its paging schemes. The filters campaign_id, user_id and
// exclude_archived_users select records, the last one after paging. Parameters
// that request additional members are accepted and ignored.
type KnowBe4 struct {
	host *Host

	mu      sync.Mutex
	config  KnowBe4Behaviour
	removed map[int]bool // enrollments that were removed, by index
}

// KnowBe4Behaviour configures what differs between tenants.
type KnowBe4Behaviour struct {
	// Older makes the tenant support page numbers only. It ignores the
	// parameter cursor, or responds to it with 400 if RefuseCursor is set.
	Older, RefuseCursor bool
	// Forbidden makes the response 403, as for a subscription without the
	// reporting API.
	Forbidden bool
	// EmptyLast gives the last page with records a next cursor, which leads to
	// an empty page.
	EmptyLast bool
	// NumberCursor makes cursors numbers instead of strings.
	NumberCursor bool
	// SilentLimit leaves Retry-After out of 429 responses.
	SilentLimit bool
}

// NewKnowBe4 returns a simulated KnowBe4 tenant for one [Server].
func NewKnowBe4() *KnowBe4 { return &KnowBe4{removed: map[int]bool{}} }

// Name returns "knowbe4".
func (k *KnowBe4) Name() string { return "knowbe4" }

// Env returns the KNOWBE4_ settings.
func (k *KnowBe4) Env(url string) []string {
	return []string{"KNOWBE4_ENDPOINT=" + url + "/v1/training/enrollments", "KNOWBE4_TOKEN=" + KnowBe4Token}
}

// ChangeBehaviour changes how the API behaves.
func (k *KnowBe4) ChangeBehaviour(change func(*KnowBe4Behaviour)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.config)
}

func (k *KnowBe4) behaviour() KnowBe4Behaviour {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.config
}

// RemoveEnrollment removes enrollment i, as when its campaign is deleted while a
// client reads. The enrollments after it move to lower page numbers. A cursor
// keeps its position.
func (k *KnowBe4) RemoveEnrollment(i int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.removed[i] = true
}

// removedEnrollments returns a copy of the removed enrollments.
func (k *KnowBe4) removedEnrollments() map[int]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.removed)
}

// Limits returns the limits "knowbe4-second" for bursts, "knowbe4-minute" for
// the sustained rate, and "knowbe4-day", which depends on the licence and is
// off unless its number is set.
func (k *KnowBe4) Limits() []Limit {
	reject := func(w http.ResponseWriter, _ *http.Request, q Quota) {
		if !k.behaviour().SilentLimit {
			w.Header().Set("Retry-After", q.ResetSeconds())
		}
		writeKnowBe4Error(w, http.StatusTooManyRequests, "Too many requests")
	}
	return []Limit{
		{Name: "knowbe4-second", LimitNumbers: LimitNumbers{Max: 4, Window: time.Second}, Reject: reject},
		{Name: "knowbe4-minute", LimitNumbers: LimitNumbers{Max: 50, Window: time.Minute}, Reject: reject},
		{Name: "knowbe4-day", LimitNumbers: LimitNumbers{Window: 24 * time.Hour}, Reject: reject},
	}
}

// Routes returns the API.
func (k *KnowBe4) Routes(h *Host) *http.ServeMux {
	k.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/training/enrollments", k.requireBearerToken(k.serveEnrollments))
	mux.HandleFunc("/", k.requireBearerToken(func(w http.ResponseWriter, r *http.Request) {
		writeKnowBe4Error(w, http.StatusNotFound, "Not found")
	}))
	return mux
}

// requireBearerToken checks the token of a request before next handles it.
func (k *KnowBe4) requireBearerToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !k.host.acceptsHeader(r, "Bearer", KnowBe4Token):
			writeKnowBe4Error(w, http.StatusUnauthorized, "Unauthorized")
		case k.behaviour().Forbidden:
			writeKnowBe4Error(w, http.StatusForbidden, "Forbidden")
		default:
			next(w, r)
		}
	}
}

// serveEnrollments writes a page in the requested paging scheme.
func (k *KnowBe4) serveEnrollments(w http.ResponseWriter, r *http.Request) {
	q, config := r.URL.Query(), k.behaviour()
	size := k.host.PageLimit(KnowBe4Enrollments, maxKnowBe4Page)
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && n > 0 {
		size = min(size, n)
	} else {
		size = min(size, 100)
	}
	switch {
	case q.Has("cursor") && config.Older && config.RefuseCursor:
		writeKnowBe4Error(w, http.StatusBadRequest, "cursor is not a parameter")
	case q.Has("cursor") && !config.Older:
		k.serveCursorPage(w, q, size, config)
	default:
		page := 1
		if q.Has("page") {
			var err error
			if page, err = strconv.Atoi(q.Get("page")); err != nil || page < 1 {
				writeKnowBe4Error(w, http.StatusBadRequest, "page is invalid")
				return
			}
		}
		q.Del("cursor") // which an older tenant ignores
		records, _ := k.scanEnrollments(q, (page-1)*size, size)
		k.writeEnrollments(w, "[", records, "]")
	}
}

// serveCursorPage writes a page of the newer scheme, with cursors.
func (k *KnowBe4) serveCursorPage(w http.ResponseWriter, q url.Values, size int, config KnowBe4Behaviour) {
	at, err := strconv.Atoi(q.Get("cursor"))
	if err != nil || at < 0 {
		writeKnowBe4Error(w, http.StatusBadRequest, "cursor is invalid")
		return
	}
	records, after := k.scanEnrollments(q, at, size)
	_, last := k.scanEnrollments(q, after, 1)
	cursor := "null"
	if last != after || config.EmptyLast && len(records) > 0 {
		cursor = strconv.Itoa(after)
		if !config.NumberCursor {
			cursor = strconv.Quote(cursor)
		}
	}
	k.writeEnrollments(w, `{"data":[`, records, `],"pagination":{"nextCursor":`+cursor+`}}`)
}

// scanEnrollments returns up to n records, starting at a position among those
// that the filters select, and the position after them. Archived users are left
// out after paging, so that they make pages shorter. Removed enrollments have a
// position only in a listing by cursor.
func (k *KnowBe4) scanEnrollments(q url.Values, from, n int) (records []int, after int) {
	st := k.host.server.mustStream(KnowBe4Enrollments)
	after = from
	removed, byCursor := k.removedEnrollments(), q.Has("cursor")
	for i, position, count := 0, 0, int(st.count.Load()); i < count && position < from+n; i++ {
		if q.Get("campaign_id") == "" && q.Get("user_id") == "" && i < from && (byCursor || len(removed) == 0) {
			i, position = from, from // without filters, positions are indices
			if i >= count {
				break
			}
		}
		r := st.recAt(i)
		if c := q.Get("campaign_id"); c != "" && c != strconv.Itoa(knowBe4Campaign(r)) {
			continue
		}
		if u := q.Get("user_id"); u != "" && u != strconv.Itoa(knowBe4User(r)) {
			continue
		}
		if removed[i] && !byCursor {
			continue
		}
		if position++; position <= from {
			continue
		}
		after = position
		if !removed[i] && (q.Get("exclude_archived_users") != "true" || !knowBe4Archived(r)) {
			records = append(records, i)
		}
	}
	return records, after
}

func (k *KnowBe4) writeEnrollments(w http.ResponseWriter, before string, records []int, after string) {
	w.Header().Set("Content-Type", "application/json")
	_ = k.host.server.WriteRecords(w, before, KnowBe4Enrollments, slices.Values(records), after)
}

// writeKnowBe4Error writes an error in the API's format.
func writeKnowBe4Error(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"error":`+strconv.Quote(message)+`}`)
}
