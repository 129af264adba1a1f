package domains

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// certificate is one certificate of a chain.
type certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	SHA256    string    `json:"sha256"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

func describeCertificate(c *x509.Certificate) certificate {
	sum := sha256.Sum256(c.Raw)
	return certificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: hex.EncodeToString(c.SerialNumber.Bytes()),
		SHA256: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
	}
}

// handshake is what a TLS handshake showed; all fields are nil without one.
type handshake struct {
	Subject       *string       `json:"subject"`
	Issuer        *string       `json:"issuer"`
	Serial        *string       `json:"serial"`
	SHA256        *string       `json:"sha256"`
	NotBefore     *time.Time    `json:"not_before"`
	NotAfter      *time.Time    `json:"not_after"`
	SANs          []string      `json:"sans"`
	Version       *string       `json:"version"`
	Cipher        *string       `json:"cipher"`
	Verified      *bool         `json:"verified"`
	VerifyReason  *string       `json:"verify_reason"`
	VerifyDetail  *string       `json:"verify_detail"`
	ChainNotAfter *time.Time    `json:"chain_not_after"`
	Chain         []certificate `json:"chain"`
}

// tlsRecord is a record of domains_tls.
type tlsRecord struct {
	Domain  string  `json:"domain"`
	Unicode string  `json:"unicode"`
	Port    string  `json:"port"`
	Address *string `json:"address"`
	handshake
	Errors []failure `json:"errors"`
}

// examineTLS returns the record of domains_tls.
func (a *account) examineTLS(ctx context.Context, d domainName, failed *failures) any {
	r := &tlsRecord{Domain: d.ascii, Unicode: d.unicode, Port: a.ports["https"]}
	conn, failure := a.connect(ctx, "tls", d.ascii, r.Port)
	if failed.addFailure(failure); failure == nil {
		defer conn.Close()
		if address, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
			r.Address = new(address.Addr().String())
		}
		client := tls.Client(conn, a.tlsConfig(d.ascii))
		limited, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		stats := collector.StatsFrom(ctx)
		stats.CountRequest("TLS handshake", 1)
		if err := client.HandshakeContext(limited); err != nil {
			stats.CountResponse(0)
			failed.addFailure(describeHandshakeError(d, err))
		} else {
			stats.CountResponse(200)
			state := client.ConnectionState()
			r.handshake = a.describeHandshake(d, state)
			stats.CountReceived(len(state.PeerCertificates[0].Raw))
		}
	}
	r.Errors = failed.list()
	return r
}

// tlsConfig returns a configuration that accepts every certificate and every
// version, because those that should not be accepted are what the record is for.
func (a *account) tlsConfig(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, NextProtos: []string{"http/1.1"}}
}

func describeHandshakeError(d domainName, err error) *failure {
	reason, detail := describeNetworkError(err)
	var header tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, &header):
		reason, detail = "not_tls", "the server does not speak TLS on the port"
	case errors.As(err, &remote) && remote.Op == "remote error":
		reason, detail = "handshake", "the server refused the handshake: "+remote.Err.Error()
	}
	return &failure{Lookup: "tls", Name: d.ascii, Reason: reason, Detail: detail}
}

// describeHandshake returns what the handshake showed, also for a certificate
// that is not valid.
func (a *account) describeHandshake(d domainName, state tls.ConnectionState) handshake {
	leaf := state.PeerCertificates[0]
	own := describeCertificate(leaf)
	h := handshake{
		Subject: &own.Subject, Issuer: &own.Issuer, Serial: &own.Serial, SHA256: &own.SHA256, NotBefore: &own.NotBefore, NotAfter: &own.NotAfter,
		SANs: append([]string{}, leaf.DNSNames...), Version: new(tls.VersionName(state.Version)), Cipher: new(tls.CipherSuiteName(state.CipherSuite)),
	}
	for _, ip := range leaf.IPAddresses {
		h.SANs = append(h.SANs, ip.String())
	}
	others := x509.NewCertPool()
	earliest := own.NotAfter
	for _, c := range state.PeerCertificates {
		h.Chain = append(h.Chain, describeCertificate(c))
		if c.NotAfter.Before(earliest) {
			earliest = c.NotAfter.UTC()
		}
		others.AddCert(c)
	}
	h.ChainNotAfter = &earliest
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: d.ascii, Intermediates: others, Roots: a.roots, CurrentTime: time.Now()})
	h.Verified = new(err == nil)
	if err != nil {
		reason, detail := describeVerifyError(leaf, err)
		h.VerifyReason, h.VerifyDetail = &reason, &detail
	}
	return h
}

// describeVerifyError returns the reason why a certificate is not valid, and a
// sentence without the time of the check.
func describeVerifyError(leaf *x509.Certificate, err error) (reason, detail string) {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(leaf.NotBefore):
		return "not_yet_valid", "the certificate is not valid before " + formatDate(leaf.NotBefore.Format(time.RFC3339))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired", "a certificate of the chain is not valid any more, see chain_not_after"
	case errors.As(err, &name):
		return "wrong_name", "the certificate is for other names, see sans"
	case errors.As(err, &unknown):
		return "unknown_authority", "the certificate is by an authority that this machine does not know, or an intermediate certificate is missing"
	}
	return "other", err.Error()
}
