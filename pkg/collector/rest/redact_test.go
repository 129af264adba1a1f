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

	"github.com/collectord/collectord/internal/redact"
	"github.com/collectord/collectord/pkg/collector"
)

const secret = `pa55/wörd+"=%x`

// findSecret returns the spelling in which text contains a secret, or the first
// half of one; "" if it contains none.
func findSecret(text string, secrets ...string) string {
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

// assertHidden fails the test if err shows a secret in any form of printing.
func assertHidden(t *testing.T, err error, secrets ...string) {
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
		if shown := findSecret(text, secrets...); shown != "" {
			t.Errorf("%q shows %q", text, shown)
		}
	}
}

// echoingResponses returns responses that repeat the secret.
func echoingResponses() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{}
	quoted, _ := json.Marshal(secret)
	for name, text := range map[string]string{
		"plain": secret, "query": url.QueryEscape(secret), "path": url.PathEscape(secret), "JSON": string(quoted),
		"JSON with escaped slashes": strings.ReplaceAll(string(quoted), "/", `\/`),
	} {
		body := `{"message":"unknown key ` + text + `"}`
		all["400 "+name] = respond(400, body)
		all["401 "+name] = respond(401, body)
		all["500 "+name] = respond(500, body)
		all["200 errors "+name] = respond(200, `{"data":[],"errors":["`+strings.Trim(text, `"`)+`"]}`)
		all["200 text "+name] = respond(200, "<html>"+text)
		all["200 array "+name] = respond(200, `["`+strings.Trim(text, `"`)+`"]`)
		all["200 cut by the excerpt "+name] = respond(200, "<html>"+strings.Repeat("x", 80-len("<html>")-len(text)*2/3)+text)
		all["500 cut by the excerpt "+name] = respond(500, strings.Repeat("x", 200-len(text)*2/3)+text)
		all["500 cut by the bound "+name] = respond(500, strings.Repeat(" ", 2<<10-len(text)*2/3)+text)
		all["reset "+name] = respondRaw("HTTP/1.1 200 "+text, true)
		all["next link "+name] = respond(200, `{"data":[],"next":"https://evil.test/?key=`+url.QueryEscape(secret)+`"}`)
		all["broken next link "+name] = respond(200, `{"data":[],"next":"http://vendor.test:x/?key=`+url.QueryEscape(secret)+`"}`)
		all["redirect "+name] = respond(302, "", "Location", "https://evil.test/?key="+url.QueryEscape(secret))
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
		for echo, h := range echoingResponses() {
			t.Run(name+"/"+echo, func(t *testing.T) {
				c := startServer(t, h)
				c.Auth, c.Redact, c.Retry.attempts = a.auth, a.redact, 1
				var out MemoryOutput
				_, err := c.Walk(context.Background(), Listing{
					Request: Request{Path: "/x", Query: url.Values{"key": {secret}}},
					Shape:   Shape{Records: "data", Errors: []string{"errors"}}, Pager: NextURL{Path: "next"},
				}, &out)
				assertHidden(t, err, append(a.hidden, secret)...)
				// The error of a refused link names the request that it leads to.
				if !strings.HasPrefix(err.Error(), "GET /") {
					t.Errorf("the error does not name the request: %v", err)
				}
			})
		}
	}
}

func TestTokenRequestsShowNoCredential(t *testing.T) {
	const token = "t0k3n-of-the-vendor"
	for echo, h := range echoingResponses() {
		t.Run(echo, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/token", h)
			c := startServer(t, mux)
			c.Retry.attempts = 1
			tokens := *c
			c.Auth = &ClientCredentials{Client: &tokens, Path: "/token", Params: url.Values{"client_id": {"id"}, "client_secret": {secret}}}
			assertHidden(t, getPath(c, "/x"), secret)
		})
	}
	t.Run("token echoed", func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("/token", respond(200, `{"access_token":"`+token+`"}`))
		mux.HandleFunc("/x", respond(401, "no good: "+token))
		c := startServer(t, mux)
		tokens := *c
		c.Auth = &ClientCredentials{Client: &tokens, Path: "/token"}
		err := getPath(c, "/x")
		assertHidden(t, err, token)
		assertError(t, err, "GET /x (2 attempts): 401 Unauthorized: no good: [redacted]")
		if !errors.Is(err, collector.ErrRefused) {
			t.Errorf("the class is lost: %v", err)
		}
	})
}

func TestHiddenErrorsKeepTheirChain(t *testing.T) {
	status := &StatusError{Status: 403}
	set := redact.NewSet(minSecret, secret)
	err := set.Error(fmt.Errorf("key %s: %w", secret, status))
	var got *StatusError
	if !errors.As(err, &got) || got != status || !errors.Is(err, collector.ErrForbidden) || err.Error() != "key [redacted]: 403 Forbidden" {
		t.Errorf("%v", err)
	}
	if plain := errors.New("plain"); set.Error(plain) != plain || set.Error(nil) != nil {
		t.Error("an error without a secret is changed")
	}
}

// TestAddressIsNotShown: the errors of net/http contain the whole address with the
// query; ours do not.
func TestAddressIsNotShown(t *testing.T) {
	c := newTestClient(t, "http://127.0.0.1:1")
	_, err := c.Get(context.Background(), Request{Path: "/x?key=" + url.QueryEscape(secret)})
	assertHidden(t, err, secret)
	err = transportError(&url.Error{Op: "Get", URL: "https://x.test/?key=" + secret, Err: errors.New("refused")})
	assertHidden(t, err, secret)
}
