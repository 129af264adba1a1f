package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/collector/sources"
)

// A completer offers words to a shell. It reads no settings.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeNames offers the streams and, where collectors may be named too,
// those.
func completeNames(collectors bool) completer {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		var words []string
		offer := func(name, what string) {
			if strings.HasPrefix(name, begun) && !slices.Contains(args, name) {
				words = append(words, cobra.CompletionWithDesc(name, what))
			}
		}
		for _, s := range sources.All() {
			if collectors {
				offer(s.Name, s.Title)
			}
			for _, stream := range s.Streams {
				offer(stream.Name, stream.Records)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeOnce offers names where --once stands before them.
func completeOnce(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if once, err := cmd.Flags().GetBool("once"); err != nil || !once {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeNames(true)(cmd, args, begun)
}

// completeOne offers words for the only argument.
func completeOne(offer completer) completer {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(cmd, args, begun)
	}
}

// fixed offers these words.
func fixed(words ...string) completer {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}
