package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store/sinks"
)

func manCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Long: `man writes the manual pages into a directory, which must exist: collectord(1), one
page for each command, and collectord.env(5), which describes every setting. The
pages have the date of SOURCE_DATE_EPOCH or of the program's source.`,
		Example: `  mkdir -p ~/.local/share/man/man1
  collectord man ~/.local/share/man/man1`,
		Args: oneArg("one directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.refuseTenancyFlag("man describes the program"); err != nil {
				return err
			}
			return writeManual(cmd.Root(), args[0])
		},
	}
}

// writeManual writes all pages into a directory.
func writeManual(root *cobra.Command, dir string) error {
	when, err := manualDate()
	if err != nil {
		return err
	}
	header := doc.GenManHeader{Section: "1", Date: &when, Source: "collectord " + version, Manual: "User Commands"}
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(root, &header, dir); err != nil {
		return fmt.Errorf("write the manual pages into %s: %w", dir, err)
	}
	head := func(name, section, manual string) string {
		return fmt.Sprintf("%% %q %q %q %q %q\n", name, section, when.Format("Jan 2006"), "collectord "+version, manual)
	}
	for name, text := range map[string]string{
		"collectord.1":     head("COLLECTORD", "1", "User Commands") + rootPage(root),
		"collectord.env.5": head("COLLECTORD.ENV", "5", "File Formats") + settingsPage(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), md2man.Render([]byte(text)), 0o644); err != nil {
			return fmt.Errorf("write the manual pages: %w", err)
		}
	}
	return nil
}

// manualDate returns the date of the pages. It is the same for each build of the
// same source.
func manualDate() (time.Time, error) {
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, &exitError{exitSettings, fmt.Errorf("SOURCE_DATE_EPOCH: %q is not a number of seconds", text)}
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				return time.Parse(time.RFC3339, s.Value)
			}
		}
	}
	return time.Now().UTC(), nil
}

// rootPage returns collectord(1) in Markdown. It has the sections of a command, and
// those that describe the service.
func rootPage(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# NAME\n\ncollectord - %s\n\n# SYNOPSIS\n\n", lowerFirst(root.Short))
	b.WriteString("**collectord** [**--env-file** *FILE*]\n\n**collectord** **--once** [*collector*|*stream* ...]\n\n**collectord** *command* [*argument* ...]\n\n")
	// The exit codes have a section of their own.
	description, _, _ := strings.Cut(root.Long, "\n\nExit codes:")
	fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n# OPTIONS\n\n", description)
	b.WriteString("**--once**\n: Run the collectors now, deliver, and end. Without names, run all that are switched on.\n\n")
	b.WriteString("**--json**\n: With **--once**, print one JSON document instead of text.\n\n")
	b.WriteString("**--env-file** *FILE*\n: Read settings from this file in place of *.env*; the environment wins.\n\n")
	b.WriteString("**-h**, **--help**; **-v**, **--version**\n: Print the usage; print the version.\n\n# COMMANDS\n\n")
	var pages []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(&b, "**%s**\n: %s.\n\n", c.Name(), c.Short)
			pages = append(pages, fmt.Sprintf("**collectord-%s**(1)", c.Name()))
		}
	}
	b.WriteString(manualSections)
	fmt.Fprintf(&b, "# SEE ALSO\n\n**collectord.env**(5), %s\n", strings.Join(pages, ", "))
	return b.String()
}

const manualSections = `# EXIT STATUS

**0**
: Everything is complete and stored.

**1**
: Nothing could be done.

**2**
: Wrong flags or arguments.

**3**
: Some stream was not extracted, or some destination did not store it.

**75**
: Another process is running the collector: try later.

**78**
: The settings are wrong. systemd does not restart the service then.

**130**, **143**
: Ended by SIGINT, by SIGTERM.

# SIGNALS

**SIGTERM**, **SIGINT**
: Start no more runs, wait for running ones up to SHUTDOWN_GRACE, and end. A second signal ends the program at once.

**SIGHUP**
: Reload the settings. Bad settings change nothing and are logged.

**SIGUSR1**
: Run every collector now.

# ENVIRONMENT

Every setting is a variable; **collectord.env**(5) describes them all. A collector is on when its variables are set, for example FALCON_CLIENT_ID and FALCON_SECRET.

**STATE_DIR**
: The directory of the last-known data, the queue of deliveries and the history.

**STORE_FILE**, **STORE_DUCKDB**, **STORE_POSTGRES_HOST**, **STORE_AWS_S3_BUCKET**
: Where data is delivered.

**SCHEDULE**
: When the collectors run.

**HTTP_LISTEN**
: Where metrics, health and the status page are served.

# FILES

*.env*
: Settings, in the working directory.

*/etc/collectord/collectord.env*
: The settings of the service, as its unit reads them.

*/var/lib/collectord*
: The state of the service.

# EXAMPLES

Try the credentials and the destinations:

    collectord check --connect

Collect one collector and one stream now:

    collectord --once tenable okta_users

Show how old the data is:

    collectord status

Show the state of the service on this machine:

    sudo collectord --env-file /etc/collectord/collectord.env status

`

// settingsPage returns collectord.env(5) in Markdown.
func settingsPage() string {
	return "# NAME\n\ncollectord.env - the settings of collectord\n\n" + config.Manual(sinks.NewSettings(), sources.Sections()...) + "\n# SEE ALSO\n\n**collectord**(1), **environment.d**(5), **systemd.exec**(5)\n"
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
