package vendorsim

import (
	"compress/gzip"
	"net/http"
	"strings"
	"sync"
)

// GzipMode defines how responses are compressed for clients that accept gzip.
type GzipMode int

// Gzip modes.
const (
	// GzipFast compresses at the fastest level.
	GzipFast GzipMode = iota
	// GzipOff never compresses.
	GzipOff
	// GzipStored wraps the bytes in gzip without compressing them. It exercises
	// the client's decoder and costs the server little.
	GzipStored
)

var gzipPools = map[GzipMode]*sync.Pool{
	GzipFast:   newGzipPool(gzip.BestSpeed),
	GzipStored: newGzipPool(gzip.NoCompression),
}

func newGzipPool(level int) *sync.Pool {
	return &sync.Pool{New: func() any {
		zw, err := gzip.NewWriterLevel(nil, level)
		if err != nil {
			panic(err) // the level is a constant of the package
		}
		return zw
	}}
}

// compressResponses returns a handler that compresses the responses of next.
func (g GzipMode) compressResponses(next http.Handler) http.Handler {
	pool := gzipPools[g]
	if pool == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			next.ServeHTTP(w, r)
			return
		}
		zw := &gzipWriter{ResponseWriter: w, pool: pool}
		next.ServeHTTP(zw, r)
		// This is not deferred: if a handler panics to cut the connection, its
		// response must not be ended properly.
		zw.finishBody()
	})
}

// gzipWriter delays the status until the first byte of the body, so that
// responses without a body are not compressed.
type gzipWriter struct {
	http.ResponseWriter
	pool *sync.Pool
	zw   *gzip.Writer
	code int
	sent bool
}

func (g *gzipWriter) WriteHeader(code int) {
	switch {
	case code < 200 || g.sent:
		g.ResponseWriter.WriteHeader(code)
	case g.code == 0:
		g.code = code
	}
}

// startBody sends the header of a compressed body.
func (g *gzipWriter) startBody() {
	if g.sent {
		return
	}
	h := g.Header()
	h.Add("Vary", "Accept-Encoding")
	if h.Get("Content-Encoding") == "" {
		if h.Get("Content-Type") == "" {
			h.Set("Content-Type", "application/octet-stream")
		}
		h.Del("Content-Length")
		h.Set("Content-Encoding", "gzip")
		g.zw = g.pool.Get().(*gzip.Writer)
		g.zw.Reset(g.ResponseWriter)
	}
	g.sendHeader()
}

func (g *gzipWriter) sendHeader() {
	if g.code != 0 {
		g.ResponseWriter.WriteHeader(g.code)
	}
	g.sent = true
}

func (g *gzipWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	g.startBody()
	if g.zw == nil {
		return g.ResponseWriter.Write(p)
	}
	return g.zw.Write(p)
}

// FlushError sends the bytes that were compressed so far.
func (g *gzipWriter) FlushError() error {
	g.startBody()
	if g.zw != nil {
		if err := g.zw.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Unwrap returns the wrapped writer, for http.ResponseController.
func (g *gzipWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }

func (g *gzipWriter) finishBody() {
	if !g.sent {
		g.sendHeader()
	}
	if g.zw != nil {
		_ = g.zw.Close()
		g.zw.Reset(nil)
		g.pool.Put(g.zw)
		g.zw = nil
	}
}
