"""Looking at a store from outside the running program: for ``enlace doctor`` and the like.

sqlite-utils serves the schema here; it is imported only when somebody asks, for it takes as much memory as all else.
"""

from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Error

from agent.core.errors import StoreError
from agent.store.opening import connect


@dataclass(frozen=True, slots=True)
class TableSummary:
    """One table of a store."""

    name: str
    rows: int
    schema: str  #: its CREATE TABLE


def describe(path: Path) -> list[TableSummary]:
    """The tables of the store at ``path`` by name, read-only: safe beside a running gateway. Raises ``StoreError``."""
    from sqlite_utils import Database  # noqa: PLC0415 - see above

    if not path.exists():
        raise StoreError(f"describe {path}", "no such file", "give the path of the database, as in data_dir")
    try:
        connection = connect(path, read_only=True)
        try:
            tables = [table for table in Database(connection).tables if not table.name.startswith("sqlite_")]
            return [TableSummary(table.name, table.count, table.schema) for table in sorted(tables, key=_name)]
        finally:
            connection.close()
    except Error as error:
        raise StoreError(f"describe {path}", str(error), "is it a store of Enlace?") from error


def _name(table: object) -> str:
    return str(getattr(table, "name", ""))
