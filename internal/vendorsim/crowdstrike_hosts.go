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

// falconCursor is what an opaque token holds.
type falconCursor struct {
	Issued int64 // Unix milliseconds
	Key    string
	Next   int
}

func (f falconCursor) String() string { return base64.StdEncoding.EncodeToString(falconRender(f)) }

// cursor reads a token; errors are those of a token that is not of this
// listing, or too old.
func (c *CrowdStrike) cursor(text, key string) (int, error) {
	if text == "" {
		return 0, nil
	}
	var f falconCursor
	raw, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil || f.Key != key {
		return 0, errors.New("invalid offset")
	}
	if age := c.host.Now().Sub(time.UnixMilli(f.Issued)); age > c.settings().CursorLife {
		return 0, errFalconExpired
	}
	return f.Next, nil
}

var errFalconExpired = errors.New("the cursor has expired")

func (c *CrowdStrike) next(key string, at int) string {
	return falconCursor{c.host.Now().UnixMilli(), key, at}.String()
}

// falconRender renders a value of the package's own making.
func falconRender(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// hostList selects the hosts of a filter.
func (c *CrowdStrike) hostList(filter string) ([]int32, error) {
	n := c.host.Server().Count(CrowdStrikeHosts)
	var e *fqlExpr
	if filter != "" {
		var err error
		if e, err = parseFQL(filter, func(f string) bool { return slices.Contains(hostFields, f) }); err != nil {
			return nil, err
		}
	}
	key := fmt.Sprint("hosts ", n, " ", filter)
	return c.choose(key, n, func(i int) bool {
		return e == nil || e.holds(func(field string) string { return c.model.hostField(i, field) })
	}), nil
}

// choose returns the indices below n that are wanted, made once for each key.
func (c *CrowdStrike) choose(key string, n int, wanted func(i int) bool) []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, ok := c.chosen[key]
	if !ok {
		for i := range n {
			if wanted(i) {
				list = append(list, int32(i))
			}
		}
		c.chosen[key] = list
	}
	return list
}

// falconPart yields a part of a list.
func falconPart(list []int32, from, to int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, i := range list[from:to] {
			if !yield(int(i)) {
				return
			}
		}
	}
}

// combinedHosts is GET /devices/combined/devices/v1.
func (c *CrowdStrike) combinedHosts(w http.ResponseWriter, r *http.Request) {
	s, q := c.settings(), r.URL.Query()
	if s.NoCombined {
		falconError(w, http.StatusNotFound, "404: Page Not Found")
		return
	}
	limit, err := falconLimit(r, 10000)
	if err != nil {
		falconError(w, http.StatusBadRequest, err.Error())
		return
	}
	list, err := c.hostList(q.Get("filter"))
	if err != nil {
		falconError(w, http.StatusBadRequest, err.Error())
		return
	}
	at, err := c.cursor(q.Get("offset"), "hosts "+q.Get("filter"))
	if err != nil || at > len(list) {
		falconError(w, http.StatusBadRequest, "invalid or expired offset")
		return
	}
	limit = c.host.PageLimit(CrowdStrikeHosts, limit)
	end := min(at+limit, len(list))
	page := fmt.Sprintf(`"total":%d,"limit":%d,"offset":""`, c.drifted(len(list)), limit)
	if end < len(list) || s.EmptyLast && at < end {
		if s.NumericOffset {
			page = fmt.Sprintf(`"total":%d,"limit":%d,"offset":%d`, len(list), limit, end)
		} else {
			page += `,"next":"` + c.next("hosts "+q.Get("filter"), end) + `"`
		}
	}
	before := falconMeta("device-api", page)
	if fields := q.Get("fields"); fields != "" {
		c.hostFields(w, before, list[at:end], strings.Split(fields, ","))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = c.host.Server().WriteRecords(w, before, CrowdStrikeHosts, falconPart(list, at, end), `],"errors":[]}`)
}

// hostFields writes hosts with the wanted members only.
func (c *CrowdStrike) hostFields(w http.ResponseWriter, before string, list []int32, fields []string) {
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
		buf = append(buf, falconKeep(c.host.Server().Record(CrowdStrikeHosts, int(i)), func(name string) bool { return slices.Contains(fields, name) })...)
	}
	_, _ = w.Write(append(buf, `],"errors":[]}`...))
}

