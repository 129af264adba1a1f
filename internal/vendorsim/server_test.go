package vendorsim_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestRecordsAreDeterministicAndServedByteForByte(t *testing.T) {
	counts := map[string]int{"toy_items": 120}
	a := startToy(t, vendorsim.Options{Seed: 7, Counts: counts})
	b := startToy(t, vendorsim.Options{Seed: 7, Counts: counts})
	other := startToy(t, vendorsim.Options{Seed: 8, Counts: counts})

	var elements []json.RawMessage
	r := sendRequest(t, a, "GET", a.VendorURL("toy")+"/items", nil)
	if err := json.Unmarshal([]byte(r.body), &elements); err != nil {
		t.Fatal(err)
	}
	if len(elements) != 120 {
		t.Fatalf("%d records served, want 120", len(elements))
	}
	ids := map[string]bool{}
	for i, raw := range elements {
		if want := b.Record("toy_items", i); !bytes.Equal(raw, want) {
			t.Errorf("record %d differs between two servers of the same seed", i)
		}
		if bytes.Equal(raw, other.Record("toy_items", i)) {
			t.Errorf("record %d is the same under another seed", i)
		}
		var rec struct {
			ID string
			N  int
		}
		if err := json.Unmarshal(raw, &rec); err != nil || rec.ID != a.RecordID("toy_items", i) || rec.N != i {
			t.Errorf("record %d: %+v, %v, want id %s", i, rec, err, a.RecordID("toy_items", i))
		}
		ids[rec.ID] = true
	}
	if len(ids) != 120 {
		t.Errorf("%d distinct ids, want 120", len(ids))
	}
}

func TestRecordSizesAndEdges(t *testing.T) {
	s := startToy(t, vendorsim.Options{RecordBytes: map[string]int{"toy_items": 3000}})
	sum, edges := 0, 0
	for i := range 1000 {
		raw := s.Record("toy_items", i)
		if !json.Valid(raw) {
			t.Fatalf("record %d is not JSON: %s", i, raw)
		}
		edge := bytes.Contains(raw, []byte(`"sim_edge"`))
		switch {
		case i == vendorsim.HugeIndex:
			if len(raw) < 500<<10 || len(raw) > 700<<10 {
				t.Errorf("huge record has %d bytes", len(raw))
			}
		case edge:
			edges++
		default:
			sum += len(raw)
		}
	}
	if mean := sum / (1000 - edges - 1); mean < 2700 || mean > 3300 {
		t.Errorf("mean size %d, want about 3000", mean)
	}
	if edges != 20 {
		t.Errorf("%d edge records in 1000, want 20", edges)
	}
	edge := string(s.Record("toy_items", 49))
	for _, want := range []string{"🔐", "\u2028", "\u2029", `\u0000`, "9007199254740993", "1575675954480784435", "1e-7", ":1.0,",
		`]}\"`, `\/`, "null", "{}", "[]", `"vulnerability-management"`, "東京"} {
		if !strings.Contains(edge, want) {
			t.Errorf("edge record lacks %q", want)
		}
	}
	calm := startToy(t, vendorsim.Options{EdgeEvery: -1})
	if b := calm.Record("toy_items", 49); bytes.Contains(b, []byte("sim_edge")) {
		t.Error("there are edge records although they are switched off")
	}
	if b := calm.Record("toy_items", vendorsim.HugeIndex); len(b) > 5000 {
		t.Error("there is a huge record although edge records are switched off")
	}
}

func TestSetCount(t *testing.T) {
	s := startToy(t, vendorsim.Options{})
	before := s.Record("toy_items", 3)
	s.SetCount("toy_items", 5)
	var elements []json.RawMessage
	if err := json.Unmarshal([]byte(sendRequest(t, s, "GET", s.VendorURL("toy")+"/items", nil).body), &elements); err != nil || len(elements) != 5 {
		t.Fatalf("%d records, %v, want 5", len(elements), err)
	}
	if !bytes.Equal(elements[3], before) {
		t.Error("a record changed with the count")
	}
}

func TestMillionRecordsAreStreamed(t *testing.T) {
	s := startToy(t, vendorsim.Options{
		Counts:      map[string]int{"toy_items": 1_000_000},
		RecordBytes: map[string]int{"toy_items": 300},
		Gzip:        vendorsim.GzipOff,
	})
	resp, err := s.Client().Get(s.VendorURL("toy") + "/items")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	buf := make([]byte, 1<<20)
	total, high := 0, uint64(0)
	for step := 0; ; {
		n, err := resp.Body.Read(buf)
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if total>>25 > step { // every 32 MB
			step = total >> 25
			runtime.ReadMemStats(&now)
			high = max(high, now.HeapAlloc)
		}
	}
	if total < 300_000_000 {
		t.Fatalf("only %d bytes served", total)
	}
	if high == 0 || high > before.HeapAlloc+16<<20 {
		t.Errorf("heap grew from %d to %d bytes", before.HeapAlloc, high)
	}
	runtime.ReadMemStats(&now)
	if perRecord := float64(now.Mallocs-before.Mallocs) / 1e6; perRecord > 0.1 {
		t.Errorf("%.2f allocations for each record", perRecord)
	}
}

