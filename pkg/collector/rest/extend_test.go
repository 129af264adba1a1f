package rest

import "testing"

func TestExtensionKeepsTheRecordsOwnBytes(t *testing.T) {
	x := &Extension{
		Copies: []Copy{{"lastLogin", "last_login"}, {"statusChanged", "status_changed"}},
		Values: []Value{{"_org_id", []byte(`"o"`)}},
		Inside: map[string]*Extension{"profile": {Copies: []Copy{{"firstName", "first_name"}}}},
	}
	for name, tc := range map[string]struct{ in, want string }{
		"all there": {
			`{"lastLogin":"x","statusChanged":1.0,"profile":{"firstName":"\u00e9"}}`,
			`{"lastLogin":"x","statusChanged":1.0,"profile":{"firstName":"\u00e9","first_name":"\u00e9"},"last_login":"x","status_changed":1.0,"_org_id":"o"}`,
		},
		"absent": {
			`{"id":1e-7}`,
			`{"id":1e-7,"last_login":null,"status_changed":null,"_org_id":"o"}`,
		},
		"taken": {
			`{"last_login":7,"lastLogin":8,"_org_id":null,"profile":{"first_name":[],"firstName":"a"}}`,
			`{"last_login":7,"lastLogin":8,"_org_id":null,"profile":{"first_name":[],"firstName":"a"},"status_changed":null}`,
		},
		"escaped names": {
			`{"last\u004cogin":"]}","status_changed":"\\"}`,
			`{"last\u004cogin":"]}","status_changed":"\\","last_login":"]}","_org_id":"o"}`,
		},
		"white space": {
			"{ \"lastLogin\" : [ 1 ,\t2 ] ,\n\"profile\" : { } }",
			"{ \"lastLogin\" : [ 1 ,\t2 ] ,\n\"profile\" : { \"first_name\":null} ,\"last_login\":[ 1 ,\t2 ],\"status_changed\":null,\"_org_id\":\"o\"}",
		},
		"empty":                 {`{}`, `{"last_login":null,"status_changed":null,"_org_id":"o"}`},
		"profile of other kind": {`{"profile":null}`, `{"profile":null,"last_login":null,"status_changed":null,"_org_id":"o"}`},
		"twice":                 {`{"lastLogin":1,"lastLogin":2}`, `{"lastLogin":1,"lastLogin":2,"last_login":2,"status_changed":null,"_org_id":"o"}`},
		"deep names":            {`{"a":{"lastLogin":1,"profile":{"firstName":2}}}`, `{"a":{"lastLogin":1,"profile":{"firstName":2}},"last_login":null,"status_changed":null,"_org_id":"o"}`},
		"no object":             {`[1]`, `[1]`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := x.Append([]byte("before "), []byte(tc.in))
			if err != nil || string(got) != "before "+tc.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, "before "+tc.want)
			}
		})
	}
	if _, err := x.Append(nil, []byte(`{"a":`)); err == nil {
		t.Error("an incomplete record was accepted")
	}
}
