// Package node puts a broker together from its parts and runs it: it chooses the implementations that the settings
// name, connects the hooks of each part to metrics, and starts and stops everything in order. No decision about Kafka
// or storage is made here.
//
// # Start and stop
//
// Start: lock the data folders, open catalog and store, bind the Kafka listeners, serve HTTP (/ready says "starting"), find
// the broker id, open the engine (which registers a broker epoch and loads the tail), read the leases, read the topics.
// Clients that connect meanwhile wait in the kernel's queue. On an error everything opened is closed again, last first; the
// engine ends as in a crash, which leaves nothing that the next start does not clean up.
//
// Stop, in reverse: hand the leases over while clients are still served, stop accepting, finish the answers of what was read,
// commit what was appended, resign the broker epoch, stop HTTP, close. Of the shutdown timeout, half at most goes to the
// leases, and a quarter is kept for the commits: clients that do not take their answers are cut off before it, and are no
// failure of ours. Leases that could not be handed over are free once the broker epoch is resigned.
//
// # Fleet
//
// With a catalog that processes share (Postgres) a lease manager stands between the parts: it tells the engine which
// partitions to lead, its view tells the broker who leads the others, and what it hears from other brokers wakes the engine
// and the topics. The engine's heartbeats tell it what it did not hear. A broker that finds its id registered by another
// process, which lives, stops as it does when asked to, and returns an error.
//
// # Metrics
//
// The parts know no metrics; they call hooks, and the observer turns the calls into samples. It learns which topics live
// from the very answers of the catalog that the broker works from, so that a topic's name is known before its first
// batch, and its series end when the broker forgets it. Names that clients make up never become labels: what concerns
// unknown topics is counted under topic="". Leases are counted afresh every second and before a scrape that follows a
// change, since hooks that tell of changes may overtake each other. Caches are asked before a scrape what they hold and
// have dropped: reads and commits pay nothing for it, and a cache emptied in whatever way is seen to be empty.
//
// # Tracing
//
// With --tracing-endpoint a tracer is asked by the broker which requests to follow, told by the engine into which log objects
// they went, and lies around the store to see what is asked for them. It ends after the engine, so that the last commits are
// in it, and before HTTP.
//
// # Rest
//
// Ten seconds after the last traffic, fold or merge, memory is given back to the system; a minute after the last traffic
// the block cache is emptied too, by when the tail cache has emptied itself (what is folded leaves it).
package node
