package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// markStart begins the line by which collectord marks its views, in their comment.
const markStart = "collectord: the newest snapshot of each tenancy, "

// viewMark returns the line of views with the present definition. Views that have
// it are not examined further.
func viewMark(indexed bool) string {
	if indexed {
		return markStart + "found by an index (definition 2)"
	}
	return markStart + "found without an index (definition 2)"
}

// markComment returns a comment with the mark in place of an earlier one. What a
// user wrote stays.
func markComment(comment, mark string) string {
	var lines []string
	for _, line := range strings.Split(comment, "\n") {
		if line != "" && !strings.HasPrefix(line, markStart) {
			lines = append(lines, line)
		}
	}
	return strings.Join(append(lines, mark), "\n")
}

// A viewAction says what to do about the view of newest snapshots.
type viewAction int

const (
	leaveView viewAction = iota
	createView
	upgradeView // if it is collectord's
)

// decideView returns what to do about the view of a stream whose table exists. It
// notes why there is none.
func (s *Sink) decideView(found catalog, snap *snapshot.Snapshot) viewAction {
	name := snap.Stream + store.LatestSuffix
	table, view := found.relations[snap.Stream], found.relations[name]
	if s.opts.Views == store.ViewsOff || table.kind == "" {
		return leaveView
	}
	action := createView
	switch {
	case view.kind != "" && view.kind != "v":
		if view.kind != "m" {
			s.noteOnce(snap, "postgres: "+s.qualify(name)+", the name of the view of newest snapshots, belongs to something else, which is left as it is")
		}
		return leaveView
	case view.kind == "v":
		if _, failed := s.failed.Load(s.improveViewKey(snap.Stream)); failed || !view.owned || strings.Contains(view.comment, viewMark(table.isIndexed())) {
			return leaveView
		}
		action = upgradeView
	}
	reason := s.viewObstacle(found, snap.Stream, name)
	if reason == "" {
		return action
	}
	text := "postgres: no view of newest snapshots"
	if action == upgradeView {
		text = "postgres: the view of newest snapshots is left as it is, and may be one of an earlier version"
	}
	s.noteOnce(snap, text+reason)
	return leaveView
}

// viewObstacle returns why the view of that name cannot be created, or, when it
// exists, replaced; "" if it can. It is the end of a note.
func (s *Sink) viewObstacle(found catalog, stream, name string) string {
	table, role := found.relations[stream], quoteName(s.config.User)
	_, exists := found.relations[name]
	ledger, hasLedger := found.relations[store.LedgerTable]
	switch {
	case !exists && len(name) > maxName:
		return ": its name would be too long: " + s.qualify(name)
	case !exists && table.kind != "" && !table.owned:
		return ", " + s.qualify(name) + ": the table belongs to role " + quoteName(table.owner) + ", which could not drop it while another role's view uses it"
	case !found.mayCreate:
		return ", " + s.qualify(name) + ": role " + role + " may not create one; GRANT CREATE ON SCHEMA allows it"
	case table.kind != "" && !table.mayRead || hasLedger && !ledger.mayRead:
		return ", " + s.qualify(name) + ", that could be read: role " + role + " may not read the table; GRANT SELECT ON " + s.qualify(stream) + ", " + s.qualify(store.LedgerTable) + " allows it"
	}
	return ""
}

