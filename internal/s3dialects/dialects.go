// Package s3dialects is an S3 server for tests that refuses what particular
// servers refuse, in their words. It keeps objects in memory. The refusals are
// those that users of the servers have published; each dialect names its source.
package s3dialects

import (
	"net/http"
	"strings"
)

// A Refusal is an error response.
type Refusal struct {
	Status        int
	Code, Message string
	// Empty says that the response has no body.
	Empty bool
}

// A Dialect is what a server refuses and how.
type Dialect struct {
	Name string
	// Source is where the refusals were published.
	Source string
	// Server is the header of responses.
	Server string
	// ACL is the refusal of a request with an ACL, nil if ACLs are accepted.
	// %V in its message is the ACL.
	ACL *Refusal
	// Checksum is the refusal of a request with x-amz-checksum headers, nil if
	// they are accepted. %H in its message is the header, %V its value.
	Checksum *Refusal
	// Unsummed is the refusal of a body without Content-MD5 or x-amz-checksum,
	// as in a bucket with Object Lock; nil if it is accepted. %O in its message
	// is the operation.
	Unsummed *Refusal
	// OnlyMD5 says that x-amz-checksum headers are not enough for Unsummed.
	OnlyMD5 bool
	// PathStyle is the refusal of path style, nil if it is accepted.
	PathStyle *Refusal
	// SignedEncoding is the refusal of a signed Accept-Encoding, nil if it is
	// accepted.
	SignedEncoding *Refusal
	// Payer is the refusal of a request without x-amz-request-payer, nil if none
	// is needed.
	Payer *Refusal
	// Condition is the refusal of a write with If-Match or If-None-Match, nil if
	// these are accepted.
	Condition *Refusal
	// IgnoresConditions says that writes are made whatever their conditions.
	IgnoresConditions bool
	// UnquotedTags says that the conditions of writes are compared with tags
	// without quotes, which no client sends.
	UnquotedTags bool
}

const (
	lockMessage = "Content-MD5 OR x-amz-checksum- HTTP header is required for %O requests with Object Lock parameters"
	md5Message  = "Content-MD5 HTTP header is required for %O requests with Object Lock parameters"
)

