"""The one connection of a worker: opened when it is needed, thrown away when it broke. Sole seam to psycopg's errors.

Calls block: the worker has a thread for them, and never two at the same time.
"""

from collections.abc import Callable
from typing import TypeVar

import psycopg

from agent.core.errors import ConfigError, Unavailable
from cloud_sync.central import schema
from cloud_sync.central.settings import patient

_Result = TypeVar("_Result")

#: PostgreSQL refuses this data: one message's fault, and no other's.
BadValueError = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)

#: A worker whose machine vanished must not keep its locks for ever.
_SESSION = "SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'"


class Database:
    """Connections to one database, one after the other. ``forget`` is called when one was lost or a call failed.

    ``opened``: how many there were. Behind each new one may be another database: a new one, or an older state of it.
    """

    def __init__(self, dsn: str, forget: Callable[[], None] = lambda: None) -> None:
        self._dsn = dsn
        self._forget = forget
        self._connection: schema.Connection | None = None
        self.opened = 0

    def call(self, function: Callable[[schema.Connection], _Result]) -> _Result:
        """``function`` of a connection in autocommit mode.

        Raises ``Unavailable`` when there is none or it does not work now, ``ConfigError`` when the tables are of
        another version, and what of ``BadValueError`` the function let through.
        """
        try:
            if self._connection is None:
                self._connection = self._open()
                self.opened += 1
            return function(self._connection)
        except BadValueError:
            self._forget()
            raise
        except psycopg.Error as error:
            self._forget()
            if self._connection is None or self._connection.closed or self._connection.broken:
                self.close()
            raise Unavailable("central database", _text(error)) from error

    def close(self) -> None:
        """Close the connection, if there is one. The next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> schema.Connection:
        connection: schema.Connection = psycopg.connect(autocommit=True, **patient(self._dsn))  # type: ignore[arg-type]
        try:
            connection.execute(_SESSION)
            schema.migrate(connection)
        except (psycopg.Error, ConfigError):
            connection.close()
            raise
        return connection


def _text(error: psycopg.Error) -> str:
    """The first line of what the server or libpq says; neither repeats a password."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
