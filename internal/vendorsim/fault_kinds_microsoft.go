package vendorsim

import "time"

var microsoftFaultKinds = []FaultKind{
	microsoftBehaves("azure_entra", "empty pages between", func(b *MicrosoftBehaviour) { b.EmptyBetween = true }),
	microsoftBehaves("azure_entra", "permission missing", func(b *MicrosoftBehaviour) { b.Forbidden = map[string]bool{EntraGroups: true} }),
	microsoftAlters("azure_entra", "permission for signInActivity missing", func(b *MicrosoftBehaviour) { b.Forbidden = map[string]bool{SignInActivity: true} }),
	microsoftAlters("azure_entra", "no premium license", func(b *MicrosoftBehaviour) { b.NoPremium = true }),
	microsoftQuota("azure_entra", "entra-reports", LimitNumbers{Max: 1, Window: 30 * time.Second}),
	microsoftQuota("azure_entra", "entra-policies", LimitNumbers{Max: 1, Window: 30 * time.Second}),
	microsoftRevokes("azure_entra"),
	tokenFault("azure_entra", "token request refused", HTML(503)),
	tokenFault("azure_entra", "token response lost", LoseResponse(504, "gone")),
	microsoftBehaves("mde", "empty pages between", func(b *MicrosoftBehaviour) { b.EmptyBetween = true }),
	microsoftBehaves("mde", "permission missing", func(b *MicrosoftBehaviour) { b.Forbidden = map[string]bool{MDEMachines: true} }),
	microsoftQuota("mde", "mde-minute", LimitNumbers{Max: 2, Window: time.Minute}),
	microsoftQuota("mde", "mde-export-minute", LimitNumbers{Max: 1, Window: time.Minute}),
	microsoftRevokes("mde"),
	tokenFault("mde", "token request refused", HTML(503)),
	tokenFault("mde", "token response lost", LoseResponse(504, "gone")),
	microsoftBehaves("intune", "empty pages between", func(b *MicrosoftBehaviour) { b.EmptyBetween = true }),
	microsoftBehaves("intune", "permission missing", func(b *MicrosoftBehaviour) { b.Forbidden = map[string]bool{IntuneDevices: true} }),
	microsoftQuota("intune", "intune", LimitNumbers{Max: 2, Window: time.Minute}),
	microsoftRevokes("intune"),
	tokenFault("intune", "token request refused", HTML(503)),
	tokenFault("intune", "token response lost", LoseResponse(504, "gone")),
	intuneExports("exports slow", func(e *IntuneExports) { e.Polls = 8 }),
	intuneExports("export failed", func(e *IntuneExports) { e.Failing = 1 }),
	intuneExports("exports fail", func(e *IntuneExports) { e.Failing = 1000 }),
	intuneExports("addresses of files expired", func(e *IntuneExports) { e.ExpiredLinks = 2 }),
	{Name: "export stuck", Vendor: "intune", Hours: true, inject: intuneExports("", func(e *IntuneExports) { e.Stuck = 1 }).inject},
	{Name: "machines removed while they are read", Vendor: "mde", Hides: true, inject: func(f *FaultInjection) {
		m, n := f.host.vendor.(*MDE), 1+f.draw.Random.IntN(15)
		f.gone = true
		f.undo = append(f.undo, func() { m.RemoveMachines(0) })
		f.whileRead(func() {
			for i := range n {
				f.hideRecord(MDEMachines, i)
			}
			m.RemoveMachines(n)
		})
	}},
}

// microsoftBehaves is a kind of fault that changes the behaviour of an API of
// Microsoft.
func microsoftBehaves(vendor, name string, set func(b *MicrosoftBehaviour)) FaultKind {
	return FaultKind{Name: name, Vendor: vendor, inject: func(f *FaultInjection) {
		api := f.host.vendor.(interface {
			ChangeBehaviour(func(*MicrosoftBehaviour))
		})
		f.undo = append(f.undo, func() { api.ChangeBehaviour(func(b *MicrosoftBehaviour) { *b = MicrosoftBehaviour{} }) })
		api.ChangeBehaviour(set)
	}}
}

// microsoftAlters is microsoftBehaves for a behaviour in which users lack a member.
func microsoftAlters(vendor, name string, set func(b *MicrosoftBehaviour)) FaultKind {
	k := microsoftBehaves(vendor, name, set)
	k.Alters = true
	return k
}

// microsoftQuota is a kind of fault in which other programs use up a limit.
func microsoftQuota(vendor, limit string, n LimitNumbers) FaultKind {
	return FaultKind{Name: "quota used by others: " + limit, Vendor: vendor, inject: func(f *FaultInjection) { f.limitRequests(limit, n) }}
}

// microsoftRevokes is a kind of fault in which all tokens are revoked.
func microsoftRevokes(vendor string) FaultKind {
	return FaultKind{Name: "tokens revoked", Vendor: vendor, inject: func(f *FaultInjection) {
		f.whileRead(func() { f.host.vendor.(interface{ Revoke() }).Revoke() })
	}}
}

// intuneExports is a kind of fault of export jobs.
func intuneExports(name string, set func(e *IntuneExports)) FaultKind {
	return FaultKind{Name: name, Vendor: "intune", inject: func(f *FaultInjection) {
		i := f.host.vendor.(*Intune)
		var usual IntuneExports
		i.ConfigureExports(func(e *IntuneExports) { usual = *e; set(e) })
		f.undo = append(f.undo, func() { i.ConfigureExports(func(e *IntuneExports) { *e = usual }) })
	}}
}
