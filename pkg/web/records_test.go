package web

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/collectord/collectord/pkg/snapshot"
)

// download requests records and returns the response with its whole body. The client does
// not decompress.
func (f *fixture) download(url string, headers ...string) (*http.Response, []byte) {
	f.Helper()
	response := f.openDownload(http.MethodGet, url, headers...)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.Fatal(err)
	}
	return response, body
}

func (f *fixture) openDownload(method, url string, headers ...string) *http.Response {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), method, url, nil)
	if err != nil {
		f.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	return response
}

// lastKnown returns the last-known snapshot of okta_users and its records as NDJSON.
func (f *fixture) lastKnown() (*snapshot.Snapshot, []byte) {
	f.Helper()
	sealed, _, err := f.state.Snapshots.LastKnown(f.Context(), "okta_users", "acme")
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := sealed.Encode(f.Context(), &b, snapshot.Format{Kind: snapshot.NDJSON}); err != nil {
		f.Fatal(err)
	}
	return sealed, b.Bytes()
}

func TestDownload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSuccess("okta", "okta_users", time.Hour, nil, `{"id":1}`, `{"id":2}`)
	sealed, want := f.lastKnown()
	url := f.startServer("").URL + "/api/v1/streams/okta_users/records"

	plain, body := f.download(url)
	if !bytes.Equal(body, want) || plain.StatusCode != 200 || plain.ContentLength != int64(len(want)) {
		t.Errorf("%s, %d bytes: %q, want %q", plain.Status, plain.ContentLength, body, want)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/x-ndjson", "Vary": "Accept-Encoding", "X-Collectord-Records": "2", "Cache-Control": "no-store",
		"Content-Disposition": "attachment; filename=okta_users_20261124T110000Z.ndjson", "ETag": `"` + sealed.UploadID + `.ndjson"`,
	} {
		if got := plain.Header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}

	packed, body := f.download(url, "Accept-Encoding", "br;q=1, gzip;q=0.5")
	unpacked, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(unpacked); err != nil || !bytes.Equal(got, want) || packed.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("gzip: %q, error %v, headers %v", got, err, packed.Header)
	}
	if refused, body := f.download(url, "Accept-Encoding", "gzip;q=0, identity"); !bytes.Equal(body, want) || refused.Header.Get("Content-Encoding") != "" {
		t.Errorf("gzip;q=0: %q", body)
	}

	stored, body := f.download(url + "?format=ndjson.zst")
	decoder, err := zstd.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	sum := sha256.Sum256(body)
	if got, err := io.ReadAll(decoder); err != nil || !bytes.Equal(got, want) {
		t.Errorf("stored: %q, error %v", got, err)
	}
	if digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"; stored.Header.Get("Repr-Digest") != digest {
		t.Errorf("digest %q, want %q", stored.Header.Get("Repr-Digest"), digest)
	}
	if part, rest := f.download(url+"?format=ndjson.zst", "Range", "bytes=4-"); part.StatusCode != 206 || !bytes.Equal(rest, body[4:]) {
		t.Errorf("a part: %s %q", part.Status, rest)
	}

	for _, r := range []*http.Response{plain, packed, stored} {
		if same, body := f.download(r.Request.URL.String(), "If-None-Match", `"x", W/`+r.Header.Get("ETag"), "Accept-Encoding", r.Request.Header.Get("Accept-Encoding")); same.StatusCode != 304 || len(body) > 0 {
			t.Errorf("with the entity tag %s: %s %q", r.Header.Get("ETag"), same.Status, body)
		}
		head := f.openDownload(http.MethodHead, r.Request.URL.String(), "Accept-Encoding", r.Request.Header.Get("Accept-Encoding"))
		head.Body.Close()
		if head.StatusCode != 200 || head.Header.Get("ETag") != r.Header.Get("ETag") || head.ContentLength != r.ContentLength && head.ContentLength >= 0 {
			t.Errorf("HEAD: %s %v, want %v", head.Status, head.Header, r.Header)
		}
	}
	tags := map[string]bool{plain.Header.Get("ETag"): true, packed.Header.Get("ETag"): true, stored.Header.Get("ETag"): true}
	f.addSuccess("okta", "okta_users", time.Minute, nil, `{"id":3}`)
	if newer, _ := f.download(url, "If-None-Match", plain.Header.Get("ETag")); newer.StatusCode != 200 || len(tags) != 3 || tags[newer.Header.Get("ETag")] {
		t.Errorf("the newer snapshot: %s with the tag %s; tags %v", newer.Status, newer.Header.Get("ETag"), tags)
	}
}

