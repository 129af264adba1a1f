package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/config"
)

func rootCommand(p *program) *cobra.Command {
	var once, asJSON bool
	root := &cobra.Command{
		Use:   "collectord [--once [collector|stream ...]]",
		Short: "Extract complete snapshots of security data and deliver them",
		Long: `collectord extracts every record from the APIs of security tools and delivers
complete snapshots to files, DuckDB, Postgres and S3. A collector is switched on
by its environment variables; "collectord list" names them.

Without --once it is a service that runs the collectors on their schedules until
SIGTERM or SIGINT. SIGHUP reloads the settings, SIGUSR1 runs every collector now.

Exit codes: 0 all complete and stored; 1 failed; 2 wrong usage; 3 some stream or
destination failed; 65 a file of controls cannot be used; 75 another process is collecting a stream; 78 bad settings;
130 and 143 ended by SIGINT and SIGTERM.`,
		Example: `  collectord                             run as a service, by SCHEDULE
  collectord --once                      run every collector that is switched on
  collectord --once tenable okta_users   run one collector and one stream
  collectord check --connect             try credentials and destinations`,
		Args: cobra.ArbitraryArgs,

		ValidArgsFunction: completeOnce(p),
		SilenceErrors:     true,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !once {
				if len(args) > 0 {
					return unknownCommand(cmd, args)
				}
				if asJSON {
					return usageError(errors.New("--json is for --once and for some commands: the service writes no document"))
				}
				if err := p.refuseTenancyFlag("the service works for all tenancies"); err != nil {
					return err
				}
				return runDaemon(cmd.Context(), p)
			}
			p.signals.releaseControl()
			return runOnce(cmd.Context(), p, args, asJSON)
		},
	}
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(suggestFlag(cmd, err)) })
	root.CompletionOptions.DisableDefaultCmd = false
	root.Flags().BoolVar(&once, "once", false, "run the collectors now, deliver, and end")
	root.Flags().BoolVar(&asJSON, "json", false, "with --once, print one JSON document instead of text")
	root.PersistentFlags().StringVar(&p.from.envFile, "env-file", "", "read settings from this file in place of .env; the environment takes precedence")
	root.PersistentFlags().StringVar(&p.from.tenancy, "tenancy", "", "with TENANCIES_DIR, the tenancy that the command is for")
	_ = root.RegisterFlagCompletionFunc("tenancy", completeTenancies(p)) // the flag exists
	root.Version = version
	root.SetVersionTemplate(versionLine())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd != root {
			p.signals.releaseControl()
		}
		if cmd.Flags().Changed("tenancy") && p.from.tenancy == "" {
			return usageError(errors.New("--tenancy: empty: want the name of a tenancy"))
		}
		if cmd.HasParent() && cmd.Parent().Name() == "completion" {
			return p.refuseTenancyFlag("completion prints the script of a shell")
		}
		return nil
	}
	root.AddCommand(
		listCommand(p),
		checkCommand(p),
		doctorCommand(p),
		statusCommand(p),
		acceptCommand(p),
		restoreCommand(p),
		queryCommand(p),
		controlsCommand(p),
		deliverCommand(p),
		dropCommand(p),
		tenancyCommand(p),
		clusterCommand(p),
		healthCommand(p),
		manCommand(p),
		versionCommand(p),
	)
	return root
}

// groupCommand returns a command that only has commands of its own.
func groupCommand(name, short string, commands ...*cobra.Command) *cobra.Command {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name())
	}
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			return usageError(fmt.Errorf("%s takes a command: %s, got %q", name, config.Enumerate(names, "or"), args))
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// usageError returns err as an error of the command line.
func usageError(err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w\nTry: collectord --help", err)}
}

func versionLine() string {
	return fmt.Sprintf("collectord %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func versionCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := p.refuseTenancyFlag("version prints that of the program"); err != nil {
				return err
			}
			_, err := fmt.Fprint(p.stdout, versionLine())
			return err
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args))
	}
	return nil
}

// oneArg returns the check of the arguments for a command that takes exactly one.
// The message says what it is, such as "one stream, such as tenable_assets".
func oneArg(message string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError(fmt.Errorf("%s takes %s, got %q", cmd.Name(), message, args))
		}
		return nil
	}
}
