package rest

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
)

// respondInTurn responds to the nth request with the nth body, and to further ones
// with the last.
func respondInTurn(requests *atomic.Int64, bodies ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		n := min(int(requests.Add(1)), len(bodies))
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
		_, _ = io.WriteString(w, bodies[n-1])
	}
}

func readCSV(resp *Response, each records.Func) error {
	_, err := records.CSV{Columns: []string{"id"}}.Each(records.Gunzip(resp.Body, 1<<20), each)
	return err
}

// TestFetchFile: a file that is damaged or is something else is requested again,
// and leaves no record.
func TestFetchFile(t *testing.T) {
	good := gzipped("id\n1\n2\n")
	for name, bad := range map[string]string{
		"cut": good[:len(good)-3], "HTML": "<html>busy</html>", "nothing": "", "more after the end": good + "x",
		"short row": gzipped("id,b\n1,2\n3\n"), "other columns": gzipped("name\n1\n"),
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			c := startServer(t, respondInTurn(&requests, bad, bad, good))
			var out MemoryOutput
			header, err := c.FetchFile(t.Context(), Request{Path: "/f.csv.gz"}, &out, readCSV)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%s", out.Records()); got != `[{"id":"1"} {"id":"2"}]` || requests.Load() != 3 || header.Get("ETag") != `"3"` {
				t.Errorf("records %s after %d requests, ETag %s, want both records after 3", got, requests.Load(), header.Get("ETag"))
			}
		})
	}
	t.Run("always cut", func(t *testing.T) {
		var requests atomic.Int64
		c := startServer(t, respondInTurn(&requests, good[:len(good)-3]))
		var out MemoryOutput
		_, err := c.FetchFile(t.Context(), Request{Path: "/f.csv.gz"}, &out, readCSV)
		if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "GET /f.csv.gz (4 attempts): response: the gzip file ends early") || len(out.Records()) != 0 {
			t.Errorf("error %v, %d records, want that the file ends early and none", err, len(out.Records()))
		}
	})
	t.Run("error of the output", func(t *testing.T) {
		var requests atomic.Int64
		errStop := errors.New("disk full")
		c := startServer(t, respondInTurn(&requests, good))
		_, err := c.FetchFile(t.Context(), Request{Path: "/f.csv.gz"}, &MemoryOutput{}, func(resp *Response, _ records.Func) error {
			return readCSV(resp, func([]byte) error { return errStop })
		})
		if !errors.Is(err, errStop) || requests.Load() != 1 {
			t.Errorf("error %v after %d requests, want %v after 1", err, requests.Load(), errStop)
		}
	})
}

// zipped returns an archive with one file for each content.
func zipped(t *testing.T, contents ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, content := range contents {
		f, err := w.Create(fmt.Sprintf("%d.json", i))
		if err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEachZIPObject tests archives that are damaged, too long, and whole, and that
// the temporary file is the extraction's and is closed.
func TestEachZIPObject(t *testing.T) {
	good := zipped(t, `{"id":1}`, `{"id":2}`)
	for _, tc := range []struct {
		name         string
		bodies       []string
		maxArchive   int64
		wantRequests int64
		wantFiles    int // none for an HTML page
		wantText     string
	}{
		{name: "damaged at first", bodies: []string{good[:len(good)/2], "<html>", good}, maxArchive: 1 << 20, wantRequests: 3, wantFiles: 2},
		{name: "longer at first", bodies: []string{good + "garbage", good}, maxArchive: 1 << 20, wantRequests: 2, wantFiles: 2},
		{name: "too long", bodies: []string{good}, maxArchive: 50, wantRequests: 1, wantFiles: 1, wantText: "too long: the file has more than 0 MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var requests atomic.Int64
			c := startServer(t, respondInTurn(&requests, tc.bodies...))
			var files []*os.File
			ctx := collector.WithTempFiles(t.Context(), func() (*os.File, error) {
				f, err := collector.CreateTemp(t.Context())
				files = append(files, f)
				return f, err
			})
			var out MemoryOutput
			_, err := c.FetchFile(ctx, Request{Path: "/all.zip"}, &out, func(resp *Response, each records.Func) error {
				_, err := resp.EachZIPObject(ctx, tc.maxArchive, 1<<20, each)
				return err
			})
			if tc.wantText != "" {
				if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), tc.wantText) {
					t.Errorf("error %v, want %q", err, tc.wantText)
				}
			} else if got := fmt.Sprintf("%s", out.Records()); err != nil || got != `[{"id":1} {"id":2}]` {
				t.Errorf("records %s, error %v", got, err)
			}
			if requests.Load() != tc.wantRequests || len(files) != tc.wantFiles {
				t.Errorf("%d requests, %d temporary files, want %d and %d", requests.Load(), len(files), tc.wantRequests, tc.wantFiles)
			}
			for _, f := range files {
				if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("a temporary file is not closed: %v", err)
				}
			}
		})
	}
}

