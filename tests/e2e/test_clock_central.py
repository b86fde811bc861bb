"""D13 as the central server sees it: a gateway's clock is set while its records are on the way, and its own
``clock.corrected`` puts the database right. Real stores, uplinks, Mosquitto, ``enlace central`` and PostgreSQL.

What the database shows in the end is what the gateway's own store shows, whenever a record left and however often.
"""

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.core.clock import HeldClock
from agent.core.model import Batch, Event, Number
from agent.store.boots import Correction
from agent.store.db import Store
from agent.store.settings import StoreSettings
from cloud_sync.settings import UplinkSettings
from cloud_sync.uplink import Uplink
from tests.e2e.brokers import broker_process, needs
from tests.e2e.postgres import NEEDED, Postgres, postgres_server
from tests.e2e.subscriber import QuickClock, until
from tests.e2e.test_central import PATIENCE_S, ask, central_process, ended, ready, stored_rows
from tests.unit.uplink_fakes import SIGNALS

pytestmark = NEEDED

YEAR_US = 365 * 86_400_000_000
SITE = "a"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


class Machine(QuickClock):
    """A machine whose wall time is off by so much until somebody sets it."""

    def __init__(self, off_us: int) -> None:
        self.off_us = off_us

    def now_us(self) -> int:
        return super().now_us() + self.off_us


class Gateway:
    """A store by a clock that is not set, and what truly was: (value, right time), in order."""

    def __init__(self, path: Path, off_us: int, url: str, payload: str) -> None:
        self.machine = Machine(off_us)
        self.clock = HeldClock(self.machine)
        self._off_us = off_us
        self.store = Store.open(path, self.clock, StoreSettings(commit_s=0.02, seal_s=1.0))
        (self.signal,) = self.store.assign(SIGNALS[3:4])
        self._settings = UplinkSettings(url, site=SITE, payload=payload, confirm="ack")
        self.uplink: Uplink | None = None
        self.truth: list[tuple[str, int, Number | None]] = []

    def _right_us(self, t_us: int) -> int:
        return t_us if self.clock.trusted() else t_us - self._off_us

    async def put(self) -> None:
        """Readings by our clock, one by a clock of its own, which is right, and an event."""
        for moment in range(20):
            t_us = self.clock.now_us()
            right_us = self._right_us(t_us)
            self._append(right_us if moment == 10 else t_us, right_us)
            await asyncio.sleep(0.002)
        await asyncio.wrap_future(self.store.record(Event("test.round", self.clock.now_us(), "x")))
        await asyncio.wrap_future(self.store.flush())

    def _append(self, t_us: int, right_us: int) -> None:
        value = len(self.truth)
        self.truth.append((self.signal.name, right_us, float(value)))
        self.store.append(Batch(array("i", [self.signal.id]), array("q", [t_us]), array("q", [value])))

    async def set_clock(self) -> None:
        """As ``agent/clock_trust.py`` does it when a time server was reached."""
        self.machine.off_us = 0
        now_us = self.clock.now_us()
        await asyncio.wrap_future(self.store.set_clock(self.clock.machine_us() - now_us, now_us, self.clock.let_go))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        record, boot = self.store.record, self.store.boot
        self.uplink = Uplink(self._settings, self.store, self.clock, record, boot=boot, version="1.0")
        task = asyncio.ensure_future(self.uplink.run())
        try:
            yield
        finally:
            await ended(task)

    def all_confirmed(self) -> bool:
        assert self.uplink is not None
        return all(stream.backlog == 0 for stream in self.uplink.status().streams.values())

    def published(self) -> int:
        assert self.uplink is not None
        return self.uplink.status().published

    def events(self) -> list[tuple[int, int]]:
        """Number and right time of each event, by the rule that docs/clock.md gives."""
        found = self.store.events(0, 100)
        (told,) = (one.event.data for one in found if one.event.kind == "clock.corrected")
        rule = Correction(*(int(str(told[key])) for key in ("offset_us", "from_us", "to_us")))
        return [(one.seq, one.event.t_us if one.clock_set else rule.time(one.event.t_us)) for one in found]


def close_to(found: list[tuple[str, int, Number | None]], truth: list[tuple[str, int, Number | None]]) -> bool:
    """The same values at the same times; the machine's two clocks drift by some ms from each other."""
    found, truth = (sorted(rows, key=lambda row: row[2] or 0) for rows in (found, truth))
    return len(found) == len(truth) and all(
        (a[0], a[2]) == (b[0], b[2]) and abs(a[1] - b[1]) < 1_000_000 for a, b in zip(found, truth, strict=True)
    )


@pytest.mark.announced_warnings
@needs("mosquitto")
@pytest.mark.parametrize(("off_us", "payload"), [(-YEAR_US, "json"), (YEAR_US, "blocks")])
def test_d13_the_central_server_has_the_times_of_the_store_after_the_clock_was_set(
    server: Postgres, tmp_path: Path, off_us: int, payload: str
) -> None:
    async def scenario() -> None:
        dsn = server.new_database()
        async with broker_process("mosquitto-persistent", tmp_path) as broker:
            gateway = Gateway(tmp_path / "enlace.db", off_us, broker.url, payload)
            async with gateway.connected():
                await gateway.put()  # the first ones of all: left before anybody listened
                await until(lambda: gateway.published() > 3, PATIENCE_S)
                async with central_process(broker.url, dsn, 2):
                    await until(lambda: ready(dsn, 2), PATIENCE_S)
                    await gateway.put()  # stored by the central server while nobody knows the time
                    await until(gateway.all_confirmed, PATIENCE_S)
                    assert ask(dsn, "SELECT DISTINCT clock FROM enlace.samples") == [("unset",)]
                before = gateway.published()
                await gateway.put()  # left, and not confirmed: sent again after the clock is set
                await until(lambda: gateway.published() > before + 1, PATIENCE_S)
            await gateway.put()  # not left before the clock is set
            await gateway.set_clock()
            await gateway.put()
            async with central_process(broker.url, dsn, 2), gateway.connected():
                await until(gateway.all_confirmed, PATIENCE_S)
                await until(lambda: not ask(dsn, "SELECT FROM enlace.sample_unset"), PATIENCE_S)
                await gateway.put()
                await until(gateway.all_confirmed, PATIENCE_S)
        rows = gateway.store.rows([gateway.signal.id], 0, 2**62)
        own = sorted((SIGNALS[3].name, t_us, None if value is None else float(value)) for t_us, _, value in rows)
        assert close_to(own, gateway.truth)
        assert stored_rows(dsn, SITE) == own
        assert ask(dsn, "SELECT DISTINCT clock FROM enlace.samples") == [("set",)]
        events = ask(dsn, "SELECT seq, (extract(epoch FROM t) * 1000000)::bigint FROM enlace.events ORDER BY seq")
        assert events == gateway.events()
        clocks = "SELECT clock, count(*) FROM enlace.events WHERE kind = 'test.round' GROUP BY 1 ORDER BY 1"
        assert ask(dsn, clocks) == [("corrected", 4), ("set", 2)]
        assert not ask(dsn, "SELECT FROM enlace.gaps WHERE state <> 'filled'")
        await asyncio.to_thread(gateway.store.close)

    asyncio.run(scenario())
