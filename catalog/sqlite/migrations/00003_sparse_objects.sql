-- +goose Up

-- Objects of which less than half is live: those whose space a rewrite gives back. Most never are.
CREATE INDEX objects_sparse ON objects (id) WHERE size >= 1048576 AND live < size - live;

PRAGMA user_version = 3;
