package main

import (
	"database/sql"
	"errors"

	_ "modernc.org/sqlite" // the driver
)

// inState changes the daemon's own records.
func (s *soak) inState(statement string) error {
	db, err := sql.Open("sqlite", s.file("state", "collectord.db"))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(s.ctx, statement)
	return errors.Join(err, db.Close())
}
