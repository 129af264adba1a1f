package web

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

const (
	// maxDownloads bounds the downloads that decompress at the same time, each with a few
	// MiB of memory.
	maxDownloads = 4
	// maxOpenAttempts bounds the attempts to open the last-known snapshot while newer ones
	// replace it.
	maxOpenAttempts = 3
)

// The formats of a download.
const (
	formatNDJSON = "ndjson"
	formatStored = "ndjson.zst" // as it is stored
)

// errNotShown is the text of the error for records when HTTP_SHOW_DATA is off.
const errNotShown = "HTTP_SHOW_DATA=false hides the records of streams"

// serveRecords responds with the whole last-known data of a stream. A snapshot that replaces
// it meanwhile does not change what is sent.
func (s *Server) serveRecords(w http.ResponseWriter, r *http.Request) {
	name, format := r.PathValue("name"), r.URL.Query().Get("format")
	if !s.ShowData {
		s.writeError(w, http.StatusForbidden, errNotShown)
		return
	}
	if r.URL.Query().Has("format") && format != formatNDJSON && format != formatStored {
		s.writeError(w, http.StatusBadRequest, fmt.Sprintf("format: %q: want %s or %s", format, formatNDJSON, formatStored))
		return
	}
	if err := s.checkStream(r, name); err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	send := s.sendNDJSON
	if format == formatStored {
		send = s.sendStored
	}
	for attempt := 1; ; attempt++ {
		sealed, _, err := s.State.Snapshots.LastKnown(r.Context(), name, s.Tenancy)
		if errors.Is(err, state.ErrNoSnapshot) {
			s.writeError(w, http.StatusNotFound, name+" has no data yet")
			return
		}
		if err == nil {
			err = send(w, r, sealed)
		}
		switch {
		case err == nil:
			return
		case errors.Is(err, fs.ErrNotExist) && attempt < maxOpenAttempts: // a newer one has replaced it
		default:
			s.writeInternalError(w, r, err)
			return
		}
	}
}

// sendStored sends the records as they are stored, also parts of them. An error means that
// nothing was sent.
func (s *Server) sendStored(w http.ResponseWriter, r *http.Request, sealed *snapshot.Snapshot) error {
	file, err := os.Open(sealed.Path()) // it can be read to its end after it was removed
	if err != nil {
		return err
	}
	defer file.Close()
	setDownload(w, sealed, formatStored, "")
	h := w.Header()
	h.Set("Content-Type", "application/zstd")
	if sum, err := hex.DecodeString(sealed.SHA256); err == nil {
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	}
	http.ServeContent(newPacedWriter(w), r, "", sealed.UploadTimestamp, file)
	return nil
}

// sendNDJSON sends one record per line, compressed if the client accepts that. An error
// means that nothing was sent. Data that turns out to be damaged ends the connection, so
// that the client does not take a part for the whole.
func (s *Server) sendNDJSON(w http.ResponseWriter, r *http.Request, sealed *snapshot.Snapshot) error {
	format := snapshot.Format{Kind: snapshot.NDJSON}
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		format.Compression = "gzip"
	}
	etag := setDownload(w, sealed, formatNDJSON, format.Compression)
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	if matchesETag(r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Disposition")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", format.ContentType())
	if format.Compression != "" {
		h.Set("Content-Encoding", format.Compression)
	} else {
		h.Set("Content-Length", strconv.FormatInt(sealed.Bytes, 10))
	}
	if r.Method == http.MethodHead {
		return nil
	}
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	default:
		clearDownload(w)
		s.writeUnavailable(w, fmt.Errorf("%d downloads are running: try again when one has ended, or use the format %s", maxDownloads, formatStored))
		return nil
	}
	out := newPacedWriter(w)
	err := sealed.Encode(r.Context(), out, format)
	if err == nil {
		return nil
	}
	if !out.wrote {
		clearDownload(w)
		return err
	}
	if r.Context().Err() == nil && !errors.Is(err, context.Canceled) {
		s.Log.Error("sending records", zap.String("stream", sealed.Stream), zap.Error(err))
	}
	panic(http.ErrAbortHandler)
}

// setDownload sets the headers of a download and returns its entity tag, which differs for
// each snapshot, format and compression.
func setDownload(w http.ResponseWriter, sealed *snapshot.Snapshot, format, compression string) (etag string) {
	etag = strconv.Quote(strings.Trim(strings.Join([]string{sealed.UploadID, format, compression}, "."), "."))
	name := sealed.Stream + "_" + sealed.UploadTimestamp.UTC().Format("20060102T150405Z") + "." + format
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Last-Modified", sealed.UploadTimestamp.UTC().Format(http.TimeFormat))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("X-Collectord-Records", strconv.FormatInt(sealed.Records, 10))
	return etag
}

// clearDownload removes the headers of a download that an error replaces.
func clearDownload(w http.ResponseWriter) {
	for _, name := range []string{
		"ETag", "Last-Modified", "Content-Disposition", "Content-Encoding", "Content-Length", "X-Collectord-Records",
	} {
		w.Header().Del(name)
	}
}

// matchesETag reports whether a header If-None-Match has an entity tag.
func matchesETag(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

// acceptsGzip reports whether a header Accept-Encoding allows gzip.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, parameters, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil || coding != "gzip" && coding != "*" {
			continue
		}
		weight, err := strconv.ParseFloat(parameters["q"], 64)
		return err != nil || weight > 0
	}
	return false
}

// extendDeadline gives the response to a request that took long the time of a new one.
func extendDeadline(w http.ResponseWriter) {
	// A ResponseWriter without deadlines, as in tests, needs none.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// A pacedWriter bounds the time of each part of a long response, not that of the whole.
type pacedWriter struct {
	http.ResponseWriter
	wrote bool
}

func newPacedWriter(w http.ResponseWriter) *pacedWriter { return &pacedWriter{ResponseWriter: w} }

// Unwrap returns the wrapped ResponseWriter, for http.ResponseController.
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *pacedWriter) Write(b []byte) (n int, err error) {
	const part = 64 << 10
	p.wrote = true
	for len(b) > 0 && err == nil {
		extendDeadline(p.ResponseWriter)
		var written int
		written, err = p.ResponseWriter.Write(b[:min(part, len(b))])
		n, b = n+written, b[written:]
	}
	return n, err
}
