package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A route is a method on a path, and its handler.
type route struct {
	method, path string
	handler      http.HandlerFunc
	// query are the parameters that the query of a request to the API may have.
	query []string
	// right is RunRight or QueryRight for a request that always needs a token.
	right Right
	// protected reports whether the response has records or profiles, which need
	// HTTP_TOKEN on a server that is open to other machines.
	protected bool
	// public reports whether the request needs no token of HTTP_TOKENS_FILE, and
	// program whether it needs one of all tenancies.
	public, program bool
}

// routes returns all routes, without those of Go's profiles.
func (s *Server) routes() []route {
	routes := slices.Concat(s.healthRoutes(), s.apiRoutes(), s.controlRoutes(), s.pageRoutes())
	if s.Metrics != nil {
		routes = append(routes, route{method: "GET", path: "/metrics", handler: compressResponse(s.Metrics), program: true})
	}
	return routes
}

// mountRoutes adds the routes, each also below the prefix. Other methods get 405 with
// those that are allowed.
func (s *Server) mountRoutes(mux *http.ServeMux, routes []route) {
	allowed := map[string][]string{}
	for _, r := range routes {
		handler := s.authorize(r)
		if strings.HasPrefix(r.path, apiPath) {
			handler = s.checkQuery(handler, r.query)
		}
		s.handle(mux, r.method+" ", r.path, handler)
		allowed[r.path] = append(allowed[r.path], r.method)
		if r.method == "GET" {
			allowed[r.path] = append(allowed[r.path], "HEAD")
		}
	}
	for path, methods := range allowed {
		s.handle(mux, "", path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			s.writeError(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here; use "+strings.Join(methods, " or "))
		})
	}
}

// handle adds a handler for a path, and for the same path below the prefix. method is ""
// for all methods, and otherwise ends with a space.
func (s *Server) handle(mux *http.ServeMux, method, path string, h http.HandlerFunc) {
	mux.HandleFunc(method+path, h)
	if s.Prefix != "" {
		mux.Handle(method+s.Prefix+path, http.StripPrefix(s.Prefix, h))
	}
}

// checkQuery returns next for requests whose query has only known parameters.
func (s *Server) checkQuery(next http.HandlerFunc, known []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			s.writeError(w, http.StatusBadRequest, "the query of the URL is not valid: "+err.Error())
			return
		}
		for name := range query {
			if !slices.Contains(known, name) {
				s.writeError(w, http.StatusBadRequest, describeUnknownParameter(name, known))
				return
			}
		}
		next(w, r)
	}
}

func describeUnknownParameter(name string, known []string) string {
	if len(known) == 0 {
		return fmt.Sprintf("unknown parameter %q: this has no parameters", name)
	}
	return fmt.Sprintf("unknown parameter %q: want one of %s", name, strings.Join(known, ", "))
}
