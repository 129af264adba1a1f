package rest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// A TokenEncoding is how a token request contains the parameters of
// ClientCredentials.
type TokenEncoding int

// The encodings.
const (
	// TokenForm has all parameters in a form.
	TokenForm TokenEncoding = iota
	// TokenBasic has client_id and client_secret in the header Authorization (RFC
	// 6749, section 2.3.1), and the other parameters in a form.
	TokenBasic
	// TokenJSON has all parameters in a JSON object.
	TokenJSON
)

// A TokenResponse is a response with a token.
type TokenResponse struct {
	Header http.Header
	// Body is the JSON document; see Member.
	Body []byte
}

// ClassifyToken is a Classify for token requests: servers refuse a client that they
// do not know, or a wrong secret, with 400, 401 or 403.
func ClassifyToken(s *StatusError, usual Verdict) Verdict {
	if s.Status == http.StatusBadRequest || s.Status == http.StatusForbidden {
		return Unauthorized
	}
	return usual
}

// tokenRequest returns the request for a token.
func (c *ClientCredentials) tokenRequest() (Request, error) {
	r := Request{Method: http.MethodPost, Path: c.Path, Class: tokenClass, ContentType: "application/x-www-form-urlencoded"}
	switch c.Encoding {
	case TokenJSON:
		body, err := json.Marshal(singleValues(c.Params))
		if err != nil {
			return Request{}, err
		}
		r.Body, r.ContentType = body, "application/json"
	case TokenBasic:
		form := url.Values{}
		for name, values := range c.Params {
			if name != "client_id" && name != "client_secret" {
				form[name] = values
			}
		}
		r.Header = http.Header{"Authorization": {c.basicHeader()}}
		r.Body = []byte(form.Encode())
	default:
		r.Body = []byte(c.Params.Encode())
	}
	return r, nil
}

// singleValues returns the first value of each parameter.
func singleValues(params url.Values) map[string]string {
	first := make(map[string]string, len(params))
	for name := range params {
		first[name] = params.Get(name)
	}
	return first
}

// basicHeader returns the value of the header Authorization with the credentials.
func (c *ClientCredentials) basicHeader() string {
	pair := url.QueryEscape(c.Params.Get("client_id")) + ":" + url.QueryEscape(c.Params.Get("client_secret"))
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// parseToken returns the token of a response.
func (c *ClientCredentials) parseToken(r *Response) (token, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return token{}, &BodyError{Err: fmt.Errorf("token: %w", err)}
	}
	if looksLikeHTML(body) {
		return token{}, &BodyError{Err: fmt.Errorf("token: body is %s, want JSON", describePage(body)), page: true}
	}
	response := TokenResponse{Header: r.Header, Body: body}
	parse := c.Parse
	if parse == nil {
		parse = parseAccessToken
	}
	text, life, err := parse(response)
	switch {
	case err != nil:
		return token{}, &BodyError{Err: fmt.Errorf("token: %w", err)}
	case text == "":
		return token{}, &BodyError{Err: errors.New("token: it is missing in the response")}
	}
	t := token{text: text}
	if life = min(life, maxTokenLife); life > 0 {
		t.renewAt = time.Now().Add(life - min(5*time.Minute, life/5))
	}
	t.base, err = c.learnBase(response)
	return t, err
}

// parseAccessToken returns the token of a response as in RFC 6749, section 5.1.
func parseAccessToken(r TokenResponse) (string, time.Duration, error) {
	var response struct {
		Token   string      `json:"access_token"`
		Expires json.Number `json:"expires_in"` // some vendors send it as text
	}
	if len(r.Body) == 0 {
		return "", 0, errors.New("body is empty, want JSON")
	}
	if json.Unmarshal(r.Body, &response) != nil {
		return "", 0, errors.New("body is not a JSON object with access_token and expires_in")
	}
	if response.Token == "" {
		return "", 0, errors.New("access_token is missing")
	}
	seconds, err := response.Expires.Float64()
	if err != nil || seconds <= 0 {
		return response.Token, 0, nil
	}
	return response.Token, time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second)), nil
}

// learnBase returns the address that a token response names; nil for none.
func (c *ClientCredentials) learnBase(r TokenResponse) (*url.URL, error) {
	if c.Base == nil {
		return nil, nil
	}
	base, err := c.Base(r)
	switch {
	case err != nil || base == nil:
		return nil, err
	case base.Host == "" || base.Scheme != "https" && base.Scheme != c.Client.Base.Scheme:
		return nil, fmt.Errorf("the token response names the address %.100q: want one that begins with https://", base.Redacted())
	}
	return base, nil
}

// learnedBase returns the address that requests with the current token are sent to;
// nil for the client's own.
func (c *ClientCredentials) learnedBase() *url.URL {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token.base
}

// baseLearner is implemented by an Auth whose requests may be sent to another
// address than the client's own.
type baseLearner interface{ learnedBase() *url.URL }

// isOwnAddress reports whether u is on the host of the client, or on the one that
// its token is for.
func (c *Client) isOwnAddress(u *url.URL) bool {
	if sameHost(u, c.Base) {
		return true
	}
	learner, ok := c.Auth.(baseLearner)
	if !ok {
		return false
	}
	base := learner.learnedBase()
	return base != nil && sameHost(u, base)
}
