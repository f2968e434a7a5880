// Package matrix sends records with every producing client in every codec and
// reads them back with other clients, record by record.
//
//	COMPAT_RECORDS   records per producer and codec (default 2000;
//	                 200000 makes a million per producer)
//	COMPAT_READERS   "two" (default): a fixed reader and one in turn;
//	                 "all": every client but the producer itself
//	COMPAT_REPORT    a file for the table of what was read by whom
package matrix
