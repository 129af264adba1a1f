package s3

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/collectord/collectord/pkg/snapshot"
)

// The values of Options.ACL, Options.Checksum and Options.PathStyle. Other
// values of ACL are canned ACLs.
const (
	Auto = "auto" // as the server accepts it
	None = "none"

	ChecksumCRC32C = "crc32c" // x-amz-checksum-crc32c
	ChecksumMD5    = "md5"    // Content-MD5

	PathStyle    = "true"
	VirtualHosts = "false"
)

// A dialect is the optional part of requests, of which servers refuse this or
// that.
type dialect struct {
	acl       types.ObjectCannedACL // "" for none
	checksum  string                // ChecksumCRC32C, ChecksumMD5 or None
	pathStyle bool
	// conditions reports whether the request has the conditions of its object, see
	// partWriter.commit.
	conditions bool
}

// applyTo sets the options of a request.
func (d dialect) applyTo(o *s3.Options) {
	o.UsePathStyle = d.pathStyle
	// The SDK adds a checksum of its own choice unless one is required.
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	if d.checksum == ChecksumCRC32C {
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
	}
}

// describe lists the parts of the dialect.
func (d dialect) describe() string {
	parts := []string{"virtual hosts", "no ACL", "no checksums"}
	if d.pathStyle {
		parts[0] = "path style"
	}
	if d.acl != "" {
		parts[1] = "ACL " + string(d.acl)
	}
	switch d.checksum {
	case ChecksumCRC32C:
		parts[2] = "checksums CRC32C"
	case ChecksumMD5:
		parts[2] = "checksums Content-MD5"
	}
	if !d.conditions {
		parts = append(parts, "no conditional writes")
	}
	return strings.Join(parts, ", ")
}

// A provider is a server that is known by its host name.
type provider struct {
	suffix string // of the host name, or the whole host name
	name   string
	noACL  bool // it refuses ACLs, or usually does
	hosts  bool // it refuses path style
	blind  bool // it refuses conditional writes
}

// providers are the servers whose dialect is known from the host name. For all
// others, and where it differs, their responses show it.
var providers = []provider{
	{suffix: ".amazonaws.com", name: amazon},
	{suffix: ".amazonaws.com.cn", name: amazon},
	{suffix: ".api.aws", name: amazon},
	{suffix: "storage.googleapis.com", name: "Google Cloud Storage", noACL: true},
	{suffix: ".backblazeb2.com", name: "Backblaze B2", noACL: true},
	{suffix: ".r2.cloudflarestorage.com", name: "Cloudflare R2", noACL: true},
	{suffix: ".wasabisys.com", name: "Wasabi"},
	{suffix: ".aliyuncs.com", name: "Alibaba Cloud OSS", hosts: true, blind: true},
}

const amazon = "Amazon S3"

// providerOf returns the provider of a client, whose name is "" if unknown.
func providerOf(o s3.Options) provider {
	if o.BaseEndpoint == nil {
		return provider{name: amazon}
	}
	address, err := url.Parse(*o.BaseEndpoint)
	if err != nil {
		return provider{}
	}
	host := strings.ToLower(address.Hostname())
	for _, p := range providers {
		if strings.HasSuffix("."+host, "."+strings.TrimPrefix(p.suffix, ".")) {
			return p
		}
	}
	return provider{}
}

// firstDialect returns the dialect of the first request to the server of a
// client. o has the checksums of the AWS settings, and requested reports whether
// those say anything about them.
func (s *Sink) firstDialect(o s3.Options, requested bool) dialect {
	p := providerOf(o)
	d := dialect{
		// Without it the owner of a bucket in another account may not read the
		// object. Buckets without ACLs accept only this one.
		acl:      types.ObjectCannedACLBucketOwnerFullControl,
		checksum: None,
		// Servers other than AWS often have no host names for buckets.
		pathStyle:  o.UsePathStyle || o.BaseEndpoint != nil && !p.hosts,
		conditions: !p.blind,
	}
	if (p.name == amazon || requested) && o.RequestChecksumCalculation != aws.RequestChecksumCalculationWhenRequired {
		d.checksum = ChecksumCRC32C
	}
	if p.noACL {
		d.acl = ""
	}
	return s.forced(d)
}

// forced returns d with what the options say.
func (s *Sink) forced(d dialect) dialect {
	if forces(s.opts.ACL) {
		d.acl = types.ObjectCannedACL(s.opts.ACL)
	}
	if d.acl == None {
		d.acl = ""
	}
	if forces(s.opts.Checksum) {
		d.checksum = s.opts.Checksum
	}
	if forces(s.opts.PathStyle) {
		d.pathStyle = s.opts.PathStyle == PathStyle
	}
	return d
}

func forces(option string) bool { return option != "" && option != Auto }

// A lesson is what the responses of a server have changed in its dialect.
type lesson struct {
	noACL    bool
	checksum string // "" if unchanged
	hosts    bool
	blind    bool
}

// lessons are the lessons of a Sink.
type lessons struct {
	mu sync.Mutex
	lesson
	noted map[string]bool
}

