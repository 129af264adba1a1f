package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/collectord/collectord/internal/netadvice"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// An errorRule says what an error code of S3 means.
type errorRule struct {
	refused bool
	hint    string
}

const (
	hintAccess = "the role needs s3:PutObject, s3:PutObjectAcl and s3:AbortMultipartUpload on the objects, with SSE by KMS also kms:GenerateDataKey and kms:Decrypt; to read back s3:GetObject, and s3:ListBucket to tell a missing object from a hidden one"
	hintKey    = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE or STORE_AWS_S3_PROFILE"
	hintRegion = "check AWS_REGION: the bucket is in another region"
	hintBucket = "create the bucket or check STORE_AWS_S3_BUCKET and AWS_ENDPOINT_URL_S3"
	hintClock  = "set the clock: this machine's and S3's differ by more than 15 minutes"
	hintToken  = "renew AWS_SESSION_TOKEN"
	hintSSE    = "check STORE_AWS_S3_SSE and STORE_AWS_S3_KMS_KEY_ID"

	hintACL      = "check STORE_AWS_S3_ACL; \"auto\" finds out what the server accepts"
	hintChecksum = "check STORE_AWS_S3_CHECKSUM; \"auto\" finds out what the server accepts"
	hintPath     = "check STORE_AWS_S3_PATH_STYLE; \"auto\" finds out what the server accepts"
	hintArchived = "the object is archived: restore it in S3 (RestoreObject); a new one replaces it in any case"
)

// errorRules are the codes in S3's "Error responses" for which repeating does
// not help, and those for which there is a hint. All other errors are worth
// repeating: SlowDown, InternalError, RequestTimeout, 503 and similar ones.
var errorRules = map[string]errorRule{
	"AccessDenied":                                   {refused: true, hint: hintAccess},
	"Forbidden":                                      {refused: true, hint: hintAccess},
	"AllAccessDisabled":                              {refused: true, hint: hintAccess},
	"AccountProblem":                                 {refused: true, hint: ""},
	"NoSuchBucket":                                   {refused: true, hint: hintBucket},
	"InvalidBucketName":                              {refused: true, hint: hintBucket},
	"InvalidAccessKeyId":                             {refused: true, hint: hintKey},
	"SignatureDoesNotMatch":                          {refused: true, hint: hintKey},
	"InvalidSecurity":                                {refused: true, hint: hintKey},
	"NotSignedUp":                                    {refused: true, hint: hintKey},
	"InvalidToken":                                   {refused: true, hint: hintToken},
	"ExpiredToken":                                   {refused: false, hint: hintToken},
	"TokenRefreshRequired":                           {refused: false, hint: hintToken},
	"RequestTimeTooSkewed":                           {refused: false, hint: hintClock},
	"RequestExpired":                                 {refused: false, hint: hintClock},
	"PermanentRedirect":                              {refused: true, hint: hintRegion},
	"AuthorizationHeaderMalformed":                   {refused: true, hint: hintRegion},
	"IllegalLocationConstraintException":             {refused: true, hint: hintRegion},
	"MovedPermanently":                               {refused: true, hint: hintRegion},
	"KMS.DisabledException":                          {refused: true, hint: hintSSE},
	"KMS.NotFoundException":                          {refused: true, hint: hintSSE},
	"KMS.InvalidStateException":                      {refused: true, hint: hintSSE},
	"InvalidEncryptionAlgorithmError":                {refused: true, hint: hintSSE},
	"ServerSideEncryptionConfigurationNotFoundError": {refused: true, hint: hintSSE},
	"InvalidArgument":                                {refused: true, hint: ""},
	"AccessControlListNotSupported":                  {refused: true, hint: hintACL},
	"MissingContentMD5":                              {refused: true, hint: hintChecksum},
	"XAmzContentSHA256Mismatch":                      {refused: true, hint: hintChecksum},
	"SecondLevelDomainForbidden":                     {refused: true, hint: hintPath},
	"InvalidPathAccess":                              {refused: true, hint: hintPath},
	"InvalidObjectState":                             {refused: true, hint: hintArchived},
	"InvalidRequest":                                 {refused: true, hint: ""},
	"NotImplemented":                                 {refused: true, hint: "the server does not support this request"},
	"MethodNotAllowed":                               {refused: true, hint: "check AWS_ENDPOINT_URL_S3"},
	"EntityTooLarge":                                 {refused: true, hint: ""},
	"KeyTooLongError":                                {refused: true, hint: "check STORE_AWS_S3_KEY"},
	"InvalidObjectName":                              {refused: true, hint: "check STORE_AWS_S3_KEY"},
	"NoSuchUpload":                                   {refused: false, hint: ""},
}

