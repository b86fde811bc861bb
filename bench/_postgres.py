"""PostgreSQL for a benchmark, as the tests start it: the figures are those of a server that keeps what it commits."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.postgres import BIN, Postgres, postgres_server


@contextmanager
def postgres() -> Iterator[Postgres | None]:
    """A server while the context lasts; None where it is not installed."""
    if BIN is None:
        yield None
        return
    with postgres_server() as server:
        yield server


def main() -> None:
    """Nothing to measure here: ``bench.central`` and ``bench.fleet`` do."""