// prepareView creates the view, or replaces its definition when it is an earlier
// one of collectord's. A view of a user is left as it is.
func (s *Sink) prepareView(ctx context.Context, tx pgx.Tx, found catalog, snap *snapshot.Snapshot) error {
	action := s.decideView(found, snap)
	if action == leaveView {
		return nil
	}
	return s.tryImprovement(ctx, tx, snap, s.improveViewKey(snap.Stream), func(tx pgx.Tx) error {
		table, view := found.relations[snap.Stream], found.relations[snap.Stream+store.LatestSuffix]
		if action == upgradeView {
			ours, err := s.isOwnView(ctx, tx, snap.Stream, table.columns["json_data"])
			if err != nil {
				return err
			}
			if !ours {
				s.failed.Store(s.improveViewKey(snap.Stream), true)
				return nil
			}
		}
		comment := markComment(view.comment, viewMark(table.isIndexed()))
		name := s.qualify(snap.Stream + store.LatestSuffix)
		for _, statement := range []string{
			`CREATE OR REPLACE VIEW ` + name + ` AS ` + s.latestQuery(snap.Stream, table.columns["json_data"], table.isIndexed()),
			`COMMENT ON VIEW ` + name + ` IS ` + quoteText(comment),
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Sink) improveViewKey(stream string) string {
	return "view " + s.qualify(stream+store.LatestSuffix)
}

// probeView is the name of a view that exists only within a transaction.
const probeView = "_collectord_view"

// isOwnView reports whether the view of newest snapshots has a definition of this
// or an earlier version of collectord. The server compares it with the definition
// of a view that is created for that and rolled back: the text of a definition
// depends on the server's version.
func (s *Sink) isOwnView(ctx context.Context, tx pgx.Tx, stream, jsonType string) (bool, error) {
	for _, query := range append(s.earlierQueries(stream, jsonType), s.latestQuery(stream, jsonType, true), s.latestQuery(stream, jsonType, false)) {
		var same bool
		err := inSavepoint(ctx, tx, func(probe pgx.Tx) error {
			if _, err := probe.Exec(ctx, `CREATE VIEW `+s.qualify(probeView)+` AS `+query); err != nil {
				return err
			}
			err := probe.QueryRow(ctx, `SELECT pg_get_viewdef($1::regclass) = pg_get_viewdef($2::regclass)`,
				s.qualify(probeView), s.qualify(stream+store.LatestSuffix)).Scan(&same)
			if err != nil {
				return err
			}
			_, err = probe.Exec(ctx, `DROP VIEW `+s.qualify(probeView))
			return err
		})
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// latestQuery returns the query of the view of each tenancy's newest snapshot. The
// newest snapshot is the newest one in the ledger, even if it is empty, unless the
// table has newer rows that the ledger does not list, of another program or from
// before the ledger. A snapshot from the future, by the server's clock, is the
// newest only where there is no other, see snapshot.IsFromFuture.
//
// The query reads only the rows of those snapshots:
//
//   - With an index on (tenancy, upload_timestamp), the tenancies and their newest
//     rows are looked up from its end, one after the other. Without one, the table
//     is read once.
//   - The rows are read in a subquery with a LIMIT, below which the server moves no
//     condition of the reader's: none is evaluated on rows of earlier snapshots. The
//     LIMIT is none; since its value is not known when the query is planned, the
//     estimated cost stays below that from which the server compiles queries (JIT),
//     which takes longer than reading the rows. The condition that always holds in
//     newest is for the same purpose: the server expects one tenancy, not a hundred.
//   - Rows are selected by their upload id only where two snapshots have the same
//     second, since reading the id from the record is slow. Elsewhere the records
//     are not read before the reader's query needs them.
func (s *Sink) latestQuery(stream, jsonType string, indexed bool) string {
	held := heldWithoutIndex
	if indexed {
		held = heldByIndex
	}
	query := strings.NewReplacer("$NEWEST", rowsOfNewest, "$ROWS", endOfRows).Replace(held + latestOfHeld)
	return strings.NewReplacer("$TABLE", s.qualify(stream), "$LEDGER", s.qualify(store.LedgerTable), "$STREAM", quoteText(stream),
		"$LIMIT", fmt.Sprintf(`(now() AT TIME ZONE 'UTC') + interval '%d seconds'`, int64(snapshot.MaxClockSkew.Seconds())),
		"$SAME", streamTable{jsonType: jsonType}.hasUploadID("d.json_data", "n.upload_id"),
	).Replace(query)
}

// heldByIndex and heldWithoutIndex begin latestQuery: held has the tenancies of the
// table and the time of their newest rows.
const (
	heldByIndex = `
		WITH RECURSIVE tenancies AS (
			(SELECT d.tenancy FROM $TABLE AS d WHERE d.tenancy IS NOT NULL ORDER BY d.tenancy DESC LIMIT 1)
			UNION ALL
			SELECT (SELECT d.tenancy FROM $TABLE AS d WHERE d.tenancy < t.tenancy ORDER BY d.tenancy DESC LIMIT 1)
			FROM tenancies AS t WHERE t.tenancy IS NOT NULL
		), held AS (
			SELECT t.tenancy, (SELECT d.upload_timestamp FROM $TABLE AS d
				WHERE d.tenancy = t.tenancy AND d.upload_timestamp <= $LIMIT
				ORDER BY d.upload_timestamp DESC LIMIT 1) AS upload_timestamp
			FROM tenancies AS t WHERE t.tenancy IS NOT NULL
			UNION ALL
			(SELECT d.tenancy, d.upload_timestamp FROM $TABLE AS d
				WHERE d.tenancy IS NULL AND d.upload_timestamp <= $LIMIT
				ORDER BY d.tenancy DESC, d.upload_timestamp DESC LIMIT 1)
		)`
	heldWithoutIndex = `
		WITH held AS (
			SELECT d.tenancy, max(d.upload_timestamp) FILTER (WHERE d.upload_timestamp <= $LIMIT) AS upload_timestamp
			FROM $TABLE AS d GROUP BY d.tenancy
		)`
	latestOfHeld = `, newest AS (
			SELECT h.tenancy,
				coalesce(greatest(l.upload_timestamp, h.upload_timestamp), f.upload_timestamp,
					(SELECT max(d.upload_timestamp) FROM $TABLE AS d WHERE d.tenancy = h.tenancy)) AS upload_timestamp,
				CASE WHEN l.upload_timestamp >= h.upload_timestamp AND l.twins > 1 THEN l.upload_id
					WHEN l.upload_timestamp IS NULL AND h.upload_timestamp IS NULL THEN f.upload_id END AS upload_id
			FROM held AS h
			LEFT JOIN LATERAL (
				SELECT e.upload_timestamp, e.upload_id, (SELECT count(*) FROM $LEDGER AS o
					WHERE o.stream = $STREAM AND o.tenancy = h.tenancy AND o.upload_timestamp = e.upload_timestamp) AS twins
				FROM (SELECT o.upload_timestamp, o.upload_id FROM $LEDGER AS o
					WHERE o.stream = $STREAM AND o.tenancy = h.tenancy AND o.upload_timestamp <= $LIMIT
					ORDER BY o.upload_timestamp DESC, o.stored_at DESC LIMIT 1) AS e
			) AS l ON true
			LEFT JOIN LATERAL (
				SELECT o.upload_timestamp, o.upload_id FROM $LEDGER AS o
				WHERE o.stream = $STREAM AND o.tenancy = h.tenancy AND l.upload_timestamp IS NULL AND h.upload_timestamp IS NULL
				ORDER BY o.stored_at DESC LIMIT 1
			) AS f ON true
			WHERE coalesce(h.tenancy, '') = ANY (ARRAY[coalesce(h.tenancy, '')])
		)
		$NEWEST WHERE d.tenancy = n.tenancy AND d.upload_timestamp = n.upload_timestamp $ROWS WHERE n.upload_id IS NULL
		UNION ALL
		$NEWEST WHERE d.tenancy = n.tenancy AND d.upload_timestamp = n.upload_timestamp AND $SAME $ROWS WHERE n.upload_id IS NOT NULL
		UNION ALL
		$NEWEST WHERE d.tenancy IS NULL AND d.upload_timestamp = n.upload_timestamp $ROWS WHERE n.tenancy IS NULL`
	// rowsOfNewest and endOfRows enclose the condition of the rows of a snapshot.
	rowsOfNewest = `SELECT r.upload_timestamp, n.tenancy, r.json_data FROM newest AS n
			CROSS JOIN LATERAL (SELECT d.upload_timestamp, d.json_data FROM $TABLE AS d`
	endOfRows = `LIMIT (SELECT NULL::bigint)) AS r`
)

// earlierQueries returns the queries of the views that earlier versions created.
func (s *Sink) earlierQueries(stream, jsonType string) []string {
	document := "d.json_data"
	if jsonType != "json" && jsonType != "jsonb" {
		document += "::json"
	}
	var queries []string
	for _, same := range []string{streamTable{jsonType: jsonType}.hasUploadID("d.json_data", "n.upload_id"), document + ` ->> '_upload_id' = n.upload_id`} {
		queries = append(queries, `WITH stored AS (
			SELECT tenancy, upload_timestamp, upload_id, stored_at,
				count(*) OVER (PARTITION BY tenancy, upload_timestamp) AS twins
			FROM `+s.qualify(store.LedgerTable)+` WHERE stream = `+quoteText(stream)+`
		), newest AS (
			SELECT DISTINCT ON (tenancy) tenancy, upload_timestamp,
				CASE WHEN twins > 1 THEN upload_id END AS upload_id
			FROM (
				SELECT tenancy, upload_timestamp, upload_id, stored_at, twins FROM stored
				UNION ALL
				SELECT tenancy, max(upload_timestamp), NULL, NULL, 1 FROM `+s.qualify(stream)+` GROUP BY tenancy
			) AS seen
			ORDER BY tenancy, upload_timestamp DESC NULLS LAST, stored_at DESC NULLS LAST
		)
		SELECT d.upload_timestamp, d.tenancy, d.json_data
		FROM `+s.qualify(stream)+` AS d
		JOIN newest AS n ON d.upload_timestamp = n.upload_timestamp AND d.tenancy IS NOT DISTINCT FROM n.tenancy
		WHERE n.upload_id IS NULL OR `+same)
	}
	return queries
}

// quoteText returns a text as SQL writes it.
func quoteText(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}
