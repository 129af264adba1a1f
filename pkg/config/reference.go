package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const preamble = `# Settings

Every setting is a variable. Its value comes from the first of these that has one; an empty value counts as none.

1. The process environment. A variable that is set there always wins over the files.
2. ` + "`NAME_FILE`" + `: the file that it names holds the value of ` + "`NAME`" + `, without one newline at the end. Any setting can be given so, secrets should be. ` + "`NAME_FILE`" + ` itself may stand in any of the sources. ` + "`NAME` and `NAME_FILE`" + ` both set is an error, wherever they are set.
3. systemd's credentials: the file ` + "`$CREDENTIALS_DIRECTORY/NAME`" + `, without one newline at the end (` + "`LoadCredential=NAME:/path`" + ` in the unit).
4. ` + "`.env`" + ` in the working directory, if there is one.
5. The file given with ` + "`--env-file`" + `, which must exist.

Where both files set a variable to different values, a warning says so. A file that holds secrets should be readable by its owner only (` + "`chmod 600`" + `), or a warning says so.

All that is wrong is reported at once, one line for each variable, and nothing starts. A variable that looks like one of these and is not gets a warning with the nearest name.

The standard variables of others are obeyed, too, from the process environment alone: ` + "`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`" + `, and OpenTelemetry's ` + "`OTEL_*`" + ` for [traces of runs](schedule.md#request-lines-and-traces).

## How .env is read

- One ` + "`NAME=value`" + ` a line. ` + "`export `" + ` before it, empty lines, lines that begin with ` + "`#`" + `, Windows line ends and a byte order mark are fine. Of two lines for one name the later is used.
- **Nothing is expanded**: ` + "`$TAG`, `${HOME}` and `$(date)`" + ` stay as they are, quoted or not.
- Without quotes a value ends at the end of the line, or at a ` + "`#`" + ` after a blank; blanks around it go. ` + "`\\$`" + ` is a dollar sign, and every other character is itself.
- In single quotes every character is itself, and the value may go over several lines.
- In double quotes ` + "`\\n`, `\\r`, `\\t`, `\\\"`, `\\'`, `\\\\` and `\\$`" + ` are a newline, carriage return, tab, quotes, backslash and dollar sign; any other backslash is itself, and the value may go over several lines.

## What values look like

- Durations are whole numbers with a unit: ` + "`90s`, `15m`, `6h`, `7d`, or `1d12h`" + `.
- Sizes are powers of 1000 (` + "`512MB`" + `) or of 1024 (` + "`10GiB`" + `).
- True is ` + "`true`, `1`, `yes` or `on`; false is `false`, `0`, `no` or `off`" + `.
`

// Reference gives the settings of the program and of the sections as a Markdown
// document: the rules, then a table for each group.
func Reference(core *Settings, sections ...*Section) string {
	var doc strings.Builder
	doc.WriteString(preamble)
	for _, g := range groups(core, sections) {
		fmt.Fprintf(&doc, "\n## %s\n\n", g.title)
		if g.when != "" {
			fmt.Fprintf(&doc, "%s\n\n", g.when)
		}
		writeTable(&doc, g.settings)
	}
	return doc.String()
}

// Manual gives the same as the sections of a manual page, in the Markdown of
// go-md2man.
func Manual(core *Settings, sections ...*Section) string {
	var doc strings.Builder
	doc.WriteString(strings.Replace(preamble, "# Settings", "# DESCRIPTION", 1))
	for _, g := range groups(core, sections) {
		fmt.Fprintf(&doc, "\n# %s\n\n", strings.ToUpper(g.title))
		if g.when != "" {
			fmt.Fprintf(&doc, "%s\n\n", g.when)
		}
		for _, s := range g.settings {
			fmt.Fprintf(&doc, "**%s**\n: %s Value: %s.", s.name, s.meaning(), s.value())
			if d := s.tag("envDefault"); d != "" {
				fmt.Fprintf(&doc, " Default: %s.", code(d))
			}
			doc.WriteString("\n\n")
		}
	}
	// A page has no links.
	return link.ReplaceAllString(doc.String(), "$1")
}

var link = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)

// A group of settings stands under one heading.
type group struct {
	title    string
	when     string // what switches a collector on
	settings []*setting
}

func groups(core *Settings, sections []*Section) []group {
	var all []group
	settings, _ := settingsOf(core)
	for _, s := range settings {
		title := cmp.Or(s.group, "General")
		i := slices.IndexFunc(all, func(g group) bool { return g.title == title })
		if i < 0 {
			i, all = len(all), append(all, group{title: title})
		}
		all[i].settings = append(all[i].settings, s)
	}
	for _, section := range sections {
		g := group{title: section.Title}
		g.settings, _ = settingsOf(section.Into)
		if section.Collector {
			g.settings = append(g.settings, scheduleOf(section))
			g.when = switchedOn(section.Name, g.settings)
		}
		all = append(all, g)
	}
	return all
}

// switchedOn says what switches a collector on.
func switchedOn(name string, settings []*setting) string {
	var required []string
	for _, s := range settings {
		if s.required {
			required = append(required, code(s.name))
		}
	}
	if len(required) == 0 {
		return fmt.Sprintf("On when `COLLECTORS` names `%s`.", name)
	}
	return fmt.Sprintf("On when %s %s set, unless `COLLECTORS` is set and does not name `%s`.", enumerate(required, "and"), areOrIs(len(required)), name)
}

func writeTable(doc *strings.Builder, settings []*setting) {
	doc.WriteString("| Variable | Default | Value | Meaning |\n| --- | --- | --- | --- |\n")
	for _, s := range settings {
		fmt.Fprintf(doc, "| %s | %s | %s | %s |\n", code(s.name), code(s.tag("envDefault")), cell(s.value()), cell(s.meaning()))
	}
}

// value says what a good value is, with an example.
func (s *setting) value() string {
	if example := s.tag("example"); example != "" {
		return s.describe() + ", e.g. " + code(example)
	}
	return s.describe()
}

// meaning is the doc sentence and the marks.
func (s *setting) meaning() string {
	words := []string{s.tag("doc")}
	if s.required {
		words = append(words, "**Required.**")
	}
	if s.secret {
		words = append(words, "**Secret.**")
	}
	if len(s.aliases) > 0 {
		quoted := make([]string, len(s.aliases))
		for i, alias := range s.aliases {
			quoted[i] = code(alias)
		}
		words = append(words, "Also read as "+enumerate(quoted, "or")+".")
	}
	return strings.Join(words, " ")
}

// code sets a text as code within a table.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// cell keeps a text from ending its table cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// Table gives the settings of one struct as a Markdown table.
func Table(into any) string {
	settings, _ := settingsOf(into)
	var doc strings.Builder
	writeTable(&doc, settings)
	return doc.String()
}
