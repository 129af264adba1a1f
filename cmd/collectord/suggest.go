package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
)

// unknownCommand returns the error for arguments that are no command.
func unknownCommand(root *cobra.Command, args []string) error {
	name := args[0]
	if slices.Contains(sourceNames(), name) {
		return usageError(fmt.Errorf("unknown command %q; to run it now: collectord --once %s", name, strings.Join(args, " ")))
	}
	var commands []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			commands = append(commands, c.Name())
		}
	}
	if near := nearestName(name, commands); near != "" {
		return usageError(fmt.Errorf("unknown command %q: did you mean %s?", name, near))
	}
	if near := nearestName(name, sourceNames()); near != "" {
		return usageError(fmt.Errorf("unknown command %q: did you mean collectord --once %s?", name, near))
	}
	return usageError(fmt.Errorf("unknown command %q: the commands are %s", name, strings.Join(commands, ", ")))
}

// suggestFlag adds the nearest flag of a command to the error for an unknown one.
func suggestFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	name := unknown.GetSpecifiedName()
	if shorthands := unknown.GetSpecifiedShortnames(); shorthands != "" {
		name = shorthands // such as -once
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
	near := nearestName(name, flags)
	if near == "" || len(name) < 2 {
		return err
	}
	return fmt.Errorf("%w: did you mean --%s?", err, near)
}

// nearestName returns the candidate that a name is probably a misspelling of; "" if there
// is none.
func nearestName(name string, candidates []string) string {
	return config.Nearest(strings.ToLower(name), candidates, max(2, len(name)/4))
}

// sourceNames returns the names of the collectors and streams that need no settings.
func sourceNames() []string { return namesOf(sources.All()) }

// namesOf returns the names of collectors and of their streams.
func namesOf(definitions []collector.Definition) (names []string) {
	for _, s := range definitions {
		names = append(names, s.Name)
		for _, stream := range s.Streams {
			names = append(names, stream.Name)
		}
	}
	return names
}

// suggestSource returns the end of a message about a name that is no collector or stream:
// the nearest name, or "".
func (c *configuration) suggestSource(name string) string {
	if near := nearestName(name, namesOf(c.definitions)); near != "" {
		return " (did you mean " + near + "?)"
	}
	return ""
}
