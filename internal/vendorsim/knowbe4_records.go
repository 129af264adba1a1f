package vendorsim

import "time"

// Specs describes the enrollments.
func (k *KnowBe4) Specs(g Gen) []Spec {
	at := func(hours uint64) Slot {
		return func(dst []byte, r Rec) []byte {
			return AppendUnix(dst, g.Base.Add(-time.Hour*time.Duration(hours+r.Hash>>16%8000)).Unix(), ".000Z")
		}
	}
	number := func(f func(Rec) int) Slot {
		return func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(f(r))) }
	}
	id := number(func(r Rec) int { return 101 + r.Index })
	return []Spec{{
		Name: KnowBe4Enrollments, Count: 2000, Bytes: 520, HugeBytes: 32 << 10, Templates: knowBe4Templates, ID: id,
		Slots: map[string]Slot{
			"id":       id,
			"user":     number(knowBe4User),
			"campaign": number(knowBe4Campaign),
			"spent":    number(func(r Rec) int { return int(r.Hash >> 30 % 90000) }),
			"enrolled": at(800), "started": at(500), "completed": at(1),
			"archived": func(dst []byte, r Rec) []byte {
				if knowBe4Archived(r) {
					return append(dst, "true"...)
				}
				return append(dst, "false"...)
			},
		},
	}}
}

func knowBe4User(r Rec) int      { return 501 + int(r.Hash>>8%400) }
func knowBe4Campaign(r Rec) int  { return 10 + int(r.Hash>>24%5) }
func knowBe4Archived(r Rec) bool { return r.Hash>>40%7 == 0 }

// knowBe4Templates are the templates of an enrollment: not started, completed,
// and a policy.
var knowBe4Templates = []string{
	`{"enrollment_id":<<id>>,"content_type":"Store Purchase","module_name":"<<text>>","user":{"id":<<user>>,"first_name":"Zoë","last_name":"O\u2019Neil","email":"user<<user>>@example.test","archived":<<archived>>},` +
		`"campaign_name":"Campaign <<campaign>> \"]}\"","enrollment_date":"<<enrolled>>","start_date":null,"completion_date":null,"status":"Not Started","time_spent":0,"policy_acknowledged":false<<edge>>}`,
	`{"enrollment_id":<<id>>,"content_type":"Store Purchase","module_name":"<<text>>","user":{"id":<<user>>,"first_name":"","last_name":null,"email":"user<<user>>@example.test","archived":<<archived>>},` +
		`"campaign_name":"Campaign <<campaign>>","enrollment_date":"<<enrolled>>","start_date":"<<started>>","completion_date":"<<completed>>","status":"Passed","time_spent":<<spent>>,"score":1.0,"policy_acknowledged":false<<edge>>}`,
	`{"enrollment_id":<<id>>,"content_type":"Uploaded Policy","module_name":"<<text>>","user":{"id":<<user>>,"first_name":"名","last_name":"字","email":"user<<user>>@example.test","archived":<<archived>>},` +
		`"campaign_name":"Campaign <<campaign>>","enrollment_date":"<<enrolled>>","start_date":"<<started>>","completion_date":null,"status":"In Progress","time_spent":<<spent>>,"policy_acknowledged":true<<edge>>}`,
}
