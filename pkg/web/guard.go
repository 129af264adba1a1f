package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"
)

// guard sets what every answer has and refuses what a browser would send from
// somebody else's page.
func (s *Server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.refuse(w, http.StatusForbidden, "the request comes from another site's page")
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
		r.Body = http.MaxBytesReader(w, r.Body, mostBody)
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("answering a request", zap.String("path", r.URL.Path), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
				s.refuse(w, http.StatusInternalServerError, "internal error; the log has more")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// tokenHeader takes the token when Authorization carries basic auth.
const tokenHeader = "X-Collectord-Token"

// permitted lets requests with the token pass.
func (s *Server) permitted(next http.HandlerFunc) http.HandlerFunc {
	want := sha256.Sum256([]byte(s.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		if s.Token == "" {
			s.refuse(w, http.StatusForbidden, "HTTP_TOKEN is not set, so nothing can be changed over HTTP: set it and send it as Authorization: Bearer <token>")
			return
		}
		given := r.Header.Get(tokenHeader)
		if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); given == "" && ok && strings.EqualFold(scheme, "Bearer") {
			given = strings.TrimSpace(token)
		}
		got := sha256.Sum256([]byte(given))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="collectord"`)
			s.refuse(w, http.StatusUnauthorized, "send HTTP_TOKEN as Authorization: Bearer <token>, or as "+tokenHeader+" beside basic auth")
			return
		}
		next(w, r)
	}
}

// answer writes v as JSON.
func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.Log.Debug("answering a request", zap.Error(err))
	}
}

// route answers method on path, and other methods with what is allowed.
func (s *Server) route(mux *http.ServeMux, method, path string, h http.HandlerFunc) {
	mux.HandleFunc(method+" "+path, h)
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", method)
		s.refuse(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here; use "+method)
	})
}

type refusal struct {
	Error string `json:"error"`
}

func (s *Server) refuse(w http.ResponseWriter, status int, why string) {
	s.answer(w, status, refusal{why})
}

// fail answers that the server itself could not, and logs why.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.Log.Error("answering a request", zap.String("path", r.URL.Path), zap.Error(err))
	s.refuse(w, http.StatusInternalServerError, err.Error())
}
