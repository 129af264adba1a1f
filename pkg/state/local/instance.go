package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/durable"
)

// instanceName is the name of the file that identifies the state directory.
const instanceName = "instance-id"

// ReadInstance returns the random text that identifies the state directory dir, also on
// another machine; "" if it has none yet.
func ReadInstance(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, instanceName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// createInstance creates the file that identifies dir, if it has none.
func createInstance(dir string) error {
	id, err := ReadInstance(dir)
	if err != nil || id != "" {
		return err
	}
	return durable.ReplaceFile(filepath.Join(dir, instanceName), func(temp *os.File) error {
		_, err := temp.WriteString(uuid.NewString() + "\n")
		return err
	})
}
