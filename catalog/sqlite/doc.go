// Package sqlite is the embedded catalog: one SQLite file in the data folder.
package sqlite
