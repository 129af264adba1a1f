package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// formatMessage returns the text of a message.
func (n *Notifier) formatMessage(settings Settings, paragraphs []string) string {
	from := "collectord on " + n.Host
	if n.Tenancy != "" {
		from += ", tenancy " + n.Tenancy
	}
	all := append([]string{from}, paragraphs...)
	if settings.Page != "" {
		all = append(all, pagePrefix+settings.Page)
	}
	return strings.Join(all, paragraphEnd)
}

const (
	paragraphEnd = "\n\n"
	// pagePrefix begins the last paragraph of a message.
	pagePrefix = "Status page: "
	// cutNote replaces what does not fit into a message.
	cutNote = "... The message is too long to be sent whole: `collectord status` shows the rest."
)

// shorten returns a message with at most longest bytes. It removes the end of the
// problems, and keeps the address of the status page unless that is too long itself.
func shorten(text string, longest int) string {
	if len(text) <= longest {
		return text
	}
	end := paragraphEnd + cutNote
	if i := strings.LastIndex(text, paragraphEnd+pagePrefix); i >= 0 && len(end)+len(text[i:]) < longest/2 {
		text, end = text[:i], end+text[i:]
	}
	text = strings.ToValidUTF8(text[:min(longest-len(end), len(text))], "")
	// A cut between two problems is easier to read, if it does not remove much more.
	if i := strings.LastIndex(text, paragraphEnd); i > len(text)*3/4 {
		text = text[:i]
	}
	return text + end
}

// formatNews returns the paragraph about a problem.
func (n *Notifier) formatNews(one news, seen observation) string {
	var lines []string
	switch one.kind {
	case over:
		lines = append(lines, n.formatEnd(one))
	case reminder:
		lines = append(lines, "Still, since "+n.formatAge(one.Since)+": "+one.Text)
	default:
		lines = append(lines, one.Text)
	}
	if one.kind != over {
		if one.Advice != "" {
			lines = append(lines, one.Advice)
		}
		if text := n.formatData(one.key, seen); text != "" {
			lines = append(lines, text)
		}
	}
	if one.times > 1 {
		lines = append(lines, fmt.Sprintf("It has failed %d times since the last message about it.", one.times))
	}
	if one.paused {
		lines = append(lines, "It fails and recovers again and again: the next message about it follows in a day.")
	}
	return strings.Join(lines, "\n")
}

// formatData returns what data there is of the stream of a failure; "" for other
// problems.
func (n *Notifier) formatData(key string, seen observation) string {
	event, stream := splitKey(key)
	if event != eventFailure {
		return ""
	}
	taken := seen.streams[stream].Taken
	if taken.IsZero() {
		return "There are no earlier data."
	}
	return "The last good data stay: " + n.formatAge(taken) + "."
}

// formatEnd returns the sentence about a problem that has ended.
func (n *Notifier) formatEnd(one news) string {
	event, subject := splitKey(one.key)
	began := n.formatAge(one.began)
	switch event {
	case eventFailure:
		return fmt.Sprintf("%s works again: %s. It had failed since %s.", subject, one.End, began)
	case eventLate:
		return fmt.Sprintf("%s is no longer late. The data before was of %s.", subject, began)
	case eventControl:
		return fmt.Sprintf("The control %s is measured again: %s. It had failed since %s.", subject, one.End, began)
	case eventDestination:
		return fmt.Sprintf("The destination %s receives snapshots again. It had received none since %s.", subject, began)
	case eventRestore:
		return fmt.Sprintf("%s no longer waits for the restore of its backup, which had failed since %s.", subject, began)
	}
	if name, ok := strings.CutPrefix(subject, tenancySubject); ok {
		return fmt.Sprintf("The settings of the tenancy %s are no longer refused. They could not be used since %s.", name, began)
	}
	return fmt.Sprintf("The settings are in force again. The reload had failed since %s.", began)
}

// formatAge returns a time and its distance from now: "2026-03-01 12:00 UTC, 3 hours
// ago".
func (n *Notifier) formatAge(t time.Time) string {
	return formatUTC(t) + ", " + humanize.RelTime(t, n.Now(), "ago", "from now")
}

func formatUTC(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// formatDuration returns a duration in its largest unit: "7 hours".
func formatDuration(d time.Duration) string {
	var zero time.Time
	return strings.TrimSpace(humanize.RelTime(zero, zero.Add(d), "", ""))
}

// truncate returns at most the first 1000 characters of a text.
func truncate(text string) string {
	const longest = 1000
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + " ..."
	}
	return text
}
