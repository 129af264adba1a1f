package web

import (
	"io"
	"net/http"

	"github.com/klauspost/compress/gzip"
)

// compressResponse returns a handler that compresses the responses of next for the clients that
// accept gzip.
func compressResponse(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !acceptsGzip(r.Header.Get("Accept-Encoding")) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		next.ServeHTTP(&compressedWriter{w, packed}, r)
		_ = packed.Close() // it fails if the client has gone
	}
}

// A compressedWriter compresses the body of a response.
type compressedWriter struct {
	http.ResponseWriter
	packed io.Writer
}

func (c *compressedWriter) Write(b []byte) (int, error) { return c.packed.Write(b) }
