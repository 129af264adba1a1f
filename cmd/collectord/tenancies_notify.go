package main

import (
	"maps"
	"slices"

	"github.com/collectord/collectord/pkg/notify"
)

// newNotifier returns the notifier of what the tenancies have in common, without targets. It
// reports the tenancies that cannot be used, which have no notifier of their own.
func (d *daemon) newNotifier() *notify.Notifier {
	o := d.base.notifyOptions(nil)
	o.Tenancy, o.Controls = "", nil
	o.LastReload, o.Unusable, o.Gather = d.lastSharedLoad, d.unusableErrors, gatherNotifications
	return notify.New(o, notify.Settings{})
}

// replaceTargets replaces where the notifier of all tenancies sends messages by what the shared
// settings say. Targets that cannot be used change nothing.
func (d *daemon) replaceTargets() error {
	targets, err := d.base.openTargets()
	if err == nil {
		d.notifier.ReplaceSettings(d.base.notifySettings(targets))
	}
	return err
}

// unusableErrors returns why tenancies cannot be used, by their names.
func (d *daemon) unusableErrors() map[string]error {
	all := map[string]error{}
	for name, one := range d.refusals() {
		all[name] = one.named
	}
	return all
}

// unusableNames returns the names of the tenancies that cannot be used, ordered.
func (d *daemon) unusableNames() []string { return slices.Sorted(maps.Keys(d.refusals())) }
