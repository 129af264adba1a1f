package crowdstrike

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

const (
	entitiesPath = "/devices/entities/devices/v2"
	// maxHostBatch is how many hosts one request can read.
	maxHostBatch = 5000
)

// hostReader reads hosts by their ids.
type hostReader struct {
	*account
	client *rest.Client
	out    collector.Output
	ids    []string // sorted

	mu        sync.Mutex
	hasRecord []bool // whether a host was received, as in ids
}

// readAll reads the hosts. The response leaves out a host that was removed in the
// meantime. If more than a few are left out, they are requested again, and two
// reads that agree are accepted.
func (h *hostReader) readAll(ctx context.Context) error {
	missing := h.ids
	for reads := 1; ; reads++ {
		if err := forEachBatch(ctx, missing, maxHostBatch, h.readBatch); err != nil {
			return err
		}
		missing = h.missingIDs()
		declared := int64(len(h.ids))
		received := declared - int64(len(missing))
		fields := []zap.Field{zap.Int64("received", received), zap.Int64("ids", declared)}
		switch {
		case len(missing) == 0:
			return nil
		case !isTooFew(received, declared), reads > 1 && isAcceptable(received, declared):
			h.noteDoubt(ctx, "received fewer hosts than ids were listed", int64(len(missing)), fields...)
			return nil
		case reads > 1:
			return fmt.Errorf("POST %s: %w: received %d hosts for %d ids", entitiesPath, collector.ErrIncomplete, received, declared)
		}
		h.log.Warn("received fewer hosts than ids were listed; requesting them again", fields...)
		if err := rest.Sleep(ctx, readAgainAfter, "requesting hosts again"); err != nil {
			return err
		}
	}
}

// missingIDs returns the ids of the hosts that were not received.
func (h *hostReader) missingIDs() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var missing []string
	for at, received := range h.hasRecord {
		if !received {
			missing = append(missing, h.ids[at])
		}
	}
	return missing
}

// readBatch reads the hosts with the given ids.
func (h *hostReader) readBatch(ctx context.Context, ids []string) error {
	body, err := json.Marshal(map[string][]string{"ids": ids})
	if err != nil {
		return err
	}
	_, err = h.client.Fetch(ctx, rest.Request{Method: http.MethodPost, Path: entitiesPath, Body: body}, entitiesShape, h.out, h.appendHost)
	return err
}

// appendHost writes a host and records that it was received. If its response
// fails later, the request is repeated or the extraction fails.
func (h *hostReader) appendHost(batch collector.Batch, _ *rest.Envelope, raw []byte) error {
	if at, listed := slices.BinarySearch(h.ids, rest.TextOf(rest.Member(raw, "device_id"))); listed {
		h.mu.Lock()
		h.hasRecord[at] = true
		h.mu.Unlock()
	}
	return batch.Append(raw)
}
