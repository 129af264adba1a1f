// Package netadvice says what to do about failures of the network: one text for
// each kind of failure, wherever it is reported.
package netadvice

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
)

// For returns what to do about an error of a network connection: a sentence
// without a capital letter and without a full stop. It returns general advice
// for an error of an unknown kind.
func For(err error) string {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	const check = "check the address, the network and HTTPS_PROXY"
	switch {
	case errors.As(err, &dns):
		return "the name cannot be resolved: check the host's name and DNS (/etc/resolv.conf)"
	case errors.As(err, &unknown):
		return "the certificate is by " + unknownIssuer(unknown) +
			": if a proxy opens TLS, add the issuing authority by SSL_CERT_FILE (for S3 by AWS_CA_BUNDLE)"
	case errors.As(err, &invalid):
		return "the certificate is not valid now: check the dates of the server's certificate and this machine's clock"
	case errors.As(err, &host):
		return "the certificate is for another name: check the address and HTTPS_PROXY"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "the server does not speak TLS there: check the address and HTTPS_PROXY"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "no response: " + check + "; a firewall may drop the packets"
	}
	return check + ", and whether a firewall blocks the connection"
}

// IsPermanent reports whether an error of a network connection stays until
// someone changes the settings, the network or the server, so that retrying is
// useless.
func IsPermanent(err error) bool {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	return errors.As(err, &dns) && dns.IsNotFound ||
		errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &record) ||
		errors.Is(err, http.ErrSchemeMismatch)
}

// IssuerName returns the name of the authority that issued a certificate.
func IssuerName(c *x509.Certificate) string {
	switch {
	case len(c.Issuer.Organization) > 0:
		return c.Issuer.Organization[0]
	case c.Issuer.CommonName != "":
		return c.Issuer.CommonName
	}
	return "an unnamed authority"
}

func unknownIssuer(err x509.UnknownAuthorityError) string {
	if err.Cert == nil {
		return "an authority that this machine does not know"
	}
	return IssuerName(err.Cert) + ", which this machine does not know"
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
