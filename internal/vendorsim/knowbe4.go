package vendorsim

import (
	"io"
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

// knowBe4Page is the largest page; larger ones are clamped to it.
const knowBe4Page = 500

// KnowBe4 simulates the training enrollments of KnowBe4's reporting API in
// both of its paging forms. The filters campaign_id, user_id and
// exclude_archived_users select records, the last one after they were paged;
// the parameters that include further members are accepted and add nothing.
type KnowBe4 struct {
	host *Host

	mu  sync.Mutex
	how KnowBe4Behaviour
}

// KnowBe4Behaviour is what the API does where tenants differ.
type KnowBe4Behaviour struct {
	// Older is a tenant that knows pages only: it ignores cursor, or with
	// RefuseCursor answers it with 400.
	Older, RefuseCursor bool
	// Forbidden is a subscription without the reporting API.
	Forbidden bool
	// EmptyLast gives the last cursor page with records a next cursor, which
	// leads to an empty page.
	EmptyLast bool
	// NumberCursor gives cursors as numbers rather than as text.
	NumberCursor bool
	// SilentLimit leaves Retry-After out of answers 429.
	SilentLimit bool
}

// NewKnowBe4 returns a simulated KnowBe4 tenant for one [Server].
func NewKnowBe4() *KnowBe4 { return &KnowBe4{} }

// Name returns "knowbe4".
func (k *KnowBe4) Name() string { return "knowbe4" }

// Env returns the KNOWBE4_ settings.
func (k *KnowBe4) Env(url string) []string {
	return []string{"KNOWBE4_ENDPOINT=" + url + "/v1/training/enrollments", "KNOWBE4_TOKEN=" + KnowBe4Token}
}

// Configure changes how the API behaves.
func (k *KnowBe4) Configure(change func(*KnowBe4Behaviour)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.how)
}

func (k *KnowBe4) behaviour() KnowBe4Behaviour {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.how
}

// Limits returns the limits "knowbe4-second" for bursts, "knowbe4-minute" for
// what is sustained, and "knowbe4-day", which depends on the licence and is
// off unless its figure is set.
func (k *KnowBe4) Limits() []Limit {
	reject := func(w http.ResponseWriter, _ *http.Request, q Quota) {
		if !k.behaviour().SilentLimit {
			w.Header().Set("Retry-After", q.ResetSeconds())
		}
		knowBe4Error(w, http.StatusTooManyRequests, "Too many requests")
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
	mux.HandleFunc("GET /v1/training/enrollments", k.guard(k.enrollments))
	mux.HandleFunc("/", k.guard(func(w http.ResponseWriter, r *http.Request) {
		knowBe4Error(w, http.StatusNotFound, "Not found")
	}))
	return mux
}

// guard checks the token before a handler.
func (k *KnowBe4) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer "+KnowBe4Token:
			knowBe4Error(w, http.StatusUnauthorized, "Unauthorized")
		case k.behaviour().Forbidden:
			knowBe4Error(w, http.StatusForbidden, "Forbidden")
		default:
			next(w, r)
		}
	}
}

// enrollments answers a page in the form that was asked for.
func (k *KnowBe4) enrollments(w http.ResponseWriter, r *http.Request) {
	q, how := r.URL.Query(), k.behaviour()
	size := k.host.PageLimit(KnowBe4Enrollments, knowBe4Page)
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && n > 0 {
		size = min(size, n)
	} else {
		size = min(size, 100)
	}
	switch {
	case q.Has("cursor") && how.Older && how.RefuseCursor:
		knowBe4Error(w, http.StatusBadRequest, "cursor is not a parameter")
	case q.Has("cursor") && !how.Older:
		k.cursorPage(w, q, size, how)
	default:
		page := 1
		if q.Has("page") {
			var err error
			if page, err = strconv.Atoi(q.Get("page")); err != nil || page < 1 {
				knowBe4Error(w, http.StatusBadRequest, "page is invalid")
				return
			}
		}
		records, _ := k.scan(q, (page-1)*size, size)
		k.send(w, "[", records, "]")
	}
}

// cursorPage answers in the newer form.
func (k *KnowBe4) cursorPage(w http.ResponseWriter, q url.Values, size int, how KnowBe4Behaviour) {
	at, err := strconv.Atoi(q.Get("cursor"))
	if err != nil || at < 0 {
		knowBe4Error(w, http.StatusBadRequest, "cursor is invalid")
		return
	}
	records, after := k.scan(q, at, size)
	_, last := k.scan(q, after, 1)
	cursor := "null"
	if last != after || how.EmptyLast && len(records) > 0 {
		cursor = strconv.Itoa(after)
		if !how.NumberCursor {
			cursor = strconv.Quote(cursor)
		}
	}
	k.send(w, `{"data":[`, records, `],"pagination":{"nextCursor":`+cursor+`}}`)
}

// scan returns the records from the given place among those that the filters
// select, and the place after them. Archived users are left out after paging,
// so that they make pages short.
func (k *KnowBe4) scan(q url.Values, from, n int) (records []int, after int) {
	st := k.host.server.stream(KnowBe4Enrollments)
	after = from
	for i, place, count := 0, 0, int(st.count.Load()); i < count && place < from+n; i++ {
		if q.Get("campaign_id") == "" && q.Get("user_id") == "" && i < from {
			i, place = from, from // all records are in place
			if i >= count {
				break
			}
		}
		r := st.rec(i)
		if c := q.Get("campaign_id"); c != "" && c != strconv.Itoa(knowBe4Campaign(r)) {
			continue
		}
		if u := q.Get("user_id"); u != "" && u != strconv.Itoa(knowBe4User(r)) {
			continue
		}
		if place++; place <= from {
			continue
		}
		after = place
		if q.Get("exclude_archived_users") != "true" || !knowBe4Archived(r) {
			records = append(records, i)
		}
	}
	return records, after
}

func (k *KnowBe4) send(w http.ResponseWriter, before string, records []int, after string) {
	w.Header().Set("Content-Type", "application/json")
	_ = k.host.server.WriteRecords(w, before, KnowBe4Enrollments, slices.Values(records), after)
}

// knowBe4Error writes an error in the API's shape.
func knowBe4Error(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"error":`+strconv.Quote(message)+`}`)
}
