package notify

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/state"
)

// message is the text about all news.
func (n *Notifier) message(all []news) string {
	paragraphs := []string{fmt.Sprintf("collectord on %s, tenancy %s", n.Host, n.Tenancy)}
	for _, one := range all {
		if one.since.IsZero() {
			paragraphs = append(paragraphs, n.failure(one))
		} else {
			paragraphs = append(paragraphs, n.recovery(one))
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

func (n *Notifier) failure(one news) string {
	lines := []string{one.Stream + " failed: " + why(one)}
	if do := advice(one); do != "" {
		lines = append(lines, do)
	}
	if one.taken.IsZero() {
		return strings.Join(append(lines, "There are no earlier data."), "\n")
	}
	return strings.Join(append(lines, "The last good data stay: "+n.age(one.taken)+"."), "\n")
}

func (n *Notifier) recovery(one news) string {
	return fmt.Sprintf("%s works again: %s records. Its failure was told %s.", one.Stream, humanize.Comma(one.Records), n.age(one.since))
}

// age is a time with its distance from now: "2026-03-01 12:00 UTC, 3 hours ago".
func (n *Notifier) age(t time.Time) string {
	return t.UTC().Format("2006-01-02 15:04 UTC") + ", " + humanize.RelTime(t, n.Now(), "ago", "from now")
}

func why(one news) string {
	if one.Outcome == state.Held {
		return fmt.Sprintf("%s records after %s before (GUARD_DROP): the new snapshot is held back", humanize.Comma(one.Records), humanize.Comma(one.LastRecords))
	}
	if one.Err == nil {
		return string(one.Outcome)
	}
	return shorten(one.Err.Error())
}

// advice is what to do where the error does not say it all.
func advice(one news) string {
	switch {
	case one.Outcome == state.Held:
		return "See whether the vendor's account lost assets or permissions; if the loss is real: collectord accept " + one.Stream
	case errors.Is(one.Err, collector.ErrRefused), errors.Is(one.Err, collector.ErrForbidden):
		return "Renew the credentials or their permissions (docs/collectors.md), then run the collector again."
	}
	return ""
}

// shorten keeps a text to what a message bears.
func shorten(text string) string {
	const most = 1000
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + " ..."
	}
	return text
}
