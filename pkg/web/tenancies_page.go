package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
)

// maxFoundStreams is how many streams of a search the overview of tenancies shows.
const maxFoundStreams = 500

// unusableState is shown in place of a label for a tenancy whose settings cannot be used.
const unusableState = "unusable"

// tenanciesData is the data of tenancies.html.
type tenanciesData struct {
	baseData
	Summary []labelLink
	// Label and Search are what the streams are filtered by; "" for all.
	Label    freshness.Label // or the state of deliveries
	Search   string
	Filtered bool
	Rows     []tenancyRow
	Count    int // of all tenancies
	Unusable int
	Services *servicesBox
	Found    []foundStream
	More     int // streams that Found does not have
}

// FoundCount returns the number of streams that are searched.
func (t tenanciesData) FoundCount() int { return len(t.Found) + t.More }

// labelLink is the number of streams with a label, and the link to them.
type labelLink struct {
	labelCount
	Query   string
	Current bool
}

// tenancyRow is a tenancy on the overview.
type tenancyRow struct {
	tenancyView
	ID     string // for the element
	NextAt time.Time
	Worst  string // a label, the state of deliveries, or unusableState
	Labels []labelCount
	Age    string
	Next   string
	rank   int
	states map[freshness.Label]int // the numbers of streams
}

// addStates counts the label of a stream and the state of its deliveries.
func (t *tenancyRow) addStates(s freshness.Stream) {
	t.states[s.Freshness]++
	if state := deliveryState(s); state != "" {
		t.states[state]++
	}
}

// foundStream is a stream on the overview of tenancies.
type foundStream struct {
	freshness.Stream
	Delivery freshness.Label // the state of its deliveries
	ID       string
	Path     string // of its page
	Home     string // of its tenancy
	Age      string
	Next     string
	Err      string
}

func (t *Tenancies) serveOverview(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	data := tenanciesData{
		baseData: t.newBaseData(r), Label: freshness.Label(query.Get("label")), Search: strings.TrimSpace(query.Get("search")),
	}
	if data.Label != "" && !slices.Contains(stateOrder, data.Label) {
		t.root.render(w, r, http.StatusBadRequest, "missing.html", missingData{
			t.root.newBaseData(r.Context(), "No such label"), "There is no label " + string(data.Label) + ".",
		})
		return
	}
	data.Filtered = data.Label != "" || data.Search != ""
	all, err := t.readStatuses(r.Context())
	if err != nil {
		t.root.writeInternalError(w, r, err)
		return
	}
	for _, s := range all {
		data.addTenancy(s, t.pathOf(s.Name))
	}
	data.finish()
	data.Services = t.root.newServicesBox(r.Context(), visitorOf(r.Context()).seesTenancy, true)
	t.root.render(w, r, http.StatusOK, "tenancies.html", data)
}

func (t *Tenancies) newBaseData(r *http.Request) baseData {
	d := t.root.newBaseData(r.Context(), "collectord")
	d.Token, d.AsksToken = false, false // nothing on the page needs one
	_, reload := t.LastReload()
	alive := t.hideFrom(r, t.Alive())
	d.setReadiness(r.Context(), t.hideFrom(r, t.Ready()), t.Cluster)
	switch {
	case alive != nil:
		d.Alarm = "The scheduler has stopped: " + alive.Error()
	case d.Alarm != "":
	case reload != nil && visitorOf(r.Context()).seesAll():
		d.Alarm = "The last reload of the settings: " + reload.Error()
	}
	return d
}

