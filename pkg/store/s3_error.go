package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/collectord/collectord/pkg/snapshot"
)

// An s3Rule says what an error code of S3 means.
type s3Rule struct {
	refused bool
	hint    string
}

const (
	hintAccess = "the role needs s3:PutObject, s3:PutObjectAcl and s3:AbortMultipartUpload on the objects, with SSE by KMS also kms:GenerateDataKey and kms:Decrypt; to read back s3:GetObject, and s3:ListBucket to tell a missing object from a hidden one"
	hintKey    = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
	hintRegion = "check AWS_REGION: the bucket lies elsewhere"
	hintBucket = "make the bucket or check STORE_AWS_S3_BUCKET and AWS_ENDPOINT_URL_S3"
	hintClock  = "set the clock: this machine's and S3's differ by more than 15 minutes"
	hintToken  = "renew AWS_SESSION_TOKEN"
	hintSSE    = "check STORE_AWS_S3_SSE and STORE_AWS_S3_KMS_KEY_ID"
)

// s3Rules are the codes of S3's "Error responses" that do not pass by
// themselves, and those with something to do about them. All others are
// worth repeating: SlowDown, InternalError, RequestTimeout, 503 and the like.
var s3Rules = map[string]s3Rule{
	"AccessDenied":                       {true, hintAccess},
	"Forbidden":                          {true, hintAccess},
	"AllAccessDisabled":                  {true, hintAccess},
	"AccountProblem":                     {true, ""},
	"NoSuchBucket":                       {true, hintBucket},
	"InvalidBucketName":                  {true, hintBucket},
	"InvalidAccessKeyId":                 {true, hintKey},
	"SignatureDoesNotMatch":              {true, hintKey},
	"InvalidSecurity":                    {true, hintKey},
	"NotSignedUp":                        {true, hintKey},
	"InvalidToken":                       {true, hintToken},
	"ExpiredToken":                       {false, hintToken},
	"TokenRefreshRequired":               {false, hintToken},
	"RequestTimeTooSkewed":               {false, hintClock},
	"RequestExpired":                     {false, hintClock},
	"PermanentRedirect":                  {true, hintRegion},
	"AuthorizationHeaderMalformed":       {true, hintRegion},
	"IllegalLocationConstraintException": {true, hintRegion},
	"MovedPermanently":                   {true, hintRegion},
	"KMS.DisabledException":              {true, hintSSE},
	"KMS.NotFoundException":              {true, hintSSE},
	"KMS.InvalidStateException":          {true, hintSSE},
	"InvalidEncryptionAlgorithmError": {
		true, hintSSE},
	"ServerSideEncryptionConfigurationNotFoundError": {true, hintSSE},
	"InvalidArgument":   {true, hintSSE},
	"InvalidRequest":    {true, ""},
	"NotImplemented":    {true, "the server knows no such request"},
	"MethodNotAllowed":  {true, "check AWS_ENDPOINT_URL_S3"},
	"EntityTooLarge":    {true, ""},
	"KeyTooLongError":   {true, "check STORE_AWS_S3_KEY"},
	"InvalidObjectName": {true, "check STORE_AWS_S3_KEY"},
	"NoSuchUpload":      {false, ""}, // aborted by another writer of the key, or completed though the answer was lost
}

// s3Error says what was tried, what S3 answered and what to do, and wraps
// ErrRefused when repeating cannot help, fs.ErrNotExist when an object is
// missing. What ctx ended comes back as ctx's error.
func s3Error(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("s3: %s: %w", tried, context.Cause(ctx))
	}
	code := codeOf(err)
	rule := s3Rules[code]
	switch {
	case code == "NoSuchKey":
		return fmt.Errorf("s3: %s: %w: %w", tried, fs.ErrNotExist, err)
	case errors.Is(err, ErrRefused), errors.Is(err, snapshot.ErrDamaged):
		return fmt.Errorf("s3: %s: %w", tried, err)
	case isCertificate(err):
		return fmt.Errorf("s3: %s: %w: %w: check AWS_CA_BUNDLE", tried, ErrRefused, err)
	case rule.refused:
		return fmt.Errorf("s3: %s: %w: %w%s", tried, ErrRefused, err, prefixed(rule.hint))
	}
	return fmt.Errorf("s3: %s: %w%s", tried, err, prefixed(rule.hint))
}

// settingsError is about variables and files that AWS programs read.
func settingsError(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return s3Error(ctx, tried, err)
	}
	return fmt.Errorf("s3: %s: %w: %w: check AWS_PROFILE, AWS_CONFIG_FILE, AWS_CA_BUNDLE and the other AWS variables", tried, ErrRefused, err)
}

// credentialsError is about credentials that cannot be had.
func credentialsError(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return s3Error(ctx, tried, err)
	}
	return fmt.Errorf("s3: %s: %w: no credentials: %w: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role", tried, ErrRefused, err)
}

// codeOf returns S3's error code. Answers to HEAD have no body to hold one,
// so the status stands for it.
func codeOf(err error) string {
	var api smithy.APIError
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return code
	}
	switch response.HTTPStatusCode() {
	case http.StatusMovedPermanently:
		return "PermanentRedirect"
	case http.StatusForbidden:
		if code == "" || code == "UnknownError" {
			return "Forbidden"
		}
	case http.StatusNotFound:
		if code == "" || code == "NotFound" || code == "UnknownError" {
			return "NoSuchBucket" // only HeadBucket is asked without a body
		}
	}
	return code
}

// regionOf returns the region that S3 sends the request to.
func regionOf(err error) string {
	var response *awshttp.ResponseError
	if err == nil || !errors.As(err, &response) || response.Response == nil {
		return ""
	}
	switch response.HTTPStatusCode() {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		return response.Response.Header.Get("X-Amz-Bucket-Region")
	}
	return ""
}

// isForbidden tells whether S3 knows the caller and denies the request.
func isForbidden(err error) bool {
	code := codeOf(err)
	return code == "Forbidden" || code == "AccessDenied"
}

// isStale tells whether other credentials may do.
func isStale(err error) bool {
	switch codeOf(err) {
	case "ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return true
	}
	return false
}

// isPassing tells whether the same request may succeed later: there was no
// whole answer, the server was in trouble, or it takes other credentials.
func isPassing(err error) bool {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || isStale(err) {
		return true
	}
	status := response.HTTPStatusCode()
	return status < 400 || status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented
}

// isACLUnknown tells whether a server other than AWS's has no ACLs.
func isACLUnknown(err error) bool {
	code := codeOf(err)
	return code == "AccessControlListNotSupported" ||
		code == "NotImplemented" && strings.Contains(strings.ToLower(err.Error()), "acl")
}
