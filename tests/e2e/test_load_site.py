"""Load management over real protocols: OCPP chargers and a Modbus meter that shows the sum of what they draw.

The meter is read once a second, and what each charger draws is what its own simulation draws: nothing is told to the
gateway that a site would not tell it.
"""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.core.clock import SystemClock
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import Quirk, SimSettings
from tests.e2e.modbus_units import tcp
from tests.e2e.site import PATIENCE_S, answers, process, send, token, wait_until
from tests.ports import free_port

CHARGERS, PHASES = 12, 3
LIMIT_A = 100.0
DEAF = 3  #: this one accepts limits and ignores them
READ_INPUT, NO_FUNCTION = 4, 1
SITE = """\
data_dir: {folder}/data
site: {{id: depot, import_limit_a: {limit}}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}", sample_s: 1, security_profile: 0, id_tags: any}}
alarm_sets: []
devices:
  - {{id: grid, driver: modbus, profile: eastron_sdm630, url: "tcp://127.0.0.1:{meter}", every_s: 1, timeout_s: 1}}
{devices}
stations: [{switching}]
load_management: {{meter: grid, silent_s: 5, failsafe_a: 0, stations: [{stations}]}}
"""


@dataclass
class Depot:
    """The site's physics. ``over_s``: how long, without a break, some phase carried more than so much of the limit."""

    chargers: list[SimulatedCharger]
    base_a: float = 10.0
    dead: bool = False
    highest_a: float = 0.0
    over_s: dict[float, float] = field(default_factory=lambda: {1.0: 0.0, 1.1: 0.0})
    _since_s: dict[float, float] = field(default_factory=dict)

    def phases_a(self) -> list[float]:
        """Each charger's phases are turned by one against those of the one before it."""
        found = [self.base_a] * PHASES
        for number, charger in enumerate(self.chargers):
            for phase, current_a in enumerate(charger.outlets[0].evse.currents_a):
                found[(phase + number) % PHASES] += current_a
        return found

    @property
    def drawn_a(self) -> list[float]:
        return [charger.outlets[0].evse.current_a for charger in self.chargers]

    def answer(self, _: int, pdu: bytes) -> bytes | None:
        """The meter's input registers: floats, voltages, currents and powers of the phases one after the other."""
        if self.dead:
            return None
        if pdu[0] != READ_INPUT:
            return bytes((pdu[0] | 0x80, NO_FUNCTION))
        currents_a = self.phases_a()
        values = [230.0] * PHASES + currents_a + [230.0 * one for one in currents_a]
        _, address, count = struct.unpack(">BHH", pdu)
        registers = struct.pack(f">{len(values)}f", *values) + bytes(1024)
        content = registers[2 * address : 2 * (address + count)].ljust(2 * count, b"\0")
        return bytes((READ_INPUT, len(content))) + content

    async def watch(self) -> None:
        while True:
            now_s, most_a = time.monotonic(), max(self.phases_a())
            self.highest_a = max(self.highest_a, most_a)
            for share, longest_s in self.over_s.items():
                if most_a <= share * LIMIT_A + 0.2:  # the currents of the simulation swing a little
                    self._since_s.pop(share, None)
                else:
                    self.over_s[share] = max(longest_s, now_s - self._since_s.setdefault(share, now_s))
            await asyncio.sleep(0.05)

    def forget(self) -> None:
        self.highest_a, self.over_s, self._since_s = 0.0, dict.fromkeys(self.over_s, 0.0), {}


async def until(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}") from None