// randomRecords returns records that do not compress, of about size bytes together.
func randomRecords(size int) (records []string) {
	random := rand.New(rand.NewPCG(1, 2))
	for range size / 1024 {
		text := make([]byte, 1024)
		for i := range text {
			text[i] = "0123456789abcdefghijklmnopqrstuv"[random.IntN(32)]
		}
		records = append(records, `{"text":"`+string(text)+`"}`)
	}
	return records
}

// TestDownloadStaysWhole has a newer snapshot replace the one that is being downloaded, and
// its directory removed: what is sent stays whole.
func TestDownloadStaysWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSuccess("okta", "okta_users", time.Hour, nil, randomRecords(16<<20)...)
	sealed, want := f.lastKnown()
	url := f.startServer("").URL + "/api/v1/streams/okta_users/records"
	var begun []*bufio.Reader
	for _, address := range []string{url, url + "?format=ndjson.zst"} {
		response := f.openDownload(http.MethodGet, address)
		defer response.Body.Close()
		reader := bufio.NewReaderSize(response.Body, 4096)
		if _, err := reader.Peek(100); err != nil {
			t.Fatal(err)
		}
		begun = append(begun, reader)
	}
	f.addSuccess("okta", "okta_users", time.Minute, nil, `{"id":1}`)
	if _, err := os.Stat(sealed.Path()); err == nil {
		t.Fatal("the replaced snapshot was not removed")
	}
	if got, err := io.ReadAll(begun[0]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, error %v, want %d bytes", len(got), err, len(want))
	}
	decoder, err := zstd.NewReader(begun[1])
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	if got, err := io.ReadAll(decoder); err != nil || !bytes.Equal(got, want) {
		t.Errorf("stored: %d bytes, error %v, want %d bytes", len(got), err, len(want))
	}
}

// TestLongDownload checks that the time limit of a response bounds its parts, not the whole.
func TestLongDownload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSuccess("okta", "okta_users", time.Hour, nil, randomRecords(8<<20)...)
	_, want := f.lastKnown()
	server := httptest.NewUnstartedServer(f.newHandler(func(*Options) {}))
	server.Config.WriteTimeout = time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	url := server.URL + "/api/v1/streams/okta_users/records"
	if _, body := f.download(url); !bytes.Equal(body, want) {
		t.Errorf("%d bytes, want %d", len(body), len(want))
	}
	if response, body := f.download(url + "?format=ndjson.zst"); response.ContentLength != int64(len(body)) {
		t.Errorf("stored: %d bytes, want %d", len(body), response.ContentLength)
	}
}

