"""What was decided is in force again, at the real gateway, after a charger or the gateway itself was away."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.core.clock import SystemClock
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import Quirk
from tests.e2e.test_ocpp_site import Gateway, until
from tests.ports import free_port

SITE = """\
data_dir: {folder}/data
site: {{id: depot}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}", sample_s: 1, id_tags: any}}
devices:
  - {{id: cp1, driver: ocpp, charge_point_id: ONE, security_profile: 0, safe_limit_a: 8, max_current_a: 32}}
  - {{id: cp2, driver: ocpp, charge_point_id: TWO, security_profile: 0, safe_limit_a: 8, max_current_a: 32}}
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    found = Gateway(tmp_path, free_port(), free_port())
    found.config.write_text(SITE.format(folder=tmp_path, api=found.api_port, ocpp=found.ocpp_port))
    return found


@dataclass
class Watch:
    """The highest current of a charger while it is watched."""

    charger: SimulatedCharger
    highest_a: float = 0.0

    async def run(self) -> None:
        while True:
            self.highest_a = max(self.highest_a, self.charger.outlets[0].evse.current_a)
            await asyncio.sleep(0.05)


async def draws(charger: SimulatedCharger, low_a: float, high_a: float, what: str) -> None:
    async def there() -> bool:
        return low_a <= charger.outlets[0].evse.current_a <= high_a

    await until(there, what)


@asynccontextmanager
async def decided(gateway: Gateway) -> AsyncIterator[tuple[SimulatedCharger, SimulatedCharger]]:
    """Two vehicles charge: one with at most 12 A, the other is switched off."""
    limited, off = gateway.charger("ONE", "1.6", None), gateway.charger("TWO", "2.0.1", None)
    async with limited, off:
        for charger in (limited, off):
            charger.plug_in(1, 32.0, "VAN")
            await draws(charger, 7.5, 8.0, "the safe limit holds")
        await gateway.send("PATCH", "/api/stations/cp1", {"limit_a": 12.0})
        await gateway.send("PATCH", "/api/stations/cp2", {"status": "off"})
        await draws(limited, 11.5, 12.0, "it is limited")
        await draws(off, 0.0, 0.0, "it is off")
        yield limited, off


async def in_force(gateway: Gateway, limited: SimulatedCharger, off: SimulatedCharger) -> None:
    """Both do what was decided, and their signals say so."""
    await draws(limited, 11.5, 12.0, "it is limited again")
    await draws(off, 0.0, 0.0, "it is off again")

    async def shown() -> bool:
        rows = [row for one in ("cp1", "cp2") for row in (await gateway.get(f"/api/devices/{one}/latest"))["values"]]
        now = {row["name"]: row["value"] for row in rows}
        names = ("cp1.current_limit_a", "cp1.charging_enabled", "cp2.current_limit_a", "cp2.charging_enabled")
        return [now.get(name) for name in names] == [12, 1, 0, 0]

    await until(shown, "what is in force is shown")


async def after_a_reboot(gateway: Gateway, limited: SimulatedCharger, off: SimulatedCharger) -> None:
    for station, charger in (("cp1", limited), ("cp2", off)):
        before = charger.connections
        assert await gateway.tell(station, "reset", kind="soft") == "done"

        async def back(charger: SimulatedCharger = charger, before: int = before) -> bool:
            return charger.connections > before and charger.online

        await until(back, "it is back")
        charger.unplug(1)
        charger.plug_in(1, 32.0, "VAN")
    await in_force(gateway, limited, off)


async def after_a_lost_connection(
    gateway: Gateway, limited: SimulatedCharger, off: SimulatedCharger, seconds: float
) -> None:
    for charger in (limited, off):
        charger.url, url = "ws://127.0.0.1:1/nowhere", charger.url
        charger.hang_up.set()
        asyncio.get_running_loop().call_later(seconds, setattr, charger, "url", url)

    async def away() -> bool:
        return not limited.online and not off.online

    async def back() -> bool:
        return limited.online and off.online

    await until(away, "both are gone")
    await until(back, "both are back")
    await in_force(gateway, limited, off)


@pytest.mark.parametrize("seconds", [1, pytest.param(40, marks=pytest.mark.long)])
def test_what_was_decided_is_in_force_again_and_nothing_older_before(gateway: Gateway, seconds: float) -> None:
    async def site() -> None:
        async with decided(gateway) as (limited, off):
            watch = Watch(off)
            task = asyncio.create_task(watch.run())
            await after_a_reboot(gateway, limited, off)
            await after_a_lost_connection(gateway, limited, off, seconds)
            child.send_signal(signal.SIGKILL)
            await asyncio.to_thread(child.wait)
            with gateway.running():
                await in_force(gateway, limited, off)
                task.cancel()
                assert watch.highest_a == 0, "what is off stays off"
            assert limited.violations == off.violations == []

    with gateway.running() as child:
        asyncio.run(site())


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_charger_that_accepts_limits_and_ignores_them_is_told_of(gateway: Gateway, version: str) -> None:
    async def site() -> None:
        settings = gateway.charger("ONE", version, None).settings
        charger = SimulatedCharger(replace(settings, quirks={Quirk.IGNORES_LIMITS: ""}), SystemClock())
        async with charger:
            charger.plug_in(1, 32.0, "VAN")
            await draws(charger, 30.0, 32.0, "it draws what it likes")
            await gateway.send("PATCH", "/api/stations/cp1", {"limit_a": 12.0})

            async def told() -> bool:
                return (await gateway.station("cp1"))["following"] is False

            await until(told, "it is told that it does not follow")

    with gateway.running():
        asyncio.run(site())
