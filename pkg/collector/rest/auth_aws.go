package rest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A SigV4 signs requests with AWS Signature Version 4, by the signer of the AWS
// SDK. Each attempt is signed again, because a signature is valid for minutes.
type SigV4 struct {
	credentials     aws.CredentialsProvider
	service, region string
	signer          *v4.Signer

	mu   sync.Mutex
	last aws.Credentials // which errors must not show
}

// NewSigV4 returns an Auth for a service and a region, such as "securityhub"
// and "eu-central-1". Credentials that expire need an *aws.CredentialsCache,
// which is renewed when the service refuses them.
func NewSigV4(credentials aws.CredentialsProvider, service, region string) *SigV4 {
	return &SigV4{credentials: credentials, service: service, region: region, signer: v4.NewSigner()}
}

// Apply implements Auth.
func (s *SigV4) Apply(ctx context.Context, req *http.Request) error {
	credentials, err := s.credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("AWS credentials: %w", err)
	}
	s.mu.Lock()
	s.last = credentials
	s.mu.Unlock()
	sum, err := hashBody(req)
	if err != nil {
		return err
	}
	return s.signer.SignHTTP(ctx, credentials, req, sum, s.service, s.region, time.Now())
}

// hashBody returns the SHA-256 of the body of req, which can be read again.
func hashBody(req *http.Request) (string, error) {
	hash := sha256.New()
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return "", errors.New("the body of a signed request must be readable twice")
		}
		body, err := req.GetBody()
		if err != nil {
			return "", err
		}
		defer body.Close()
		if _, err := io.Copy(hash, body); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Renew implements Auth.
func (s *SigV4) Renew(context.Context, *http.Request) (bool, error) {
	cache, ok := s.credentials.(*aws.CredentialsCache)
	if ok {
		cache.Invalidate()
	}
	return ok, nil
}

func (s *SigV4) secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{s.last.SecretAccessKey, s.last.SessionToken}
}
