-- +goose Up

-- Retired objects are kept as one list per batch. A hot merge retires thousands at once, and a row for each, with two
-- indexes, held up the commits that waited behind it.
ALTER TABLE retired_batches ADD COLUMN keys TEXT NOT NULL DEFAULT '[]';  -- a JSON list of object keys
UPDATE retired_batches SET keys = (SELECT json_group_array(key) FROM retired_objects WHERE batch = retired_batches.id);
DROP VIEW v_retired;
DROP TABLE retired_objects;
CREATE VIEW v_retired AS
    SELECT b.id AS batch, strftime('%Y-%m-%dT%H:%M:%SZ', b.at / 1000000000, 'unixepoch') AS retired, k.value AS key
    FROM retired_batches b, json_each(b.keys) k ORDER BY b.id, k.value;

PRAGMA user_version = 2;
