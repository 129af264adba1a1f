package systemd

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// SandboxAdvice returns what to do about an error of the file system that the sandbox of
// a unit may have caused; "" when it did not, or when systemd does not run the program.
func SandboxAdvice(err error) string {
	if os.Getenv("INVOCATION_ID") == "" || !errors.Is(err, syscall.EROFS) && !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	where := ""
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		where = " below " + dir
	}
	return "the sandbox of the systemd unit allows writing only" + where +
		" and in its ReadWritePaths=: add the directory there (systemctl edit)"
}
