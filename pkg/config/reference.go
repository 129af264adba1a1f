package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const preamble = `# Settings

Every setting is a variable. Its value comes from the first of these sources that has one. An empty value counts as none, except where a setting says otherwise.

1. The process environment. A variable that is set there always takes precedence over the files.
2. ` + "`NAME_FILE`" + `: the file that it names contains the value of ` + "`NAME`" + `; a byte order mark and one newline at the end are removed. It may be a pipe, which has 5 seconds to deliver the value. Any setting can be given this way, and secrets should be. ` + "`NAME_FILE`" + ` itself can be in any of the sources. Setting both ` + "`NAME` and `NAME_FILE`" + ` is an error, wherever they are set.
3. systemd's credentials: the file ` + "`$CREDENTIALS_DIRECTORY/NAME`" + `; one newline at the end is removed (` + "`LoadCredential=NAME:/path`" + ` in the unit).
4. The file given with ` + "`--env-file`" + `, which must exist. Without the flag ` + "`.env`" + ` in the working directory, or in the nearest parent directory that has one, up to the root of the git repository.

If two sources set a variable to different values, a warning names both and the one that is used. A file with secrets should be readable only by its owner (` + "`chmod 600`" + `); otherwise a warning reports it.

All errors are reported at once, one line for each variable, and nothing starts. A variable that resembles a setting but is none causes a warning with the nearest name, in the environment and in the file. A collector or a destination of which only a part is set is off, with a warning.

SIGHUP reloads the settings of a running service. Where a change takes a restart, the table says so.

These variables of libraries also apply, from the process environment, a credential or the file: ` + "`AWS_*`" + `, those of libpq such as ` + "`PGSSLMODE`, `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `SSL_CERT_DIR`" + `, and OpenTelemetry's ` + "`OTEL_*`" + ` for [traces of runs](../guide/logs-and-traces.md#traces). ` + "`collectord check`" + ` lists them with their sources. A reload applies changes of ` + "`AWS_*` and `PG*`" + `; the others take a restart.

## How .env is read

It is read as python-dotenv reads it, except that nothing is expanded. ` + "`docker run --env-file`" + ` does not remove quotes: a value in quotes is refused there. systemd's ` + "`EnvironmentFile=`" + ` has another notation: ` + "`collectord check --env-file FILE`" + ` warns of lines that it reads differently. ` + "`NAME='value'`" + `, without single quotes and backslashes in the value, is the same for python-dotenv and systemd.

- Each line has one ` + "`NAME=value`" + `. ` + "`export `" + ` before it, empty lines, lines that begin with ` + "`#`" + `, Windows line endings and a byte order mark are accepted. If a name occurs twice, the later line is used. A line that cannot be read is ignored with a warning.
- **Nothing is expanded**: ` + "`$TAG`, `${HOME}` and `$(date)`" + ` stay as they are, quoted or not. A warning names values that refer to a variable that is set.
- A value without quotes ends at the end of the line, or at a ` + "`#`" + ` after a space; surrounding whitespace is removed. Every other character is literal.
- In single quotes ` + "`\\'` and `\\\\`" + ` are a quote and a backslash, every other character is literal, and the value can span several lines.
- In double quotes ` + "`\\n`, `\\r`, `\\t`, `\\\"`, `\\'`, `\\\\` and `\\$`" + ` are a newline, carriage return, tab, quotes, backslash and dollar sign; any other backslash is literal, and the value can span several lines.

## Formats of values

- Durations are whole numbers with a unit: ` + "`90s`, `15m`, `6h`, `7d`, or `1d12h`" + `.
- Sizes are in powers of 1000 (` + "`512MB`" + `) or of 1024 (` + "`10GiB`" + `).
- True is ` + "`true`, `1`, `yes` or `on`; false is `false`, `0`, `no` or `off`" + `.
`

// generatedNote is in the document, but not in the manual page.
const generatedNote = `<!-- Generated from the tags of the settings by "make docs"; do not edit. -->`

// Reference returns the settings of the program and of the sections as a Markdown
// document: the rules, then a table for each group.
func Reference(core *Settings, sections ...*Section) string {
	var doc strings.Builder
	doc.WriteString(strings.Replace(preamble, "# Settings\n", "# Settings\n\n"+generatedNote+"\n", 1))
	for _, g := range groupSettings(core, sections) {
		fmt.Fprintf(&doc, "\n## %s\n\n", g.title)
		if g.when != "" {
			fmt.Fprintf(&doc, "%s\n\n", g.when)
		}
		writeTable(&doc, g.settings)
	}
	return doc.String()
}

