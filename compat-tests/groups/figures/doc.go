// Package figures measures what consumer groups cost and how fast they are, with
// a broker that is started for each test, or with any other, such as Apache
// Kafka:
//
//   - offset commits a second of 1,000 members of one group, at one a second each
//     and as fast as they are answered;
//   - how long a group of 100 members on 1,000 partitions takes to share them when
//     all join, when one joins and when one leaves, by both protocols;
//   - after how long the lag metric shows a commit, and an append.
//
// `make group-figures` runs it, on a quiet machine, where clients and broker share
// the processors. Members are those of package light. Nothing is asserted but
// that all went well: figures are for reading.
//
//	FIGURES_CATALOG=postgres   on Postgres and MinIO instead of the embedded
//	                           catalog and a local folder
//	FIGURES_PEER=HOST:PORT     another broker instead, as it was started; what
//	                           only ours has is left out
//	FIGURES_REPEAT             how often each is measured (default 1)
//	FIGURES_HEARTBEAT          of classic members, who decide it (default 3s, as
//	                           Java's); KIP-848 brokers tell theirs
//	FIGURES_PROFILES=FOLDER    keeps CPU profiles of the broker while it takes
//	                           commits there
package figures
