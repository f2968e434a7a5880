"""Prints, as JSON, how many rows each table of a broker's embedded catalog has.

The one argument is the path of catalog.db. It is opened read-only, beside the
broker if one runs. "retired" is how many objects the retired batches list.
"""

import json
import pathlib
import sqlite3
import sys


def main():
    uri = pathlib.Path(sys.argv[1]).absolute().as_uri() + "?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None)
    db.execute("BEGIN")  # one moment for all tables
    tables = [name for (name,) in db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose%'")]
    rows = {name: db.execute('SELECT count(*) FROM "%s"' % name).fetchone()[0] for name in tables}
    rows["retired"] = db.execute("SELECT coalesce(sum(json_array_length(keys)), 0) FROM retired_batches").fetchone()[0]
    db.execute("COMMIT")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
