package vendorsim

import "time"

// oktaStatuses contains each status in proportion to its frequency.
var oktaStatuses = []string{
	"ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE",
	"DEPROVISIONED", "DEPROVISIONED", "STAGED", "PROVISIONED", "RECOVERY", "LOCKED_OUT", "PASSWORD_EXPIRED", "SUSPENDED",
}

// Specs describes the users.
func (o *Okta) Specs(g Gen) []Spec {
	day := 24 * time.Hour
	at := func(t func(Rec) time.Time) Slot {
		return func(dst []byte, r Rec) []byte { return AppendUnix(dst, t(r).Unix(), ".000Z") }
	}
	created := func(r Rec) time.Time { return g.Base.Add(-day * time.Duration(400+r.Hash>>16%2000)) }
	return []Spec{{
		Name: OktaUsers, Count: 1000, Bytes: 1700, HugeBytes: 64 << 10, Templates: oktaTemplates, ID: oktaID,
		Slots: map[string]Slot{
			"id": oktaID,
			"n":  func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Index)) },
			"status": func(dst []byte, r Rec) []byte {
				return append(dst, o.userStatus(r)...)
			},
			"created": at(created),
			"changed": at(func(r Rec) time.Time { return created(r).Add(day * 30) }),
			"updated": at(func(r Rec) time.Time { return oktaUpdated(g.Base, r) }),
			"login": func(dst []byte, r Rec) []byte {
				if r.Hash>>32%5 == 0 { // never
					return append(dst, "null"...)
				}
				dst = append(dst, '"')
				return append(AppendUnix(dst, oktaUpdated(g.Base, r).Add(time.Minute).Unix(), ".000Z"), '"')
			},
		},
	}}
}

// oktaUpdated returns when a user was last updated, which is within the last
// 300 days.
func oktaUpdated(base time.Time, r Rec) time.Time {
	return base.Add(-time.Duration(r.Hash>>20%(300*24*3600)) * time.Second).UTC()
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// oktaID appends the id of a user: 20 letters and digits that begin with 00u.
func oktaID(dst []byte, r Rec) []byte {
	dst = append(dst, "00u"...)
	for n, x := 0, r.Hash; n < 17; n++ {
		if n == 9 {
			x = mixBits(r.Hash)
		}
		dst = append(dst, base62[x%62])
		x /= 62
	}
	return dst
}

// oktaTemplates are the templates of a user. The second has custom attributes
// with names that some consumers give to native ones. The third lacks the
// members that the vendor leaves out.
var oktaTemplates = []string{
	`{"id":"<<id>>","status":"<<status>>","created":"<<created>>","activated":"<<created>>","statusChanged":"<<changed>>","lastLogin":<<login>>,` +
		`"lastUpdated":"<<updated>>","passwordChanged":"<<changed>>","type":{"id":"oty1gqj0fYbm3iKqV0h8"},` +
		`"profile":{"firstName":"Zoë","lastName":"Müller <<n>>","mobilePhone":null,"secondEmail":"","login":"user<<n>>@example.test","email":"user<<n>>@example.test",` +
		`"displayName":"Zoë \"<<n>>\" Müller","employeeNumber":"<<n>>","costCenter":"CC-12","department":"R&D","title":null,"organization":"Example",` +
		`"division":"North","userType":"Employee","city":"Zürich","state":"ZH","zipCode":"08001","countryCode":"CH","preferredLanguage":"de","profileUrl":"https:\/\/example.test\/<<n>>",` +
		`"primaryPhone":"+41 00","streetAddress":"]}","nickName":"Z","customAttr":["x","y"],"isContractor":false,"clearance":1.50,"badge":9007199254740993,"about":"<<text>>"},` +
		`"credentials":{"password":{},"emails":[{"value":"user<<n>>@example.test","status":"VERIFIED","type":"PRIMARY"}],"provider":{"type":"OKTA","name":"OKTA"}},` +
		`"_links":{"self":{"href":"https://example.test/api/v1/users/<<id>>"}}<<edge>>}`,
	`{"id":"<<id>>","status":"<<status>>","transitioningToStatus":null,"created":"<<created>>","activated":null,"statusChanged":"<<changed>>","lastLogin":null,` +
		`"lastUpdated":"<<updated>>","passwordChanged":null,"realmId":"guo1","type":{"id":"oty1gqj0fYbm3iKqV0h8"},` +
		`"profile":{"firstName":"Name","lastName":"<<n>>","login":"other<<n>>@example.test","email":null,"cost_center":"own attribute","first_name":["own"],"costCenter":"CC-13","about":"<<text>>"},` +
		`"credentials":{"provider":{"type":"ACTIVE_DIRECTORY","name":"example.test"}},"_links":{"self":{"href":"https://example.test/api/v1/users/<<id>>"}}<<edge>>}`,
	`{"id":"<<id>>","status":"<<status>>","created":"<<created>>","lastUpdated":"<<updated>>","type":{"id":"oty1gqj0fYbm3iKqV0h9"},` +
		`"profile":{"login":"svc<<n>>","about":"<<text>>"},"_links":{}<<edge>>}`,
}
