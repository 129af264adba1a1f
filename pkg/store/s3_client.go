package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

const (
	// defaultRegion signs requests while no setting and no answer of S3 has
	// named another region.
	defaultRegion = "us-east-1"
	// answerLimit is how long S3 may take to answer what has been sent.
	// CompleteMultipartUpload of many parts takes minutes.
	answerLimit = 10 * time.Minute
)

// A connection is a client with what it was made of.
type connection struct {
	client    *s3.Client
	config    aws.Config
	transport *http.Transport
}

// connect returns the client, made from the settings when there is none.
func (s *S3) connect(ctx context.Context) (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return s.conn, nil
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	return conn, nil
}

func (s *S3) dial(ctx context.Context) (*connection, error) {
	base := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		// The bundle takes the place of the system's certificates where these
		// are not read before. Without one, they are read when TLS needs them.
		if os.Getenv("AWS_CA_BUNDLE") != "" {
			addSystemRoots(t)
		}
		t.ResponseHeaderTimeout = answerLimit
	})
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(base), config.WithLogger(logging.Nop{}), config.WithAppID("collectord"))
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	if s.region != "" {
		cfg.Region = s.region
	}
	conn := &connection{}
	if built, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		conn.transport = built.GetTransport()
		cfg.HTTPClient = &http.Client{Transport: conn.transport, CheckRedirect: sameRequest}
	}
	conn.config = cfg
	asked := checksumsAsked(cfg)
	conn.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if o.BaseEndpoint == nil {
			return
		}
		// What is not AWS often has no names for buckets and does not know the
		// newer checksums.
		o.UsePathStyle = true
		if !asked {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	})
	return conn, nil
}

func addSystemRoots(t *http.Transport) {
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if roots, err := x509.SystemCertPool(); err == nil {
		t.TLSClientConfig.RootCAs = roots
	}
}

// checksumsAsked tells whether AWS_REQUEST_CHECKSUM_CALCULATION or the
// profile decides when to send checksums.
func checksumsAsked(cfg aws.Config) bool {
	for _, source := range cfg.ConfigSources {
		switch c := source.(type) {
		case config.EnvConfig:
			if c.RequestChecksumCalculation != aws.RequestChecksumCalculationUnset {
				return true
			}
		case config.SharedConfig:
			if c.RequestChecksumCalculation != aws.RequestChecksumCalculationUnset {
				return true
			}
		}
	}
	return false
}

// sameRequest follows the redirects that repeat the request as it is; the
// others are S3's way to name another region.
func sameRequest(r *http.Request, via []*http.Request) error {
	if code := r.Response.StatusCode; len(via) < 10 && (code == http.StatusTemporaryRedirect || code == http.StatusPermanentRedirect) {
		return nil
	}
	return http.ErrUseLastResponse
}

// forget drops the client, so that the next use reads settings and
// credentials anew.
func (s *S3) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.transport != nil {
		s.conn.transport.CloseIdleConnections()
	}
	s.conn = nil
}

// do runs one operation. It follows the bucket to its region, and drops
// credentials that S3 no longer takes.
func (s *S3) do(ctx context.Context, tried string, operation func(*s3.Client) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return settingsError(ctx, tried, err)
	}
	if _, err := conn.config.Credentials.Retrieve(ctx); err != nil {
		s.forget()
		return credentialsError(ctx, tried, err)
	}
	err = operation(conn.client)
	if region := regionOf(err); region != "" && region != conn.config.Region {
		s.mu.Lock()
		s.region = region
		s.mu.Unlock()
		s.forget()
		if conn, err = s.connect(ctx); err != nil {
			return settingsError(ctx, tried, err)
		}
		err = operation(conn.client)
	}
	if isStale(err) {
		s.forget()
	}
	if err != nil {
		return s3Error(ctx, tried, err)
	}
	return nil
}
