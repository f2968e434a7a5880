// Package hedge decides when a request has taken so long that a second one beside it is worth its price.
//
// An object store answers most requests in a few milliseconds and a few in a hundred times that, for reasons of its own: a
// lost packet, a busy server. A second request usually meets another fate (Dean and Barroso, "The Tail at Scale", 2013). A
// [Meter] remembers how long requests took, by size, and calls slow what takes longer than 95 in 100 did. Each request pays
// for a tenth of a second one, so that a store that got slow as a whole gets at most a tenth more of work; after a failure
// the savings are gone.
//
// While a store asks to slow down, who hedges sends no second request, whatever the Meter says (objstore.Calm).
//
// The package knows neither stores nor requests: GETs are hedged where they are sent (package s3), PUTs where the key is
// chosen, for a second PUT needs another key (package storage).
package hedge