// The dialects.
var (
	AWS = Dialect{Name: "AWS", Server: "AmazonS3", Source: "https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"}

	AWSObjectLock = Dialect{
		Name: "AWS with Object Lock", Server: "AmazonS3",
		Source:   "https://github.com/versity/versitygw/issues/1535, https://github.com/s3tools/s3cmd/issues/1436",
		Unsummed: &Refusal{Status: http.StatusBadRequest, Code: "InvalidRequest", Message: lockMessage},
	}
	AWSNoPutObjectACL = Dialect{
		Name: "AWS, role without s3:PutObjectAcl", Server: "AmazonS3",
		Source: "https://github.com/aws/aws-sdk-js/issues/256",
		ACL:    &Refusal{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Access Denied"},
	}
	AWSBucketOwnerEnforced = Dialect{
		Name: "ACLs disabled", Server: "AmazonS3",
		Source: "https://github.com/single-spa/import-map-deployer/issues/128",
		ACL:    &Refusal{Status: http.StatusBadRequest, Code: "AccessControlListNotSupported", Message: "The bucket does not allow ACLs"},
	}
	AWSRequesterPays = Dialect{
		Name: "AWS, requester pays", Server: "AmazonS3",
		Source: "https://docs.aws.amazon.com/AmazonS3/latest/userguide/RequesterPaysBuckets.html",
		Payer:  &Refusal{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Access Denied"},
	}
	MinIO = Dialect{Name: "MinIO", Server: "MinIO", Source: "https://github.com/minio/minio/issues/16480"}

	MinIOObjectLock = Dialect{
		Name: "old MinIO with Object Lock", Server: "MinIO",
		Source:   "https://github.com/minio/mc/issues/3892, https://github.com/minio/minio/issues/12118",
		Unsummed: &Refusal{Status: http.StatusBadRequest, Code: "MissingContentMD5", Message: "Missing required header for this request: Content-Md5."},
		OnlyMD5:  true,
	}
	Ceph = Dialect{
		Name: "old Ceph", Server: "",
		Source:   "https://github.com/s3s-project/s3s/issues/328, https://github.com/ceph/ceph/pull/49986",
		Checksum: &Refusal{Status: http.StatusBadRequest, Code: "XAmzContentSHA256Mismatch", Message: ""},
	}
	BackblazeB2 = Dialect{
		Name: "Backblaze B2", Server: "nginx",
		Source: "https://github.com/gradle/gradle/issues/20936, https://github.com/saltbo/zpan/issues/126",
		ACL:    &Refusal{Status: http.StatusBadRequest, Code: "InvalidArgument", Message: "Unsupported value for canned acl '%V'"},
	}
	BackblazeB2ObjectLock = Dialect{
		Name: "Backblaze B2 with Object Lock", Server: "nginx",
		Source:   "https://github.com/zmanda/amanda/issues/275",
		ACL:      BackblazeB2.ACL,
		Unsummed: &Refusal{Status: http.StatusBadRequest, Code: "InvalidRequest", Message: lockMessage},
	}
	CloudflareR2 = Dialect{
		Name: "Cloudflare R2", Server: "cloudflare",
		Source: "https://github.com/pixelfed/pixelfed/issues/3775, https://github.com/f2face/cloudflare-r2/issues/12",
		ACL:    &Refusal{Status: http.StatusNotImplemented, Code: "NotImplemented", Message: "Header 'x-amz-acl' with value '%V' not implemented"},
		Checksum: &Refusal{
			Status: http.StatusNotImplemented, Code: "NotImplemented", Message: "Header '%H' with value '%V' not implemented",
		},
	}
	CloudflareR2Silent = Dialect{
		Name: "Cloudflare R2 without a body", Server: "cloudflare",
		Source:   "https://github.com/saltbo/zpan/issues/199",
		ACL:      &Refusal{Status: http.StatusNotImplemented, Empty: true},
		Checksum: &Refusal{Status: http.StatusNotImplemented, Empty: true},
	}
	GoogleCloudStorage = Dialect{
		Name: "Google Cloud Storage", Server: "UploadServer",
		Source: "https://github.com/aws/aws-sdk-go-v2/issues/1816, https://github.com/iterate-ch/cyberduck/issues/16814",
		ACL: &Refusal{Status: http.StatusBadRequest, Code: "InvalidArgument",
			Message: "Cannot insert legacy ACL for an object when uniform bucket-level access is enabled. Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access"},
		SignedEncoding: &Refusal{Status: http.StatusForbidden, Code: "SignatureDoesNotMatch", Message: "Access denied."},
	}
	Wasabi = Dialect{
		Name: "Wasabi with Object Lock", Server: "WasabiS3",
		Source:   "https://github.com/kopia/kopia/pull/913",
		Unsummed: &Refusal{Status: http.StatusBadRequest, Code: "InvalidRequest", Message: md5Message},
		OnlyMD5:  true,
	}
	AlibabaOSS = Dialect{
		Name: "Alibaba Cloud OSS", Server: "AliyunOSS",
		Source:    "https://github.com/peak/s5cmd/issues/518, https://github.com/fluent/fluent-bit/issues/10390, https://github.com/tobi/walgit/issues/67",
		PathStyle: &Refusal{Status: http.StatusForbidden, Code: "SecondLevelDomainForbidden", Message: "Please use virtual hosted style to access."},
		Condition: headerRefusal,
	}
	OldAWS = Dialect{
		Name: "server of before conditional writes", Server: "AmazonS3",
		Source:    "https://github.com/ceph/s3-tests/issues/218",
		Condition: headerRefusal,
	}
	S3Mock = Dialect{
		Name: "S3Mock, which compared tags without quotes", Server: "",
		Source:       "https://github.com/Robothy/local-s3/issues/289",
		UnquotedTags: true,
	}
	Chimera = Dialect{
		Name: "server that ignores conditions", Server: "",
		Source:            "https://github.com/chimera-nas/chimera/issues/471",
		IgnoresConditions: true,
	}
)

// headerRefusal is the refusal of a header, which it does not name in its message.
var headerRefusal = &Refusal{Status: http.StatusNotImplemented, Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented"}

// Dialects are all of them.
var Dialects = []Dialect{
	AWS, AWSObjectLock, AWSNoPutObjectACL, AWSBucketOwnerEnforced, AWSRequesterPays, MinIO, MinIOObjectLock, Ceph,
	BackblazeB2, BackblazeB2ObjectLock, CloudflareR2, CloudflareR2Silent, GoogleCloudStorage, Wasabi, AlibabaOSS, OldAWS, S3Mock, Chimera,
}

// refuse returns the refusal of a request, nil if it is accepted. inPath reports
// whether the bucket is in the path.
func (d *Dialect) refuse(r *http.Request, inPath bool) *Refusal {
	acl := r.Header.Get("X-Amz-Acl")
	header, value := checksumHeader(r.Header)
	writes := r.Method == http.MethodPut
	summed := r.Header.Get("Content-Md5") != "" || header != "" && !d.OnlyMD5
	switch {
	case d.Payer != nil && r.Header.Get("X-Amz-Request-Payer") != "requester":
		return d.Payer
	case d.SignedEncoding != nil && strings.Contains(signedHeaders(r), "accept-encoding"):
		return d.SignedEncoding
	case d.PathStyle != nil && inPath:
		return d.PathStyle
	case d.ACL != nil && acl != "":
		return d.ACL.fill("%V", acl)
	case d.Checksum != nil && header != "":
		return d.Checksum.fill("%H", strings.ToLower(header), "%V", value)
	case d.Condition != nil && r.Method != http.MethodGet && (r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != ""):
		return d.Condition
	case d.Unsummed != nil && writes && !summed:
		operation := "Put Object"
		if r.URL.Query().Has("partNumber") {
			operation = "Put Part"
		}
		return d.Unsummed.fill("%O", operation)
	}
	return nil
}

// fill returns the refusal with values in its message.
func (r Refusal) fill(values ...string) *Refusal {
	r.Message = strings.NewReplacer(values...).Replace(r.Message)
	return &r
}

// checksumHeader returns the first header about checksums and its value.
func checksumHeader(h http.Header) (name, value string) {
	for _, name := range []string{"X-Amz-Checksum-Algorithm", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Trailer", "X-Amz-Checksum-Crc32c", "X-Amz-Checksum-Crc32"} {
		if value := h.Get(name); value != "" {
			return name, value
		}
	}
	return "", ""
}

// signedHeaders returns the names of the headers that the request signs.
func signedHeaders(r *http.Request) string {
	_, after, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	names, _, _ := strings.Cut(after, ",")
	return names
}
