// Package broker is what a Kafka request means: it serves connections, decodes requests, decides and answers. It
// keeps no log and no facts: the log is behind [Log], the facts behind catalog.Catalog.
//
// # Map
//
// api.go holds the one table of API keys, versions and handlers. The ApiVersions answer and docs/protocol.md come
// from it. There is one file per API key (00_produce.go, 01_fetch.go …), opened by its versions, behaviour and
// deviations from Apache Kafka. server.go accepts, conn.go serves one connection, frame.go reads frames within the
// memory bounds, topics.go keeps the image of topics, session.go the fetch sessions, errors.go translates errors.
//
// cluster.go says what the broker knows of others, and who leads; replicas.go which brokers a partition is shown with;
// fetchrespond.go puts together what 01_fetch.go read; fetchnear.go sends consumers to brokers near them; topicchanges.go is what follows when topics are made or changed.
//
// # One of several
//
// Any broker answers any request. What only a partition's leader may say (Produce, ListOffsets, OffsetForLeaderEpoch,
// DeleteRecords, DescribeProducers, OFFSET_OUT_OF_RANGE) the others refuse with Kafka's codes, telling who leads where the
// version has room for it. Whether this broker leads is decided by [Log.Leader] alone, which knows the lease's epoch and
// whether it can be trusted now; [Cluster] may be old, and only tells whom to ask instead. Requests about topics go to the
// catalog directly; the leases of new partitions are free at first, and all brokers take their shares. Committed records
// are served by every broker.
//
// # One connection
//
// Two goroutines: the reader reads, decodes and, for Produce, validates and appends; the writer answers, strictly in
// the order of the requests. So the next Produce is on its way to the store while earlier ones wait for durability,
// which is what one producer's throughput depends on. Every other request is handled by the writer when its turn
// comes, one at a time, as Kafka does. A Produce that follows a request which may change topics waits for that one.
//
// # Invariants
//
//   - A Produce with acks 1 or -1 is answered without error only after [Log] said it is committed.
//   - Answers leave in the order of requests. An acks=0 Produce gets none, but is waited for in its turn.
//   - A frame is kept by reference count: the request holds one reference until its answer is written; the engine
//     takes its own when an append succeeds.
//   - Everything from outside is bounded before it is allocated: frame length, frames in memory broker-wide,
//     requests and bytes per connection, connections, sessions, answers in memory, partitions.
//   - No lock is held while blocking. Lock order: server.mu, then conn.mu; sessionCache.mu alone; session fields
//     belong to the one request that holds the session.
//
// # Failures
//
// A request that cannot be parsed, an unknown API key and an unsupported version close the connection, as in Kafka,
// with one log line (rate limited). A panic in a handler closes its connection only, logged with its stack. A client
// that does not read its answers is closed after a write deadline. A client that stalls within a frame is closed
// after a read deadline. Shutdown stops reading, ends long polls, finishes the answers of what was read, then closes.
package broker