// adjust returns d with the lessons.
func (l *lessons) adjust(d dialect) dialect {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noACL {
		d.acl = ""
	}
	if l.checksum != "" {
		d.checksum = l.checksum
	}
	if l.hosts {
		d.pathStyle = false
	}
	if l.blind {
		d.conditions = false
	}
	return d
}

// remember adds the difference of a dialect that was refused and one that was
// accepted.
func (l *lessons) remember(refused, accepted dialect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if accepted.acl != refused.acl {
		l.noACL = true
	}
	if accepted.checksum != refused.checksum {
		l.checksum = accepted.checksum
	}
	if accepted.pathStyle != refused.pathStyle {
		l.hosts = true
	}
	if accepted.conditions != refused.conditions {
		l.blind = true
	}
}

// forgoConditions learns that the server has no conditional writes.
func (l *lessons) forgoConditions() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blind = true
}

// isNew reports whether a note is passed for the first time.
func (l *lessons) isNew(note string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noted[note] {
		return false
	}
	if l.noted == nil {
		l.noted = map[string]bool{}
	}
	l.noted[note] = true
	return true
}

// dialectOf returns the dialect of the connection's server as far as it is known.
func (s *Sink) dialectOf(conn *connection) dialect { return s.lessons.adjust(conn.first) }

// withoutACL returns the dialect of requests that have no ACL.
func (d dialect) withoutACL() dialect {
	d.acl = ""
	return d
}

// withoutConditions returns the dialect of requests that have no conditions.
func (d dialect) withoutConditions() dialect {
	d.conditions = false
	return d
}

// withoutBody returns the dialect of requests that only read.
func (d dialect) withoutBody() dialect {
	d.acl, d.checksum, d.conditions = "", None, false
	return d
}

// adapt calls send with first, the dialect of the server as far as it is known.
// If the server refuses a part of it, adapt calls send again without that part,
// and remembers what the server accepts. Each upload adapts itself, also when
// another one has learned the same in the meantime.
func (s *Sink) adapt(first dialect, snap *snapshot.Snapshot, send func(dialect) error) error {
	d := first
	refusal := send(d)
	err := refusal
	var tried []*fallback
	for err != nil {
		f := s.findFallback(d, err)
		if f == nil {
			break
		}
		f.change(&d)
		if !f.ofConditions {
			d.conditions = first.conditions // they were not why it was refused
		}
		tried = append(tried, f)
		err = send(d)
	}
	if err != nil {
		if codeOf(err) == codeOf(refusal) {
			return refusal // the fallback changed nothing
		}
		return err
	}
	if len(tried) > 0 {
		s.lessons.remember(first, d)
	}
	for _, f := range tried {
		if !f.ofConditions || !d.conditions {
			s.noteOnce(snap, expandNote(f.note, s.opts.Bucket))
		}
	}
	return nil
}

// expandNote returns the text of a fallback's note.
func expandNote(note, bucket string) string { return "s3: " + strings.ReplaceAll(note, "%B", bucket) }

// A fallback is a change of the dialect after a refusal.
type fallback struct {
	// refused reports whether the dialect may be why a request was refused.
	refused func(d dialect, r refusal) bool
	// forced returns the option that forbids the change.
	forced func(o *Options) string
	change func(d *dialect)
	note   string // %B is the bucket
	// ofConditions reports whether the change is that of the conditions.
	ofConditions bool
}

// unforced is the forced function of a fallback that no option forbids.
func unforced(*Options) string { return "" }

// blindNote is the note about a server that cannot compare and write at once.
const blindNote = "the server supports no conditional writes; objects in %B are looked up immediately before they are replaced, and a process that is suspended between the two may replace a newer one"

