package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

func tenancyCommand(p *program) *cobra.Command {
	return groupCommand("tenancy", "List tenancies, forget one, or take over that of another instance",
		tenancyListCommand(p), tenancyForgetCommand(p), importCommand(p))
}

func tenancyListCommand(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the tenancies that have a file or data in the state", Args: noArgs,
		Long: `list prints the tenancies that have a file in TENANCIES_DIR or data in the state
directory: the file, whether it can be used, the number of streams that have data, that of
the queued deliveries, and the size of the data in the state directory.`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.refuseTenancyFlag("list lists all tenancies"); err != nil {
				return err
			}
			a, err := p.loadAll()
			if err != nil {
				return err
			}
			return a.listTenancies(cmd.Context(), asJSON)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func tenancyForgetCommand(p *program) *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use: "forget NAME", Short: "Delete everything that the state directory has of a tenancy",
		Long: `forget deletes everything that the state directory has of a tenancy: snapshots and kept
chunks of exports, the history and the counts, the queue, notes, and the results of
controls. What is queued is never delivered. Backups and destinations keep what they have.

The tenancy must not have a file in TENANCIES_DIR any more, and the service must have been
reloaded since. Without --yes it prints what it would delete, and deletes nothing. A call
that was interrupted can be repeated.`,
		Args:              oneArg("one tenancy, as collectord tenancy list shows it"),
		ValidArgsFunction: completeOne(completeForgettable(p)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.refuseTenancyFlag("give the tenancy as the argument"); err != nil {
				return err
			}
			return p.withWholeState(cmd.Context(), func(a *assembly) error { return a.forgetTenancy(cmd.Context(), args[0], yes, asJSON) })
		},
	}
	addJSONFlag(cmd, &asJSON)
	cmd.Flags().BoolVar(&yes, "yes", false, "delete it; without it nothing is deleted")
	return cmd
}

// importCommand returns the command of tenancy import, and of cluster import.
func importCommand(p *program) *cobra.Command {
	var withoutQueue bool
	cmd := &cobra.Command{
		Use: "import DIR", Short: "Take over the state directory of another instance",
		Long: `import adds what the state directory of another instance, such as
/var/lib/collectord-acme, has of its tenancies, or of the one of --tenancy: the last-known
snapshots and those that are held, as they are, the history and the counts, notes, the
results of controls, and kept chunks of exports. What the present state directory has
stays, except for a last-known snapshot that is older.

The other instance must be stopped, and have delivered its queue. Its directory is not
changed. The service of the present directory may be running. A call that was interrupted
can be repeated.`,
		Args:              oneArg("one directory, such as /var/lib/collectord-acme"),
		ValidArgsFunction: completeDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withNewState(cmd.Context(), func(a *assembly) error {
				return a.importTenancies(cmd.Context(), args[0], p.from.tenancy, withoutQueue)
			})
		},
	}
	cmd.Flags().BoolVar(&withoutQueue, "without-queue", false, "also when the other instance has queued deliveries, which are not made")
	return cmd
}

