package vendorsim

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Before calls event before the vendor handles the request.
func Before(event func()) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			event()
			next.ServeHTTP(w, r)
		})
	}
}

// Half is a byte count that means half of the body. The whole response is built
// in memory to find it.
const Half = -1

// HTMLPage is a page that proxies and gateways send instead of the vendor's
// response.
const HTMLPage = "<html>\r\n<head><title>Service</title></head>\r\n<body>\r\n<center><h1>Please try again</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"

// Status responds with a status and a body instead of the vendor. headers are
// names and values in turn. Without a Content-Type among them, it is guessed
// from the body: JSON, HTML or plain text.
func Status(code int, body string, headers ...string) Effect {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			if w.Header().Get("Content-Type") == "" {
				w.Header().Set("Content-Type", guessContentType(body))
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
	}
}

func guessContentType(body string) string {
	switch {
	case strings.HasPrefix(body, "<"):
		return "text/html"
	case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["):
		return "application/json; charset=utf-8"
	default:
		return "text/plain; charset=utf-8"
	}
}

// HTML responds with a status and [HTMLPage].
func HTML(code int, headers ...string) Effect { return Status(code, HTMLPage, headers...) }

// Errors responds with 200 and a JSON object that has an errors array and no
// data.
func Errors(message string) Effect {
	text := strconv.Quote(message)
	return Status(http.StatusOK, `{"meta":{},"resources":[],"errors":[{"code":500,"message":`+text+`}]}`)
}

// LoseResponse lets the vendor process the request, discards its response and
// responds with the given status and body instead.
func LoseResponse(code int, body string, headers ...string) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			captureResponse(next, r)
			Status(code, body, headers...)(nil).ServeHTTP(w, r)
		})
	}
}

// Truncate closes the connection in an orderly way after n bytes of the body,
// before the end of the chunked transfer. A shorter body is sent whole, but
// without the end of the transfer. n may be [Half].
func Truncate(n int) Effect {
	return cutResponse(n, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Reset resets the connection after n bytes of the body. n may be [Half].
func Reset(n int) Effect {
	return cutResponse(n, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	})
}

// Hang reads the request and never responds. It returns when the client
// disconnects or the server closes.
func Hang() Effect {
	return func(http.Handler) http.Handler { return http.HandlerFunc(hangRequest) }
}

// HangAfter sends n bytes of the body and then nothing more until the client
// disconnects or the server closes. n may be [Half].
func HangAfter(n int) Effect { return cutResponse(n, hangRequest) }

func hangRequest(w http.ResponseWriter, r *http.Request) {
	// net/http notices that a client has disconnected only after the request
	// body has been read.
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Slow waits for d before it passes the request to the vendor.
func Slow(d time.Duration) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if sleepContext(r.Context(), d) {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// Drip sends the body in pieces of n bytes and waits after each.
func Drip(n int, every time.Duration) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&dripWriter{ResponseWriter: w, ctx: r.Context(), n: n, every: every}, withoutCompression(r))
		})
	}
}

type dripWriter struct {
	http.ResponseWriter
	ctx   context.Context
	n     int
	every time.Duration
}

func (d *dripWriter) Write(p []byte) (int, error) {
	rc := http.NewResponseController(d.ResponseWriter)
	for done := 0; done < len(p); {
		k, err := d.ResponseWriter.Write(p[done:min(done+d.n, len(p))])
		done += k
		if err != nil {
			return done, err
		}
		_ = rc.Flush()
		if !sleepContext(d.ctx, d.every) {
			return done, d.ctx.Err()
		}
	}
	return len(p), nil
}

// Rewrite replaces the uncompressed body of the vendor's response with the
// result of change.
func Rewrite(change func(body []byte) []byte) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			captured := captureResponse(next, withoutCompression(r))
			captured.body = change(captured.body)
			captured.writeTo(w)
		})
	}
}

// CutBody cuts the body after n bytes but ends the transfer properly, so that
// the client receives incomplete JSON. n may be [Half].
func CutBody(n int) Effect {
	return Rewrite(func(body []byte) []byte { return body[:cutPosition(n, len(body))] })
}

// LongLength sends the whole body with a Content-Length that is too large by
// extra bytes, then closes the connection.
func LongLength(extra int) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			captured := captureResponse(next, withoutCompression(r))
			captured.header.Set("Content-Length", strconv.Itoa(len(captured.body)+extra))
			captured.writeTo(w)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	}
}

// CutGzip responds with a gzip stream that is cut after n of its bytes, but
// ends the transfer properly. n may be [Half].
func CutGzip(n int) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			captured := captureResponse(next, withoutCompression(r))
			var b bytes.Buffer
			zw := gzip.NewWriter(&b)
			_, _ = zw.Write(captured.body)
			_ = zw.Close()
			captured.header.Set("Content-Encoding", "gzip")
			captured.body = b.Bytes()[:cutPosition(n, b.Len())]
			captured.writeTo(w)
		})
	}
}

// Repeat responds to every request that it hits with the response to the first
// of them, like a cursor that leads back to an earlier page. Use it with
// [Fault.Times] above one.
func Repeat() Effect {
	var once sync.Once
	var first *bufferedResponse
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			once.Do(func() { first = captureResponse(next, withoutCompression(r)) })
			first.writeTo(w)
		})
	}
}

// cutPosition returns where to cut a body of the given length.
func cutPosition(n, length int) int {
	if n == Half {
		return length / 2
	}
	return min(n, length)
}

// cutResponse sends the first n bytes of the vendor's response, uncompressed,
// and then calls end.
func cutResponse(n int, end http.HandlerFunc) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r, n := withoutCompression(r), n
			if n == Half {
				captured := captureResponse(next, r)
				n, next = len(captured.body)/2, captured
			}
			next.ServeHTTP(&cutWriter{w, n}, r)
			_ = http.NewResponseController(w).Flush()
			end(w, r)
		})
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

// WriteHeader removes the Content-Length, which the cut body will not have.
func (c *cutWriter) WriteHeader(code int) {
	c.Header().Del("Content-Length")
	c.ResponseWriter.WriteHeader(code)
}

func (c *cutWriter) Write(p []byte) (int, error) {
	k, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= k
	if err == nil && k < len(p) {
		err = io.ErrShortWrite
	}
	return k, err
}

// withoutCompression returns a copy of r that does not accept compressed
// responses.
func withoutCompression(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Del("Accept-Encoding")
	return r
}

// bufferedResponse is a response in memory.
type bufferedResponse struct {
	code   int
	header http.Header
	body   []byte
}

// captureResponse calls a handler and returns its response.
func captureResponse(next http.Handler, r *http.Request) *bufferedResponse {
	captured := &bufferedResponse{header: http.Header{}}
	next.ServeHTTP(captured, r)
	if captured.code == 0 {
		captured.code = http.StatusOK
	}
	return captured
}

func (b *bufferedResponse) Header() http.Header { return b.header }

func (b *bufferedResponse) WriteHeader(code int) {
	if b.code == 0 {
		b.code = code
	}
}

func (b *bufferedResponse) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	b.body = append(b.body, p...)
	return len(p), nil
}

func (b *bufferedResponse) writeTo(w http.ResponseWriter) {
	for k, v := range b.header {
		w.Header()[k] = v
	}
	w.WriteHeader(b.code)
	if len(b.body) > 0 {
		_, _ = w.Write(b.body)
	}
}

// ServeHTTP writes the buffered response.
func (b *bufferedResponse) ServeHTTP(w http.ResponseWriter, _ *http.Request) { b.writeTo(w) }
