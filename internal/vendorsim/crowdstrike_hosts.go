package vendorsim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// crowdstrikeCursor is the content of an opaque cursor.
type crowdstrikeCursor struct {
	Issued int64 // Unix milliseconds
	Key    string
	Next   int   // the position after the page; in Spotlight the index of its last record
	Update int64 `json:",omitempty"` // when that record was updated; Unix seconds
}

func (c crowdstrikeCursor) String() string { return base64.StdEncoding.EncodeToString(mustMarshal(c)) }

// parseCursor returns the position in a cursor. It fails for a
// cursor of another listing, and with errCursorExpired for one that is too old.
func (c *CrowdStrike) parseCursor(text, key string) (int, error) {
	if text == "" {
		return 0, nil
	}
	f, err := c.decodeCursor(text, key)
	return f.Next, err
}

// decodeCursor returns the content of a cursor, with the errors of parseCursor.
func (c *CrowdStrike) decodeCursor(text, key string) (crowdstrikeCursor, error) {
	var f crowdstrikeCursor
	raw, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil || f.Key != key {
		return f, errors.New("invalid offset")
	}
	if age := c.host.Now().Sub(time.UnixMilli(f.Issued)); age > c.effectiveConfig().CursorLife {
		return f, errCursorExpired
	}
	return f, nil
}

var errCursorExpired = errors.New("the cursor has expired")

func (c *CrowdStrike) newCursor(key string, at int) string {
	return crowdstrikeCursor{Issued: c.host.Now().UnixMilli(), Key: key, Next: at}.String()
}

// mustMarshal returns v as JSON. It panics if v cannot be marshaled.
func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// selectHosts returns the indices of the hosts that match a filter.
func (c *CrowdStrike) selectHosts(filter string) ([]int32, error) {
	n := c.host.Server().RecordCount(CrowdStrikeHosts)
	var e *fqlExpr
	if filter != "" {
		var err error
		if e, err = parseFQL(filter, func(f string) bool { return slices.Contains(hostFilterFields, f) }); err != nil {
			return nil, err
		}
	}
	key := fmt.Sprint("hosts ", n, " ", filter)
	return c.selectIndices(key, n, func(i int) bool {
		return e == nil || e.evaluate(func(field string) string { return c.model.hostField(i, field) })
	}), nil
}

// selectIndices returns the indices below n for which wanted returns true.
// Results are cached by key.
func (c *CrowdStrike) selectIndices(key string, n int, wanted func(i int) bool) []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, ok := c.selections[key]
	if !ok {
		for i := range n {
			if wanted(i) {
				list = append(list, int32(i))
			}
		}
		c.selections[key] = list
	}
	return list
}

// sliceIndices yields list[from:to].
func sliceIndices(list []int32, from, to int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, i := range list[from:to] {
			if !yield(int(i)) {
				return
			}
		}
	}
}

// serveCombinedHosts serves GET /devices/combined/devices/v1.
func (c *CrowdStrike) serveCombinedHosts(w http.ResponseWriter, r *http.Request) {
	s, q := c.effectiveConfig(), r.URL.Query()
	if s.NoCombined {
		writeCrowdStrikeError(w, http.StatusNotFound, "404: Page Not Found")
		return
	}
	limit, err := parseCrowdStrikeLimit(r, 10000)
	if err != nil {
		writeCrowdStrikeError(w, http.StatusBadRequest, err.Error())
		return
	}
	list, err := c.selectHosts(q.Get("filter"))
	if err != nil {
		writeCrowdStrikeError(w, http.StatusBadRequest, err.Error())
		return
	}
	at, err := c.parseCursor(q.Get("offset"), "hosts "+q.Get("filter"))
	if err != nil || at > len(list) {
		writeCrowdStrikeError(w, http.StatusBadRequest, "invalid or expired offset")
		return
	}
	limit = c.host.PageLimit(CrowdStrikeHosts, limit)
	end := min(at+limit, len(list))
	page := fmt.Sprintf(`"total":%d,"limit":%d,"offset":""`, c.driftedTotal(len(list)+s.HiddenHosts), limit)
	if end < len(list) || s.EmptyLast && at < end {
		if s.NumericOffset {
			page = fmt.Sprintf(`"total":%d,"limit":%d,"offset":%d`, len(list), limit, end)
		} else {
			page += `,"next":"` + c.newCursor("hosts "+q.Get("filter"), end) + `"`
		}
	}
	before := crowdstrikeEnvelope("device-api", page)
	if fields := q.Get("fields"); fields != "" {
		c.writeHostFields(w, before, list[at:end], strings.Split(fields, ","))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = c.host.Server().WriteRecords(w, before, CrowdStrikeHosts, sliceIndices(list, at, end), `],"errors":[]}`)
}

// writeHostFields writes hosts with only the requested members.
func (c *CrowdStrike) writeHostFields(w http.ResponseWriter, before string, list []int32, fields []string) {
	w.Header().Set("Content-Type", "application/json")
	buf := []byte(before)
	for k, i := range list {
		if k > 0 {
			buf = append(buf, ',')
		}
		if len(fields) == 1 && fields[0] == "device_id" {
			buf = append(c.model.appendAID(append(buf, `{"device_id":"`...), int(i)), `"}`...)
			continue
		}
		buf = append(buf, filterMembers(c.host.Server().Record(CrowdStrikeHosts, int(i)),
			func(name string) bool { return slices.Contains(fields, name) })...)
	}
	_, _ = w.Write(append(buf, `],"errors":[]}`...))
}

// filterMembers returns an object with only the members for which wanted
// returns true, sorted by name.
func filterMembers(object []byte, wanted func(name string) bool) []byte {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		panic(err) // records are objects
	}
	for name := range members {
		if !wanted(name) {
			delete(members, name)
		}
	}
	return mustMarshal(members)
}

