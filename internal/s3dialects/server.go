package s3dialects

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"
)

// A Server is an S3 server with one bucket that speaks a dialect. Its fields must
// not be changed while it serves requests.
type Server struct {
	Dialect
	Bucket string

	mu        sync.Mutex
	intercept func(w http.ResponseWriter, r *http.Request) bool
	objects   map[string]*Object
	uploads   map[string]*upload
	requests  []*http.Request
	refusals  int
	number    int
}

// An Object is a stored object.
type Object struct {
	Body   []byte
	Header http.Header // of the request that stored it
	ETag   string
	// Archived says that the object can be described and not read.
	Archived bool
}

// An upload is an unfinished upload in parts.
type upload struct {
	key    string
	header http.Header
	parts  map[string][]byte
}

// New returns a server with an empty bucket.
func New(d Dialect, bucket string) *Server {
	return &Server{Dialect: d, Bucket: bucket, objects: map[string]*Object{}, uploads: map[string]*upload{}}
}

// Intercept lets f see each request first from now on. f reports whether it has
// responded.
func (s *Server) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Object returns the object of a key, nil if there is none.
func (s *Server) Object(key string) *Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[key]
}

// PutObject stores an object.
func (s *Server) PutObject(key string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.ETag = etagOf(o.Body)
	s.objects[key] = &o
}

// Uploads returns the number of unfinished uploads.
func (s *Server) Uploads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.uploads)
}

// Refusals returns the number of requests that the dialect refused.
func (s *Server) Refusals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusals
}

