package vendorsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// makeCertificates makes the certificates of the web servers.
func (d *Domains) makeCertificates(now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Simulated Authority", Organization: []string{"Simulation"}},
		NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, authority, authority, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if authority, err = x509.ParseCertificate(raw); err != nil {
		return err
	}
	d.roots = x509.NewCertPool()
	d.roots.AddCert(authority)
	for i, c := range []struct {
		domain string
		names  []string
		end    time.Time
		self   bool
	}{
		{domain: DomainComplete, names: []string{DomainComplete, "*." + DomainComplete}, end: now.AddDate(0, 2, 0)},
		{domain: DomainExpired, names: []string{DomainExpired}, end: now.AddDate(0, 0, -3)},
		{domain: DomainMisnamed, names: []string{"other.example"}, end: now.AddDate(0, 2, 0)},
		{domain: DomainInternational, names: []string{DomainInternational}, end: now.AddDate(0, 2, 0), self: true},
	} {
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(256 + i)), Subject: pkix.Name{CommonName: c.names[0]}, DNSNames: c.names,
			NotBefore: now.AddDate(0, -1, 0), NotAfter: c.end, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		parent := authority
		chain := [][]byte{authority.Raw}
		if c.self {
			parent, chain = leaf, nil
		}
		raw, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, key)
		if err != nil {
			return err
		}
		d.certs[c.domain] = &tls.Certificate{Certificate: append([][]byte{raw}, chain...), PrivateKey: key}
	}
	return nil
}
