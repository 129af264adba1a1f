package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// statfs is a variable for tests.
var statfs = syscall.Statfs

// networkNames are the names of the file systems that are on another machine, by
// the number that statfs returns.
var networkNames = map[uint32]string{
	0x6969:     "NFS",
	0x517b:     "SMB",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB",
	0x01021997: "9p",
	0x65735546: "FUSE (such as sshfs, or a directory that a virtual machine shares)",
	0x5346414f: "AFS",
	0x6b414653: "AFS",
	0x00c36400: "Ceph",
	0x0bd00bd0: "Lustre",
	0x73757245: "Coda",
	0x7461636f: "OCFS2",
	0x01161970: "GFS2",
	0x786f4256: "vboxsf",
}

// NetworkFileSystem returns the name of the file system of dir, or of the nearest
// directory above it that exists, if it is on another machine or may be; "" if it
// is not, or if that cannot be found out. Locks and shared memory do not work
// reliably on such a file system, which databases need.
func NetworkFileSystem(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	var s syscall.Statfs_t
	if err := statfs(dir, &s); err != nil {
		return ""
	}
	return networkNames[uint32(s.Type)]
}