var fallbacks = []fallback{
	{
		refused: func(d dialect, r refusal) bool { return d.acl != "" && r.namesACL() },
		forced:  func(o *Options) string { return o.ACL },
		change:  func(d *dialect) { d.acl = "" },
		note:    "the server supports no ACLs; objects are stored in %B without one; STORE_AWS_S3_ACL=none omits the attempt",
	},
	{
		refused: func(d dialect, r refusal) bool { return d.checksum != ChecksumMD5 && r.wantsChecksum() },
		forced:  func(o *Options) string { return o.Checksum },
		change:  func(d *dialect) { d.checksum = ChecksumMD5 },
		note:    "the bucket %B requires a checksum, as with Object Lock; Content-MD5 is sent; STORE_AWS_S3_CHECKSUM=md5 omits the attempt",
	},
	{
		refused: func(d dialect, r refusal) bool { return d.checksum == ChecksumCRC32C && r.namesChecksum() },
		forced:  func(o *Options) string { return o.Checksum },
		change:  func(d *dialect) { d.checksum = None },
		note:    "the server supports no checksums; objects are stored in %B without one; STORE_AWS_S3_CHECKSUM=none omits the attempt",
	},
	{
		refused: func(d dialect, r refusal) bool { return d.pathStyle && r.namesPathStyle() },
		forced:  func(o *Options) string { return o.PathStyle },
		change:  func(d *dialect) { d.pathStyle = false },
		note:    "the server of %B requires the bucket in the host name; STORE_AWS_S3_PATH_STYLE=false omits the attempt",
	},
	{
		refused:      func(d dialect, r refusal) bool { return d.conditions && r.namesConditions() },
		forced:       unforced,
		change:       func(d *dialect) { d.conditions = false },
		note:         blindNote,
		ofConditions: true,
	},
	{
		// Without its reason, a refusal may be that of the ACL, which needs a
		// permission of its own.
		refused: func(d dialect, r refusal) bool { return d.acl != "" && isForbiddenCode(r.code) },
		forced:  func(o *Options) string { return o.ACL },
		change:  func(d *dialect) { d.acl = "" },
		note:    "the role may not set ACLs; objects are stored in %B without one; grant s3:PutObjectAcl, or set STORE_AWS_S3_ACL=none",
	},
	{
		// The others need not be given up where this one is enough.
		refused:      func(d dialect, r refusal) bool { return d.conditions && r.status == http.StatusNotImplemented },
		forced:       unforced,
		change:       func(d *dialect) { d.conditions = false },
		note:         blindNote,
		ofConditions: true,
	},
	{
		refused: func(d dialect, r refusal) bool { return d.acl != "" && r.status == http.StatusNotImplemented },
		forced:  func(o *Options) string { return o.ACL },
		change:  func(d *dialect) { d.acl = "" },
		note:    "the server supports no ACLs; objects are stored in %B without one; STORE_AWS_S3_ACL=none omits the attempt",
	},
	{
		refused: func(d dialect, r refusal) bool {
			return d.checksum == ChecksumCRC32C && r.status == http.StatusNotImplemented
		},
		forced: func(o *Options) string { return o.Checksum },
		change: func(d *dialect) { d.checksum = None },
		note:   "the server supports no checksums; objects are stored in %B without one; STORE_AWS_S3_CHECKSUM=none omits the attempt",
	},
}

// findFallback returns the fallback after the error of a request in the dialect
// d, nil when there is none.
func (s *Sink) findFallback(d dialect, err error) *fallback {
	r, ok := refusalOf(err)
	if !ok {
		return nil
	}
	for i, f := range fallbacks {
		if !forces(f.forced(&s.opts)) && f.refused(d, r) {
			return &fallbacks[i]
		}
	}
	return nil
}

var (
	aclPattern      = regexp.MustCompile(`(?i)\bacls?\b|access control list`)
	checksumPattern = regexp.MustCompile(`(?i)checksum|x-amz-trailer|aws-chunked`)
	sumHeader       = regexp.MustCompile(`(?i)content-md5|x-amz-checksum`)
	missingPattern  = regexp.MustCompile(`(?i)required|missing|must|need`)
	ifPattern       = regexp.MustCompile(`(?i)\bif-(none-)?match\b|conditional|precondition`)
	pathPattern     = regexp.MustCompile(`(?i)virtual.?host|path.?style`)
)

// namesACL reports whether the server refuses ACLs. AWS, Google, Backblaze and
// Cloudflare have different codes and texts for it.
func (r refusal) namesACL() bool {
	return r.code == "AccessControlListNotSupported" || r.isRequest() && aclPattern.MatchString(r.message) ||
		isForbiddenCode(r.code) && strings.Contains(r.message, "PutObjectAcl")
}

// wantsChecksum reports whether the server requires a checksum of the body.
func (r refusal) wantsChecksum() bool {
	return r.code == "MissingContentMD5" ||
		r.isRequest() && sumHeader.MatchString(r.message) && missingPattern.MatchString(r.message)
}

// namesChecksum reports whether the server does not support a checksum that was
// sent. A checksum that does not match is another error.
func (r refusal) namesChecksum() bool {
	return r.code == "XAmzContentSHA256Mismatch" || r.isRequest() && checksumPattern.MatchString(r.message)
}

// namesConditions reports whether the server refuses conditional writes. A condition
// that does not hold is another error.
func (r refusal) namesConditions() bool { return r.isRequest() && ifPattern.MatchString(r.message) }

// namesPathStyle reports whether the server wants the bucket in the host name.
func (r refusal) namesPathStyle() bool {
	return r.code == "SecondLevelDomainForbidden" || r.code == "InvalidPathAccess" ||
		r.status < http.StatusInternalServerError && pathPattern.MatchString(r.message)
}

// isRequest reports whether the server refuses the request as it is.
func (r refusal) isRequest() bool {
	return r.status == http.StatusBadRequest || r.status == http.StatusNotImplemented
}

// noteOnce passes a note on, once per Sink.
func (s *Sink) noteOnce(snap *snapshot.Snapshot, text string) {
	if s.lessons.isNew(text) {
		s.passNote(snap, text)
	}
}

// endpointVariable returns the name of the variable or setting from which the
// endpoint is.
func endpointVariable() string {
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return "endpoint_url of the AWS profile"
}