// serveHostIDs serves GET /devices/queries/devices/v1, which returns no more
// than the first 10,000 hosts.
func (c *CrowdStrike) serveHostIDs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := parseCrowdStrikeLimit(r, 5000)
	at, _ := strconv.Atoi(q.Get("offset"))
	if err == nil && at+limit > 10000 {
		err = errors.New("limit + offset must be less than 10000")
	}
	var list []int32
	if err == nil {
		list, err = c.selectHosts(q.Get("filter"))
	}
	if err != nil {
		writeCrowdStrikeError(w, http.StatusBadRequest, err.Error())
		return
	}
	at = min(max(at, 0), len(list))
	end := min(at+limit, len(list))
	c.writeHostIDs(w, fmt.Sprintf(`"offset":%d,"limit":%d,"total":%d`, at, limit, len(list)), list[at:end])
}

func (c *CrowdStrike) writeHostIDs(w http.ResponseWriter, page string, list []int32) {
	w.Header().Set("Content-Type", "application/json")
	buf := []byte(crowdstrikeEnvelope("device-api", page))
	for k, i := range list {
		if k > 0 {
			buf = append(buf, ',')
		}
		buf = append(c.model.appendAID(append(buf, '"'), int(i)), '"')
	}
	_, _ = w.Write(append(buf, `],"errors":[]}`...))
}

// crowdstrikeScroll is a listing whose position the server stores.
type crowdstrikeScroll struct {
	list []int32
	at   int
	used time.Time
}

// serveHostScroll serves GET /devices/queries/devices-scroll/v1. The token
// stays the same for the whole listing, and each call advances the position
// even if its response is lost.
func (c *CrowdStrike) serveHostScroll(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := parseCrowdStrikeLimit(r, 10000)
	var list []int32
	if err == nil {
		list, err = c.selectHosts(q.Get("filter"))
	}
	if err != nil {
		writeCrowdStrikeError(w, http.StatusBadRequest, err.Error())
		return
	}
	limit = c.host.PageLimit(CrowdStrikeHosts, limit)
	config := c.effectiveConfig()
	now, life := c.host.Now(), config.CursorLife
	token := q.Get("offset")
	if token == "" {
		token = base64.StdEncoding.EncodeToString([]byte(c.host.Gen().UUID("falcon scroll", int(c.host.Unique()))))
		c.mu.Lock()
		c.scrolls[token] = &crowdstrikeScroll{list: list, used: now}
		c.mu.Unlock()
	}
	c.mu.Lock()
	s := c.scrolls[token]
	if s == nil || now.Sub(s.used) > life {
		delete(c.scrolls, token)
		c.mu.Unlock()
		writeCrowdStrikeError(w, http.StatusNotFound, "scroll context expired")
		return
	}
	at := s.at
	s.at, s.used = min(at+limit, len(s.list)), now
	ids := s.list[at:s.at]
	if len(ids) == 0 {
		delete(c.scrolls, token)
	}
	c.mu.Unlock()
	if len(ids) == 0 {
		c.writeHostIDs(w, `"total":0,"offset":"","expires_at":0`, nil)
		return
	}
	c.writeHostIDs(w, fmt.Sprintf(`"total":%d,"offset":%q,"expires_at":%d`, len(s.list)+config.HiddenHosts, token, now.Add(life).UnixNano()), ids)
}

// serveHostEntities serves POST /devices/entities/devices/v2.
func (c *CrowdStrike) serveHostEntities(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20+1))
	if err != nil {
		return // the client has disconnected
	}
	if len(body) > 1<<20 {
		writeCrowdStrikeError(w, http.StatusRequestEntityTooLarge, "request body too large")
		return
	}
	var want struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(body, &want); err != nil || len(want.IDs) == 0 || len(want.IDs) > 5000 {
		writeCrowdStrikeError(w, http.StatusBadRequest, "ids must hold between 1 and 5000 ids")
		return
	}
	n, gone := c.host.Server().RecordCount(CrowdStrikeHosts), c.effectiveConfig().Gone
	var list []int32
	for _, id := range want.IDs {
		if i, ok := c.model.hostIndex(id, n); ok && !gone[i] {
			list = append(list, int32(i))
		}
	}
	// The order differs from that of the request and of the listing.
	slices.SortFunc(list, func(a, b int32) int {
		return strings.Compare(strconv.Itoa(int(b)), strconv.Itoa(int(a)))
	})
	w.Header().Set("Content-Type", "application/json")
	_ = c.host.Server().WriteRecords(w, crowdstrikeEnvelope("device-api", ""), CrowdStrikeHosts,
		sliceIndices(list, 0, len(list)), `],"errors":null}`)
}