// Manual returns the same as the sections of a manual page, in the Markdown of
// go-md2man.
func Manual(core *Settings, sections ...*Section) string {
	var doc strings.Builder
	doc.WriteString(strings.Replace(preamble, "# Settings", "# DESCRIPTION", 1))
	for _, g := range groupSettings(core, sections) {
		fmt.Fprintf(&doc, "\n# %s\n\n", strings.ToUpper(g.title))
		if g.when != "" {
			fmt.Fprintf(&doc, "%s\n\n", g.when)
		}
		for _, s := range g.settings {
			fmt.Fprintf(&doc, "**%s**\n: %s Value: %s.", s.name, s.referenceMeaning(), s.referenceValue())
			if d := s.tag("envDefault"); d != "" {
				fmt.Fprintf(&doc, " Default: %s.", code(d))
			}
			doc.WriteString("\n\n")
		}
	}
	// A manual page has no links.
	return link.ReplaceAllString(doc.String(), "$1")
}

var link = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)

// A group is the settings under one heading.
type group struct {
	title    string
	when     string // the condition under which a collector is on
	settings []*setting
}

func groupSettings(core *Settings, sections []*Section) []group {
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
			g.settings = append(g.settings, ownSettings(section)...)
			g.when = switchCondition(section.Name, g.settings)
		}
		all = append(all, g)
	}
	return all
}

// switchCondition returns the condition under which a collector is on.
func switchCondition(name string, settings []*setting) string {
	var required, instead []string
	for _, s := range settings {
		if s.required {
			required = append(required, s.switchCode())
		}
		if len(s.insteadOf) > 0 {
			instead = append(instead, s.switchCode())
		}
	}
	if len(required) == 0 {
		return fmt.Sprintf("On when `COLLECTORS` names `%s` or a stream of it.", name)
	}
	condition := Enumerate(required, "and")
	if len(instead) > 0 {
		condition += ", or " + Enumerate(instead, "and") + ","
	}
	return fmt.Sprintf("On when %s %s set, unless `COLLECTORS` leaves `%s` no stream.",
		condition, areOrIs(max(len(required), len(instead))), name)
}

// switchCode is switchText as code.
func (s *setting) switchCode() string { return code(s.switchText()) }

// switchText returns what switches a collector on: the name of a variable, or that of a
// switch with its value.
func (s *setting) switchText() string {
	if s.target.Kind() == reflect.Bool {
		return s.name + "=true"
	}
	return s.name
}

func writeTable(doc *strings.Builder, settings []*setting) {
	doc.WriteString("| Variable | Default | Value | Meaning |\n| --- | --- | --- | --- |\n")
	for _, s := range settings {
		fmt.Fprintf(doc, "| %s | %s | %s | %s |\n",
			code(s.name), code(s.tag("envDefault")), cell(s.referenceValue()), cell(s.referenceMeaning()))
	}
}

// referenceValue describes a valid value, with an example.
func (s *setting) referenceValue() string {
	if example := s.tag("example"); example != "" {
		return s.describeValue() + ", e.g. " + code(example)
	}
	return s.describeValue()
}

// referenceMeaning returns the doc sentence and the notes that follow from the tags.
func (s *setting) referenceMeaning() string {
	sentences := []string{s.tag("doc")}
	if s.required {
		sentences = append(sentences, "**Required.**")
	}
	if s.secret {
		sentences = append(sentences, "**Secret.**")
	}
	if s.needsRestart() {
		sentences = append(sentences, "A change takes a restart.")
	}
	if s.tag("scope") == "program" {
		sentences = append(sentences, "All tenancies share it.")
	}
	if len(s.aliases) > 0 {
		quoted := make([]string, len(s.aliases))
		for i, alias := range s.aliases {
			quoted[i] = code(alias)
		}
		sentences = append(sentences, "Also read as "+Enumerate(quoted, "or")+".")
	}
	return strings.Join(sentences, " ")
}

// code returns a text as code in a table cell.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// cell escapes a text for a table cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// Table returns the settings of one struct as a Markdown table.
func Table(into any) string {
	settings, _ := settingsOf(into)
	var doc strings.Builder
	writeTable(&doc, settings)
	return doc.String()
}