// Requests returns the requests so far, without their bodies.
func (s *Server) Requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests...)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Clone(r.Context()))
	intercept := s.intercept
	s.mu.Unlock()
	if s.Server != "" {
		w.Header().Set("Server", s.Server)
	}
	if intercept != nil && intercept(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	bucket, key, inPath := s.target(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if refusal := s.refuse(r, inPath); refusal != nil {
		s.refusals++
		refusal.WriteTo(w, r)
		return
	}
	if refusal := verifySums(r.Header, body); refusal != nil {
		refusal.WriteTo(w, r)
		return
	}
	if bucket != s.Bucket {
		(&Refusal{Status: http.StatusNotFound, Code: "NoSuchBucket", Message: "The specified bucket does not exist"}).WriteTo(w, r)
		return
	}
	s.serve(w, r, key, body)
}

// target returns the bucket and the key of a request. A host name whose first
// label is the bucket has it.
func (s *Server) target(r *http.Request) (bucket, key string, inPath bool) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if strings.HasPrefix(r.Host, s.Bucket+".") {
		return s.Bucket, path, false
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key, true
}

// serve does what the request asks for. The caller holds s.mu.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	query := r.URL.Query()
	id := query.Get("uploadId")
	switch {
	case key == "" && query.Has("uploads"):
		s.listUploads(w)
	case key == "":
		// HeadBucket
	case r.Method == http.MethodPost && query.Has("uploads"):
		s.number++
		id = fmt.Sprint("upload-", s.number)
		s.uploads[id] = &upload{key: key, header: r.Header.Clone(), parts: map[string][]byte{}}
		writeXML(w, "InitiateMultipartUploadResult", "<UploadId>"+id+"</UploadId>")
	case id != "" && s.uploads[id] == nil:
		(&Refusal{Status: http.StatusNotFound, Code: "NoSuchUpload", Message: "no such upload"}).WriteTo(w, r)
	case id != "" && r.Method == http.MethodPut:
		s.uploads[id].parts[query.Get("partNumber")] = body
		w.Header().Set("ETag", etagOf(body))
	case id != "" && r.Method == http.MethodPost && !s.holds(r, s.uploads[id].key):
		conditionFailed.WriteTo(w, r)
	case id != "" && r.Method == http.MethodPost:
		s.complete(w, id, body)
	case id != "":
		delete(s.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut && !s.holds(r, key):
		conditionFailed.WriteTo(w, r)
	case r.Method == http.MethodPut:
		s.objects[key] = &Object{Body: body, Header: r.Header.Clone(), ETag: etagOf(body)}
		w.Header().Set("ETag", etagOf(body))
	default:
		s.read(w, r, key)
	}
}

// conditionFailed is the refusal of a request whose conditions do not hold.
var conditionFailed = &Refusal{Status: http.StatusPreconditionFailed, Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold"}

// holds reports whether the conditions of a write hold. The caller holds s.mu.
func (s *Server) holds(r *http.Request, key string) bool {
	o, match := s.objects[key], r.Header.Get("If-Match")
	switch {
	case s.IgnoresConditions:
		return true
	case r.Header.Get("If-None-Match") != "" && o != nil:
		return false
	}
	return match == "" || o != nil && match == s.comparedTag(o.ETag)
}

// comparedTag returns the tag with which the conditions of writes are compared.
func (s *Server) comparedTag(tag string) string {
	if s.UnquotedTags {
		return strings.Trim(tag, `"`)
	}
	return tag
}

// complete makes the object of an upload appear.
func (s *Server) complete(w http.ResponseWriter, id string, body []byte) {
	var list struct {
		Part []struct{ PartNumber string }
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u := s.uploads[id]
	var whole []byte
	for _, p := range list.Part {
		whole = append(whole, u.parts[p.PartNumber]...)
	}
	delete(s.uploads, id)
	s.objects[u.key] = &Object{Body: whole, Header: u.header, ETag: etagOf(whole)}
	writeXML(w, "CompleteMultipartUploadResult", "<ETag>"+etagOf(whole)+"</ETag>")
}

// read responds to GET and HEAD.
func (s *Server) read(w http.ResponseWriter, r *http.Request, key string) {
	o := s.objects[key]
	switch {
	case o == nil:
		(&Refusal{Status: http.StatusNotFound, Code: "NoSuchKey", Message: "The specified key does not exist."}).WriteTo(w, r)
		return
	case o.Archived && r.Method == http.MethodGet:
		(&Refusal{Status: http.StatusForbidden, Code: "InvalidObjectState", Message: "The operation is not valid for the object's storage class"}).WriteTo(w, r)
		return
	case r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != o.ETag:
		conditionFailed.WriteTo(w, r)
		return
	}
	for name, values := range o.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			w.Header()[name] = values
		}
	}
	body, status := o.Body, http.StatusOK
	var from int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
		body, status = body[from:], http.StatusPartialContent
	}
	w.Header().Set("ETag", o.ETag)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

func (s *Server) listUploads(w http.ResponseWriter) {
	var list strings.Builder
	for id, u := range s.uploads {
		fmt.Fprintf(&list, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", u.key, id)
	}
	writeXML(w, "ListMultipartUploadsResult", list.String())
}

// verifySums compares the sums in the headers with the body.
func verifySums(h http.Header, body []byte) *Refusal {
	sum := md5.Sum(body)
	if want := h.Get("Content-Md5"); want != "" && want != base64.StdEncoding.EncodeToString(sum[:]) {
		return &Refusal{Status: http.StatusBadRequest, Code: "BadDigest", Message: "The Content-MD5 you specified did not match what we received."}
	}
	crc := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	if want := h.Get("X-Amz-Checksum-Crc32c"); want != "" && want != base64.StdEncoding.EncodeToString(crc) {
		return &Refusal{Status: http.StatusBadRequest, Code: "BadDigest", Message: "The CRC32C you specified did not match the calculated checksum."}
	}
	return nil
}

func etagOf(body []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(body)) }

// WriteTo responds to a request with the refusal.
func (r *Refusal) WriteTo(w http.ResponseWriter, request *http.Request) {
	if r.Empty || request.Method == http.MethodHead {
		w.WriteHeader(r.Status)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(r.Status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message><RequestId>r-1</RequestId></Error>`, r.Code, escape(r.Message))
}

func writeXML(w http.ResponseWriter, name, inner string) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><%s>%s</%s>`, name, inner, name)
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder has no errors
	return b.String()
}
