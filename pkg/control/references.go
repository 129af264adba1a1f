package control

import (
	"encoding/json"
	"slices"
)

// Frameworks returns the references of a control from the state.
func (s Status) Frameworks() (references []Reference) {
	// The program wrote the text itself; without a valid one there are no references.
	_ = json.Unmarshal([]byte(s.References), &references)
	return references
}

// RefersTo reports whether the control refers to a framework.
func (s Status) RefersTo(framework string) bool {
	return slices.ContainsFunc(s.Frameworks(), func(r Reference) bool { return r.Framework == framework })
}

// AllFrameworks returns the names of the frameworks that controls refer to, in order.
func AllFrameworks(all []Status) (names []string) {
	for _, s := range all {
		for _, r := range s.Frameworks() {
			if !slices.Contains(names, r.Framework) {
				names = append(names, r.Framework)
			}
		}
	}
	slices.Sort(names)
	return names
}
