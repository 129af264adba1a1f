// Package vendorsim simulates the vendor APIs that collectord reads, for
// tests, the demo and benchmarks.
//
// A [Server] hosts one or more vendors, each on its own listener, so that a
// base URL replaces the vendor's real host. Records are rendered from (seed,
// stream, index) straight to the wire: a stream of a million records uses no
// memory, and [Server.Record] returns the exact bytes of any record for
// comparison. [Host.Inject] injects faults, [Limit] models rate limits, and
// [Host.Stats] reports what the client did, including the rules of the vendor
// that it violated ([Violation]).
//
//	sim, err := vendorsim.Start(vendorsim.Options{
//		Vendors: []vendorsim.Vendor{vendorsim.NewTenable()},
//		Counts:  map[string]int{"tenable_vulnerabilities": 1000},
//	})
//	defer sim.Close()
//	host := sim.Host("tenable")
//	host.Inject(vendorsim.Fault{Path: "/vulns/export/*/chunks/*", Do: vendorsim.Reset(4096)})
//	// … point the client at host.URL() …
//	stats := host.Stats()
//
// The package imports no other package of this module: a simulator that shared
// code with the client would share its mistakes.
package vendorsim
