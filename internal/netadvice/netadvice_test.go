package netadvice_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/collectord/collectord/internal/netadvice"
)

func TestFor(t *testing.T) {
	proxy := &x509.Certificate{Issuer: pkix.Name{Organization: []string{"Acme Inspection"}}}
	for _, test := range []struct {
		name      string
		err       error
		advice    string
		permanent bool
	}{
		{
			name:      "unknown name",
			err:       &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true},
			advice:    "the name cannot be resolved: check the host's name and DNS (/etc/resolv.conf)",
			permanent: true,
		},
		{
			name:   "DNS server without a response",
			err:    &net.DNSError{Err: "timeout", Name: "nowhere.invalid", IsTimeout: true},
			advice: "the name cannot be resolved: check the host's name and DNS (/etc/resolv.conf)",
		},
		{
			name: "unknown authority",
			err:  x509.UnknownAuthorityError{Cert: proxy},
			advice: "the certificate is by Acme Inspection, which this machine does not know: " +
				"if a proxy opens TLS, add the issuing authority by SSL_CERT_FILE (for S3 by AWS_CA_BUNDLE)",
			permanent: true,
		},
		{
			name: "unknown authority without a certificate",
			err:  x509.UnknownAuthorityError{},
			advice: "the certificate is by an authority that this machine does not know: " +
				"if a proxy opens TLS, add the issuing authority by SSL_CERT_FILE (for S3 by AWS_CA_BUNDLE)",
			permanent: true,
		},
		{
			name: "expired certificate",
			err:  x509.CertificateInvalidError{Cert: proxy, Reason: x509.Expired},
			advice: "the certificate is not valid now: " +
				"check the dates of the server's certificate and this machine's clock",
			permanent: true,
		},
		{
			name:      "certificate for another name",
			err:       x509.HostnameError{Certificate: proxy, Host: "vendor.test"},
			advice:    "the certificate is for another name: check the address and HTTPS_PROXY",
			permanent: true,
		},
		{
			name:      "server without TLS",
			err:       tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
			advice:    "the server does not speak TLS there: check the address and HTTPS_PROXY",
			permanent: true,
		},
		{
			name:      "HTTP response to an HTTPS request",
			err:       http.ErrSchemeMismatch,
			advice:    "the server does not speak TLS there: check the address and HTTPS_PROXY",
			permanent: true,
		},
		{
			name:   "timeout",
			err:    context.DeadlineExceeded,
			advice: "no response: check the address, the network and HTTPS_PROXY; a firewall may drop the packets",
		},
		{
			name:   "refused connection",
			err:    errors.New("connection refused"),
			advice: "check the address, the network and HTTPS_PROXY, and whether a firewall blocks the connection",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := fmt.Errorf("wrapped: %w", test.err)
			if advice := netadvice.For(err); advice != test.advice {
				t.Errorf("the advice is %q, want %q", advice, test.advice)
			}
			if permanent := netadvice.IsPermanent(err); permanent != test.permanent {
				t.Errorf("IsPermanent is %t, want %t", permanent, test.permanent)
			}
		})
	}
}
