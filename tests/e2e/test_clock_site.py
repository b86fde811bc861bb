"""D13: a whole gateway whose wall clock jumps, or was never set, while a vehicle charges; monotonic time runs on."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.app import Gateway
from agent.clock_trust import Sources
from agent.config import load_config
from agent.core.clock import SystemClock, is_set
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import SimSettings
from tests.e2e.site import PATIENCE_S
from tests.ports import free_port

#: 2028-06-01: a year before it, this program existed.
NOON_US = 1_843_473_600_000_000
DAY_S = 86400.0
EVERY_S = 2
#: D13's list: what NTP, a person or a dead battery does. A leap second, smeared or stepped, is less than the last one.
JUMPS_S = {
    "a year back": -365 * DAY_S,
    "a year on": 365 * DAY_S,
    "an hour on, as where somebody sets summer time": 3600.0,
    "an hour back": -3600.0,
    "to 1970": -1.8e9,
    "and back": 1.8e9,
    "a leap second": -1.0,
}
SITE = """\
data_dir: {folder}/data
site: {{id: depot, timezone: {zone}}}
api: {{listen: "127.0.0.1:0"}}
ocpp: {{listen: "127.0.0.1:{port}", sample_s: 1, id_tags: any}}
devices:
  - {{id: cp1, driver: ocpp, charge_point_id: CP1, security_profile: 0}}
schedules:
  - {{id: line, cron: "* * * * *", then: [{{station: cp1, set: "on"}}]}}
  - {{id: often, every_s: {every}, then: [{{station: cp1, limit_a: 16}}]}}
"""


class JumpingClock(SystemClock):
    """The machine's monotonic clock; wall time begins on a day of its own and can be moved, as by settimeofday(2)."""

    def __init__(self) -> None:
        self.off_us = NOON_US - super().now_us()

    def now_us(self) -> int:
        return super().now_us() + self.off_us

    def jump(self, seconds: float) -> None:
        self.off_us += round(seconds * 1e6)


