package main

import (
	"database/sql"
	"errors"

	_ "modernc.org/sqlite" // the driver
)

// execState executes a statement on the daemon's state database.
func (s *soak) execState(statement string) error {
	db, err := sql.Open("sqlite", s.file("state", "collectord.db"))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(s.ctx, statement)
	return errors.Join(err, db.Close())
}