// explainError adds to an error of S3 what was tried and what a person can do.
// The result wraps store.ErrRefused when repeating cannot help, fs.ErrNotExist
// when an object is missing, and the cause of ctx when ctx has ended.
func explainError(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("s3: %s: %w", tried, context.Cause(ctx))
	}
	code := codeOf(err)
	rule := errorRules[code]
	if rule.refused && rule.hint == "" || code == "NotImplemented" {
		rule.hint = cmp.Or(hintOfMessage(err), rule.hint)
	}
	switch {
	case code == "NoSuchKey":
		return fmt.Errorf("s3: %s: %w: %w", tried, fs.ErrNotExist, err)
	case errors.Is(err, store.ErrRefused), errors.Is(err, snapshot.ErrDamaged):
		return fmt.Errorf("s3: %s: %w", tried, err)
	case store.IsCertificateError(err):
		return fmt.Errorf("s3: %s: %w: %w: check AWS_CA_BUNDLE", tried, store.ErrRefused, err)
	case rule.refused:
		return fmt.Errorf("s3: %s: %w: %w%s", tried, store.ErrRefused, err, store.HintSuffix(rule.hint))
	}
	return fmt.Errorf("s3: %s: %w%s", tried, err, store.HintSuffix(rule.hint))
}

// hintOfMessage returns the hint for a refusal whose code says little, by what its
// message names.
func hintOfMessage(err error) string {
	r, _ := refusalOf(err)
	switch {
	case r.namesACL():
		return hintACL
	case r.wantsChecksum(), r.namesChecksum():
		return hintChecksum
	case ssePattern.MatchString(r.message):
		return hintSSE
	}
	return ""
}

var ssePattern = regexp.MustCompile(`(?i)encrypt|kms|\bsse\b`)

// addNetworkAdvice adds to an error without a response of the server what to
// check: first the variable that says where the server is.
func addNetworkAdvice(conn *connection, err error) error {
	var unsent *smithyhttp.RequestSendError
	if !errors.As(err, &unsent) || store.IsCertificateError(err) {
		return err
	}
	variable := "AWS_REGION"
	if conn.client.Options().BaseEndpoint != nil {
		variable = endpointVariable()
	}
	return fmt.Errorf("%w: check %s: %s", err, variable, netadvice.For(err))
}

// settingsError explains an error in the variables and files that AWS programs
// read.
func settingsError(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return explainError(ctx, tried, err)
	}
	return fmt.Errorf("s3: %s: %w: %w: check AWS_PROFILE, STORE_AWS_S3_PROFILE, AWS_CONFIG_FILE, AWS_CA_BUNDLE and the other AWS variables", tried, store.ErrRefused, err)
}

// credentialsError explains why there are no credentials.
func credentialsError(ctx context.Context, tried string, err error) error {
	if ctx.Err() != nil {
		return explainError(ctx, tried, err)
	}
	return fmt.Errorf("s3: %s: %w: no credentials: %w: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role", tried, store.ErrRefused, err)
}

// A refusal is an error response of S3.
type refusal struct {
	status        int
	code, message string
}

// refusalOf returns the error response in err. ok is false when there is none.
func refusalOf(err error) (r refusal, ok bool) {
	var api smithy.APIError
	if errors.As(err, &api) {
		r.message = api.ErrorMessage()
	}
	r.status, r.code = statusOf(err), codeOf(err)
	return r, r.status != 0
}

// statusOf returns the HTTP status of the response in err, 0 when there is none.
func statusOf(err error) int {
	var response *awshttp.ResponseError
	if err == nil || !errors.As(err, &response) {
		return 0
	}
	return response.HTTPStatusCode()
}

// codeOf returns S3's error code. A response to HEAD has no body with a code, so
// it is derived from the status.
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
			return "NoSuchBucket" // HeadObject has been handled
		}
	}
	return code
}

// regionOf returns the region that a response redirects to, or "".
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

// isForbidden reports whether S3 authenticated the caller and denied the request.
func isForbidden(err error) bool {
	return isForbiddenCode(codeOf(err))
}

func isForbiddenCode(code string) bool { return code == "Forbidden" || code == "AccessDenied" }

// isCredentialError reports whether the request may succeed with other
// credentials.
func isCredentialError(err error) bool {
	switch codeOf(err) {
	case "ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return true
	}
	return false
}

// isTransient reports whether the same request may succeed later: the response
// was incomplete, the server failed, or it accepts other credentials.
func isTransient(err error) bool {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || isCredentialError(err) {
		return true
	}
	status := response.HTTPStatusCode()
	return status < 400 || status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented
}
