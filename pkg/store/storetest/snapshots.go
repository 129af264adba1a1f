package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// Noon is when the snapshots of most tests were taken.
var Noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Header returns the header of run n of the stream okta_users: runs are a minute
// apart, and the upload id ends with n.
func Header(n int) snapshot.Header {
	return snapshot.Header{
		Collector: "okta", Stream: "okta_users", Tenancy: "default",
		UploadID:        fmt.Sprintf("00000000-0000-4000-8000-%012d", n),
		UploadTimestamp: time.Date(2026, 1, 1, 12, n, 0, 0, time.UTC),
	}
}

// NewHeader returns a header with a new upload id.
func NewHeader(stream, tenancy string, taken time.Time) snapshot.Header {
	return snapshot.Header{Collector: "okta", Stream: stream, Tenancy: tenancy, UploadID: uuid.NewString(), UploadTimestamp: taken}
}

// Numbered returns n different records of a run.
func Numbered(run, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"run":%d,"n":%d,"name":"user %d"}`, run, i, i)
	}
	return list
}

// Padded returns n different records of a run of about 500 bytes each, which do
// not compress well.
func Padded(run, n int) []string {
	r := rand.New(rand.NewPCG(1, uint64(run)))
	pad := make([]byte, 200)
	list := make([]string, n)
	for i := range list {
		for j := range pad {
			pad[j] = byte(r.Uint32())
		}
		list[i] = fmt.Sprintf(`{"run":%d,"n":%d,"pad":"%x"}`, run, i, pad)
	}
	return list
}

// Awkward are valid records that something on the way could change or reject.
var Awkward = []string{
	`{}`,
	`{"nul":"\u0000","sep":"` + "\u2028\u2029" + `","html":"<a href='x'>&amp;</a>","slash":"\/"}`,
	`{"lone":"\ud800","low":"\udfff x","pair":"\ud83d\ude00","fake":"\\ud800"}`,
	`{"twice":1,"twice":2,"Twice":3}`,
	`{"huge":1e400,"tiny":1e-400,"int":1234567890123456789,"big":123456789012345678901234567890,"zero":-0,"one":1.0,"exp":1E+2}`,
	`{ "spaces" : [ 1 , { } ,	null ] }`,
	`{"":{"":[]},"quote\"d":"back\\slash","é":"日本語 😀"}`,
	`{"_tenancy":"theirs","_upload_id":"x","sql":"'; DROP TABLE t; --","line":"a\nb\r\tc"}`,
	`{"deep":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`,
}

// Seal returns a sealed snapshot of the records. All users may read its files,
// so that a Job can read them as another user.
func Seal(t testing.TB, h snapshot.Header, records ...string) *snapshot.Snapshot {
	t.Helper()
	return SealEach(t, h, len(records), func(i int) string { return records[i] })
}

// SealMany returns a snapshot of run 2 that takes a while to store: 6,000
// records of 450 bytes.
func SealMany(t testing.TB) *snapshot.Snapshot {
	t.Helper()
	return Seal(t, Header(2), Padded(2, 6000)...)
}

// SealEach returns a sealed snapshot of n records, see Seal.
func SealEach(t testing.TB, h snapshot.Header, n int, record func(i int) string) *snapshot.Snapshot {
	t.Helper()
	dir := t.TempDir()
	w, err := snapshot.Create(filepath.Join(dir, "spool"), h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	for i := range n {
		if err := batch.Append([]byte(record(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	s, err := w.Seal(filepath.Join(dir, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Chmod(filepath.Join(s.Dir(), e.Name()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(s.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// ReadRecords returns the records of s as they are stored, and verifies that each
// is JSON.
func ReadRecords(t testing.TB, s *snapshot.Snapshot) []string {
	t.Helper()
	r, err := s.Reader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var list []string
	for {
		record, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(record) {
			t.Fatalf("%.100q is not JSON", record)
		}
		list = append(list, string(record))
	}
}

// EncodedRecords returns the records of s as they are stored. They may be no
// JSON.
func EncodedRecords(t testing.TB, s *snapshot.Snapshot) []string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Encode(t.Context(), &b, snapshot.Format{Kind: snapshot.NDJSON}); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// Write writes the snapshots, which must succeed.
func Write(t testing.TB, sink store.Sink, snapshots ...*snapshot.Snapshot) {
	t.Helper()
	for _, s := range snapshots {
		if err := sink.Write(t.Context(), s); err != nil {
			t.Fatalf("write %s: %v", s.UploadID, err)
		}
	}
}

// WriteFailing writes s, which must fail, and returns what a Breakage returns.
func WriteFailing(t *testing.T, sink store.Sink, s *snapshot.Snapshot) (problem string, refused bool) {
	t.Helper()
	err := sink.Write(t.Context(), s)
	if err == nil {
		return "", false
	}
	if hasSecret(err) {
		t.Errorf("a secret is in the error: %v", err)
	}
	return err.Error(), errors.Is(err, store.ErrRefused)
}

// AssertRetriable checks that err is an error that does not wrap
// store.ErrRefused and holds no secret.
func AssertRetriable(t testing.TB, err error) {
	t.Helper()
	if err == nil || errors.Is(err, store.ErrRefused) || hasSecret(err) {
		t.Fatalf("error %v, want one that is worth repeating, without a secret", err)
	}
}

// hasSecret reports whether the text of err has a secret of the test servers.
func hasSecret(err error) bool {
	return strings.Contains(err.Error(), "pw-") || strings.Contains(err.Error(), testserver.S3Secret)
}

// AwkwardLarge returns more valid records that something on the way could change
// or reject: deeply nested, very long, with numbers of unusual size. The last
// has a bare tab in a string.
func AwkwardLarge() []string {
	deep := func(n int) string { return `{"d":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	return []string{
		`{"nul":"a\u0000b","k\u0000":1,"kept":"\\u0000"}`,
		`{"half":"\ud83d","other":"\uDE00x","pair":"\ud83d\ude00","swapped":"\ude00\ud83d"}`,
		`{"tab":"\t","quote":"\"","slash":"\/","del":"` + "\x7f" + `","sep":"` + "\u2028" + `","nfd":"` + "e\u0301" + `"}`,
		`{"big":9223372036854775808,"long":0.1234567890123456789012345678901234567890,"exp":1e400,"neg":-0,"tiny":1E-400}`,
		`{"huge":1e200000}`,
		`{"twice":1,"twice":2}`,
		`{"emoji":"😀","utf":"日本語","empty":{},"none":null,"":""}`,
		deep(1000),
		`{"wide":"` + strings.Repeat("x", 3<<20) + `"}`,
		`{  "space" :  [ 1 ,2 ]  }`,
		`{"copy":"\\.","csv":"a,b\"c","tab":"	"}`,
	}
}

// SealFilled returns a snapshot of n numbered records of about size bytes each.
func SealFilled(t testing.TB, h snapshot.Header, n, size int) *snapshot.Snapshot {
	t.Helper()
	filler := strings.Repeat("0123456789abcdef", size/16+1)[:size]
	return SealEach(t, h, n, func(i int) string { return fmt.Sprintf(`{"i":%d,"filler":%q}`, i, filler) })
}

// noiseText returns text that does not compress.
var noiseText = sync.OnceValue(func() string {
	raw := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(raw) // it never fails
	return base64.RawURLEncoding.EncodeToString(raw)
})

// SealNoise returns a snapshot of n records of 1,000 bytes each that hardly
// compress.
func SealNoise(t testing.TB, h snapshot.Header, n int) *snapshot.Snapshot {
	t.Helper()
	text := noiseText()
	return SealEach(t, h, n, func(i int) string {
		at := (i * 337) % (len(text) - 1000)
		return `{"i":` + strconv.Itoa(i) + `,"noise":"` + text[at:at+1000] + `"}`
	})
}

// Damage changes a byte of the sealed file of s.
func Damage(t testing.TB, s *snapshot.Snapshot) {
	t.Helper()
	b, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(s.Path(), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// SealHosts returns a snapshot of n records of 2 KB that compress as those of
// vendors do.
func SealHosts(b *testing.B, n int) *snapshot.Snapshot {
	return SealEach(b, NewHeader("bench_hosts", "acme", Noon), n, func(i int) string {
		var s strings.Builder
		fmt.Fprintf(&s, `{"device_id":"%032x","hostname":"host-%d.example.com"`, i*7919, i)
		for j := range 40 {
			fmt.Fprintf(&s, `,"field_%02d":"value %d of %d"`, j, (i*31+j*17)%1000, i%97)
		}
		fmt.Fprintf(&s, `,"tags":["a","b","%d"],"nested":{"seen":%d,"ok":true,"text":%q}}`, i%13, 1700000000+i, strings.Repeat("x", 700))
		return s.String()
	})
}
