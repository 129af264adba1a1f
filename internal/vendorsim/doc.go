// Package vendorsim simulates the vendor APIs that collectord reads, for
// tests, the demo and benchmarks.
//
// A [Server] hosts one or several vendors, each on a listener of its own, so
// that a base URL stands for the vendor's real host. Records are rendered
// from (seed, stream, index) straight to the wire: a stream of a million
// records costs no memory, and [Server.Record] gives the exact bytes of any
// of them for comparison. [Host.Inject] switches faults on, [Limit] models
// rate limits, and [Host.Stats] tells what the client did, including the
// rules of the vendor that it broke ([Violation]).
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
// The package depends on nothing else of this module: a simulator that shared
// code with the client would share its mistakes.
package vendorsim
