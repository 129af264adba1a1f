package rest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
)

// FetchFile makes one request whose response is a file, and writes its records to
// out, in one batch. read passes the records of the body to each, with the
// readers of package records. It is called again when a file was incomplete or
// damaged. FetchFile returns the headers of the response.
func (c *Client) FetchFile(ctx context.Context, r Request, out collector.Output, read func(resp *Response, each records.Func) error) (header http.Header, err error) {
	err = writeFile(out, read, func(onResponse func(*Response) error) error {
		return c.Do(ctx, r, func(resp *Response) error {
			header = resp.Header
			if err := resp.RefusePage(); err != nil {
				return err
			}
			return onResponse(resp)
		})
	})
	if err != nil {
		return nil, err
	}
	return header, nil
}

// writeFile writes the records that read passes on to out, in one batch. fetch calls its
// argument with each response; the records of all but the last are dropped.
func writeFile(out collector.Output, read func(resp *Response, each records.Func) error, fetch func(onResponse func(*Response) error) error) error {
	var batch collector.Batch
	discard := func() {
		if batch != nil {
			batch.Discard()
		}
	}
	defer discard()
	err := fetch(func(resp *Response) error {
		discard()
		batch = out.NewBatch()
		return read(resp, batch.Append)
	})
	if err != nil {
		return err
	}
	return batch.Commit()
}

// RefusePage returns an error if the body is an HTML page in place of a file. It is called
// before the body is read.
func (r *Response) RefusePage() error {
	buffered := bufio.NewReaderSize(r.Body, 4<<10)
	r.Body = buffered
	start, err := buffered.Peek(1 << 10)
	if err != nil && err != io.EOF {
		return err
	}
	if isPage(r.Header, start) {
		return &BodyError{Err: fmt.Errorf("body is %s, want a file", describePage(start)), page: true}
	}
	return nil
}

// CheckFile makes the smallest requests that show whether the file of r can be read. A
// proxy with a page to log in also responds to HEAD: the body is read, as in a run, if
// the headers say that it is a page or empty.
func (c *Client) CheckFile(ctx context.Context, r Request) error {
	isDoubtful := false
	head := r
	head.Method = http.MethodHead
	err := c.Do(ctx, head, func(resp *Response) error {
		isDoubtful = isPageType(resp.Header) || resp.Header.Get("Content-Length") == "0"
		return nil
	})
	if err != nil || !isDoubtful {
		return err
	}
	return c.Do(ctx, r, func(resp *Response) error {
		if err := resp.RefusePage(); err != nil {
			return err
		}
		if n, err := io.CopyN(io.Discard, resp.Body, 1); n == 0 && err == io.EOF {
			return &BodyError{Err: errors.New("body is empty, want a file")}
		}
		return nil
	})
}

// SaveBody replaces the content of file with the body of the response, of at most
// maxBytes bytes.
func (r *Response) SaveBody(file *os.File, maxBytes int64) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(r.Body, maxBytes+1))
	if err == nil && n > maxBytes {
		err = &BodyError{Err: fmt.Errorf("%w: the file has more than %d MiB", errOversize, maxBytes>>20)}
	}
	return err
}

// ReadZIP passes the ZIP archive that the body is to read. It saves the archive, of at most
// maxArchive bytes, in a temporary file, because the directory of an archive is at its
// end.
func (r *Response) ReadZIP(ctx context.Context, maxArchive int64, read func(archive *records.ZIP) error) error {
	file, err := collector.CreateTemp(ctx)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := r.SaveBody(file, maxArchive); err != nil {
		return err
	}
	archive, err := records.OpenZIP(file)
	if err != nil {
		return err
	}
	return read(archive)
}

// EachZIPObject reads a ZIP archive of files with one JSON object each, as ReadZIP does. The
// content has at most maxContent bytes. It returns the number of objects.
func (r *Response) EachZIPObject(ctx context.Context, maxArchive, maxContent int64, each records.Func) (objects int64, err error) {
	err = r.ReadZIP(ctx, maxArchive, func(archive *records.ZIP) (err error) {
		objects, err = archive.EachObject(maxContent, func(_ records.Entry, record []byte) error { return each(record) })
		return err
	})
	return objects, err
}

// A Download is a file at an address that a response of the vendor contains, for
// example in a store of another company. It is requested without the credential
// of the vendor: the address itself contains what authorizes it.
type Download struct {
	// URL is the address.
	URL string
	// Hosts are the hosts from which files are accepted: names, or domains that
	// begin with a dot, such as ".blob.core.windows.net", for all hosts in them.
	// The host of the client's Base is always accepted.
	Hosts []string
	// Setting is the setting of Hosts, for errors.
	Setting string
	// Class is the endpoint class whose limits apply.
	Class string
}

// ErrLinkRefused means that the address of a Download is not valid, usually not any
// longer. A caller may ask the vendor for another one.
var ErrLinkRefused = errors.New("the address of the file is refused, it may have expired")

// Download requests a file and passes the response to read, like Do. Addresses on
// other hosts than those of d are refused, and addresses without TLS, unless the
// vendor's own has none either.
func (c *Client) Download(ctx context.Context, d Download, read func(*Response) error) error {
	target, err := c.checkDownload(d)
	if err != nil {
		return err
	}
	base := &url.URL{Scheme: target.Scheme, Host: target.Host}
	files := &Client{
		Base: base, HTTP: c.HTTP, Limits: c.Limits, Retry: c.Retry, BodyIdle: c.BodyIdle, UserAgent: c.UserAgent,
		Redact: append(secretParams(target), c.Redact...), maxBody: c.maxBody,
	}
	err = files.Do(ctx, Request{Path: target.String(), Class: d.Class}, func(resp *Response) error {
		if err := resp.RefusePage(); err != nil {
			return err
		}
		return read(resp)
	})
	if HasStatus(err, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone) {
		// The class of the status is about the vendor's credential, which was not sent.
		return fmt.Errorf("%w: %v", ErrLinkRefused, err)
	}
	return err
}