// TestDownload: a file on another host is requested without the credential, and
// only from hosts that are allowed.
func TestDownload(t *testing.T) {
	var requests atomic.Int64
	var credential, userAgent string
	status := http.StatusOK
	store := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		credential, userAgent = r.Header.Get("Authorization"), r.Header.Get("User-Agent")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "content of "+r.URL.RequestURI())
	}))
	c := newTestClient(t, "http://api.vendor.test")
	t.Cleanup(c.HTTP.CloseIdleConnections)
	c.Auth = Bearer("vendor-secret")
	download := func(address string, hosts ...string) (string, error) {
		var body []byte
		err := c.Download(t.Context(), Download{URL: address, Hosts: hosts, Setting: "VENDOR_HOSTS"}, func(resp *Response) (err error) {
			body, err = io.ReadAll(resp.Body)
			return err
		})
		return string(body), err
	}
	address := store.Base.String() + "/f.zip?sig=topsecret%2Fx"
	body, err := download(address, "127.0.0.1")
	if err != nil || body != "content of /f.zip?sig=topsecret%2Fx" || credential != "" || userAgent != "collectord/test" {
		t.Errorf("body %q, error %v, credential %q, user agent %q", body, err, credential, userAgent)
	}
	for _, refused := range []int{401, 403, 404, 410} {
		status = refused
		_, err = download(address, ".0.0.1")
		if !errors.Is(err, ErrLinkRefused) || errors.Is(err, collector.ErrRefused) || errors.Is(err, collector.ErrForbidden) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("error %v, want %v without the signature", err, ErrLinkRefused)
		}
	}
	requests.Store(0)
	for _, tc := range []struct {
		address   string
		hosts     []string
		wantText  string
		isSetting bool // another file would be refused as well
	}{
		{address: address, hosts: []string{"files.test", ".blob.test"}, wantText: "download from " + store.Base.Host + ": files of api.vendor.test are accepted only from api.vendor.test, files.test, .blob.test: if the host belongs to the vendor, add it to VENDOR_HOSTS", isSetting: true},
		{address: "http://blob.test.evil.test/x", hosts: []string{".blob.test"}, wantText: "accepted only from", isSetting: true},
		{address: "http://evilblob.test/x", hosts: []string{".blob.test"}, wantText: "accepted only from", isSetting: true},
		{address: "ftp://files.test/x", hosts: []string{"files.test"}, wantText: "want https"},
		{address: "/f.zip", wantText: "names no host"},
		{address: "https:f.zip", wantText: "names no host"},
	} {
		if _, err := download(tc.address, tc.hosts...); errors.Is(err, collector.ErrIncomplete) == tc.isSetting || !strings.Contains(err.Error(), tc.wantText) {
			t.Errorf("%s: error %v, want %q", tc.address, err, tc.wantText)
		}
	}
	c.Base.Scheme = "https"
	if _, err := download(address, "127.0.0.1"); !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "want https") {
		t.Errorf("error %v, want that https is wanted", err)
	}
	if requests.Load() != 0 {
		t.Errorf("%d requests, want none", requests.Load())
	}
}

// TestSharedFile: streams that run at the same time share one request, those with
// another condition and later ones make their own.
func TestSharedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := requests.Add(1)
			time.Sleep(time.Second)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("ETag", `"v"`)
			_, _ = io.WriteString(w, strings.Repeat("x", int(n)))
		}))
		defer stop()
		var shared SharedFile
		fetch := func(ctx context.Context, unless Validator) (string, error) {
			var body []byte
			header, err := shared.Fetch(ctx, c, Request{Path: "/f", Unless: unless}, 100, func(r io.Reader) error {
				if first, err := io.ReadAll(r); err != nil || len(first) == 1 {
					return &BodyError{Err: errors.New("too short")} // the first response is not accepted
				}
				return nil
			}, func(r io.Reader) (err error) {
				body, err = io.ReadAll(r)
				return err
			})
			return string(body) + header.Get("ETag"), err
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if got, err := fetch(t.Context(), Validator{}); err != nil || got != `xx"v"` {
					t.Errorf("body %q, error %v, want that of the second response", got, err)
				}
			})
		}
		all.Wait()
		if requests.Load() != 2 {
			t.Errorf("%d requests, want 2", requests.Load())
		}
		for range 2 {
			all.Go(func() {
				if _, err := fetch(t.Context(), Validator{ETag: `"v"`}); !errors.Is(err, ErrNotModified) {
					t.Errorf("error %v, want %v", err, ErrNotModified)
				}
			})
		}
		all.Go(func() {
			if got, err := fetch(t.Context(), Validator{}); err != nil || len(got) < 4 {
				t.Errorf("body %q, error %v", got, err)
			}
		})
		all.Wait()
		if requests.Load() != 4 {
			t.Errorf("%d requests, want 4", requests.Load())
		}
		if shared.readings != nil {
			t.Errorf("%d responses are kept", len(shared.readings))
		}
	})
}

// TestSharedFileCanceled: the stream that makes the request is canceled, and the
// other one makes it again.
func TestSharedFileCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			_, _ = io.WriteString(w, "x")
		}))
		defer stop()
		var shared SharedFile
		accept := func(io.Reader) error { return nil }
		first, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := shared.Fetch(first, c, Request{Path: "/f"}, 100, accept, accept); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := shared.Fetch(t.Context(), c, Request{Path: "/f"}, 100, accept, accept); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		all.Wait()
	})
}
