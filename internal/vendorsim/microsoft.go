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

// Credentials of the application that [AzureEntra], [Intune] and [MDE] accept.
const (
	MicrosoftTenant   = "7e0a0000-5e1f-4000-8000-00000000d1ec"
	MicrosoftClientID = "a9910000-5e1f-4000-8000-00000000c11e"
	MicrosoftSecret   = "sim~microsoft.client~secret"
)

// MicrosoftBehaviour configures what differs between tenants.
type MicrosoftBehaviour struct {
	// Forbidden are the streams whose permission the application lacks.
	Forbidden map[string]bool
	// NoPremium means a tenant without a license for Entra ID P1: sign-ins, the
	// registration of authentication methods, and the member signInActivity of users
	// are refused.
	NoPremium bool
	// EmptyBetween puts an empty page between any two pages with records.
	EmptyBetween bool
	// OldEvents makes every nth sign-in and audit event older than a hundred days.
	OldEvents int
	// TokenLife is the lifetime of tokens. The default is an hour.
	TokenLife time.Duration
}

// microsoftAPI is what the simulated APIs of Microsoft have in common: tokens of
// Entra ID, collections in OData, and errors.
type microsoftAPI struct {
	host *Host
	// scope returns the scope that a token for the API needs.
	scope func() string
	// linkHost is the scheme and host of links to next pages; "" for those of the
	// API.
	linkHost string

	mu     sync.Mutex
	config MicrosoftBehaviour
	tokens *microsoftTokens
}

// microsoftTokens are the tokens that Entra ID has issued, by their text.
type microsoftTokens struct {
	mu     sync.Mutex
	issued map[string]microsoftToken
}

func newMicrosoftAPI() microsoftAPI {
	return microsoftAPI{tokens: &microsoftTokens{issued: map[string]microsoftToken{}}}
}

// microsoftToken is a token that was issued.
type microsoftToken struct {
	secret, scope string // that it was issued for
	expires       time.Time
}

// ChangeBehaviour changes how the API behaves.
func (m *microsoftAPI) ChangeBehaviour(change func(*MicrosoftBehaviour)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.config)
}

// Revoke invalidates all tokens that were issued so far.
func (m *microsoftAPI) Revoke() {
	m.tokens.mu.Lock()
	defer m.tokens.mu.Unlock()
	clear(m.tokens.issued)
}

func (m *microsoftAPI) tenantBehaviour() MicrosoftBehaviour {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.config
}

// isForbidden reports whether the application lacks the permission of a stream.
func (m *microsoftAPI) isForbidden(stream string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.config.Forbidden[stream]
}

// newAPIMux returns a mux with the token endpoint and a response to all paths that
// do not exist.
func (m *microsoftAPI) newAPIMux(h *Host) *http.ServeMux {
	m.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", m.serveToken)
	mux.HandleFunc("/", m.requireToken(func(w http.ResponseWriter, r *http.Request) {
		writeODataError(w, http.StatusNotFound, "ResourceNotFound", "Resource not found for the segment '"+r.URL.Path+"'.")
	}))
	return mux
}

// serveToken issues a token for client credentials in a form.
func (m *microsoftAPI) serveToken(w http.ResponseWriter, r *http.Request) {
	form, ok := parseTokenForm(r)
	refuse := func(code int, name, description string) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"error":%q,"error_description":%q,"error_codes":[0],"timestamp":%q}`, name, description, m.host.Now().UTC().Format(time.DateTime+"Z"))
	}
	switch {
	case !ok || form.Get("grant_type") != "client_credentials":
		refuse(http.StatusBadRequest, "invalid_request", "AADSTS900144: The request body must contain the following parameter: 'grant_type'.")
		return
	case r.PathValue("tenant") != MicrosoftTenant:
		refuse(http.StatusBadRequest, "invalid_request", "AADSTS90002: Tenant '"+r.PathValue("tenant")+"' not found.")
		return
	case form.Get("client_id") != MicrosoftClientID:
		refuse(http.StatusBadRequest, "unauthorized_client", "AADSTS700016: Application with identifier '"+form.Get("client_id")+"' was not found in the directory.")
		return
	case !m.host.acceptsKey(form.Get("client_secret"), MicrosoftSecret):
		refuse(http.StatusUnauthorized, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
		return
	case !strings.HasSuffix(form.Get("scope"), "/.default"):
		refuse(http.StatusBadRequest, "invalid_scope", "AADSTS1002012: The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.")
		return
	}
	life := m.tenantBehaviour().TokenLife
	if life == 0 {
		life = time.Hour
	}
	n := m.host.Unique()
	text := fmt.Sprintf("eyJ0eXAi%x.sim.%d", m.host.Gen().Hash("microsoft token", int(n)), n)
	m.tokens.mu.Lock()
	m.tokens.issued[text] = microsoftToken{secret: form.Get("client_secret"), scope: form.Get("scope"), expires: m.host.Now().Add(life)}
	m.tokens.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":%d,"ext_expires_in":%d,"access_token":%q}`, int(life/time.Second), int(life/time.Second), text)
}

