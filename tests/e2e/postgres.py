"""PostgreSQL of the test's own: Debian's package, a free port of loopback, a temporary folder, ended for sure.

Its settings are those of a fresh installation: what is committed is on the disk.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pwd import getpwnam
from time import monotonic, sleep

import psycopg
import pytest

from tests.ports import free_port

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
BIN = _FOUND[-1].parent if _FOUND else None
NEEDED = pytest.mark.skipif(BIN is None, reason="PostgreSQL is not installed (apt-get install postgresql)")

#: The server ends with whoever has the other end of its standard input, however that ends.
_GUARD = 'trap "" TERM INT; "$@" & server=$!; read -r _; kill -QUIT $server; wait $server'


class Postgres:
    """One server that can be killed and started again on its port and data."""

    def __init__(self, folder: Path, user: str | None) -> None:
        assert BIN is not None
        self.port = free_port()
        self._bin = BIN
        self._data = folder / "data"
        self._log = folder / "log"
        self._user = user
        self._guard: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._run(
            "initdb", "-D", str(self._data), "-A", "trust", "-U", "enlace", "-E", "UTF8", "--locale=C.UTF-8", "-N"
        )

    def start(self) -> None:
        options = f"listen_addresses=127.0.0.1 port={self.port} unix_socket_directories= max_connections=60"
        server = [str(self._bin / "postgres"), "-D", str(self._data)]
        for option in options.split():
            server += ["-c", option]
        with self._log.open("ab") as log:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,
            )
        give_up_s = monotonic() + 60
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
            except psycopg.OperationalError:
                assert self._guard.poll() is None, self._log.read_text()
                assert monotonic() < give_up_s, self._log.read_text()
                sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it at once, without a last checkpoint."""
        if self._guard is not None:
            self._guard.communicate()
            self._guard = None

    def kill(self) -> None:
        """End it as a power cut does, but for what the kernel has not written yet."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGSTOP)  # it would put others in the place of its processes, which outlive it a moment
        _wait_for(lambda: _state(first) == "T")
        others = [int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split()]
        for pid in (*others, first):
            os.kill(pid, signal.SIGKILL)
        self.stop()
        # While one of them still has the shared memory no other server starts on these files.
        _wait_for(lambda: all(_state(pid) in "XZ" for pid in others))

    def dsn(self, name: str) -> str:
        return f"postgresql://enlace@127.0.0.1:{self.port}/{name}"

    def new_database(self) -> str:
        """The connection string of a database that is empty."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.dsn(name)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([str(self._bin / program), *arguments], check=True, capture_output=True, user=self._user)


def _state(pid: int) -> str:
    """Of a process, as ``ps`` shows it; of one that is gone ``X``."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _wait_for(true: Callable[[], bool]) -> None:
    give_up_s = monotonic() + 60
    while not true():
        assert monotonic() < give_up_s, "its processes do not end"
        sleep(0.001)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server while the context lasts. PostgreSQL refuses to run as root: then it runs as its own user."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="enlace-postgres-"))
    try:
        if user is not None:
            os.chown(folder, getpwnam(user).pw_uid, getpwnam(user).pw_gid)
        server = Postgres(folder, user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