func TestGzip(t *testing.T) {
	for _, tc := range []struct {
		name string
		mode vendorsim.GzipMode
		want string
	}{{
		name: "fast", mode: vendorsim.GzipFast, want: "gzip",
	}, {
		name: "stored", mode: vendorsim.GzipStored, want: "gzip",
	}, {
		name: "off", mode: vendorsim.GzipOff, want: "",
	}} {
		t.Run(tc.name, func(t *testing.T) {
			s := startToy(t, vendorsim.Options{Gzip: tc.mode})
			r := sendRequest(t, s, "GET", s.VendorURL("toy")+"/items/3", nil, "Accept-Encoding", "gzip")
			body := []byte(r.body)
			if got := r.header.Get("Content-Encoding"); got != tc.want {
				t.Fatalf("Content-Encoding %q, want %q", got, tc.want)
			}
			if tc.want == "gzip" {
				zr, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(zr); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(body, s.Record("toy_items", 3)) {
				t.Error("body differs from the record")
			}
			r = sendRequest(t, s, "GET", s.VendorURL("toy")+"/items/3", nil, "Accept-Encoding", "identity")
			if r.header.Get("Content-Encoding") != "" {
				t.Error("compressed although the client does not accept gzip")
			}
		})
	}
}

func TestStats(t *testing.T) {
	s := startToy(t, vendorsim.Options{Gzip: vendorsim.GzipOff})
	h := s.Host("toy")
	hold := h.Inject(vendorsim.Fault{Path: "/items/*", Times: vendorsim.Forever, Do: vendorsim.Slow(50 * time.Millisecond)})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { sendRequest(t, s, "GET", h.URL()+"/items/1", nil) })
	}
	wg.Wait()
	r := sendRequest(t, s, "GET", h.URL()+"/keys?x=1", nil)
	sendRequest(t, s, "GET", h.URL()+"/nowhere", nil)
	got := h.Stats()
	if got.Total != 5 || got.Requests["GET /items/{n}"] != 3 || got.Requests["GET /keys"] != 1 || got.Requests["GET (no such path)"] != 1 {
		t.Errorf("requests: %v", got.Requests)
	}
	if n := got.MaxParallel["GET /items/{n}"]; n < 2 || n > 3 {
		t.Errorf("max parallel %d, want 2 or 3", n)
	}
	if got.Statuses[200] != 3 || got.Statuses[401] != 1 || got.Statuses[404] != 1 || r.code != 401 {
		t.Errorf("statuses: %v", got.Statuses)
	}
	if want := int64(3*len(s.Record("toy_items", 1)) + len("404 page not found\n")); got.BytesOut != want {
		t.Errorf("%d bytes out, want %d", got.BytesOut, want)
	}
	if l := got.Log[3]; l.Path != "/keys" || l.Query != "x=1" || l.Status != 401 || l.Pattern != "GET /keys" {
		t.Errorf("log: %+v", l)
	}
	if hold.Hits() != 3 {
		t.Errorf("fault hit %d requests, want 3", hold.Hits())
	}
	h.ResetStats()
	if got := h.Stats(); got.Total != 0 || len(got.Requests) != 0 || got.BytesOut != 0 {
		t.Errorf("after reset: %+v", got)
	}
}

func TestServerInsideSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{toy{}}, Memory: true, Latency: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		began := time.Now()
		resp, err := s.Client().Get(s.VendorURL("toy") + "/items/2")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(body, s.Record("toy_items", 2)) {
			t.Fatalf("body differs, error %v", err)
		}
		if d := time.Since(began); d != time.Hour {
			t.Errorf("response after %v of fake time, want 1h", d)
		}
	})
}

func TestStartRefuses(t *testing.T) {
	for name, opts := range map[string]vendorsim.Options{
		"no vendors":     {},
		"same twice":     {Vendors: []vendorsim.Vendor{toy{}, toy{}}},
		"unknown stream": {Vendors: []vendorsim.Vendor{toy{}}, Counts: map[string]int{"nope": 1}},
		"bad address":    {Vendors: []vendorsim.Vendor{toy{}}, Listen: "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := vendorsim.Start(opts); err == nil {
				s.Close()
				t.Error("started")
			}
		})
	}
}

func TestCloseFreesHangingClients(t *testing.T) {
	s := startToy(t, vendorsim.Options{})
	s.Host("toy").Inject(vendorsim.Fault{Do: vendorsim.Hang()})
	done := make(chan error)
	req, err := http.NewRequest("GET", s.VendorURL("toy")+"/items", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		resp, err := s.Client().Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	for s.Host("toy").Stats().Total == 0 {
		runtime.Gosched()
	}
	s.Close()
	if err := <-done; err == nil {
		t.Error("hanging request received a response")
	}
}
