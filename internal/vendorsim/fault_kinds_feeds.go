package vendorsim

import "time"

var feedFaultKinds = append(append(append(append(
	feedKinds("cisa_kev", CISAKEVCountWrong, CISAKEVNoCount),
	feedKinds("epss", EPSSRedirect, EPSSEncoded, EPSSNoComment, EPSSShort)...),
	feedKinds("endoflife", EndOfLifeTotalWrong)...),
	feedKinds("osv", OSVDamaged, OSVGarbage, OSVMissing)...),
	nvdBehaves("no file of the current year", func(b *NVDBehaviour) { b.NoCurrentFile = true }),
	nvdBehaves("descriptions of other files", func(b *NVDBehaviour) { b.WrongSum = 2 }),
	FaultKind{Name: "quota used by others", Vendor: "nvd", inject: func(f *FaultInjection) {
		f.limitRequests("nvd-key", LimitNumbers{Max: 2, Window: time.Minute})
	}},
)

// feedKinds returns the kinds of faults of a publisher of files, with forms of its
// files.
func feedKinds(vendor string, forms ...string) []FaultKind {
	kinds := []FaultKind{
		feedBehaves(vendor, "no ETag", func(b *FeedBehaviour) { b.NoETag = true }),
		feedBehaves(vendor, "neither ETag nor time", func(b *FeedBehaviour) { b.NoETag, b.NoTime = true, true }),
		feedBehaves(vendor, "conditions ignored", func(b *FeedBehaviour) { b.IgnoreConditions = true }),
		feedBehaves(vendor, "access denied", func(b *FeedBehaviour) { b.Forbidden = true }),
	}
	for _, form := range forms {
		kinds = append(kinds, feedBehaves(vendor, "file: "+form, func(b *FeedBehaviour) { b.Form = form }))
	}
	return kinds
}

func feedBehaves(vendor, name string, set func(b *FeedBehaviour)) FaultKind {
	return FaultKind{Name: name, Vendor: vendor, inject: func(f *FaultInjection) {
		v := f.host.vendor.(interface{ ChangeBehaviour(func(*FeedBehaviour)) })
		var usual FeedBehaviour
		v.ChangeBehaviour(func(b *FeedBehaviour) { usual = *b; set(b) })
		f.undo = append(f.undo, func() { v.ChangeBehaviour(func(b *FeedBehaviour) { *b = usual }) })
	}}
}

func nvdBehaves(name string, set func(b *NVDBehaviour)) FaultKind {
	return FaultKind{Name: name, Vendor: "nvd", inject: func(f *FaultInjection) {
		n := f.host.vendor.(*NVD)
		f.undo = append(f.undo, func() { n.ChangeBehaviour(func(b *NVDBehaviour) { *b = NVDBehaviour{} }) })
		n.ChangeBehaviour(set)
	}}
}
