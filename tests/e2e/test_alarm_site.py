"""A recorded over-temperature switches two chargers off with the broker down, says why, and lets them return.

The recording is made by the simulated battery and played onto the bus by python-can's own player. The chargers speak
OCPP and Modbus over real ports, and it is their own meters that show whether they charge.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pymodbus.server import ModbusTcpServer

from agent.core.clock import SystemClock
from drivers.sim.battery import Fault
from drivers.sim.bms import SimulatedBms
from drivers.sim.charger_modbus import SimulatedCharger as ModbusCharger
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import SimSettings
from drivers.sim.evse import Evse
from tests.e2e.site import PATIENCE_S, answers, process, send, token, wait_until
from tests.e2e.test_gateway import on_a_bus
from tests.ports import free_port

GROUP = "239.74.163.2"
SITE = """\
data_dir: {folder}/data
site: {{id: depot, timezone: Europe/Berlin}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}", sample_s: 1, security_profile: 0, id_tags: any}}
devices:
  - {{id: battery1, driver: can, interface: udp_multicast, channel: {group}, options: {{hop_limit: 0, port: {bus}}},
     profile: demo_pack}}
  - {{id: cp1, driver: ocpp, charge_point_id: CP-0001, safe_limit_a: 16}}
  - {{id: cp2, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{modbus}", every_s: 0.5}}
stations:
  - {{station: cp1, min_on_s: 0, min_off_s: 2}}
  - {{station: cp2, min_on_s: 0, min_off_s: 2}}
alarm_sets: []
alarms:
  - id: battery_hot
    when: battery1.temperature_max_degc > 50
    clear: "< 45"
    clear_for_s: 1
    for_s: 0.5
    severity: critical
    latch: true
    hold_s: 3
    text: The battery is too hot
    then: [{{station: cp1, set: "off"}}, {{station: cp2, set: "off"}}]
uplink: {{broker: "mqtt://127.0.0.1:{broker}"}}
"""


def record(path: Path) -> None:
    """A cool battery for 3 s, a hot one for 6 s, and the same one cooled down again for 3 s, in candump's format."""
    warm = SimulatedBms()
    cool = warm.frames(3)
    warm.switch(Fault.OVERTEMPERATURE, on=True)
    for second in range(4, 64):
        warm.frames(second)
    hot = warm.frames(69)
    lines, t_s = [], 1_790_000_000.0
    for frames in (cool, hot, SimulatedBms().frames(6)):
        for frame in frames:
            t_s += 6.0 / len(hot)
            lines.append(f"({t_s:.6f}) can0 {frame.can_id:03X}#{frame.data.hex().upper()}\n")
    path.write_text("".join(lines))


@asynccontextmanager
async def chargers(ocpp: int, modbus: int) -> AsyncIterator[tuple[Evse, Evse]]:
    """One of each protocol, each with a vehicle that charges as long as it may."""
    url = f"ws://127.0.0.1:{ocpp}/ocpp/CP-0001"
    first = SimulatedCharger(SimSettings(url, "1.6", pace=0, backoff_s=(0.2, 1.0), tick_s=0.1), SystemClock())
    evse = Evse(pace=0)
    server = ModbusTcpServer(ModbusCharger(evse, SystemClock()).device(1), address=("127.0.0.1", modbus))
    await server.serve_forever(background=True)
    try:
        async with first:
            await _until(lambda: first.registered == "Accepted", "the charger is served")
            first.plug_in(1, 16.0, "VAN-3")
            evse.plug_in(16.0)
            yield first.outlets[0].evse, evse
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def _until(true: Any, what: str) -> None:  # noqa: ANN401 - a function
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}") from None


async def _eventually(url: str, true: Any, what: str) -> Any:  # noqa: ANN401 - any JSON
    """The answer of a route, as soon as it is as wanted."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not true(found := await asyncio.to_thread(send, "GET", url)):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}; {found}") from None
    return found


@on_a_bus
def test_a_recorded_over_temperature_stops_both_chargers_and_they_return(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("api", "ocpp", "modbus", "bus", "broker")}
    recording, log, url = tmp_path / "hot.log", tmp_path / "run.log", f"http://127.0.0.1:{ports['api']}"
    record(recording)
    (tmp_path / "site.yaml").write_text(SITE.format(folder=tmp_path, group=GROUP, **ports))

    async def play() -> None:
        bus = ("--bus-kwargs", f"port={ports['bus']}", "hop_limit=0", "-i", "udp_multicast", "-c", GROUP)
        arguments = (sys.executable, "-m", "can.player", *bus, str(recording))
        player = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.DEVNULL)
        assert await player.wait() == 0

    async def site() -> None:
        async with chargers(ports["ocpp"], ports["modbus"]) as (first, second):
            await _until(lambda: first.current_a > 10 and second.current_a > 10, "both charge")
            await play()
            await _until(lambda: first.current_a == second.current_a == 0, "both are stopped")
            alarm = await _eventually(
                f"{url}/api/alarms/battery_hot", lambda it: it["state"] == "latched", "it is over"
            )
            assert "battery1.temperature_max_degc" in alarm["why"]
            why = (await asyncio.to_thread(send, "GET", f"{url}/api/stations/cp2/why"))["items"][0]
            assert why["status"] == "off"
            assert why["reason"].startswith("off by alarm battery_hot since ")
            assert "battery1.temperature_max_degc is 7" in why["reason"]
            assert first.current_a == second.current_a == 0, "it waits for somebody"
            await asyncio.to_thread(send, "POST", f"{url}/api/alarms/battery_hot/acknowledge", {"note": "fan replaced"})
            await _until(lambda: first.current_a > 10 and second.current_a > 10, "both charge again")
            health = await asyncio.to_thread(send, "GET", f"{url}/api/system/health")
            assert [part["ok"] for part in health["parts"] if part["name"] == "uplink"] == [False]

    with process("agent", "run", "--config", str(tmp_path / "site.yaml"), log=log):
        wait_until(lambda: answers(f"{url}/api/system/health"), "the gateway answers")
        token(url, log)
        asyncio.run(site())
    assert "Traceback" not in log.read_text()
