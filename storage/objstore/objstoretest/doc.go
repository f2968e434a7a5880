// Package objstoretest is the conformance suite of the object store's contract. Every implementation and every
// wrapper runs it in its plain tests:
//
//	func TestConformance(t *testing.T) {
//		objstoretest.Run(t, func() objstore.Store { return memory.New() })
//	}
//
// Each test gets a store of its own, which the suite closes. The suite looks at what callers can see; what only an
// implementation knows (files left behind, requests sent) is for its own tests.
package objstoretest
