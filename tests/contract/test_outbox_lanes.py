"""The uplink's lanes over the real store: it seals while records are on their way, and no row gets a second number."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

from agent.core.clock import FakeClock
from agent.core.model import Batch
from agent.store.db import Store
from agent.store.opening import connect
from agent.store.settings import StoreSettings
from tests.unit.test_lanes import Disk, Rec, Sync

WAIT_S = 60.0
STREAM = "telemetry"


class StoreDisk(Disk):
    """The model's disk, with a store behind it. A block of it has one row for each of its numbers."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="enlace-lanes-")
        self._clock = FakeClock()
        self._store = self._open()

    def _open(self) -> Store:
        path = Path(self._folder.name) / "enlace.db"
        return Store.open(path, self._clock, StoreSettings(seal_s=30.0, seal_rows=12))

    @property
    def newest(self) -> int:  # type: ignore[override] # a field there
        return self._store.newest(STREAM)

    @property
    def acked(self) -> int:  # type: ignore[override]
        return self._store.acked(STREAM)

    def commit(self, count: int) -> None:
        for _ in range(count):
            self._store.append(Batch([1], [self._clock.now_us()], [self.newest + 1]))
            self._store.flush().result(WAIT_S)
            self._clock.advance(1)

    def read(self, after: int, most: int) -> list[Rec]:
        return [Rec(block.first_seq, block.seq) for block in self._store.blocks(after, most)]

    def ack(self, upto: int) -> None:
        self._store.ack(STREAM, upto, at_once=True).result(WAIT_S)

    def hold(self, upto: int | None) -> None:
        self._store.hold(STREAM, upto).result(WAIT_S)

    def reopen(self) -> None:
        self._store.close()
        self._store = self._open()

    def seal(self, most: int) -> None:
        self._store.maintain().result(WAIT_S)

    def drop(self, place: int) -> Rec | None:
        records = self.read(0, 1000)
        if not records:
            return None
        record = records[place % len(records)]
        connection = connect(Path(self._folder.name) / "enlace.db")
        for table in ("hot", "block"):
            connection.execute(f"DELETE FROM {table} WHERE seq = ?", (record.seq,))  # noqa: S608 - two of ours
        connection.close()
        return record

    def close(self) -> None:
        self._store.close()
        self._folder.cleanup()


class StoreSync(Sync):
    """The same machine as in ``tests/unit/test_lanes.py``."""

    make_disk = StoreDisk

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            assert isinstance(self.disk, StoreDisk)
            self.disk.close()


class TestStoreSync(StoreSync.TestCase):  # type: ignore[misc,valid-type] # made by Hypothesis
    settings = settings(
        max_examples=15,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # making a failure small would take minutes
    )
