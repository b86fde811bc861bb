"""Looking at a store from outside the running program: ``enlace check`` and the like.

sqlite-utils serves the schema here; it is imported only when somebody asks, for it takes as much memory as all else.
"""

from pathlib import Path
from sqlite3 import Error

from agent.core.errors import StoreError
from agent.store.reading import open_read_only
from agent.store.schema import STEPS, expected, version

#: Tables that stay small enough to be counted while somebody waits; roll-ups of years do not.
COUNTED = ("signal", "boot", "block", "event", "session", "note", "maintenance", "dropped", "aside")


def describe(path: Path) -> dict[str, int]:
    """The rows in each of the counted tables, read-only: safe beside a running gateway.

    Of a file that an older program made those that it has: the others are added when the gateway starts.
    Raises ``StoreError`` for what is no store of Enlace, and for one of a newer program.
    """
    from sqlite_utils import Database  # noqa: PLC0415 - see above

    op = f"look into {path}"
    if not path.exists():
        raise StoreError(op, "no such file", "give the path of the database, as in data_dir")
    try:
        connection = open_read_only(path, leave_nothing=True)
        try:
            database, user_version = Database(connection), version(connection)
            if user_version > len(STEPS):
                reason = f"schema version {user_version}, this program knows {len(STEPS)}"
                raise StoreError(op, reason, "use its program")
            known = [name for name in COUNTED if name in expected(max(user_version, 1))]
            missing = [name for name in known if name not in database.table_names()]
            if missing:
                raise StoreError(op, f"it has no table {missing[0]}", "is it a store of Enlace?")
            return {name: database.table(name).count for name in known}
        finally:
            connection.close()
    except Error as error:
        raise StoreError(op, str(error), "is it a store of Enlace?") from error