// addTenancy adds a tenancy, and those of its streams that are searched.
func (t *tenanciesData) addTenancy(s tenancyStatus, path string) {
	t.Count++
	row := tenancyRow{tenancyView: newTenancyView(s, path), ID: url.PathEscape(s.Name), Worst: string(worstState(s.streams)), states: map[freshness.Label]int{}}
	row.rank = 1 + slices.Index(stateOrder, freshness.Label(row.Worst))
	if !row.Usable {
		row.Worst, row.rank = unusableState, 0
		t.Unusable++
	}
	row.NextAt = row.tenancyView.Next
	row.Age, row.Next = formatAge(t.Now, row.Oldest), formatNext(t.Now, row.NextAt)
	for _, one := range s.streams {
		row.addStates(one)
	}
	for _, state := range stateOrder {
		if n := row.states[state]; n > 0 {
			row.Labels = append(row.Labels, labelCount{state, n})
			t.count(state, n)
		}
	}
	found := 0
	for _, one := range s.streams {
		if !t.matches(one) {
			continue
		}
		if found++; t.Filtered {
			t.find(one, path)
		}
	}
	isNamed := t.Label == "" && containsFold(s.Name, t.Search)
	if !t.Filtered || found > 0 || isNamed {
		t.Rows = append(t.Rows, row)
	}
}

// count adds to the number of streams with a label.
func (t *tenanciesData) count(label freshness.Label, n int) {
	for i := range t.Summary {
		if t.Summary[i].State == label {
			t.Summary[i].Count += n
			return
		}
	}
	t.Summary = append(t.Summary, labelLink{labelCount{label, n}, "?" + url.Values{"label": {string(label)}}.Encode(), label == t.Label})
}

// matches reports whether a stream is one that is searched.
func (t *tenanciesData) matches(s freshness.Stream) bool {
	hasLabel := t.Label == "" || hasState(s, t.Label)
	return hasLabel && (containsFold(s.Tenancy, t.Search) || containsFold(s.Stream, t.Search) || containsFold(s.Collector, t.Search))
}

func containsFold(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// find adds a stream that is searched.
func (t *tenanciesData) find(s freshness.Stream, path string) {
	if len(t.Found) == maxFoundStreams {
		t.More++
		return
	}
	one := foundStream{
		Stream: s, Delivery: deliveryState(s), ID: url.PathEscape(s.Tenancy) + "/" + url.PathEscape(s.Stream), Path: path + "/streams/" + url.PathEscape(s.Stream), Home: path + "/",
		Age: formatAge(t.Now, s.DataTime()), Next: formatNext(t.Now, s.Plan.Next),
	}
	if s.LastFailure.After(s.LastSuccess) && s.WhyOff == "" {
		one.Err = strings.TrimSpace(s.FailureErr)
	}
	t.Found = append(t.Found, one)
}

// formatNext returns when something runs next; the zero time is never.
func formatNext(now, next time.Time) string {
	if !next.IsZero() && !next.After(now) {
		return "now"
	}
	return formatAge(now, next)
}

// finish orders what was added: the worst first.
func (t *tenanciesData) finish() {
	slices.SortFunc(t.Summary, func(a, b labelLink) int {
		return slices.Index(stateOrder, a.State) - slices.Index(stateOrder, b.State)
	})
	slices.SortStableFunc(t.Rows, compareTenancies)
	slices.SortStableFunc(t.Found, func(a, b foundStream) int {
		return slices.Index(stateOrder, worstState([]freshness.Stream{a.Stream})) - slices.Index(stateOrder, worstState([]freshness.Stream{b.Stream}))
	})
}

// problemStates are the states of which a tenancy with more streams comes first.
var problemStates = []freshness.Label{freshness.Late, freshness.Never, freshness.Failing, refusedState, retryingState}

// compareTenancies compares by the worst state, whether there is an error, the numbers of
// streams with problems, and the name.
func compareTenancies(a, b tenancyRow) int {
	order := cmp.Or(cmp.Compare(a.rank, b.rank), hasError(b)-hasError(a))
	for _, state := range problemStates {
		order = cmp.Or(order, cmp.Compare(b.states[state], a.states[state]))
	}
	return cmp.Or(order, cmp.Compare(a.Tenancy, b.Tenancy))
}

func hasError(r tenancyRow) int {
	if r.Error != "" {
		return 1
	}
	return 0
}
