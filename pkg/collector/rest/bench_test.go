package rest

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// responseBody returns a response with n records of about 1.6 KB.
func responseBody(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"meta":{"total":1},"resources":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%032d","host_info":{"hostname":"WIN-%d","tags":["a","b","c"],"ip":"10.0.0.1"},"score":%d.5`, i, i, i%10)
		for k := range 30 {
			fmt.Fprintf(&b, `,"field_%d":"value %d of %d in a line of text"`, k, i*k, k)
		}
		b.WriteByte('}')
	}
	b.WriteString(`],"errors":[]}`)
	return b.Bytes()
}

var responseShape = Shape{Records: "resources", Errors: []string{"errors"}}

func BenchmarkSplit(b *testing.B) {
	text := responseBody(2000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Split(bytes.NewReader(text), responseShape, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSpool splits a response and writes its records to a snapshot.
func BenchmarkSpool(b *testing.B) {
	text := responseBody(2000)
	w, err := snapshot.Create(filepath.Join(b.TempDir(), "spool"), snapshot.Header{
		Collector: "vendor", Stream: "vendor_hosts", Tenancy: "default", UploadID: "0b4e", UploadTimestamp: time.Now(),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		p := w.NewBatch()
		if _, err := Split(bytes.NewReader(text), responseShape, func(_ *Envelope, raw []byte) error { return p.Append(raw) }); err != nil {
			b.Fatal(err)
		}
		if err := p.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Abort(); err != nil {
		b.Fatal(err)
	}
}
