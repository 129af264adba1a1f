package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// A completer returns the words that a shell offers.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeNames offers the names of streams and, if asked, of collectors. Those of EXEC_DIR
// are among them as far as the settings can be read.
func completeNames(p *program, collectors bool) completer {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var words []string
		offer := func(name, description string) {
			if strings.HasPrefix(name, prefix) && !slices.Contains(args, name) {
				words = append(words, cobra.CompletionWithDesc(name, description))
			}
		}
		c, _ := readConfiguration(p.from)
		for _, s := range c.definitions {
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

// completeTenancies offers the names of the tenancies, as far as the settings can be read.
func completeTenancies(p *program) completer {
	return func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		c, _ := readConfiguration(p.from)
		names := c.distinctTenancyNames()
		if !c.hasTenancies() {
			names = []string{c.settings.Tenancy}
		}
		return withPrefix(names, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeForgettable offers the names of the tenancies that have data and no file.
func completeForgettable(p *program) completer {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var names []string
		if a, err := p.loadAll(); err == nil {
			all, _ := a.readKnownTenancies(cmd.Context())
			for _, t := range all {
				if t.state == withoutFile {
					names = append(names, t.name)
				}
			}
		}
		return withPrefix(names, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// withPrefix returns the words that begin with a prefix.
func withPrefix(words []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(word string) bool { return !strings.HasPrefix(word, prefix) })
}

// completeOnce offers names after --once.
func completeOnce(p *program) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if once, err := cmd.Flags().GetBool("once"); err != nil || !once {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeNames(p, true)(cmd, args, prefix)
	}
}

// completeOne offers words for the first argument only.
func completeOne(offer completer) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(cmd, args, prefix)
	}
}

// completeWords offers the given words.
func completeWords(words ...string) completer {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}