// TestDamagedDownloadEndsEarly checks that a client cannot take damaged data for whole.
func TestDamagedDownloadEndsEarly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSuccess("okta", "okta_users", time.Hour, nil, randomRecords(4<<20)...)
	sealed, _ := f.lastKnown()
	text, err := os.ReadFile(sealed.Path())
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-100] ^= 1
	if err := os.WriteFile(sealed.Path(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	url := f.startServer("").URL + "/api/v1/streams/okta_users/records"
	for _, encoding := range []string{"identity", "gzip"} {
		response := f.openDownload(http.MethodGet, url, "Accept-Encoding", encoding)
		n, err := io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err == nil {
			t.Errorf("%s: %d bytes of damaged data without an error", encoding, n)
		}
	}
}

// TestPagesOfRuns reads the history of runs page by page, in both directions.
func TestPagesOfRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addHistory("okta", "okta_users", 25, time.Hour)
	f.addHistory("crowdstrike", "crowdstrike_hosts", 7, time.Hour)
	url := f.startServer("").URL + "/api/v1/runs?limit=10&stream=okta_users"
	var ids []int64
	read := func(query string) (next map[string]int64, page []int64) {
		t.Helper()
		_, _, text := httpGet(t, url+query)
		var response struct {
			Runs []struct {
				ID     int64
				Stream string
			}
			Before int64 `json:"next_before"`
			After  int64 `json:"next_after"`
		}
		decodeJSON(t, text, &response)
		for _, r := range response.Runs {
			if r.Stream != "okta_users" {
				t.Errorf("a run of %s", r.Stream)
			}
			page = append(page, r.ID)
		}
		return map[string]int64{"before": response.Before, "after": response.After}, page
	}
	for query, pages := "", 0; ; pages++ {
		next, page := read(query)
		ids = append(ids, page...)
		if next["before"] == 0 {
			if pages != 2 {
				t.Errorf("%d pages, want 3", pages+1)
			}
			break
		}
		query = "&before=" + strconv.FormatInt(next["before"], 10)
	}
	for i, id := range ids {
		if want := int64(25 - i); id != want {
			t.Fatalf("the ids are %v, want those from 25 to 1", ids)
		}
	}
	if next, page := read("&after=5"); len(page) != 10 || page[0] != 15 || page[9] != 6 || next["after"] != 15 {
		t.Errorf("after 5: %v, next %v, want those from 15 to 6", page, next)
	}
	if next, page := read("&after=15"); len(page) != 10 || page[0] != 25 || next["after"] != 0 {
		t.Errorf("after 15: %v, next %v, want those from 25 to 16", page, next)
	}
	if _, page := read("&before=20&after=15"); len(page) != 4 || page[0] != 19 {
		t.Errorf("between: %v, want those from 19 to 16", page)
	}
	if _, page := read("&outcome=failed&outcome=timeout"); len(page) != 1 || page[0] != 12 {
		t.Errorf("failed: %v, want 12", page)
	}
}

// TestPrefix serves everything below a prefix and without it, with links below the prefix.
func TestPrefix(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	const prefix = "/security/collectord"
	server := f.startServerWith(func(o *Options) { o.Prefix, o.Token, o.Pprof = prefix, "secret-token", true })
	for _, path := range []string{
		"/", "/streams/okta_users", "/query", "/assets/style.css", "/api/v1/status", "/-/healthy", "/debug/pprof/", "/debug/pprof/goroutine?debug=1",
	} {
		for _, start := range []string{"", prefix} {
			code, _, text := httpGet(t, server.URL+start+path)
			if code != 200 {
				t.Errorf("%s%s: %d %.200s", start, path, code, text)
			}
			for _, link := range []string{`href="/`, `src="/`, `data-post="/`, `data-part="/`, `data-path="/`} {
				if n, own := strings.Count(text, link), strings.Count(text, link+prefix[1:]+"/"); n != own {
					t.Errorf("%s%s: %d links %s, %d of them below the prefix", start, path, n, link, own)
				}
			}
		}
	}
	if code, header, text := httpGet(t, server.URL+prefix+"/nothing"); code != 404 || !strings.Contains(header.Get("Content-Type"), "html") || !strings.Contains(text, prefix+"/assets") {
		t.Errorf("not found: %d %v %.200s", code, header, text)
	}
	if code, header, text := httpGet(t, server.URL+prefix+"/api/v1/nothing"); code != 404 || !strings.Contains(header.Get("Content-Type"), "json") {
		t.Errorf("not found in the API: %d %v %.200s", code, header, text)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(server.URL + prefix)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got := response.Header.Get("Location"); got != prefix+"/" {
		t.Errorf("%s leads with %s to %q", prefix, response.Status, got)
	}
}
