package cluster

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
)

// A handOut is the job of River that tells a service of its task. It is a hint: the row of the
// task says what is true, so a job that is lost or doubled changes nothing.
type handOut struct {
	Task string `json:"task"`
}

// Kind implements [river.JobArgs].
func (handOut) Kind() string { return "collectord_task" }

// handOuts is the queue of River through which the leader tells each service of its tasks. Every
// service has a queue of its own, which it polls: a connection pooler in transaction mode gives
// no notifications.
type handOuts struct {
	client *river.Client[*sql.Tx]
	db     *sql.DB
	schema string
}

const (
	// jobTimeout bounds the taking of a task; the task itself runs elsewhere.
	jobTimeout = time.Minute
	// jobAge is how long jobs stay, those that no process has fetched as well, and queueAge
	// how long the queue of a process that has ended does.
	jobAge   = time.Hour
	queueAge = 24 * time.Hour
	// cleanInterval is how often they are removed.
	cleanInterval = time.Hour
)

// openHandOuts returns the queue of the service node. take is called with the id of each task.
func openHandOuts(ctx context.Context, db *sql.DB, schema, node string, poll time.Duration, take func(ctx context.Context, task string) error) (*handOuts, error) {
	driver := riverdatabasesql.New(db)
	if err := migrateRiver(ctx, driver, db, schema); err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[handOut]) error { return take(ctx, job.Args.Task) }))
	client, err := river.NewClient(quietDriver{driver}, &river.Config{
		ID: node, Schema: schema, FetchPollInterval: poll, FetchCooldown: min(poll, 100*time.Millisecond),
		Queues: map[string]river.QueueConfig{node: {MaxWorkers: 16}}, Workers: workers,
		MaxAttempts: 1, JobTimeout: jobTimeout,
		// The leader of the services cleans up, see clean: River's elections cost more than its jobs.
		LeaderElectionDisabled: true,
		// The beats of the node report an outage, and the leader a task that is not taken.
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("open River: %w", err)
	}
	return &handOuts{client, db, schema}, nil
}

// clean removes what River does not need any more.
func (h *handOuts) clean(ctx context.Context) error {
	schema := pgx.Identifier{h.schema}.Sanitize()
	_, err := h.db.ExecContext(ctx, `DELETE FROM `+schema+`.river_job WHERE created_at < now() - $1::bigint * interval '1 millisecond'`, jobAge.Milliseconds())
	if err == nil {
		_, err = h.db.ExecContext(ctx, `DELETE FROM `+schema+`.river_queue WHERE updated_at < now() - $1::bigint * interval '1 millisecond'`, queueAge.Milliseconds())
	}
	if err != nil {
		return fmt.Errorf("remove old jobs of River: %w", err)
	}
	return nil
}

// A quietDriver is a driver of River whose listener receives no notifications. With it, River
// reads the settings of queues, which do not change, once a minute; without a listener, every two
// seconds.
type quietDriver struct{ *riverdatabasesql.Driver }

// SupportsListener implements [riverdriver.Driver].
func (quietDriver) SupportsListener() bool { return true }

// GetListener implements [riverdriver.Driver].
func (quietDriver) GetListener(params *riverdriver.GetListenenerParams) riverdriver.Listener {
	return quietListener{params.Schema}
}

// A quietListener is a [riverdriver.Listener] that receives nothing.
type quietListener struct{ schema string }

func (quietListener) Close(context.Context) error            { return nil }
func (quietListener) Connect(context.Context) error          { return nil }
func (quietListener) Listen(context.Context, string) error   { return nil }
func (quietListener) Ping(context.Context) error             { return nil }
func (quietListener) Unlisten(context.Context, string) error { return nil }
func (quietListener) SetAfterConnectExec(string)             {}
func (q quietListener) Schema() string                       { return q.schema }

// WaitForNotification implements [riverdriver.Listener].
func (quietListener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// migrateRiver creates or extends the tables of River, if that is needed: the role may not be
// allowed to. Meanwhile the services exclude one another.
func migrateRiver(ctx context.Context, driver *riverdatabasesql.Driver, db *sql.DB, schema string) error {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("open the migrations of River: %w", err)
	}
	if valid, err := migrator.Validate(ctx, nil); err == nil && valid.OK {
		return nil
	}
	// The lock ends with its transaction. The migrations have transactions of their own.
	lock, err := db.BeginTx(ctx, nil)
	if err == nil {
		defer lock.Rollback() //nolint:errcheck // nothing was written
		_, err = lock.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "collectord river "+schema)
	}
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		return fmt.Errorf("create the tables of River: %w", err)
	}
	return nil
}

// begin begins to take tasks. ctx bounds the start alone.
func (h *handOuts) begin(ctx context.Context) error {
	if err := h.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start River: %w", err)
	}
	return nil
}

// stop ends the taking of tasks.
func (h *handOuts) stop(ctx context.Context) error { return h.client.StopAndCancel(ctx) }

// tell tells a node of its task, in a transaction.
func (h *handOuts) tell(ctx context.Context, tx *sql.Tx, node, task string) error {
	_, err := h.client.InsertTx(ctx, tx, handOut{task}, &river.InsertOpts{Queue: node})
	return err
}