// falconKeep returns an object with those of its members that are wanted, in
// alphabetical order.
func falconKeep(object []byte, wanted func(name string) bool) []byte {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		panic(err) // records are objects
	}
	for name := range members {
		if !wanted(name) {
			delete(members, name)
		}
	}
	return falconRender(members)
}

// queryHosts is GET /devices/queries/devices/v1, with its ceiling.
func (c *CrowdStrike) queryHosts(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := falconLimit(r, 5000)
	at, _ := strconv.Atoi(q.Get("offset"))
	if err == nil && at+limit > 10000 {
		err = errors.New("limit + offset must be less than 10000")
	}
	var list []int32
	if err == nil {
		list, err = c.hostList(q.Get("filter"))
	}
	if err != nil {
		falconError(w, http.StatusBadRequest, err.Error())
		return
	}
	at = min(max(at, 0), len(list))
	end := min(at+limit, len(list))
	c.writeIDs(w, fmt.Sprintf(`"offset":%d,"limit":%d,"total":%d`, at, limit, len(list)), list[at:end])
}

func (c *CrowdStrike) writeIDs(w http.ResponseWriter, page string, list []int32) {
	w.Header().Set("Content-Type", "application/json")
	buf := []byte(falconMeta("device-api", page))
	for k, i := range list {
		if k > 0 {
			buf = append(buf, ',')
		}
		buf = append(c.model.appendAID(append(buf, '"'), int(i)), '"')
	}
	_, _ = w.Write(append(buf, `],"errors":[]}`...))
}

// falconScroll is a listing whose place the server keeps.
type falconScroll struct {
	list []int32
	at   int
	used time.Time
}

// scrollHosts is GET /devices/queries/devices-scroll/v1: the same token all
// the way, and each call moves on, whether its answer arrives or not.
func (c *CrowdStrike) scrollHosts(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := falconLimit(r, 10000)
	var list []int32
	if err == nil {
		list, err = c.hostList(q.Get("filter"))
	}
	if err != nil {
		falconError(w, http.StatusBadRequest, err.Error())
		return
	}
	limit = c.host.PageLimit(CrowdStrikeHosts, limit)
	now, life := c.host.Now(), c.settings().CursorLife
	token := q.Get("offset")
	if token == "" {
		token = base64.StdEncoding.EncodeToString([]byte(c.host.Gen().UUID("falcon scroll", int(c.host.Unique()))))
		c.mu.Lock()
		c.scrolls[token] = &falconScroll{list: list, used: now}
		c.mu.Unlock()
	}
	c.mu.Lock()
	s := c.scrolls[token]
	if s == nil || now.Sub(s.used) > life {
		delete(c.scrolls, token)
		c.mu.Unlock()
		falconError(w, http.StatusNotFound, "scroll context expired")
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
		c.writeIDs(w, `"total":0,"offset":"","expires_at":0`, nil)
		return
	}
	c.writeIDs(w, fmt.Sprintf(`"total":%d,"offset":%q,"expires_at":%d`, len(s.list), token, now.Add(life).UnixNano()), ids)
}

// hostEntities is POST /devices/entities/devices/v2.
func (c *CrowdStrike) hostEntities(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20+1))
	if err != nil {
		return // the client has gone
	}
	if len(body) > 1<<20 {
		falconError(w, http.StatusRequestEntityTooLarge, "request body too large")
		return
	}
	var want struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(body, &want); err != nil || len(want.IDs) == 0 || len(want.IDs) > 5000 {
		falconError(w, http.StatusBadRequest, "ids must hold between 1 and 5000 ids")
		return
	}
	n, gone := c.host.Server().Count(CrowdStrikeHosts), c.settings().Gone
	var list []int32
	for _, id := range want.IDs {
		if i, ok := c.model.hostIndex(id, n); ok && !gone[i] {
			list = append(list, int32(i))
		}
	}
	// The order is nobody's.
	slices.SortFunc(list, func(a, b int32) int {
		return strings.Compare(strconv.Itoa(int(b)), strconv.Itoa(int(a)))
	})
	w.Header().Set("Content-Type", "application/json")
	_ = c.host.Server().WriteRecords(w, falconMeta("device-api", ""), CrowdStrikeHosts, falconPart(list, 0, len(list)), `],"errors":null}`)
}