// requireToken checks the token of a request before next handles it.
func (m *microsoftAPI) requireToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		m.tokens.mu.Lock()
		t, known := m.tokens.issued[text]
		m.tokens.mu.Unlock()
		switch {
		case !known || !m.host.acceptsKey(t.secret, MicrosoftSecret):
			writeODataError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token validation failure. Invalid token.")
		case t.scope != m.scope():
			writeODataError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience.")
		case !m.host.Now().Before(t.expires):
			writeODataError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")
		default:
			next(w, r)
		}
	}
}

// odataList is a collection that is paged with @odata.nextLink.
type odataList struct {
	stream string
	// pageSize is the page size, and the largest one.
	pageSize int
	// topParam is the parameter that reduces the page size; "" for none.
	topParam string
	// premium means that the tenant needs a license for Entra ID P1.
	premium bool
	// reduce returns a record with the requested members only, and whether records
	// are reduced; nil if they always have all members.
	reduce func(q url.Values) (func(record []byte, i int) []byte, bool)
	// selects returns which records a request selects, or an error; nil for all.
	selects func(q url.Values) (func(Rec) bool, error)
}

// serveList returns the handler of a collection.
func (m *microsoftAPI) serveList(list odataList) http.HandlerFunc {
	return m.requireToken(func(w http.ResponseWriter, r *http.Request) {
		q, config := r.URL.Query(), m.tenantBehaviour()
		size := list.pageSize
		if hasSelected(q, SignInActivity) {
			size = 500
		}
		isSelected := func(Rec) bool { return true }
		var err error
		if list.selects != nil {
			isSelected, err = list.selects(q)
		}
		position, skipTokenErr := parseSkipToken(q.Get("$skiptoken"))
		switch {
		case config.Forbidden[list.stream]:
			writeODataError(w, http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
			return
		case config.NoPremium && list.premium, config.NoPremium && hasSelected(q, SignInActivity):
			writeODataError(w, http.StatusForbidden, "Authentication_RequestFromNonPremiumTenantOrB2CTenant", "Neither tenant is B2C or tenant doesn't have premium license")
			return
		case config.Forbidden[SignInActivity] && hasSelected(q, SignInActivity):
			writeODataError(w, http.StatusForbidden, "Authentication_MSGraphPermissionMissing", "The principal does not have required Microsoft Graph permission(s): AuditLog.Read.All to call this API.")
			return
		case err != nil || skipTokenErr != nil || q.Has("$top") && list.topParam != "$top":
			writeODataError(w, http.StatusBadRequest, "BadRequest", "Invalid query parameter or value.")
			return
		}
		size = m.host.PageLimit(list.stream, size)
		if n, err := strconv.Atoi(q.Get(list.topParam)); err == nil && n > 0 {
			size = min(size, n)
		}
		next := -1 // the position of the record after the page
		var records []int
		if position.empty {
			next = position.from
		} else {
			records, next = m.scanRecords(list.stream, position.from, size, isSelected)
		}
		link := ""
		if next >= 0 {
			link = m.nextLink(r, odataPosition{from: next, empty: config.EmptyBetween && !position.empty})
		}
		w.Header().Set("Content-Type", "application/json;odata.metadata=minimal;odata.streaming=true")
		context := `{"@odata.context":"` + m.host.URL() + `/$metadata#sim"`
		before, after := context+link+`,"value":[`, "]}"
		if m.linkHost != "" { // such an API has the link after the records
			before, after = context+`,"value":[`, "]"+link+"}"
		}
		if list.reduce != nil {
			if reduce, reduced := list.reduce(q); reduced {
				m.writeReduced(w, before, list.stream, records, after, reduce)
				return
			}
		}
		_ = m.host.server.WriteRecords(w, before, list.stream, slices.Values(records), after)
	})
}

// writeReduced writes records of which each is reduced.
func (m *microsoftAPI) writeReduced(w io.Writer, before, stream string, records []int, after string, reduce func([]byte, int) []byte) {
	body := []byte(before)
	for n, i := range records {
		if n > 0 {
			body = append(body, ',')
		}
		body = append(body, reduce(m.host.server.Record(stream, i), i)...)
	}
	_, _ = w.Write(append(body, after...))
}

// scanRecords returns up to n selected records from a position on, and the position
// of the selected record after them; -1 if there is none.
func (m *microsoftAPI) scanRecords(stream string, from, n int, isSelected func(Rec) bool) (records []int, next int) {
	st := m.host.server.mustStream(stream)
	for i := from; i < int(st.count.Load()); i++ {
		if !isSelected(st.recAt(i)) {
			continue
		}
		if len(records) == n {
			return records, i
		}
		records = append(records, i)
	}
	return records, -1
}

// odataPosition is a position in a collection.
type odataPosition struct {
	from  int
	empty bool // an empty page comes first
}

// parseSkipToken parses the opaque position of a link.
func parseSkipToken(text string) (odataPosition, error) {
	if text == "" {
		return odataPosition{}, nil
	}
	number, empty := strings.CutSuffix(strings.TrimPrefix(text, "sim_"), "_e")
	from, err := strconv.Atoi(number)
	return odataPosition{from, empty}, err
}

// nextLink returns the member with the link to the page at a position.
func (m *microsoftAPI) nextLink(r *http.Request, p odataPosition) string {
	q := r.URL.Query()
	q.Del("$skiptoken")
	token := "sim_" + strconv.Itoa(p.from)
	if p.empty {
		token += "_e"
	}
	query := q.Encode()
	if query != "" {
		query += "&"
	}
	base := m.host.URL()
	if m.linkHost != "" {
		base = m.linkHost
	}
	return `,"@odata.nextLink":"` + base + r.URL.Path + "?" + query + `$skiptoken=` + token + `"`
}

// hasSelected reports whether $select names a member.
func hasSelected(q url.Values, member string) bool {
	return slices.Contains(strings.Split(q.Get("$select"), ","), member)
}

// writeODataError writes an error in the format of OData.
func writeODataError(w http.ResponseWriter, code int, name, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"error":{"code":`+strconv.Quote(name)+`,"message":`+strconv.Quote(message)+`,"innerError":{"request-id":"sim"}}}`)
}

// rejectOData responds to a request over a limit, with Retry-After if retryAfter is
// set.
func rejectOData(retryAfter bool) func(http.ResponseWriter, *http.Request, Quota) {
	return func(w http.ResponseWriter, _ *http.Request, q Quota) {
		if retryAfter {
			w.Header().Set("Retry-After", q.ResetSeconds())
		}
		writeODataError(w, http.StatusTooManyRequests, "TooManyRequests", "Too many requests")
	}
}

// belowPath returns a condition for requests to one of the paths or below it.
func belowPath(paths ...string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(r.URL.Path, p) })
	}
}

// odataTimeFilter returns the condition of a filter such as "createdDateTime ge A
// and createdDateTime le B". ageOf returns the age of a record at the end of the
// filter, so that all pages of a listing have the same records.
func (m *microsoftAPI) odataTimeFilter(filter, member string, ageOf func(Rec) time.Duration) (func(Rec) bool, error) {
	now := m.host.Now()
	from, to := time.Time{}, now
	if filter != "" {
		for condition := range strings.SplitSeq(filter, " and ") {
			part := strings.Fields(condition)
			if len(part) != 3 || part[0] != member {
				return nil, fmt.Errorf("filter %q", filter)
			}
			at, err := time.Parse(time.RFC3339, part[2])
			if err != nil {
				return nil, err
			}
			switch part[1] {
			case "ge":
				from = at
			case "le":
				to = at
			default:
				return nil, fmt.Errorf("operator %q", part[1])
			}
		}
	}
	old := m.tenantBehaviour().OldEvents
	return func(r Rec) bool {
		age := ageOf(r)
		if old > 0 && r.Index%old == old-1 {
			age += 100 * 24 * time.Hour
		}
		return !to.Add(-age).Before(from)
	}, nil
}