@dataclass
class Site:
    """A gateway in this process, what its file holds, and a charger that charges at it by a clock of its own."""

    folder: Path
    clock: JumpingClock
    charger: SimulatedCharger
    gateway: Gateway
    synchronised: bool = False

    def query(self, text: str) -> list[tuple[Any, ...]]:
        path = self.folder / "data" / "enlace.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(text).fetchall()

    def events(self, *kinds: str) -> list[tuple[str, int, str, dict[str, Any]]]:
        found = self.query("SELECT kind, t_us, subject, data FROM event ORDER BY seq")
        return [(kind, t_us, subject, json.loads(data)) for kind, t_us, subject, data in found if kind in kinds]

    def done(self, schedule: str) -> int:
        """How often a schedule's command came to an end."""
        return sum(data["issuer"] == f"schedule:{schedule}" for *_, data in self.events("command.result"))

    def has_done(self, schedule: str, times: int) -> bool:
        return self.done(schedule) >= times

    async def until(self, true: Callable[[], object], what: str) -> None:
        """Patience is a guard against hanging, not a measured time."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not true():  # noqa: ASYNC110 - what is waited for is another task's doing
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}") from None


@asynccontextmanager
async def site(folder: Path, off_s: float = 0.0, zone: str = "Europe/Berlin") -> AsyncIterator[Site]:
    port = free_port()
    path = folder / "site.yaml"
    path.write_text(SITE.format(folder=folder, port=port, zone=zone, every=EVERY_S))
    clock = JumpingClock()
    clock.jump(off_s)
    settings = SimSettings(f"ws://127.0.0.1:{port}/ocpp/CP1", "1.6", backoff_s=(0.2, 1.0), tick_s=0.1)
    charger = SimulatedCharger(settings, JumpingClock())
    made: list[Site] = []
    sources = Sources(lambda: made[0].synchronised, lambda: False)
    gateway = Gateway(load_config(path, {}), clock, path, sources=sources)
    made.append(Site(folder, clock, charger, gateway))
    here = made[0]
    async with gateway.running(), charger:
        await here.until(lambda: charger.registered == "Accepted", "it is served")
        charger.plug_in(1, 16.0, "VAN")
        await here.until(lambda: here.query("SELECT 1 FROM session"), "its session is stored")
        yield here


def seqs(here: Site, table: str) -> Sequence[int]:
    return [row[0] for row in here.query(f"SELECT seq FROM {table} ORDER BY rowid")]  # noqa: S608 - our own words


@pytest.mark.announced_warnings
def test_d13_the_clock_of_a_gateway_jumps_while_a_vehicle_charges(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as here:
            await here.until(lambda: here.done("often") >= 1, "the schedules run")
            for what, by_s in JUMPS_S.items():
                before_line, before_often, at_s = here.done("line"), here.done("often"), here.clock.monotonic_s()
                here.clock.jump(by_s)
                if not is_set(here.clock):
                    await asyncio.sleep(EVERY_S)  # what was being done when it jumped has come to its end
                    before_line, before_often = here.done("line"), here.done("often")
                    await asyncio.sleep(2 * EVERY_S)
                    assert (here.done("line"), here.done("often")) == (before_line, before_often), what
                    continue
                wanted = before_often + 2
                await here.until(partial(here.has_done, "often", wanted), f"{what}: the schedules go on")
                passed_s = here.clock.monotonic_s() - at_s
                # One that was due when it jumped, one of each minute that passed since, and one that is caught up with.
                assert here.done("line") - before_line <= 2 + passed_s / 60, what
                assert here.done("often") - before_often <= 2 + passed_s / EVERY_S, what
            told = [data["by_s"] for *_, data in here.events("clock.jumped")]
            assert [round(one, 1) for one in told] == list(JUMPS_S.values())[:-1]
            assert here.events("clock.unset", "clock.corrected", "charger.offline", "device.silent") == []
            assert here.charger.connections == 1, "nobody took it for silent"
            here.charger.finish(here.charger.outlets[0], "Local")
            await here.until(lambda: here.query("SELECT 1 FROM session WHERE stop_us IS NOT NULL"), "it ended")
        ((start_wh, energy_wh),) = here.query("SELECT start_wh, energy_wh FROM session")
        (mine,) = here.charger.sessions
        assert (start_wh, energy_wh) == (mine.start_wh, mine.stop_wh - mine.start_wh)
        for table in ("event", "hot", "block"):
            assert seqs(here, table) == sorted(set(seqs(here, table)))
        assert here.query("SELECT * FROM dropped") == []
        assert here.query("SELECT count(*) FROM boot WHERE clock = 'set'") == [(1,)]

    asyncio.run(main())


@pytest.mark.announced_warnings
def test_d13_a_start_in_1970_holds_what_goes_by_time_and_is_put_right_once(tmp_path: Path) -> None:
    off_s = -1.8e9

    async def main() -> None:
        async with site(tmp_path, off_s) as here:
            begun_us = here.charger.clock.now_us()
            assert here.gateway.overview is not None
            overview = here.gateway.overview
            await here.until(lambda: here.query("SELECT 1 FROM hot WHERE clock = 1"), "it samples")
            await asyncio.sleep(2 * EVERY_S)
            assert here.done("often") == here.done("line") == 0, "nothing is done by a clock that is wrong"
            (health,) = (part for part in overview.health() if part.name == "clock")
            assert not health.ok
            assert "before this program existed" in health.detail
            assert overview.counters()["clock"]["set"] == 0
            here.clock.jump(-off_s)
            here.synchronised = True
            await here.until(lambda: here.events("clock.set"), "it is believed")
            assert [part for part in overview.health() if part.name == "clock"] == []
            await here.until(lambda: here.done("often") >= 1, "the schedules begin")
            assert here.done("line") <= 1
            ((_, _, _, corrected),) = here.events("clock.corrected")
            assert abs(corrected["offset_us"] + off_s * 1e6) < 60e6
            ((start_us,),) = here.query("SELECT start_us FROM session")
            assert abs(start_us - begun_us) < PATIENCE_S * 1e6, "the session that ran is in its right place"
            await here.until(
                lambda: (
                    here.query("SELECT min(from_us) FROM (SELECT from_us FROM hot UNION SELECT from_us FROM block)")[0][
                        0
                    ]
                    > begun_us - PATIENCE_S * 1e6
                ),
                "what was sampled as well",
            )
            assert here.query("SELECT count(*) FROM hot WHERE clock <> 0") == [(0,)]
            assert here.query("SELECT count(*) FROM block WHERE clock <> 0") == [(0,)]
            assert min(row[0] for row in here.query("SELECT t FROM hour")) >= begun_us // 3_600_000_000 - 1
        assert here.query("SELECT clock FROM boot") == [("corrected",)]

    asyncio.run(main())


@pytest.mark.announced_warnings
def test_d13_another_time_zone_is_no_other_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with site(tmp_path) as here:
            await here.until(lambda: here.done("often") >= 1, "the schedules run")
            path = tmp_path / "site.yaml"
            before = here.done("line")
            path.write_text(path.read_text().replace("Europe/Berlin", "Pacific/Auckland"))
            await here.until(lambda: here.events("config.applied"), "the new zone is applied")
            at_s, was = here.clock.monotonic_s(), here.done("often")
            await here.until(lambda: here.done("often") > was, "the schedules go on")
            assert here.done("line") - before <= 1 + (here.clock.monotonic_s() - at_s + 60) / 60
            assert here.events("clock.jumped") == []
            assert here.query("SELECT count(*), max(stop_us) FROM session") == [(1, None)]

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
