package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/state"
)

// app is one call of the program.
type app struct {
	stdout, stderr io.Writer
	envFile        string

	settings config.Settings
	sources  []collector.Source
	sections []*config.Section // one for each source
	warnings []string
	log      *zap.Logger
	terminal *terminal       // standard error, when it is one
	notes    collector.Notes // nil where no state is open
	level    zap.AtomicLevel
	hide     *redactor
	signals  *signals
	state    *state.State // nil where none is open
}

func rootCommand(a *app) *cobra.Command {
	var once bool
	root := &cobra.Command{
		Use:   "collectord [--once [collector|stream ...]]",
		Short: "Extract security data, whole or not at all, and deliver it",
		Long: `collectord extracts every record from the APIs of security tools and delivers
complete snapshots to files, DuckDB, Postgres and S3. A collector is switched on
by its environment variables; "collectord list" names them.

Without --once it is a service that runs the collectors on their schedules until
SIGTERM or SIGINT. SIGHUP reads the settings anew, SIGUSR1 runs every collector
now.

Exit codes: 0 all complete and stored; 1 failed; 2 wrong usage; 3 some stream or
destination failed; 75 another process is at it; 78 bad settings; 130 and 143
ended by SIGINT and SIGTERM.`,
		Example: `  collectord                             run as a service, by SCHEDULE
  collectord --once                      run every collector that is switched on
  collectord --once tenable okta_users   run one collector and one stream
  collectord check --connect             try credentials and destinations`,
		Args: cobra.ArbitraryArgs,

		ValidArgsFunction: completeOnce,
		SilenceErrors:     true,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !once {
				if len(args) > 0 {
					return usage(fmt.Errorf("unknown command %q; to run a collector now: collectord --once %s", args[0], strings.Join(args, " ")))
				}
				return a.daemon(cmd.Context())
			}
			a.signals.release()
			return a.once(cmd.Context(), args)
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.CompletionOptions.DisableDefaultCmd = false
	root.Flags().BoolVar(&once, "once", false, "run the collectors now, deliver, and end")
	root.PersistentFlags().StringVar(&a.envFile, "env-file", "", "read settings from this file, too; the environment and .env win")
	root.Version = version
	root.SetVersionTemplate("collectord " + version + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + "\n")
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		if cmd != root {
			a.signals.release()
		}
	}
	root.AddCommand(a.listCommand(), a.checkCommand(), a.doctorCommand(), a.statusCommand(), a.acceptCommand(), a.restoreCommand(), a.queryCommand(), a.dropCommand(), a.manCommand(), a.versionCommand())
	return root
}

// usage marks an error of the command line.
func usage(err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w\nTry: collectord --help", err)}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(a.stdout, "collectord %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args))
	}
	return nil
}

// load reads the settings and starts the log. From here on nothing is printed
// that holds a secret.
func (a *app) load() error {
	env, err := a.read()
	if err != nil {
		return err
	}
	a.hide = newRedactor(env.Secrets())
	a.stdout, a.stderr = a.hide.writer(a.stdout), a.hide.writer(a.stderr)
	if isTerminal(os.Stderr) {
		a.terminal = newTerminal(a.stderr, func() int {
			width, _, err := term.GetSize(int(os.Stderr.Fd()))
			if err != nil {
				return 80
			}
			return width
		})
		a.stderr = a.terminal
	}
	a.level = zap.NewAtomicLevel()
	a.log = newLogger(a.stderr, a.terminal != nil, a.settings.Log, a.level)
	return nil
}

// read reads the settings.
func (a *app) read() (*config.Environment, error) {
	for _, s := range sources.All() {
		a.sources = append(a.sources, s)
		a.sections = append(a.sections, &config.Section{Name: s.Name, Title: s.Title, Into: s.Settings(), Collector: true})
	}
	env, err := config.Open(config.Source{Environ: os.Environ(), Dir: ".", EnvFile: a.envFile})
	if err != nil {
		return nil, &exitError{exitSettings, err}
	}
	a.warnings, err = env.Load(&a.settings, a.sections...)
	if err != nil {
		// What is only doubtful may be why: a misspelled name, say.
		for _, w := range a.warnings {
			err = fmt.Errorf("%w\n%s", err, w)
		}
		return nil, &exitError{exitSettings, err}
	}
	return env, nil
}

// active returns the sources that are switched on, with their settings.
func (a *app) active() (on []collector.Source, settings []any) {
	for i, s := range a.sources {
		if a.sections[i].Active {
			on, settings = append(on, s), append(settings, a.sections[i].Into)
		}
	}
	return on, settings
}
