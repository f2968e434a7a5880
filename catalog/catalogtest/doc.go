// Package catalogtest is the conformance suite of package catalog's contract. Every implementation runs [Run] in its
// ordinary tests; [Model] runs random operations on two implementations and compares what they answer and hold.
//
// The suite reads like the contract: a subtest per method or sentence. It owns the catalog's clock, so that graces
// and expiries need no waiting. What the contract leaves open (the values of versions and batch ids, the order of
// unordered answers, nil or empty) is never compared.
package catalogtest
