package shared

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// Tasks are the runs of collectors that the services plan and hand out. The one that has the
// lock of the service leads: Record, Assign, GiveBack and End are its, and fail with
// an error that wraps state.ErrLost when another one may lead. The other methods are for all.
type Tasks struct {
	engine *engine
	node   *node
	// redact removes secrets from reasons; nil means that they have none.
	redact func(string) string
}

// Tasks returns the tasks.
func (s *State) Tasks() *Tasks { return &Tasks{s.engine, s.node, s.redact} }

// lead calls do in a transaction if this process leads.
func (t *Tasks) lead(ctx context.Context, what string, do func(tx database.DB) error) error {
	err := t.engine.Transaction(ctx, func(tx database.DB) error {
		if err := t.node.Fence(ctx, tx, database.ServiceLock); err != nil {
			return err
		}
		return do(tx)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Record adds tasks, all or none. One that is there already stays as it is: the same one, or
// that of the same tick.
func (t *Tasks) Record(ctx context.Context, tasks []state.Task) error {
	return t.lead(ctx, "record what is due", func(tx database.DB) error {
		for _, task := range tasks {
			if err := t.insert(ctx, tx, task); err != nil {
				return err
			}
		}
		return nil
	})
}

// Request adds a task that a person has asked for. The leader finds it as requested. The error
// wraps state.ErrLocked when a task with one of its streams has not ended.
func (t *Tasks) Request(ctx context.Context, task state.Task) error {
	task.State = state.TaskRequested
	err := t.engine.Transaction(ctx, func(tx database.DB) error {
		var other string
		err := tx.QueryRowContext(ctx, `SELECT coalesce(max(id), '') FROM `+t.engine.name("tasks")+` t
			WHERE tenancy = $1 AND collector = $2 AND `+isOpen+`
			AND EXISTS (SELECT 1 FROM json_array_elements_text(streams::json) AS s (name) WHERE s.name = ANY ($3))`,
			task.Tenancy, task.Collector, task.Streams).Scan(&other)
		if err == nil && other != "" {
			err = fmt.Errorf("%w: a run of %s is queued or in progress", state.ErrLocked, task.Collector)
		}
		if err != nil {
			return err
		}
		return t.insert(ctx, tx, task)
	})
	if err != nil {
		return fmt.Errorf("request a run: %w", err)
	}
	return nil
}

func (t *Tasks) insert(ctx context.Context, tx database.DB, task state.Task) error {
	streams, err := json.Marshal(task.Streams)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO `+t.engine.name("tasks")+` (id, tenancy, collector, streams, cause, schedule, tick, state, reason, ended)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $10 THEN clock_timestamp() END) ON CONFLICT DO NOTHING`,
		task.ID, task.Tenancy, task.Collector, string(streams), task.Trigger, task.Schedule, task.Tick.UnixMilli(), string(task.State), t.text(task.Reason), !task.State.IsOpen())
	return err
}

// text returns a text for the database.
func (t *Tasks) text(text string) string {
	if t.redact != nil {
		text = t.redact(text)
	}
	return database.TruncateText(text)
}

// LastTicks returns the newest task of each schedule of a tenancy.
func (t *Tasks) LastTicks(ctx context.Context, tenancy string) ([]state.Task, error) {
	return t.query(ctx, `DISTINCT ON (t.collector, t.schedule)`, `t.tenancy = $1 AND t.schedule <> '' ORDER BY t.collector, t.schedule, t.tick DESC`, tenancy)
}

// Unfinished returns the tasks of a tenancy that have not ended, in the order of their ticks.
func (t *Tasks) Unfinished(ctx context.Context, tenancy string) ([]state.Task, error) {
	return t.query(ctx, ``, `t.tenancy = $1 AND t.`+isOpen+` ORDER BY t.tick, t.id`, tenancy)
}

// EndedWithin returns the tasks of all tenancies that a process ran and that ended within a time
// until now, in the order of their ends.
func (t *Tasks) EndedWithin(ctx context.Context, within time.Duration) ([]state.Task, error) {
	return t.query(ctx, ``, `t.ended > clock_timestamp() - $1::bigint * interval '1 millisecond' AND t.node <> '' ORDER BY t.ended`, within.Milliseconds())
}

// Read returns the tasks of all tenancies that have not ended, and those of ids whatever their
// state, in the order of their ticks.
func (t *Tasks) Read(ctx context.Context, ids []string) ([]state.Task, error) {
	return t.query(ctx, ``, `t.`+isOpen+` OR t.id = ANY ($1) ORDER BY t.tick, t.id`, ids)
}

// isOpen is the SQL condition that a task has not ended, after the name of the table; the index
// tasks_open has it.
const isOpen = `state IN ('requested', 'due', 'running')`

// query returns the tasks t of which an SQL condition holds, with their nodes.
func (t *Tasks) query(ctx context.Context, distinct, where string, args ...any) (all []state.Task, err error) {
	rows, err := t.engine.db.QueryContext(ctx, `SELECT `+distinct+` `+taskColumns+`,
			coalesce(n.name, ''), coalesce(n.expires > clock_timestamp(), FALSE), coalesce(n.draining, FALSE)
		FROM `+t.engine.name("tasks")+` t LEFT JOIN `+t.engine.name("nodes")+` n ON n.id = t.node WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read the tasks: %w", t.engine.Explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var task state.Task
		if err := scanTask(rows, &task, &task.NodeName, &task.NodeAlive, &task.NodeDraining); err != nil {
			return nil, fmt.Errorf("read the tasks: %w", err)
		}
		all = append(all, task)
	}
	return all, rows.Err()
}

// taskColumns are the columns that scanTask reads, of the table t.
const taskColumns = `t.id, t.tenancy, t.collector, t.streams, t.cause, t.schedule, t.tick, t.state, t.attempt, t.takes, t.node,
	t.assigned, t.started, t.ended, t.cancelled, t.progress, t.results, t.reason`

// scanTask reads taskColumns, and more.
func scanTask(row interface{ Scan(...any) error }, task *state.Task, more ...any) error {
	var streams, stateText, progress, results string
	var tick int64
	var assigned, started, ended sql.NullTime
	err := row.Scan(append([]any{&task.ID, &task.Tenancy, &task.Collector, &streams, &task.Trigger, &task.Schedule, &tick, &stateText, &task.Attempt, &task.Takes, &task.Node,
		&assigned, &started, &ended, &task.Cancelled, &progress, &results, &task.Reason}, more...)...)
	if err != nil {
		return err
	}
	task.State, task.Tick = state.TaskState(stateText), time.UnixMilli(tick).UTC()
	task.Assigned, task.Started, task.Ended = assigned.Time.UTC(), started.Time.UTC(), ended.Time.UTC()
	task.Progress, task.Results = rawJSON(progress), rawJSON(results)
	return json.Unmarshal([]byte(streams), &task.Streams)
}

func rawJSON(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// A HandOut tells a node of its task, in a transaction.
type HandOut func(ctx context.Context, tx *sql.Tx) error

// Assign makes a task that waits that of a node, and tells it. assigned reports whether it was
// waiting.
func (t *Tasks) Assign(ctx context.Context, id, node string, handOut HandOut) (assigned bool, err error) {
	err = t.lead(ctx, "assign a task", func(tx database.DB) error {
		done, err := tx.ExecContext(ctx, `UPDATE `+t.engine.name("tasks")+` SET state = 'due', node = $2, assigned = clock_timestamp()
			WHERE id = $1 AND state IN ('requested', 'due') AND `+t.notPaused(), id, node)
		if assigned, err = hasChanged(done, err); err != nil || !assigned {
			return err
		}
		return handOut(ctx, sqlTx(tx))
	})
	return assigned && err == nil, err
}

// notPaused is the SQL condition that tasks may begin. Pause is a transaction: none begins after it.
func (t *Tasks) notPaused() string {
	return `NOT EXISTS (SELECT 1 FROM ` + t.engine.name("version") + ` WHERE paused IS NOT NULL)`
}

// GiveBack makes a task due again whose node does not respond. If it was the last of
// maxAttempts, the task has failed. It changes nothing while this process is not steady: after an
// outage of the database all nodes look dead.
func (t *Tasks) GiveBack(ctx context.Context, task state.Task, maxAttempts int) (changed bool, err error) {
	if !t.node.isSteady() {
		return false, nil
	}
	err = t.lead(ctx, "take a task over", func(tx database.DB) error {
		done, err := tx.ExecContext(ctx, `UPDATE `+t.engine.name("tasks")+` SET node = '', progress = '', attempt = attempt + 1,
				state = CASE WHEN attempt < $3 THEN 'due' ELSE 'failed' END, ended = CASE WHEN attempt < $3 THEN NULL ELSE clock_timestamp() END,
				reason = CASE WHEN attempt < $3 THEN '' ELSE 'the process that ran it died, as those before' END
			WHERE id = $1 AND takes = $2 AND state = 'running' AND `+t.engine.isDead("node"), task.ID, task.Takes, maxAttempts)
		changed, err = hasChanged(done, err)
		return err
	})
	return changed && err == nil, err
}

// End ends a task that no process runs.
func (t *Tasks) End(ctx context.Context, id string, as state.TaskState, reason string) error {
	return t.lead(ctx, "end a task", func(tx database.DB) error {
		_, err := tx.ExecContext(ctx, `UPDATE `+t.engine.name("tasks")+` SET state = $2, reason = $3, ended = clock_timestamp()
			WHERE id = $1 AND state IN ('requested', 'due')`, id, string(as), t.text(reason))
		return err
	})
}

// Take begins a task that the leader has assigned to this process. taken reports whether it has.
func (t *Tasks) Take(ctx context.Context, id string) (task state.Task, taken bool, err error) {
	err = t.engine.Transaction(ctx, func(tx database.DB) error {
		row := tx.QueryRowContext(ctx, `UPDATE `+t.engine.name("tasks")+` t SET state = 'running', takes = takes + 1, started = coalesce(started, clock_timestamp())
			WHERE id = $1 AND state = 'due' AND node = $2 AND cancelled = '' AND `+t.notPaused()+` RETURNING `+taskColumns, id, t.node.id)
		err := scanTask(row, &task)
		taken = err == nil
		if isNoRow(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return task, false, fmt.Errorf("take a task: %w", err)
	}
	return task, taken, nil
}

// ownRunning is the condition for a task that this process runs, with the arguments $1 to $3 of
// own.
const ownRunning = `id = $1 AND takes = $2 AND node = $3 AND state = 'running'`

func (t *Tasks) own(task state.Task, more ...any) []any {
	return append([]any{task.ID, task.Takes, t.node.id}, more...)
}

// NoteProgress records what a task of this process does. cancelled has the reason if a person
// has cancelled it. The error wraps state.ErrLost when the task is another process's by now.
func (t *Tasks) NoteProgress(ctx context.Context, task state.Task, progress json.RawMessage) (cancelled string, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.engine.limits.command)
	defer cancel()
	err = t.engine.db.QueryRowContext(ctx, `UPDATE `+t.engine.name("tasks")+` SET progress = $4 WHERE `+ownRunning+` RETURNING cancelled`,
		t.own(task, string(progress))...).Scan(&cancelled)
	if isNoRow(err) {
		err = fmt.Errorf("%w: another process has taken over the task", state.ErrLost)
	}
	return cancelled, err
}

// Finish ends a task of this process. The error wraps state.ErrLost when it is another
// process's by now.
func (t *Tasks) Finish(ctx context.Context, task state.Task, as state.TaskState, results json.RawMessage, reason string) error {
	return t.change(ctx, "end a task", task, `state = $4, results = $5, reason = $6, progress = '', ended = clock_timestamp()`,
		string(as), string(results), t.text(reason))
}

// Return makes a task of this process due again, for another one: it keeps the node, so that the
// leader prefers others. This does not count as an attempt. The error wraps state.ErrLost when it
// is another process's by now.
func (t *Tasks) Return(ctx context.Context, task state.Task) error {
	return t.change(ctx, "return a task", task, `state = 'due', assigned = NULL, progress = ''`)
}

// change changes a task that this process runs.
func (t *Tasks) change(ctx context.Context, what string, task state.Task, set string, args ...any) error {
	err := t.engine.Transaction(ctx, func(tx database.DB) error {
		done, err := tx.ExecContext(ctx, `UPDATE `+t.engine.name("tasks")+` SET `+set+` WHERE `+ownRunning, t.own(task, args...)...)
		changed, err := hasChanged(done, err)
		if err == nil && !changed {
			err = fmt.Errorf("%w: another process has taken over the task", state.ErrLost)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Cancel asks for the end of the tasks of a collector that have not ended, in a tenancy; "" stands
// for all of them. It returns how many these are.
func (t *Tasks) Cancel(ctx context.Context, tenancy, collector, reason string) (n int64, err error) {
	err = t.engine.Transaction(ctx, func(tx database.DB) error {
		done, err := tx.ExecContext(ctx, `UPDATE `+t.engine.name("tasks")+` SET cancelled = $3
			WHERE (tenancy = $1 OR $1 = '') AND (collector = $2 OR $2 = '') AND `+isOpen+` AND cancelled = ''`, tenancy, collector, t.text(reason))
		if err == nil {
			n, err = done.RowsAffected()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cancel tasks: %w", err)
	}
	return n, nil
}

// deleteBefore deletes the tasks that ended before a time, except for the newest of each schedule.
func (t *Tasks) deleteBefore(ctx context.Context, limit time.Time) error {
	tasks := t.engine.name("tasks")
	_, err := t.engine.db.ExecContext(ctx, `DELETE FROM `+tasks+` t WHERE ended < $1 AND (schedule = '' OR EXISTS (
		SELECT 1 FROM `+tasks+` n WHERE n.tenancy = t.tenancy AND n.collector = t.collector AND n.schedule = t.schedule AND n.tick > t.tick))`, limit)
	if err != nil {
		return fmt.Errorf("delete old tasks: %w", t.engine.Explain(err))
	}
	return nil
}

// forgetTenancy deletes the tasks of a tenancy.
func (t *Tasks) forgetTenancy(ctx context.Context, tenancy string) error {
	if _, err := t.engine.db.ExecContext(ctx, `DELETE FROM `+t.engine.name("tasks")+` WHERE tenancy = $1`, tenancy); err != nil {
		return fmt.Errorf("forget tenancy %s: %w", tenancy, t.engine.Explain(err))
	}
	return nil
}

// hasChanged reports whether a statement has changed a row.
func hasChanged(done sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := done.RowsAffected()
	return n > 0, err
}

// sqlTx returns the transaction of tx, which is one of engine.Transaction.
func sqlTx(tx database.DB) *sql.Tx { return tx.(qualified).DB.(*sql.Tx) }
