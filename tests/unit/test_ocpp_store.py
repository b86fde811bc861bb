"""Chargers on the store that the gateway has: what was answered stands in the file, once, also for the next process."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent.core.clock import SystemClock
from agent.core.model import Session
from agent.store.db import Store
from agent.store.settings import StoreSettings
from drivers.codec.ocpp_model import Version
from drivers.ocpp.charger import Charger
from drivers.ocpp.id_tags import IdTags
from tests.ocpp_fakes import CENTRAL, Rig


class StoreRig(Rig):
    """A charger on a real store."""

    def on(self, store: Store, id_tags: IdTags | None = None) -> "StoreRig":
        id_tags = id_tags or IdTags("any", store, self.clock)
        self.charger = Charger(self.settings, CENTRAL, (), self.ids, self.clock, store, store, id_tags)
        return self


def _open(path: Path) -> Store:
    return Store.open(path / "enlace.db", SystemClock(), StoreSettings(commit_s=0.01))


def _two(store: Store) -> tuple[StoreRig, StoreRig]:
    id_tags = IdTags("any", store, SystemClock())
    return StoreRig().on(store, id_tags), StoreRig(version=Version.V201, device="cp2").on(store, id_tags)


async def _running(path: Path) -> Sequence[Session]:
    store = _open(path)
    try:
        return await store.running("cp")
    finally:
        store.close()


def test_sessions_of_both_versions_survive_the_process(tmp_path: Path) -> None:
    async def first() -> int:
        store = _open(tmp_path)
        old, new = _two(store)
        async with old, new:
            number = await old.start16(meter=1000)
            await old.meter16(1010, number, at=old.at(20))
            await new.event201("Started", 0, 500)
            await new.event201("Updated", 1, 560, at=new.at(20))
        store.close()
        return number

    async def second(number: int) -> tuple[Session | None, Session | None]:
        store = _open(tmp_path)
        old, new = _two(store)
        async with old, new:
            assert await old.start16(meter=1000) == number
            await old.stop16(number, 1033, at=old.at(40))
            await old.stop16(number, 1033, at=old.at(40))
            await new.event201("Ended", 2, 575, at=new.at(40))
        found = await store.find("cp", id=number), await store.find("cp2", remote_id="T1")
        events = [one.event.kind for one in store.events(0, 100)]
        assert events.count("session.started") == 2
        assert events.count("session.ended") == 2
        store.close()
        return found

    number = asyncio.run(first())
    assert [one.last_wh for one in asyncio.run(_running(tmp_path))] == [1010]
    one, two = asyncio.run(second(number))
    assert one is not None
    assert two is not None
    assert (one.energy_wh, two.energy_wh) == (33, 75)


def test_what_any_charger_says_can_be_stored(tmp_path: Path) -> None:
    async def run() -> None:
        store = _open(tmp_path)
        rig = StoreRig().on(store)
        async with rig:
            for tag in ("\ud800", "\0\x01", "é" * 300, "' OR 1"):
                number = await rig.start16(tag, meter=2**70, at="\ud800")
                await rig.stop16(number, -(2**70), at="x" * 10_000, reason="\udfff", idTag=tag)
            rows = [await store.find("cp", id=number)]
            assert rows[0] is not None
            assert not rows[0].running
        store.close()

    asyncio.run(run())
