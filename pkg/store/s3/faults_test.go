package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// smallPart is the minimum size of a part that S3 accepts.
const smallPart = 5 << 20

// throughProxy points the AWS variables at a new proxy in front of the server.
func (s *s3Test) throughProxy() *faultproxy.Proxy {
	s.Helper()
	proxy, err := faultproxy.New("tcp", s.server.Addr())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { proxy.Close() })
	s.Setenv("AWS_ENDPOINT_URL_S3", "http://"+proxy.Addr())
	s.Setenv("AWS_MAX_ATTEMPTS", "1") // the test counts attempts itself
	return proxy
}

// directSink returns a sink that does not use the proxy.
func (s *s3Test) directSink() *Sink {
	s.Helper()
	sink := s.sink("unused.json")
	sink.conn = &connection{client: s.direct}
	conn, err := sink.newConnection(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	conn.client = s.direct
	sink.conn = conn
	return sink
}

// TestS3CutAnywhere cuts connections at random points of more than two
// hundred deliveries: in the end the bucket has each complete snapshot and nothing
// else.
func TestS3CutAnywhere(t *testing.T) {
	s := newTest(t)
	look := s.directSink()
	proxy := s.throughProxy()
	sink := s.sink("%ID.json")
	sink.part = smallPart
	random := rand.New(rand.NewPCG(3, 2026))
	large := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 6000)
	const deliveries = 220
	failed, fired := 0, 0
	for i := range deliveries {
		snap := storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), i, 300)
		if i%20 == 0 {
			snap = large
			snap.UploadID = fmt.Sprintf("large-%d", i)
		}
		want := encoded(t, snap, snapshot.JSON)
		for attempt := 0; ; attempt++ {
			fault := faultproxy.Fault{}
			if attempt < 3 {
				fault = randomFault(random, min(len(want), smallPart))
			}
			proxy.Set(fault)
			err := sink.Write(t.Context(), snap)
			fired += proxy.Fired()
			got, stored := s.body(look, snap.UploadID+".json")
			if stored && !bytes.Equal(got, want) {
				t.Fatalf("delivery %d: the object is not the snapshot: %d of %d bytes", i, len(got), len(want))
			}
			if err == nil && stored {
				break
			}
			storetest.AssertRetriable(t, err)
			failed++
		}
	}
	t.Logf("%d deliveries, %d faults met, %d attempts failed", deliveries, fired, failed)
	if failed < deliveries/2 {
		t.Errorf("only %d of the attempts failed", failed)
	}
	if n := len(s.keys()); n != deliveries {
		t.Errorf("%d objects of %d snapshots", n, deliveries)
	}
	// The next upload of a key aborts what an interrupted one has left.
	proxy.Set(faultproxy.Fault{})
	for i := 0; i < deliveries; i += 20 {
		large.UploadID = fmt.Sprintf("large-%d", i)
		s.write(sink, large)
	}
	if n := s.unfinished(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
	if s.logged.Len() > 0 {
		t.Errorf("logged: %s", s.logged)
	}
}

func randomFault(random *rand.Rand, size int) faultproxy.Fault {
	switch random.IntN(10) {
	case 0:
		return faultproxy.Fault{Refuse: true}
	case 1:
		return faultproxy.Fault{CutReplyTo: "?uploads"}
	case 2:
		return faultproxy.Fault{CutReplyTo: "uploadId="}
	case 3:
		return faultproxy.Fault{CutReplyTo: "PUT /"}
	case 4, 5:
		return faultproxy.Fault{CutDown: 1 + random.Int64N(600)}
	case 6, 7, 8:
		return faultproxy.Fault{CutUp: 1 + random.Int64N(int64(size)+1200)}
	}
	return faultproxy.Fault{}
}

// TestS3LostAnswers loses the response to each step of an upload in parts.
func TestS3LostAnswers(t *testing.T) {
	for _, test := range []struct {
		step       string
		request    string // part of the request; %B is the bucket
		stored     bool   // whether the object is there afterwards
		unfinished int    // uploads that are left
	}{
		{step: "begin", request: "?uploads", unfinished: 1},
		{step: "part", request: "partNumber=2"},
		{step: "complete", request: "POST /%B/okta_users.json?uploadId", stored: true},
	} {
		t.Run(test.step, func(t *testing.T) {
			s := newTest(t)
			proxy := s.throughProxy()
			sink := s.sink("%TAG.json")
			sink.part = smallPart
			proxy.Set(faultproxy.Fault{CutReplyTo: strings.Replace(test.request, "%B", s.bucket, 1)})
			snap := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 12_000)
			storetest.AssertRetriable(t, sink.Write(t.Context(), snap))
			if proxy.Fired() == 0 {
				t.Fatal("no response was lost")
			}
			if keys := s.keys(); (len(keys) > 0) != test.stored {
				t.Errorf("objects: %v", keys)
			}
			if n := s.unfinished(); n != test.unfinished {
				t.Errorf("%d unfinished uploads", n)
			}
			proxy.Set(faultproxy.Fault{})
			s.write(sink, snap)
			if got, _ := s.body(sink, "okta_users.json"); !bytes.Equal(got, encoded(t, snap, snapshot.JSON)) {
				t.Error("the object is not the snapshot")
			}
			if n := s.unfinished(); n != 0 {
				t.Errorf("%d unfinished uploads", n)
			}
		})
	}
}

