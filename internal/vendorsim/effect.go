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

// Half stands for the middle of the body as the place of a cut. To find it,
// the answer is built in memory first.
const Half = -1

// HTMLPage is the page that proxies and gateways put in place of an answer.
const HTMLPage = "<html>\r\n<head><title>Service</title></head>\r\n<body>\r\n<center><h1>Please try again</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"

// Status answers with a status and a body in place of the vendor. Headers
// are given as names and values in turn; without a Content-Type among them
// it is that of JSON, HTML or plain text by the look of the body.
func Status(code int, body string, headers ...string) Effect {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			if w.Header().Get("Content-Type") == "" {
				w.Header().Set("Content-Type", contentType(body))
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
	}
}

func contentType(body string) string {
	switch {
	case strings.HasPrefix(body, "<"):
		return "text/html"
	case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["):
		return "application/json; charset=utf-8"
	default:
		return "text/plain; charset=utf-8"
	}
}

// HTML answers with a status and [HTMLPage].
func HTML(code int, headers ...string) Effect { return Status(code, HTMLPage, headers...) }

// Errors answers 200 with a JSON object that carries an errors array and no
// data.
func Errors(message string) Effect {
	text := strconv.Quote(message)
	return Status(http.StatusOK, `{"meta":{},"resources":[],"errors":[{"code":500,"message":`+text+`}]}`)
}

// Worked lets the vendor act on the request but answers with a status and a
// body of its own: the answer that was lost on the way back.
func Worked(code int, body string, headers ...string) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			record(next, r)
			Status(code, body, headers...)(nil).ServeHTTP(w, r)
		})
	}
}

// Truncate ends the connection in an orderly way after n bytes of the body,
// without the end of the chunked transfer. A body that is shorter lacks the
// end of transfer only. n may be [Half].
func Truncate(n int) Effect {
	return cut(n, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Reset resets the connection after n bytes of the body. n may be [Half].
func Reset(n int) Effect {
	return cut(n, func(w http.ResponseWriter, _ *http.Request) {
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

// Hang takes the request and never answers, until the client leaves or the
// server closes.
func Hang() Effect {
	return func(http.Handler) http.Handler { return http.HandlerFunc(hang) }
}

// HangAfter sends n bytes of the body and then nothing more, until the
// client leaves or the server closes. n may be [Half].
func HangAfter(n int) Effect { return cut(n, hang) }

func hang(w http.ResponseWriter, r *http.Request) {
	// The server notices that a client has left only once the request body
	// has been read.
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Slow waits before it passes the request on to the vendor.
func Slow(d time.Duration) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pause(r.Context(), d) {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// Drip sends the body in pieces of n bytes with a pause after each.
func Drip(n int, every time.Duration) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&dripWriter{w, r.Context(), n, every}, plain(r))
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
		if !pause(d.ctx, d.every) {
			return done, d.ctx.Err()
		}
	}
	return len(p), nil
}

// Rewrite changes the whole body of the vendor's answer, uncompressed.
func Rewrite(change func(body []byte) []byte) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := record(next, plain(r))
			a.body = change(a.body)
			a.send(w)
		})
	}
}

// CutBody ends the body after n bytes although the transfer ends properly:
// JSON without its end. n may be [Half].
func CutBody(n int) Effect {
	return Rewrite(func(body []byte) []byte { return body[:cutAt(n, len(body))] })
}

// LongLength sends the whole body but announces extra more bytes in
// Content-Length, then ends the connection.
func LongLength(extra int) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := record(next, plain(r))
			a.header.Set("Content-Length", strconv.Itoa(len(a.body)+extra))
			a.send(w)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	}
}

// CutGzip answers with a gzip stream that ends after n of its bytes although
// the transfer ends properly. n may be [Half].
func CutGzip(n int) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := record(next, plain(r))
			var b bytes.Buffer
			zw := gzip.NewWriter(&b)
			_, _ = zw.Write(a.body)
			_ = zw.Close()
			a.header.Set("Content-Encoding", "gzip")
			a.body = b.Bytes()[:cutAt(n, b.Len())]
			a.send(w)
		})
	}
}

// Repeat answers every request that it hits with the answer to the first of
// them: the cursor that leads back to where the client has been. Use it with
// [Fault.Times] above one.
func Repeat() Effect {
	var once sync.Once
	var first *answer
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			once.Do(func() { first = record(next, plain(r)) })
			first.send(w)
		})
	}
}

// cutAt returns the place of a cut in a body of the given length.
func cutAt(n, length int) int {
	if n == Half {
		return length / 2
	}
	return min(n, length)
}

// cut sends the first n bytes of the vendor's answer, then does what end
// says. Bytes count uncompressed.
func cut(n int, end http.HandlerFunc) Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r, n := plain(r), n
			if n == Half {
				a := record(next, r)
				n, next = len(a.body)/2, a
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

// WriteHeader drops a length that the body will not have.
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

// plain returns the request of a client that does not ask for compression.
func plain(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Del("Accept-Encoding")
	return r
}

// answer is an answer held in memory.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// record lets a handler answer into memory.
func record(next http.Handler, r *http.Request) *answer {
	a := &answer{header: http.Header{}}
	next.ServeHTTP(a, r)
	if a.code == 0 {
		a.code = http.StatusOK
	}
	return a
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *answer) send(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.code)
	if len(a.body) > 0 {
		_, _ = w.Write(a.body)
	}
}

// ServeHTTP gives the held answer again.
func (a *answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) { a.send(w) }
