package web

import (
	"context"
	"net/http"
	"slices"
)

// A Right is something that a token of HTTP_TOKENS_FILE permits.
type Right string

// The rights.
const (
	ReadRight  Right = "read"  // the pages, the status and the data
	RunRight   Right = "run"   // runs, deliveries, and what is accepted or dropped
	QueryRight Right = "query" // queries over the data
)

// A visitor is who sends a request to a service with HTTP_TOKENS_FILE.
type visitor struct {
	name      string // of the token; "" for a request without one that is known
	all       bool   // whether the token is one of all tenancies
	tenancies []string
	rights    []Right
}

// isKnown reports whether the request has a token that is known.
func (v *visitor) isKnown() bool { return v.name != "" }

func (v *visitor) permits(right Right) bool { return slices.Contains(v.rights, right) }

// sees reports whether a tenancy exists for the visitor.
func (v *visitor) sees(tenancy string) bool { return v.all || slices.Contains(v.tenancies, tenancy) }

// seesTenancy is sees for a visitor, or nil for anyone.
func (v *visitor) seesTenancy(tenancy string) bool { return v == nil || v.sees(tenancy) }

// seesAll reports whether a visitor, or nil for anyone, may read what names all tenancies.
func (v *visitor) seesAll() bool { return v == nil || v.all && v.permits(ReadRight) }

type visitorKey struct{}

// visitorOf returns the visitor of a request; nil when the service has no tokens file.
func visitorOf(ctx context.Context) *visitor {
	v, _ := ctx.Value(visitorKey{}).(*visitor)
	return v
}

// authorize returns the handler of a route for requests that are permitted: by their
// visitor, or without a tokens file by HTTP_TOKEN.
func (s *Server) authorize(route route) http.HandlerFunc {
	byToken := route.handler
	switch {
	case route.right != "":
		byToken = s.requireToken(route.handler)
	case route.protected:
		byToken = s.protect(route.handler)
	}
	right := ReadRight
	if route.right != "" {
		right = route.right
	}
	return func(w http.ResponseWriter, r *http.Request) {
		v := visitorOf(r.Context())
		switch {
		case v == nil:
			byToken(w, r)
		case route.public:
			route.handler(w, r)
		case !v.isKnown():
			s.askForToken(w, r)
		case !v.permits(right):
			s.writeError(w, http.StatusForbidden, "the token does not have the right to "+string(right)+" in HTTP_TOKENS_FILE")
		case route.program && !v.all:
			s.writeError(w, http.StatusForbidden, `this needs a token of all tenancies: tenancies: "*" in HTTP_TOKENS_FILE, or HTTP_TOKEN`)
		default:
			route.handler(w, r)
		}
	}
}

// askForToken responds with 401, at which browsers ask for a password: the token.
func (s *Server) askForToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("WWW-Authenticate", `Basic realm="collectord", charset="UTF-8"`)
	w.Header().Add("WWW-Authenticate", `Bearer realm="collectord"`)
	if isPageRequest(r) {
		s.render(w, r, http.StatusUnauthorized, "missing.html", missingData{
			s.newBaseData(r.Context(), "A token is needed"),
			"Load the page again, and enter a token of HTTP_TOKENS_FILE as the password, with any user name.",
		})
		return
	}
	s.writeError(w, http.StatusUnauthorized,
		"this needs a token of HTTP_TOKENS_FILE, and what was sent is none: send it as Authorization: Bearer <token>, as "+tokenHeader+", or as the password of basic auth")
}

// isPageRequest reports whether a request is one for a page.
func isPageRequest(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && !isForPrograms(r.URL.Path) && r.URL.Path != "/metrics"
}
