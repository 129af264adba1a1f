package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// inTx calls do in a transaction and commits it.
//
// Every statement is executed in a transaction, those that only read, too. A
// connection pooler in transaction mode, such as PgBouncer, may use another
// server connection for each round trip that is not part of one, and the driver
// uses two for a statement: one parses it, one executes it. The second would
// execute what another client has parsed on that server connection. For the
// same reason settings are those of the transaction, locks are the
// transaction's, and no statement is prepared under a name.
//
// The isolation is read committed, whatever the database's default: a
// transaction that waited for a lock must see what the previous holder of the
// lock has committed.
func inTx(ctx context.Context, conn *pgx.Conn, do func(tx pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return err
	}
	defer rollBack(tx)
	if err := configureTx(ctx, tx); err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// inSavepoint calls do after a savepoint, to which it rolls back after an error.
func inSavepoint(ctx context.Context, tx pgx.Tx, do func(tx pgx.Tx) error) error {
	save, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer rollBack(save)
	if err := do(save); err != nil {
		return err
	}
	return save.Commit(ctx)
}

// rollBack ends a transaction, unless it was committed.
func rollBack(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // after a commit it does nothing; the server rolls back a lost connection
}

// configureTx sets for the transaction what must not depend on the defaults of the
// role or the database: a COPY may take longer than a query, the wait for a lock
// is bounded, and what COMMIT has confirmed survives a crash of the server. Long
// records are compressed by LZ4, which takes a fraction of the time of the
// server's default, if the server supports it and no other choice was
// configured.
func configureTx(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		SELECT set_config(name, CASE name
			WHEN 'lock_timeout' THEN CASE setting WHEN '0' THEN '30s' ELSE setting END
			WHEN 'synchronous_commit' THEN CASE setting WHEN 'off' THEN 'on' ELSE setting END
			WHEN 'default_toast_compression' THEN CASE WHEN source = 'default' AND 'lz4' = ANY (enumvals) THEN 'lz4' ELSE setting END
			ELSE '0' END, true)
		FROM pg_catalog.pg_settings
		WHERE name IN ('lock_timeout', 'synchronous_commit', 'default_toast_compression', 'statement_timeout',
			'idle_in_transaction_session_timeout', 'transaction_timeout')`)
	return err
}

// lockName takes the advisory lock of a name until the transaction ends. It waits
// for the lock as long as lock_timeout allows.
func lockName(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "collectord "+name)
	return err
}

// connect opens a connection. Its errors are explained.
func (s *Sink) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return nil, explainError(ctx, "connect", err)
	}
	return conn, nil
}

// closeTimeout bounds the orderly end of a connection or a transaction.
const closeTimeout = 2 * time.Second

// closeConn closes a connection and waits until its goroutines have ended.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // what was committed is committed
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}
