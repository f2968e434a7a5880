-- +goose Up

-- A broker looks for the members that a client it serves is, to know whose records it fetches. A client id may be longer than
-- a b-tree takes, and neither id nor host change in most updates of a row.
CREATE INDEX catalog_group_members_client ON catalog_group_members USING hash ((client_id || ' ' || client_host));