// completeDirectory offers directories for the only argument.
func completeDirectory(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// refuseTenancyFlag returns an error when --tenancy was given to a command that is for all
// tenancies.
func (p *program) refuseTenancyFlag(advice string) error {
	if p.from.tenancy != "" {
		return usageError(fmt.Errorf("--tenancy has no effect here: %s", advice))
	}
	return nil
}

// listTenancies prints a row for each tenancy that has a file or data, or the document about
// them.
func (a *assembly) listTenancies(ctx context.Context, asJSON bool) (err error) {
	all, err := a.readKnownTenancies(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, newTenancyListView(all))
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENANCY\tFILE\tSTATE\tSTREAMS\tQUEUED\tSIZE")
	var problems []string
	for _, t := range all {
		u := t.usage
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", query.ReplaceControl(t.name), cmp.Or(query.ReplaceControl(t.file), "-"), t.state, u.Streams, u.Queued, humanize.Bytes(uint64(u.Bytes)))
		if t.err != nil {
			text := t.file + ": " + strings.ReplaceAll(t.err.Error(), "\n", "\n"+t.file+": ")
			problems = append(problems, prefixLines(t.name, text))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, text := range problems {
		fmt.Fprintln(a.stdout, text)
	}
	return nil
}

// withoutFile is the state of a knownTenancy that has data and no file.
const withoutFile = "no file"

// readKnownTenancies returns the tenancies of the settings and those of which the state has
// something, ordered by name.
func (a *assembly) readKnownTenancies(ctx context.Context) ([]knownTenancy, error) {
	switch err := a.inspectState(ctx); {
	case errors.Is(err, fs.ErrNotExist):
		return a.knownTenancies(nil), nil
	case err != nil:
		return nil, err
	}
	usages, err := a.state.Tenancies(ctx)
	if err = errors.Join(err, a.state.Close()); err != nil {
		return nil, err
	}
	return a.knownTenancies(usages), nil
}

// A knownTenancy is a tenancy that has a file or data in the state.
type knownTenancy struct {
	name, file, state string
	err               error // why its file cannot be used
	usage             state.TenancyUsage
}

// knownTenancies returns the tenancies of the settings and those of which the state has
// something, ordered by name.
func (a *assembly) knownTenancies(usages []state.TenancyUsage) (all []knownTenancy) {
	if !a.hasTenancies() {
		all = append(all, knownTenancy{name: a.settings.Tenancy, state: "ok"})
	}
	for _, t := range a.tenancies {
		one := knownTenancy{name: t.tenancyName(), file: t.file, state: "ok"}
		if t.err != nil {
			one.state, one.err = "error", t.operatorError()
		}
		all = append(all, one)
	}
	for _, u := range usages {
		isKnown := false
		for i := range all { // several files may have the same name
			if all[i].name == u.Tenancy {
				all[i].usage, isKnown = u, true
			}
		}
		if !isKnown {
			all = append(all, knownTenancy{name: u.Tenancy, state: withoutFile, usage: u})
		}
	}
	slices.SortStableFunc(all, func(x, y knownTenancy) int { return cmp.Compare(x.name, y.name) })
	return all
}

// requireForgettable returns an error when a tenancy is one of the settings, or may be.
func (c *configuration) requireForgettable(name string) error {
	if !c.hasTenancies() && name == c.settings.Tenancy {
		return usageError(fmt.Errorf("forget %s: it is the TENANCY of these settings: change TENANCY, or remove STATE_DIR", name))
	}
	for _, t := range c.tenancies {
		switch {
		case strings.EqualFold(t.tenancyName(), name):
			return usageError(fmt.Errorf("forget %s: %s is its file: remove that, and reload the service, first", name, filepath.Join(c.settings.Tenancies, t.file)))
		case t.configuration == nil:
			return &exitError{exitSettings, fmt.Errorf("forget %s: a file cannot be read and may be that of this tenancy: correct or remove it first: %w", name, t.refusal())}
		}
	}
	return nil
}

// forgetTenancy deletes what the state has of a tenancy, or prints that without yes.
func (a *assembly) forgetTenancy(ctx context.Context, name string, yes, asJSON bool) error {
	if err := a.requireForgettable(name); err != nil {
		return err
	}
	all, err := a.state.Tenancies(ctx)
	if err != nil {
		return err
	}
	usage, err := a.state.TenancyUsage(ctx, name)
	if err != nil {
		return err
	}
	isKnown := slices.ContainsFunc(all, func(u state.TenancyUsage) bool { return u.Tenancy == name })
	if !isKnown && usage.IsEmpty() {
		return usageError(fmt.Errorf("forget %s: %s has nothing of this tenancy; it has %s", name, a.statePlace(), usageNames(all)))
	}
	if !asJSON {
		a.printUsage(usage)
	}
	failure := a.deleteTenancy(ctx, name, yes)
	switch {
	case asJSON:
		return errors.Join(failure, writeJSON(a.stdout, newForgetView(usage, failure)))
	case failure == nil:
		_, err = fmt.Fprintln(a.stdout, "deleted")
		return err
	}
	return failure
}

// deleteTenancy deletes what the state has of a tenancy. Without yes it returns an error.
func (a *assembly) deleteTenancy(ctx context.Context, name string, yes bool) error {
	if !yes {
		return usageError(errors.New("nothing was deleted: --yes deletes it"))
	}
	err := a.state.ForgetTenancy(ctx, name)
	if errors.Is(err, state.ErrLocked) {
		return &exitError{exitLocked, err}
	}
	return err
}

func usageNames(all []state.TenancyUsage) string {
	var names []string
	for _, u := range all {
		names = append(names, u.Tenancy)
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// printUsage prints what the state has of a tenancy.
func (a *assembly) printUsage(u state.TenancyUsage) {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "tenancy %s in %s:\n", u.Tenancy, a.statePlace())
	for _, line := range []struct {
		what  string
		count int64
	}{
		{"streams with data", u.Streams}, {"queued deliveries, never made then", u.Queued}, {"runs in the history", u.Runs},
		{"controls", u.Controls}, {"daily results of controls", u.ControlDays}, {"notes", u.Notes},
	} {
		fmt.Fprintf(w, "  %s\t%s\n", line.what, humanize.Comma(line.count))
	}
	fmt.Fprintf(w, "  size\t%s\n", humanize.Bytes(uint64(u.Bytes)))
	_ = w.Flush() // nothing can report that standard output is closed
	fmt.Fprintln(a.stdout, "Backups and destinations keep what they have.")
}

// importTenancies takes over the state directory dir of another instance: its tenancies, or
// the one with a name.
func (a *assembly) importTenancies(ctx context.Context, dir, name string, withoutQueue bool) (err error) {
	a.learnTenancies() // the other instance may have kept errors with secrets of theirs
	source, err := a.openOther(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	chosen, err := chooseImports(ctx, source, name)
	if err != nil {
		return fmt.Errorf("import %s: %w", dir, err)
	}
	if err := refuseQueued(chosen); err != nil && !withoutQueue {
		return fmt.Errorf("import %s: %w", dir, err)
	}
	damaged := false
	for _, u := range chosen {
		result, err := a.state.TakeOver(ctx, source, u.Tenancy)
		switch {
		case errors.Is(err, state.ErrLocked):
			return &exitError{exitLocked, fmt.Errorf("import %s: %w: try again later", dir, err)}
		case err != nil:
			return fmt.Errorf("import %s: %w", dir, err)
		}
		damaged = a.printTakeOver(u, result) || damaged
	}
	fmt.Fprintf(a.stdout, "%s was not changed\n", dir)
	if damaged {
		return &exitError{exitPartial, fmt.Errorf("import %s: a snapshot is damaged, see above: the next run collects the stream", dir)}
	}
	return nil
}

// learnTenancies removes the secrets of all tenancies from texts from now on.
func (a *assembly) learnTenancies() {
	for _, t := range a.tenancies {
		if t.configuration != nil {
			a.redactor.Learn(t.secrets...)
		}
	}
}

// openOther opens the state directory of another instance.
func (a *assembly) openOther(ctx context.Context, dir string) (*state.State, error) {
	if !a.hasSharedState() && sameDirectory(dir, a.stateDir()) {
		return nil, usageError(fmt.Errorf("import %s: it is the state directory (STATE_DIR) of these settings: want that of another instance", dir))
	}
	source, err := local.OpenTakeOver(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usageError(fmt.Errorf("import %s: it has no state: want the STATE_DIR of another instance, such as /var/lib/collectord-acme: %w", dir, err))
	case errors.Is(err, state.ErrInUse):
		return nil, &exitError{exitLocked, fmt.Errorf("import: %w", err)}
	case err != nil:
		return nil, fmt.Errorf("import %s: %w", dir, err)
	}
	return source, nil
}

// chooseImports returns what the other state has of its tenancies, or of the one with a name.
func chooseImports(ctx context.Context, source *state.State, name string) (chosen []state.TenancyUsage, err error) {
	all, err := source.Tenancies(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range all {
		if name == "" || u.Tenancy == name {
			chosen = append(chosen, u)
		}
	}
	switch {
	case len(all) == 0:
		return nil, usageError(errors.New("it has nothing of any tenancy"))
	case len(chosen) == 0:
		return nil, usageError(fmt.Errorf("it has nothing of tenancy %q; it has %s", name, usageNames(all)))
	}
	return chosen, nil
}

// refuseQueued returns an error when a tenancy has queued deliveries.
func refuseQueued(chosen []state.TenancyUsage) error {
	for _, u := range chosen {
		if u.Queued > 0 {
			return usageError(fmt.Errorf("tenancy %s has %s queued: call `collectord deliver` with the settings of that instance first, or add --without-queue, which leaves them undelivered",
				u.Tenancy, english.Plural(int(u.Queued), "delivery", "deliveries")))
		}
	}
	return nil
}

// sameDirectory reports whether two paths are of the same directory.
func sameDirectory(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// takenLabels are what printTakeOver prints.
var takenLabels = map[state.TakenSnapshot]string{
	state.TakenNone: "-", state.TakenAdded: "imported", state.TakenThere: "imported before",
	state.TakenOlder: "older, not imported", state.TakenDamaged: "DAMAGED, not imported",
}

// printTakeOver prints what was taken over, and reports whether a snapshot is damaged.
func (a *assembly) printTakeOver(u state.TenancyUsage, result state.TakeOverResult) (damaged bool) {
	printTenancyHeading(a.stdout, u.Tenancy)
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tDATA OF\tRECORDS\tDATA\tHELD\tRUNS\tEXPORTS")
	for _, s := range result.Streams {
		taken, records := "-", "-"
		if !s.Info.UploadTimestamp.IsZero() {
			taken, records = formatTime(s.Info.UploadTimestamp), fmt.Sprint(s.Info.Records)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\n", s.Stream, taken, records, takenLabels[s.Snapshot], takenLabels[s.Held], s.Runs, s.Jobs)
		damaged = damaged || s.Snapshot == state.TakenDamaged || s.Held == state.TakenDamaged
	}
	_ = w.Flush() // nothing can report that standard output is closed
	fmt.Fprintf(a.stdout, "notes: %d, controls: %d, daily results of controls: %d\n", result.Notes, result.Controls, result.ControlDays)
	if u.Queued > 0 {
		fmt.Fprintf(a.stdout, "%s of the other instance were not imported: a destination that is new here receives the last-known data, and `collectord deliver` stores it again\n",
			english.Plural(int(u.Queued), "queued delivery", "queued deliveries"))
	}
	if warning := a.missingTenancy(u.Tenancy); warning != "" {
		fmt.Fprintln(a.stdout, warning)
	}
	return damaged
}

// missingTenancy returns a warning when a tenancy is none of the settings; "" when it is.
func (c *configuration) missingTenancy(name string) string {
	isIt := func(t *tenancyFile) bool { return t.tenancyName() == name }
	switch {
	case c.hasTenancies() && !slices.ContainsFunc(c.tenancies, isIt):
		return fmt.Sprintf("no file in %s is of tenancy %s yet: its data waits for one", c.settings.Tenancies, name)
	case !c.hasTenancies() && name != c.settings.Tenancy:
		return fmt.Sprintf("TENANCY is %s, and not %s: set TENANCIES_DIR for a service with both", c.settings.Tenancy, name)
	}
	return ""
}
