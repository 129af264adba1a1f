package main

import (
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"
)

// becomeStateOwner makes a command that root runs on the state of another user, such as
// that of the service, run as that user: what root creates there would stop the service.
// It returns when there is nothing to do, or with an error.
func (a *assembly) becomeStateOwner() error {
	uid, gid, ok := a.foreignOwner()
	if !ok {
		return nil
	}
	a.log.Info("continuing as the user who owns STATE_DIR", zap.String("state", a.stateDir()), zap.Int("uid", uid))
	err := restartAs(uid, gid)
	return fmt.Errorf("STATE_DIR: %s belongs to user id %d, which root cannot become here: %w: run this command as that user", a.stateDir(), uid, err)
}

// foreignOwner returns the owner of the state directory, if that is not root and the
// program runs as root.
func (a *assembly) foreignOwner() (uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	uid, gid, ok = ownerOf(a.stateDir())
	return uid, gid, ok && uid != 0
}

// warnOfForeignState warns of a service that root runs on the state of another user.
func (a *assembly) warnOfForeignState() {
	if uid, _, ok := a.foreignOwner(); ok {
		a.log.Warn("STATE_DIR belongs to another user, who cannot use what root creates there: run the service as that user",
			zap.String("state", a.stateDir()), zap.Int("uid", uid))
	}
}

// withoutVariable returns the environment without a variable.
func withoutVariable(environ []string, name string) (rest []string) {
	for _, entry := range environ {
		if !strings.HasPrefix(entry, name+"=") {
			rest = append(rest, entry)
		}
	}
	return rest
}