// DownloadFile is FetchFile for a Download.
func (c *Client) DownloadFile(ctx context.Context, d Download, out collector.Output, read func(resp *Response, each records.Func) error) error {
	return writeFile(out, read, func(onResponse func(*Response) error) error { return c.Download(ctx, d, onResponse) })
}

// checkDownload returns the address of d, or an error if it must not be requested.
func (c *Client) checkDownload(d Download) (*url.URL, error) {
	target, err := parseAddress(d.URL)
	if err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	host := strings.ToLower(target.Hostname())
	allowed := sameHost(target, c.Base)
	for _, pattern := range d.Hosts {
		pattern = strings.ToLower(pattern)
		allowed = allowed || host == pattern || strings.HasPrefix(pattern, ".") && strings.HasSuffix(host, pattern)
	}
	switch {
	case target.Host == "":
		return nil, fmt.Errorf("download: the address names no host: %w", collector.ErrIncomplete)
	case !allowed:
		// Not collector.ErrIncomplete: another file would be at the same host.
		return nil, fmt.Errorf("download from %s: files of %s are accepted only from %s: if the host belongs to the vendor, add it to %s",
			target.Host, c.Base.Host, strings.Join(append([]string{c.Base.Host}, d.Hosts...), ", "), d.Setting)
	case !strings.EqualFold(target.Scheme, "https") && !strings.EqualFold(target.Scheme, c.Base.Scheme):
		return nil, fmt.Errorf("download from %s://%s: want https: %w", target.Scheme, target.Host, collector.ErrIncomplete)
	}
	return target, nil
}

// secretParams returns the values of the query of an address, which may authorize
// the request.
func secretParams(address *url.URL) []string {
	secrets := []string{address.RawQuery}
	for _, values := range address.Query() {
		secrets = append(secrets, values...)
	}
	return secrets
}

// A SharedFile lets streams that run at the same time, which are those of one run,
// read the same response from one request. Its zero value is ready to use.
type SharedFile struct {
	mu       sync.Mutex
	users    int
	readings []*fileReading // the newest last
}

// A fileReading is one response. Its fields file, header and err are set when done
// is closed.
type fileReading struct {
	unless Validator // the condition of the request
	began  time.Time
	done   chan struct{}
	stats  *collector.Stats // of the stream that makes the request
	file   *os.File
	size   int64
	header http.Header
	err    error
	// canceled means that the stream which made the request was canceled. The
	// others then make it themselves.
	canceled bool
}

// maxFileAge is how old a response may be for a stream that starts while another
// one still reads it.
const maxFileAge = 10 * time.Minute

// Fetch passes the body of the response to r to read, and returns the headers. The
// body has at most maxBytes bytes. Of streams with the same condition r.Unless
// that call it at the same time, one makes the request. verify reads the body
// first, as part of the request: after a FormatError or a BodyError the request
// is repeated.
func (s *SharedFile) Fetch(ctx context.Context, c *Client, r Request, maxBytes int64, verify, read func(io.Reader) error) (http.Header, error) {
	leave := s.join()
	defer leave()
	for {
		reading, isOwn := s.currentReading(ctx, r.Unless)
		if isOwn {
			reading.request(ctx, c, r, maxBytes, verify)
		} else if err := WaitOn(ctx, reading.done, "the response to "+r.Step(), reading.stats); err != nil {
			return nil, err
		}
		switch {
		case reading.canceled && !isOwn:
			continue
		case reading.err != nil:
			return nil, reading.err
		}
		return reading.header, read(io.NewSectionReader(reading.file, 0, reading.size))
	}
}

// join registers a stream. When the last one leaves, the files are removed.
func (s *SharedFile) join() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users > 0 {
			return
		}
		for _, reading := range s.readings {
			reading.closeFile()
		}
		s.readings = nil
	}
}

// currentReading returns the reading of a request. isOwn reports whether it is new,
// so that the caller must make the request.
func (s *SharedFile) currentReading(ctx context.Context, unless Validator) (_ *fileReading, isOwn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, last := range slices.Backward(s.readings) {
		if last.unless == unless && time.Since(last.began) < maxFileAge && !last.isCanceled() {
			return last, false
		}
	}
	reading := &fileReading{unless: unless, began: time.Now(), done: make(chan struct{}), stats: collector.StatsFrom(ctx)}
	s.readings = append(s.readings, reading)
	return reading, true
}

// isCanceled reports whether the request has ended because its stream was canceled.
func (f *fileReading) isCanceled() bool {
	select {
	case <-f.done:
		return f.canceled
	default:
		return false
	}
}

// request makes the request and saves its response.
func (f *fileReading) request(ctx context.Context, c *Client, r Request, maxBytes int64, verify func(io.Reader) error) {
	defer close(f.done)
	if f.file, f.err = collector.CreateTemp(ctx); f.err != nil {
		return
	}
	f.err = c.Do(ctx, r, func(resp *Response) (err error) {
		if err := resp.SaveBody(f.file, maxBytes); err != nil {
			return err
		}
		if f.size, err = f.file.Seek(0, io.SeekEnd); err != nil {
			return err
		}
		f.header = resp.Header
		return verify(io.NewSectionReader(f.file, 0, f.size))
	})
	f.canceled = f.err != nil && ctx.Err() != nil
}

// closeFile removes the file.
func (f *fileReading) closeFile() {
	if f.file != nil {
		_ = f.file.Close() // it is temporary
	}
}