// TestS3Cancelled cancels an upload: the previous object stays, and no parts are
// left.
func TestS3Cancelled(t *testing.T) {
	s := newTest(t)
	proxy := s.throughProxy()
	sink := s.sink("%TAG.json")
	sink.part = smallPart
	before := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	s.write(sink, before)
	snap := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), 12_000)
	unrelated := goleak.IgnoreCurrent()
	for _, at := range []int64{1, 3 << 20} {
		proxy.Set(faultproxy.Fault{StallUp: at})
		stop := errors.New("stopped by the test")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-proxy.Met()
			proxy.Set(faultproxy.Fault{}) // lets the abort through
			cancel(stop)
		}()
		begun := time.Now()
		if err := sink.Write(ctx, snap); !errors.Is(err, stop) {
			t.Errorf("stalled after %d bytes: err = %v", at, err)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("stalled after %d bytes: it took %s to end", at, took)
		}
		cancel(nil)
	}
	if got, _ := s.body(sink, "okta_users.json"); !bytes.Equal(got, encoded(t, before, snapshot.JSON)) {
		t.Error("the object has changed")
	}
	if n := s.unfinished(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
	sink.Close()
	proxy.Close()
	goleak.VerifyNone(t, unrelated)
}

func TestS3DamagedSnapshot(t *testing.T) {
	for name, n := range map[string]int{"in one request": 1000, "in parts": 12_000} {
		t.Run(name, func(t *testing.T) {
			s := newTest(t)
			sink := s.sink("%TAG.json")
			sink.part = smallPart
			before := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
			s.write(sink, before)
			snap := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), n)
			storetest.Damage(t, snap)
			if err := sink.Write(t.Context(), snap); !errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, store.ErrRefused) {
				t.Errorf("err = %v", err)
			}
			if got, _ := s.body(sink, "okta_users.json"); !bytes.Equal(got, encoded(t, before, snapshot.JSON)) {
				t.Error("the object has changed")
			}
			if n := s.unfinished(); n != 0 {
				t.Errorf("%d unfinished uploads", n)
			}
		})
	}
}

// TestS3ServerDies kills the server during the upload of a part.
func TestS3ServerDies(t *testing.T) {
	s := newTest(t)
	proxy := s.throughProxy()
	sink := s.sink("%TAG.json")
	sink.part = smallPart
	proxy.Set(faultproxy.Fault{StallUp: 3 << 20})
	snap := storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 12_000)
	failed := make(chan error)
	go func() { failed <- sink.Write(context.WithoutCancel(t.Context()), snap) }()
	<-proxy.Met()
	s.server.Kill()
	storetest.AssertRetriable(t, <-failed)
	storetest.AssertRetriable(t, sink.Write(t.Context(), snap)) // the server is down
	err := sink.Check(t.Context())
	storetest.AssertRetriable(t, err)
	if err := s.server.Start(); err != nil {
		t.Fatal(err)
	}
	proxy.Set(faultproxy.Fault{})
	if _, _, err := sink.Get(t.Context(), "okta_users.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
	s.write(sink, snap)
	if got, _ := s.body(sink, "okta_users.json"); !bytes.Equal(got, encoded(t, snap, snapshot.JSON)) {
		t.Error("the object is not the snapshot")
	}
	if n := s.unfinished(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
}

// TestS3ReadersSeeOldOrNew reads while snapshots replace each other.
func TestS3ReadersSeeOldOrNew(t *testing.T) {
	s := newTest(t)
	sink := s.sink("%TAG.json")
	var snaps []*snapshot.Snapshot
	var bodies [][]byte
	for i := range 3 {
		snaps = append(snaps, storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Duration(i)*time.Second)), 500*(i+1)))
		bodies = append(bodies, encoded(t, snaps[i], snapshot.JSON))
	}
	s.write(sink, snaps[0])
	ctx, cancel := context.WithCancel(t.Context())
	// enough is closed after ten reads, or when the reader fails.
	enough, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		endWait := sync.OnceFunc(func() { close(enough) })
		defer endWait()
		for reads := 0; ctx.Err() == nil; reads++ {
			if reads == 10 {
				endWait()
			}
			got, there := s.body(sink, "okta_users.json")
			if !there || !bytes.Equal(got, bodies[0]) && !bytes.Equal(got, bodies[1]) && !bytes.Equal(got, bodies[2]) {
				t.Errorf("a reader saw %d bytes that are no snapshot", len(got))
				return
			}
		}
	}()
	for i := range 30 {
		s.write(sink, snaps[i%3])
	}
	<-enough
	cancel()
	<-done
}

// TestS3SweepsOnlyItsKey checks that uploads of other keys are not aborted.
func TestS3SweepsOnlyItsKey(t *testing.T) {
	s := newTest(t)
	for _, key := range []string{"okta_users.json", "okta_users.json.old", "a.json"} {
		if _, err := s.direct.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	sink := s.sink("%TAG.json")
	sink.part = smallPart
	s.write(sink, storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 6000))
	if n := s.unfinished(); n != 2 {
		t.Errorf("%d unfinished uploads, want the 2 of other keys", n)
	}
	// An object that fits in one request also aborts them.
	if _, err := s.direct.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: aws.String("knowbe4_users.json")}); err != nil {
		t.Fatal(err)
	}
	s.write(sink, storetest.SealFilled(t, storetest.NewHeader("knowbe4_users", "acme", storetest.Noon), 1, 10))
	if n := s.unfinished(); n != 2 {
		t.Errorf("%d unfinished uploads after a small object, want the 2 of other keys", n)
	}
	if s.logged.Len() > 0 {
		t.Errorf("logged: %s", s.logged)
	}
}
