package database

import (
	"encoding/json"
	"fmt"

	"github.com/collectord/collectord/pkg/snapshot"
)

// encodeDoubts returns doubts as the database stores them: as JSON, "" for none.
func encodeDoubts(doubts snapshot.Doubts) string {
	if len(doubts) == 0 {
		return ""
	}
	text, err := json.Marshal(doubts)
	if err != nil { // cannot happen for strings and numbers
		return ""
	}
	return string(text)
}

// A doubtsColumn scans a column that encodeDoubts wrote.
type doubtsColumn struct{ doubts *snapshot.Doubts }

// Scan implements sql.Scanner.
func (d doubtsColumn) Scan(value any) error {
	text, ok := value.(string)
	if !ok {
		return fmt.Errorf("doubts have the type %T", value)
	}
	if text == "" {
		*d.doubts = nil
		return nil
	}
	return json.Unmarshal([]byte(text), d.doubts)
}
