package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// guardHandler sets the headers of every response, refuses requests that a browser sends from
// another site, and responds with 500 after a panic.
func (s *Server) guardHandler(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.writeError(w, http.StatusForbidden, "the request comes from another site's page")
	}))
	next = cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if s.Access.Loopback && !s.isLocalHost(r.Host) {
			s.writeError(w, http.StatusMisdirectedRequest,
				"the Host of the request is not a name of this machine's loopback: use http://localhost, or set HTTP_HOSTS to the name of the proxy")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("handling a request", zap.String("path", r.URL.Path), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
				s.writeError(w, http.StatusInternalServerError, "internal error; the log has more")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// tokenHeader is the header of the token for clients that need Authorization for basic auth.
const tokenHeader = "X-Collectord-Token"

// requireToken returns a handler that calls next for requests with the token and refuses others.
func (s *Server) requireToken(next http.HandlerFunc) http.HandlerFunc {
	return s.requireTokenFor(next, "HTTP_TOKEN is not set, so nothing can be changed over HTTP: set it and send it as Authorization: Bearer <token>")
}

// requireTokenFor is requireToken with the error for a server without a token.
func (s *Server) requireTokenFor(next http.HandlerFunc, noToken string) http.HandlerFunc {
	want := sha256.Sum256([]byte(s.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		given := givenToken(r)
		got := sha256.Sum256([]byte(given))
		switch {
		case s.Token == "":
			s.writeError(w, http.StatusForbidden, noToken)
		case given == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="collectord"`)
			s.writeError(w, http.StatusUnauthorized, "this needs a token: send HTTP_TOKEN as Authorization: Bearer <token>, or with basic auth as "+tokenHeader)
		case subtle.ConstantTimeCompare(got[:], want[:]) != 1:
			w.Header().Set("WWW-Authenticate", `Bearer realm="collectord", error="invalid_token"`)
			s.writeError(w, http.StatusUnauthorized, "the token is wrong: it is not HTTP_TOKEN of this service")
		default:
			next(w, r)
		}
	}
}

// givenToken returns the token of a request in a header of its own; "" for none.
func givenToken(r *http.Request) string {
	if token := r.Header.Get(tokenHeader); token != "" {
		return token
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// writeJSON writes v as JSON.
func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // no browser takes the type for HTML
	if err := encoder.Encode(v); err != nil {
		s.Log.Debug("handling a request", zap.Error(err))
	}
}

// errorView is an error in the API.
type errorView struct {
	Error string `json:"error"`
}

// writeError writes an error as JSON.
func (s *Server) writeError(w http.ResponseWriter, status int, text string) {
	s.writeJSON(w, status, errorView{text})
}

// writeInternalError logs err and writes it as an error of the server.
func (s *Server) writeInternalError(w http.ResponseWriter, r *http.Request, err error) {
	s.Log.Error("handling a request", zap.String("path", r.URL.Path), zap.Error(err))
	s.writeError(w, http.StatusInternalServerError, err.Error())
}

// writeOperationError writes the error of an operation that a person requested.
func (s *Server) writeOperationError(w http.ResponseWriter, r *http.Request, err error) {
	var refused *operation.RefusedError
	switch {
	case errors.As(err, &refused) && refused.Reason == operation.Unknown, errors.Is(err, schedule.ErrUnknown):
		s.writeError(w, http.StatusNotFound, err.Error())
	case refused != nil, errors.Is(err, state.ErrNoSnapshot), errors.Is(err, state.ErrLocked), errors.Is(err, schedule.ErrRunning):
		s.writeError(w, http.StatusConflict, err.Error())
	case errors.Is(err, schedule.ErrStopping), errors.Is(err, state.ErrStandby):
		s.writeUnavailable(w, err)
	default:
		s.writeInternalError(w, r, err)
	}
}

// writeUnavailable writes the error of a request that may succeed when it is repeated.
func (s *Server) writeUnavailable(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", retryAfter)
	s.writeError(w, http.StatusServiceUnavailable, err.Error())
}

// retryAfter is the time, in seconds, after which a client may repeat a request.
const retryAfter = "5"

// writeBodyError writes the error of reading the body of a request.
func (s *Server) writeBodyError(w http.ResponseWriter, err error, want string) {
	if errors.As(err, new(*http.MaxBytesError)) {
		s.writeError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBodyBytes))
		return
	}
	s.writeError(w, http.StatusBadRequest, fmt.Sprintf("send %s: %v", want, err))
}
