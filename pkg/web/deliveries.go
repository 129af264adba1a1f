package web

import (
	"net/http"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/operation"
)

// maxUndelivered is the maximum number of deliveries in a response that ended without
// being made.
const maxUndelivered = 100

// queuedView is a queued delivery in the API.
type queuedView struct {
	Sink       string    `json:"sink"`
	Collector  string    `json:"collector"`
	Stream     string    `json:"stream"`
	UploadID   string    `json:"upload_id"`
	Taken      time.Time `json:"data_timestamp"`
	Records    int64     `json:"records"`
	Bytes      int64     `json:"bytes"`
	Queued     time.Time `json:"queued"`
	First      bool      `json:"first"`
	Configured bool      `json:"configured"`
	NextTry    time.Time `json:"next_try,omitzero"`
	Attempts   int       `json:"attempts"`
	Class      string    `json:"class,omitempty"`
	Error      string    `json:"error,omitempty"`
}

// undeliveredView is a delivery in the API that ended without being made.
type undeliveredView struct {
	Sink     string    `json:"sink"`
	Stream   string    `json:"stream"`
	UploadID string    `json:"upload_id"`
	Taken    time.Time `json:"data_timestamp"`
	Ended    time.Time `json:"ended"`
	Outcome  string    `json:"outcome"`
}

// serveDeliveries responds with the queued deliveries in order, and with the newest ones that
// ended without being made, newest first.
func (s *Server) serveDeliveries(w http.ResponseWriter, r *http.Request) {
	if err := s.checkStreams(r); err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	operator := s.Daemon.Operator()
	for _, name := range r.URL.Query()["destination"] {
		if err := operator.CheckDestination(name); err != nil {
			s.writeOperationError(w, r, err)
			return
		}
	}
	queue, err := s.State.Queue.List(r.Context())
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	undelivered, err := s.State.Queue.ListUndelivered(r.Context(), s.Tenancy, maxUndelivered)
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	isChosen := func(stream, sink string) bool {
		streams, destinations := r.URL.Query()["stream"], r.URL.Query()["destination"]
		return (len(streams) == 0 || slices.Contains(streams, stream)) && (len(destinations) == 0 || slices.Contains(destinations, sink))
	}
	queued, ended := []queuedView{}, []undeliveredView{}
	seen := map[[2]string]bool{}
	for _, d := range queue {
		if d.Tenancy != s.Tenancy || !isChosen(d.Stream, d.Sink) {
			continue
		}
		key := [2]string{d.Stream, d.Sink}
		queued = append(queued, queuedView{
			d.Sink, d.Collector, d.Stream, d.UploadID, d.Taken, d.Records, d.SpoolBytes, d.Queued,
			!seen[key], slices.Contains(operator.Policy.Sinks, d.Sink), d.NextTry, d.Attempts, string(d.Class), d.Err,
		})
		seen[key] = true
	}
	for _, u := range undelivered {
		if isChosen(u.Stream, u.Sink) {
			ended = append(ended, undeliveredView{u.Sink, u.Stream, u.UploadID, u.Taken, u.Ended, string(u.Outcome)})
		}
	}
	s.writeJSON(w, http.StatusOK, map[string]any{"queued": queued, "undelivered": ended})
}

// serveAccept releases the held snapshot of a stream.
func (s *Server) serveAccept(w http.ResponseWriter, r *http.Request) {
	info, err := s.Daemon.Operator().Accept(r.Context(), r.PathValue("name"))
	extendDeadline(w) // the snapshot was verified, which may take long
	if err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	s.writeJSON(w, http.StatusOK, map[string]any{
		"status": "accepted", "stream": info.Stream, "upload_id": info.UploadID, "records": info.Records,
	})
}

// redeliveryView is a last-known snapshot in the API that was queued again.
type redeliveryView struct {
	Stream   string    `json:"stream"`
	UploadID string    `json:"upload_id,omitempty"`
	Taken    time.Time `json:"data_timestamp"`
	Records  int64     `json:"records"`
}

// serveRedeliver queues last-known snapshots again.
func (s *Server) serveRedeliver(w http.ResponseWriter, r *http.Request) {
	if err := s.checkStreams(r); err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	query := r.URL.Query()
	queued, destinations, err := s.Daemon.Operator().Redeliver(r.Context(), query["destination"], query["stream"])
	if err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	views := []redeliveryView{}
	for _, q := range queued {
		views = append(views, redeliveryView{q.Stream, q.UploadID, q.Taken, q.Records})
	}
	s.writeJSON(w, http.StatusAccepted, map[string]any{"status": "queued", "destinations": destinations, "deliveries": views})
}

// serveDrop drops what is queued for a destination: the first snapshot of a stream, or,
// without a stream, everything for one that is not configured.
func (s *Server) serveDrop(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !query.Has("destination") {
		s.writeError(w, http.StatusBadRequest, "the parameter destination is missing")
		return
	}
	operator := s.Daemon.Operator()
	if !query.Has("stream") {
		if query.Has("upload_id") {
			s.writeError(w, http.StatusBadRequest, "the parameter upload_id needs the parameter stream")
			return
		}
		n, err := operator.DropAll(r.Context(), query.Get("destination"))
		s.writeDropped(w, r, map[string]any{"dropped": n, "queued": 0}, err)
		return
	}
	err := s.checkStreams(r)
	var d operation.Dropped
	if err == nil {
		d, err = operator.DropFirst(r.Context(), query.Get("destination"), query.Get("stream"), query.Get("upload_id"))
	}
	s.writeDropped(w, r, map[string]any{"dropped": 1, "queued": d.Left, "stream": d.Stream, "upload_id": d.UploadID}, err)
}

// writeDropped writes the response to a request that drops deliveries; err is the error of
// that.
func (s *Server) writeDropped(w http.ResponseWriter, r *http.Request, response map[string]any, err error) {
	if err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	response["status"], response["destination"] = "dropped", r.URL.Query().Get("destination")
	s.writeJSON(w, http.StatusOK, response)
}

// serveRetryDeliveries makes every queued delivery due at once.
func (s *Server) serveRetryDeliveries(w http.ResponseWriter, r *http.Request) {
	if err := s.Daemon.DeliverNow(r.Context()); err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	s.writeJSON(w, http.StatusAccepted, map[string]string{"status": "every queued delivery is due"})
}
