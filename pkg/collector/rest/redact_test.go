package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
)

const secret = `pa55/wörd+"=%x`

// leaks tells in which spelling text shows a secret, or a part of it that is
// long enough to matter.
func leaks(text string, secrets ...string) string {
	for _, s := range secrets {
		quoted, _ := json.Marshal(s)
		for _, spelt := range []string{s, url.QueryEscape(s), url.PathEscape(s), strings.Trim(string(quoted), `"`), s[:len(s)/2]} {
			if strings.Contains(text, spelt) {
				return spelt
			}
		}
	}
	return ""
}

// mustHide fails the test when err, however it is printed, shows a secret.
func mustHide(t *testing.T, err error, secrets ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	prints := []string{fmt.Sprintf("%v", err), fmt.Sprintf("%+v", err), fmt.Sprintf("%s", err), fmt.Sprintf("%q", err)}
	for e := err; e != nil; e = errors.Unwrap(e) {
		prints = append(prints, e.Error())
	}
	var status *StatusError
	if errors.As(err, &status) {
		prints = append(prints, status.Error(), string(status.Body))
	}
	for _, text := range prints {
		if shown := leaks(text, secrets...); shown != "" {
			t.Errorf("%q shows %q", text, shown)
		}
	}
}

// echoes are answers that send the credential back.
func echoes() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{}
	quoted, _ := json.Marshal(secret)
	for name, text := range map[string]string{
		"plain": secret, "query": url.QueryEscape(secret), "path": url.PathEscape(secret), "JSON": string(quoted),
		"JSON with escaped slashes": strings.ReplaceAll(string(quoted), "/", `\/`),
	} {
		body := `{"message":"unknown key ` + text + `"}`
		all["400 "+name] = says(400, body)
		all["401 "+name] = says(401, body)
		all["500 "+name] = says(500, body)
		all["200 errors "+name] = says(200, `{"data":[],"errors":["`+strings.Trim(text, `"`)+`"]}`)
		all["200 text "+name] = says(200, "<html>"+text)
		all["200 array "+name] = says(200, `["`+strings.Trim(text, `"`)+`"]`)
		all["200 cut by the excerpt "+name] = says(200, "<html>"+strings.Repeat("x", 80-len("<html>")-len(text)*2/3)+text)
		all["500 cut by the excerpt "+name] = says(500, strings.Repeat("x", 200-len(text)*2/3)+text)
		all["500 cut by the bound "+name] = says(500, strings.Repeat(" ", 2<<10-len(text)*2/3)+text)
		all["reset "+name] = wire("HTTP/1.1 200 "+text, true)
		all["next link "+name] = says(200, `{"data":[],"next":"https://evil.test/?key=`+url.QueryEscape(secret)+`"}`)
		all["broken next link "+name] = says(200, `{"data":[],"next":"http://vendor.test:x/?key=`+url.QueryEscape(secret)+`"}`)
		all["redirect "+name] = says(302, "", "Location", "https://evil.test/?key="+url.QueryEscape(secret))
	}
	return all
}

func TestErrorsShowNoCredential(t *testing.T) {
	auths := map[string]struct {
		auth   Auth
		redact []string
		hidden []string
	}{
		"bearer":      {auth: Bearer(secret)},
		"raw header":  {auth: StaticHeader{Name: "X-Key", Value: secret}},
		"scheme":      {auth: StaticHeader{Name: "Authorization", Value: "SSWS " + secret}},
		"in a pair":   {auth: StaticHeader{Name: "X-ApiKeys", Value: "accessKey=acc355key;secretKey=" + secret}, hidden: []string{"acc355key"}},
		"basic":       {auth: StaticHeader{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+secret))}},
		"named by it": {redact: []string{"", "x", secret}},
	}
	for name, a := range auths {
		for echo, h := range echoes() {
			t.Run(name+"/"+echo, func(t *testing.T) {
				c := loopback(t, h)
				c.Auth, c.Redact, c.Retry.Attempts = a.auth, a.redact, 1
				var out Gathered
				_, err := c.Walk(context.Background(), Listing{
					Request: Request{Path: "/x", Query: url.Values{"key": {secret}}},
					Shape:   Shape{Records: "data", Errors: []string{"errors"}}, Pager: NextURL{Path: "next"},
				}, &out)
				mustHide(t, err, append(a.hidden, secret)...)
				// A refused next link is the request that it leads to.
				if !strings.HasPrefix(err.Error(), "GET /") {
					t.Errorf("lacks the request: %v", err)
				}
			})
		}
	}
}

func TestTokenRequestsShowNoCredential(t *testing.T) {
	const token = "t0k3n-of-the-vendor"
	for echo, h := range echoes() {
		t.Run(echo, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/token", h)
			c := loopback(t, mux)
			c.Retry.Attempts = 1
			tokens := *c
			c.Auth = &ClientCredentials{Client: &tokens, Path: "/token", Form: url.Values{"client_id": {"id"}, "client_secret": {secret}}}
			mustHide(t, get(c, "/x"), secret)
		})
	}
	t.Run("token echoed", func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("/token", says(200, `{"access_token":"`+token+`"}`))
		mux.HandleFunc("/x", says(401, "no good: "+token))
		c := loopback(t, mux)
		tokens := *c
		c.Auth = &ClientCredentials{Client: &tokens, Path: "/token"}
		err := get(c, "/x")
		mustHide(t, err, token)
		mustHold(t, err, "GET /x (2 attempts): 401 Unauthorized: no good: [redacted]")
		if !errors.Is(err, collector.ErrRefused) {
			t.Errorf("the class is lost: %v", err)
		}
	})
}

func TestHiddenErrorsKeepTheirChain(t *testing.T) {
	status := &StatusError{Status: 403}
	err := hide(fmt.Errorf("key %s: %w", secret, status), []string{secret})
	var got *StatusError
	if !errors.As(err, &got) || got != status || !errors.Is(err, collector.ErrForbidden) || err.Error() != "key [redacted]: 403 Forbidden" {
		t.Errorf("%v", err)
	}
	if plain := errors.New("plain"); hide(plain, []string{secret}) != plain || hide(nil, nil) != nil {
		t.Error("an error without a secret is changed")
	}
}

// The library's own errors hold the whole address, query and all.
func TestAddressIsNotShown(t *testing.T) {
	c := clientOf(t, "http://127.0.0.1:1")
	_, err := c.Get(context.Background(), Request{Path: "/x?key=" + url.QueryEscape(secret)})
	mustHide(t, err, secret)
	err = transportError(&url.Error{Op: "Get", URL: "https://x.test/?key=" + secret, Err: errors.New("refused")})
	mustHide(t, err, secret)
}
