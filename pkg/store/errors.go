package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/internal/systemd"
)

// ExplainFileError adds to an error of the file system the setting and the
// path that it is about, and what a person can do. The result wraps
// ErrRefused when repeating cannot help.
func ExplainFileError(setting, path string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = fmt.Sprintf(": give user id %d the right to write there, or change %s", os.Geteuid(), setting)
	case errors.Is(err, syscall.EROFS), errors.Is(err, durable.ErrNotRegular), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EEXIST),
		errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		advice = ": change " + setting
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: write %s: %w: free some space there", setting, path, err)
	}
	if sandbox := systemd.SandboxAdvice(err); sandbox != "" {
		advice = ": " + sandbox + ", or change " + setting
	}
	if advice != "" {
		return fmt.Errorf("%s: write %s: %w: %w%s", setting, path, ErrRefused, err, advice)
	}
	return fmt.Errorf("%s: write %s: %w", setting, path, err)
}

// IsCertificateError reports whether a TLS handshake failed because of a
// certificate.
func IsCertificateError(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	return errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) || errors.As(err, &verification)
}

// HintSuffix returns ": " and the hint, for the end of a message, or "" when
// there is no hint.
func HintSuffix(hint string) string {
	if hint == "" {
		return ""
	}
	return ": " + hint
}
