package s3

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
	// defaultRegion is used until a setting or a response of S3 names
	// another region.
	defaultRegion = "us-east-1"
	// responseTimeout is how long S3 may take to respond to a request that
	// was sent. CompleteMultipartUpload of many parts takes minutes.
	responseTimeout = 10 * time.Minute
)

// A connection is a client with its configuration.
type connection struct {
	client    *s3.Client
	config    aws.Config
	transport *http.Transport
	first     dialect       // of the first request
	server    *serverHeader // of the last response
}

// connect returns the present connection, or a new one if there is none.
func (s *Sink) connect(ctx context.Context) (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return s.conn, nil
	}
	conn, err := s.newConnection(ctx)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	return conn, nil
}

// newConnection returns a connection as the profile, or else the AWS variables and files,
// configure it. The caller holds s.mu.
func (s *Sink) newConnection(ctx context.Context) (*connection, error) {
	base := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		// The SDK adds the bundle to RootCAs, which would then lack the
		// certificates of the system. Without a bundle, TLS loads them on
		// demand.
		if os.Getenv("AWS_CA_BUNDLE") != "" {
			addSystemRoots(t)
		}
		t.ResponseHeaderTimeout = responseTimeout
	})
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(base), config.WithLogger(logging.Nop{}), config.WithAppID("collectord")}
	if s.opts.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.opts.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	if s.region != "" {
		cfg.Region = s.region
	}
	conn := &connection{server: &serverHeader{}}
	if built, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		conn.transport = built.GetTransport()
		cfg.HTTPClient = &http.Client{Transport: conn.transport, CheckRedirect: followSameMethod}
	}
	conn.config = cfg
	conn.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		requested := checksumsRequested(cfg)
		if providerOf(*o).name != amazon && !requested {
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		conn.first = s.firstDialect(*o, requested)
		conn.first.applyTo(o)
		o.APIOptions = append(o.APIOptions, leaveAcceptEncodingUnsigned, conn.server.watch, s.addRequestPayer)
	})
	return conn, nil
}

// addSystemRoots makes t trust the certificates of the system.
func addSystemRoots(t *http.Transport) {
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if roots, err := x509.SystemCertPool(); err == nil {
		t.TLSClientConfig.RootCAs = roots
	}
}

// checksumsRequested reports whether AWS_REQUEST_CHECKSUM_CALCULATION or the
// profile says when to send checksums.
func checksumsRequested(cfg aws.Config) bool {
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

// followSameMethod is a CheckRedirect function that follows redirects that keep
// the method. S3 uses the other redirects to name another region.
func followSameMethod(r *http.Request, via []*http.Request) error {
	if code := r.Response.StatusCode; len(via) < 10 && (code == http.StatusTemporaryRedirect || code == http.StatusPermanentRedirect) {
		return nil
	}
	return http.ErrUseLastResponse
}

// dropConnection closes the connection, so that the next request reads the
// configuration and the credentials again.
func (s *Sink) dropConnection() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.transport != nil {
		s.conn.transport.CloseIdleConnections()
	}
	s.conn = nil
}

// withClient calls operation with the client. If S3 names another region, it
// calls operation once more there. It drops credentials that S3 rejects.
func (s *Sink) withClient(ctx context.Context, tried string, operation func(*connection) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return settingsError(ctx, tried, err)
	}
	if _, err := conn.config.Credentials.Retrieve(ctx); err != nil {
		s.dropConnection()
		return credentialsError(ctx, tried, err)
	}
	err = operation(conn)
	if region := regionOf(err); region != "" && region != conn.config.Region {
		s.mu.Lock()
		s.region = region
		s.mu.Unlock()
		s.dropConnection()
		if conn, err = s.connect(ctx); err != nil {
			return settingsError(ctx, tried, err)
		}
		err = operation(conn)
	}
	if isCredentialError(err) {
		s.dropConnection()
	}
	if err != nil {
		return explainError(ctx, tried, addNetworkAdvice(conn, err))
	}
	return nil
}
