package vendorsim

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// A keyring holds the keys that an administrator of the vendor has created and
// withdrawn, and when requests last had them.
type keyring struct {
	mu      sync.Mutex
	changed map[string]bool // whether a key is accepted
	uses    map[string]time.Time
}

// AcceptKey makes the vendor accept a key in addition to the others, as when an
// administrator creates a second one. A key takes the place of the secret in
// [Host.Env].
func (h *Host) AcceptKey(key string) { h.keys.changeKey(key, true) }

// WithdrawKey makes the vendor refuse a key, and the tokens that were issued for it.
func (h *Host) WithdrawKey(key string) { h.keys.changeKey(key, false) }

func (k *keyring) changeKey(key string, accepted bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.changed == nil {
		k.changed = map[string]bool{}
	}
	k.changed[key] = accepted
}

// LastKeyUse returns when the vendor last received a request with a key, or with a
// token that was issued for it; zero for never.
func (h *Host) LastKeyUse(key string) time.Time {
	h.keys.mu.Lock()
	defer h.keys.mu.Unlock()
	return h.keys.uses[key]
}

// acceptsHeader is acceptsKey for the key that the header Authorization has after a
// scheme.
func (h *Host) acceptsHeader(r *http.Request, scheme, usual string) bool {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), scheme+" ")
	return ok && h.acceptsKey(key, usual)
}

// acceptsKey records the use of a key and reports whether the vendor accepts it.
// usual is the key that it accepts unless that is withdrawn.
func (h *Host) acceptsKey(key, usual string) bool {
	h.keys.mu.Lock()
	defer h.keys.mu.Unlock()
	if h.keys.uses == nil {
		h.keys.uses = map[string]time.Time{}
	}
	h.keys.uses[key] = h.Now()
	if accepted, known := h.keys.changed[key]; known {
		return accepted
	}
	return key == usual
}
