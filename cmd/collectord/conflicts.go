package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"golang.org/x/text/unicode/norm"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/store"
)

// A conflict is why a tenancy cannot be used together with others: a setting, what is wrong
// with it as the beginning of a sentence that ends with the others, their files, and what to do.
type conflict struct {
	setting, wrong string
	others         []string
	remedy         string
}

// unnamed stands for other tenancies in a text for those who may know one alone.
const unnamed = "another tenancy, which the log of the service and `collectord check` name"

// describe returns the conflict as an error. others is unnamed, or their names.
func (c conflict) describe(others string) error {
	return fmt.Errorf("%s: %s %s: %s", c.setting, c.wrong, others, c.remedy)
}

// nameSome returns some of the names of files as part of a sentence.
func nameSome(files []string) string {
	const most = 3
	if len(files) > most+1 {
		files = append(slices.Clone(files[:most]), english.Plural(len(files)-most, "more file", ""))
	}
	return config.Enumerate(files, "and")
}

// addConflict refuses the tenancy because of a conflict.
func (t *tenancyFile) addConflict(c conflict) {
	t.err = errors.Join(t.err, c.describe(unnamed))
	t.named = errors.Join(t.named, c.describe(nameSome(c.others)))
}

// operatorError is err for those who may know all tenancies.
func (t *tenancyFile) operatorError() error {
	if t.named != nil {
		return t.named
	}
	return t.err
}

// refuseConflicts refuses tenancies that would store in the state, and all that have the
// same name or would store in the same place of a destination. Which one is right is not known.
func (c *configuration) refuseConflicts() {
	names, places := map[string][]*tenancyFile{}, map[string][]located{}
	for _, t := range c.tenancies {
		if t.err == nil {
			t.err = c.checkOutsideState(t)
		}
		if t.err != nil {
			continue
		}
		names[t.comparedName()] = append(names[t.comparedName()], t)
		for _, l := range t.locations() {
			if place := l.Of(t.tenancyName()); place != "" && !l.Uses("UUID") {
				places[place] = append(places[place], located{t, l})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		refuseSameName(names[name])
	}
	for _, place := range slices.Sorted(maps.Keys(places)) {
		refuseSamePlace(places[place])
	}
}

// comparedName returns the name by which tenancies are compared: some file systems make no
// difference between names with the same one, and people see none.
func (t *tenancyFile) comparedName() string { return strings.ToLower(norm.NFC.String(t.tenancyName())) }

// refuseSameName refuses tenancies with the same name if there are several.
func refuseSameName(same []*tenancyFile) {
	for _, t := range same {
		var others []string
		wrong := fmt.Sprintf("%q is also the name of", t.tenancyName())
		for _, other := range same {
			if other == t {
				continue
			}
			others = append(others, other.file)
			if other.tenancyName() != t.tenancyName() {
				wrong = fmt.Sprintf("%q is, but for upper and lower case or the coding of accents, also the name of", t.tenancyName())
			}
		}
		if len(others) > 0 {
			t.addConflict(conflict{"TENANCY", wrong, others, "want different names"})
		}
	}
}

// A located is where a tenancy stores.
type located struct {
	tenancy *tenancyFile
	store.Location
}

// refuseSamePlace refuses tenancies that store in the same place if they are several, except
// in a database. Those with the same name are refused because of that.
func refuseSamePlace(same []located) {
	for _, l := range same {
		var others []string
		for _, other := range same {
			if other.tenancy.comparedName() != l.tenancy.comparedName() && !(l.IsDatabase && other.IsDatabase) {
				others = append(others, other.tenancy.file)
			}
		}
		if len(others) == 0 {
			continue
		}
		remedy := "put %TENANCY into it"
		if l.IsDatabase || l.Uses("TENANCY") || slices.ContainsFunc(same, func(other located) bool { return other.Uses("TENANCY") }) {
			remedy = "choose another place for one of them"
		}
		l.tenancy.addConflict(conflict{
			l.Setting, fmt.Sprintf("%q is the same place as that of", l.Template), slices.Compact(others),
			"one would replace the data of the other: " + remedy,
		})
	}
}

// locations returns where the destinations store.
func (c *configuration) locations() (all []store.Location) {
	for _, destination := range c.settings.Store.Destinations {
		if s, ok := destination.Into.(store.LocatedSettings); ok {
			all = append(all, s.Locations()...)
		}
	}
	return all
}

// checkOutsideState returns an error if a tenancy would store where the state of the service is.
func (c *configuration) checkOutsideState(t *tenancyFile) error {
	var errs []error
	for _, l := range t.locations() {
		place := l.Of(t.tenancyName())
		if l.Bucket == "" {
			if entry := store.EntryIn(c.settings.StateDir, place); local.IsOwnEntry(entry) {
				errs = append(errs, config.Invalid(l.Setting, "%q is %s in STATE_DIR, where the service has its state: choose another place", l.Template, entry))
			}
		} else if c.hasSharedState() && strings.HasPrefix(place, "s3://"+l.Bucket+"/"+c.settings.Cluster.Prefix) {
			errs = append(errs, config.Invalid(l.Setting, "%q begins with CLUSTER_S3_PREFIX, where the service has its state: choose another key", l.Template))
		}
	}
	return errors.Join(errs...)
}