@asynccontextmanager
async def depot(folder: Path, api: int, ocpp: int) -> AsyncIterator[Depot]:
    """The chargers that are not served yet, and the meter; the configuration is written."""
    chargers = [
        SimulatedCharger(
            SimSettings(
                f"ws://127.0.0.1:{ocpp}/ocpp/C{number}",
                "2.0.1" if number % 4 == 0 else "1.6",
                pace=0,
                backoff_s=(0.2, 1.0),
                tick_s=0.2,
                quirks={Quirk.IGNORES_LIMITS: ""} if number == DEAF else {},
            ),
            SystemClock(),
        )
        for number in range(1, CHARGERS + 1)
    ]
    made = Depot(chargers)
    async with tcp(made.answer) as meter, AsyncExitStack() as stack:
        numbers = range(1, CHARGERS + 1)
        lines = [f"  - {{id: cp{n}, driver: ocpp, charge_point_id: C{n}, safe_limit_a: 6}}" for n in numbers]
        turned = [[(n - 1 + phase) % PHASES + 1 for phase in range(PHASES)] for n in numbers]
        stations = [f"{{station: cp{n}, phases: {phases}}}" for n, phases in zip(numbers, turned, strict=True)]
        switching = ", ".join(f"{{station: cp{n}, min_on_s: 0, min_off_s: 2, per_hour: 200}}" for n in numbers)
        ports = {"switching": switching, "api": api, "ocpp": ocpp, "meter": meter.port, "limit": LIMIT_A}
        text = SITE.format(folder=folder, devices="\n".join(lines), stations=", ".join(stations), **ports)
        await asyncio.to_thread((folder / "site.yaml").write_text, text)
        for charger in chargers:
            await stack.enter_async_context(charger)
        watch = asyncio.create_task(made.watch())
        stack.callback(watch.cancel)
        yield made


def test_twelve_chargers_share_the_connection_and_a_restart_overloads_nothing(tmp_path: Path) -> None:
    """Trials C8 and C12 over OCPP and Modbus: steps of load, one that ignores its limits, a dead meter, a kill."""
    api, ocpp = free_port(), free_port()
    url, config = f"http://127.0.0.1:{api}", str(tmp_path / "site.yaml")

    async def ask(path: str) -> Any:  # noqa: ANN401 - any JSON
        return await asyncio.to_thread(send, "GET", f"{url}{path}")

    async def site() -> None:
        async with depot(tmp_path, api, ocpp) as it:
            with process("agent", "run", "--config", config, log=tmp_path / "first.log") as gateway:
                await asyncio.to_thread(wait_until, lambda: answers(f"{url}/api/system/health"), "it answers")
                await asyncio.to_thread(token, url, tmp_path / "first.log")
                await share(it)
                why = (await ask("/api/stations/cp1/why"))["items"][0]
                assert "load management" in why["reason"]
                shown = {one["station"]: one for one in (await ask("/api/load"))["stations"]}
                assert not shown[f"cp{DEAF}"]["follows"]
                assert sum(not one["follows"] for one in shown.values()) == 1
                await lose_the_meter(it)
                gateway.kill()
                await asyncio.to_thread(gateway.wait)
            it.forget()
            with process("agent", "run", "--config", config, log=tmp_path / "second.log"):
                await asyncio.to_thread(wait_until, lambda: answers(f"{url}/api/system/health"), "it answers again")
                await until(lambda: all(one.online for one in it.chargers), "all are served again")
                await until(lambda: sum(one > 0 for one in it.drawn_a) >= 8, "they charge again")
                await asyncio.sleep(3)
                assert it.over_s[1.0] <= 3, "a restart gives nobody what is not there"
            assert all(one.violations == [] for one in it.chargers)

    asyncio.run(site())
    for log in ("first.log", "second.log"):
        assert "Traceback" not in (tmp_path / log).read_text()


async def share(it: Depot) -> None:
    """All come, one ignores its limit, and the rest of the site takes more for a while."""
    await until(lambda: all(one.registered == "Accepted" for one in it.chargers), "all are served")
    for charger in it.chargers:
        charger.plug_in(1, 32.0, "VAN")
    await until(lambda: it.drawn_a[DEAF - 1] > 31, "one takes all that it can")
    await until(lambda: max(it.phases_a()) < LIMIT_A, "the others make room")
    others = [one for place, one in enumerate(it.drawn_a) if place != DEAF - 1 and one > 0]
    assert len(others) >= 8, "and each has at least its minimum"
    assert min(others) >= 5.9
    it.forget()
    it.base_a = 40.0
    await asyncio.sleep(8)
    assert it.highest_a > 1.1 * LIMIT_A, "the step is steep enough to mean something"
    assert it.over_s[1.1] <= 5
    assert max(it.phases_a()) <= LIMIT_A
    assert sum(one > 0 for one in it.drawn_a) >= 4, "and no more are paused than must be"
    it.base_a = 10.0


async def lose_the_meter(it: Depot) -> None:
    """Nobody has more than its fail-safe after `silent_s` and a little."""
    it.dead = True
    await asyncio.sleep(9)
    assert max(one for place, one in enumerate(it.drawn_a) if place != DEAF - 1) == 0
    it.dead = False
