package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/internal/s3dialects"
)

// TestS3CutBody has a real server whose connections end early: the transfer is
// continued, byte for byte.
func TestS3CutBody(t *testing.T) {
	s := newTest(t)
	key, content := "okta_users.json", noise(1<<20)
	if _, err := s.direct.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	proxy := s.throughProxy()
	proxy.Set(faultproxy.Fault{CutDown: 300_000})
	r, o, err := s.sink("%TAG.json").Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) || o.Size != 1<<20 {
		t.Errorf("%d of %d bytes, the same: %v, err = %v", len(got), o.Size, bytes.Equal(got, content), err)
	}
	if proxy.Fired() == 0 {
		t.Error("no connection was cut")
	}
}

// noise returns n bytes.
func noise(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// A brokenTransfer is what happens to the body of a GET request.
type brokenTransfer struct {
	after  int  // bytes that are sent before
	stall  bool // the connection stays open and nothing follows
	status int  // the response has this status instead
	change bool // another object replaces this one
	whole  bool // the range is ignored
}

// TestS3Transfer breaks transfers.
func TestS3Transfer(t *testing.T) {
	content := noise(200_000)
	for _, tt := range []struct {
		name    string
		faults  []brokenTransfer // of the first requests
		problem string           // "" if the whole object arrives
	}{
		{name: "whole"},
		{name: "cut", faults: []brokenTransfer{{after: 70_000}, {after: 1}, {after: 0}, {after: 100_000}}},
		{name: "stalled", faults: []brokenTransfer{{after: 70_000, stall: true}, {stall: true}}},
		{name: "busy after a cut", faults: []brokenTransfer{{after: 70_000}, {status: 503}, {status: 500}}},
		{name: "ranges are ignored", faults: []brokenTransfer{{after: 70_000}, {after: 150_000, whole: true}, {whole: true, after: 200_000}}},
		{name: "replaced", faults: []brokenTransfer{{after: 70_000, change: true}}, problem: "replaced"},
		{name: "forbidden after a cut", faults: []brokenTransfer{{after: 70_000}, {status: 403}}, problem: "s3:GetObject"},
		{name: "nothing follows", faults: []brokenTransfer{{after: 70_000}, {}, {}, {}, {}, {}, {}}, problem: "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			test := newDialectTest(t, s3dialects.AWS)
			test.server.PutObject("old.json", s3dialects.Object{Body: content})
			sink := test.sink(nil)
			sink.idle = time.Second
			sink.resumeWaits = backoff.Policy{First: time.Millisecond, Longest: time.Millisecond}
			requests := 0
			test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if requests++; requests > len(tt.faults) {
					return false
				}
				test.serveBroken(w, r, tt.faults[requests-1])
				return true
			})
			r, o, err := sink.Get(t.Context(), "old.json")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if !bytes.Equal(got, content[:len(got)]) {
				t.Error("other bytes arrived")
			}
			if tt.problem == "" && (err != nil || len(got) != len(content) || o.Size != int64(len(content))) {
				t.Errorf("%d bytes, err = %v", len(got), err)
			}
			if tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)) {
				t.Errorf("err = %v, want one with %q", err, tt.problem)
			}
		})
	}
}

// serveBroken responds to a GET request as the fault says.
func (d *dialectTest) serveBroken(w http.ResponseWriter, r *http.Request, fault brokenTransfer) {
	if fault.status != 0 {
		(&s3dialects.Refusal{Status: fault.status, Code: "AccessDenied", Message: "no"}).WriteTo(w, r)
		return
	}
	o := d.server.Object("old.json")
	from, status := 0, http.StatusOK
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && !fault.whole {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(o.Body)-1, len(o.Body)))
	} else {
		from = 0
	}
	w.Header().Set("ETag", o.ETag)
	w.Header().Set("Content-Length", fmt.Sprint(len(o.Body)-from))
	w.WriteHeader(status)
	_, _ = w.Write(o.Body[from : from+min(fault.after, len(o.Body)-from)])
	_ = http.NewResponseController(w).Flush()
	if fault.change {
		d.server.PutObject("old.json", s3dialects.Object{Body: noise(10)})
	}
	if fault.stall {
		<-r.Context().Done()
	}
	if from+fault.after < len(o.Body) {
		panic(http.ErrAbortHandler) // cuts the connection
	}
}

// TestS3TransferCancelled ends a stalled transfer.
func TestS3TransferCancelled(t *testing.T) {
	test := newDialectTest(t, s3dialects.AWS)
	test.server.PutObject("old.json", s3dialects.Object{Body: noise(100)})
	test.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		test.serveBroken(w, r, brokenTransfer{after: 10, stall: true})
		return true
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	r, _, err := test.sink(nil).Get(ctx, "old.json")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stop := errors.New("stopped by the test")
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel(stop)
	if _, err := io.ReadAll(r); !errors.Is(err, stop) {
		t.Errorf("err = %v", err)
	}
}
