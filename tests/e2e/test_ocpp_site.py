"""Two chargers, OCPP 1.6 and 2.0.1: adopted, used, limited, switched, killed in the middle, right to 1 Wh."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from agent.core.clock import SystemClock
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import SimSettings
from tests.e2e.site import PATIENCE_S, answers, process, send, token, wait_until
from tests.ports import free_port

PASSWORD = b"a password of its own, 1.6"
SITE = """\
data_dir: {folder}/data
site: {{id: depot}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}", sample_s: 1}}
"""


@dataclass
class Gateway:
    folder: Path
    api_port: int
    ocpp_port: int
    starts: int = 0
    token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def config(self) -> Path:
        return self.folder / "site.yaml"

    @contextmanager
    def running(self) -> Iterator[Any]:
        self.starts += 1
        log = self.folder / f"gateway{self.starts}.log"
        with process("agent", "run", "--config", str(self.config), log=log) as child:
            wait_until(lambda: answers(f"{self.url}/api/system/health"), "the gateway answers")
            self.token = token(self.url, log)
            yield child

    async def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        return await asyncio.to_thread(send, "GET", f"{self.url}{path}", None, self.token)

    async def send(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401 - the same
        return await asyncio.to_thread(send, method, f"{self.url}{path}", body, self.token)

    async def station(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.get(f"/api/stations/{name}")
        return found

    async def tell(self, station: str, action: str, **args: object) -> str:
        body = {"action": action, "args": args}
        return str((await self.send("POST", f"/api/stations/{station}/commands", body))["outcome"])

    async def sessions(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.get("/api/sessions?page_size=100"))["items"]
        return items

    def charger(self, identity: str, version: str, password: bytes | None, state: str = "state") -> SimulatedCharger:
        url = f"ws://127.0.0.1:{self.ocpp_port}/ocpp/{identity}"
        settings = SimSettings(
            url,
            version,
            password=password,
            pace=0,
            backoff_s=(0.2, 1.0),
            reboot_s=0.5,
            tick_s=0.1,
            state_file=self.folder / f"{identity}.{state}",
        )
        return SimulatedCharger(settings, SystemClock())


async def until(true: Callable[[], Awaitable[object]], what: str) -> None:
    """Patience is a guard against hanging, not a measured time."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await true():  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}") from None


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    found = Gateway(tmp_path, free_port(), free_port())
    found.config.write_text(SITE.format(folder=tmp_path, api=found.api_port, ocpp=found.ocpp_port))
    return found


@asynccontextmanager
async def adopted(gateway: Gateway) -> AsyncIterator[tuple[SimulatedCharger, SimulatedCharger]]:
    """Both chargers knock, are adopted by the API and served."""
    first, second = gateway.charger("CP-0001", "1.6", PASSWORD), gateway.charger("CP-0003", "2.0.1", None)
    async with first, second:

        async def both_knock() -> bool:
            pending = (await gateway.get("/api/chargers/pending"))["items"]
            return {one["charge_point_id"] for one in pending if one["boot"]} == {"CP-0001", "CP-0003"}

        await until(both_knock, "both chargers wait to be adopted, and say what they are")
        for charger in (first, second):  # the gateway shows them a moment before its answer has come
            await until(_true(lambda one: one.registered == "Pending", charger), "it is told to wait")
        for device, identity, outcome in (("cp1", "CP-0001", "pinned"), ("cp3", "CP-0003", "set")):
            entry = {"id": device, "driver": "ocpp", "charge_point_id": identity, "safe_limit_a": 8.0}
            answer = await gateway.send("POST", "/api/devices", entry)
            assert answer["adoption"]["outcome"] == outcome
            assert answer["adoption"]["password"] == ""
        for charger in (first, second):
            await until(_true(lambda one: one.registered == "Accepted", charger), "it is served")
        for device in ("cp1", "cp3"):
            await until(partial(_has_status, gateway, device, "Available"), "its status is known")
        yield first, second


async def _devices_are(gateway: Gateway, wanted: set[str]) -> bool:
    return {one["id"] for one in (await gateway.get("/api/devices"))["items"]} == wanted


async def _waits(gateway: Gateway, identity: str) -> bool:
    pending = (await gateway.get("/api/chargers/pending"))["items"]
    return any(one["charge_point_id"] == identity and one["connected"] for one in pending)


async def _has_status(gateway: Gateway, station: str, status: str) -> bool:
    return bool((await gateway.station(station))["connector"] == status)


def _true(condition: Callable[..., object], *about: object) -> Callable[[], Awaitable[object]]:
    async def ask() -> object:
        return condition(*about)

    return ask


def _draws(charger: SimulatedCharger, low_a: float, high_a: float) -> Callable[[], Awaitable[object]]:
    return _true(lambda: low_a <= charger.outlets[0].evse.current_a <= high_a)


async def _use_both(gateway: Gateway, first: SimulatedCharger, second: SimulatedCharger) -> None:
    """A vehicle at each: one driver shows a tag, the other is started from the API."""
    await gateway.send("PUT", "/api/id-tags", {"tag": "VAN-3", "label": "Van 3"})
    first.plug_in(1, 16.0, "VAN-3")
    second.plug_in(1, 16.0)
    await until(lambda: _has_status(gateway, "cp3", "Preparing"), "the vehicle is seen")
    assert await gateway.tell("cp3", "start", id_tag="VAN-3-OFFICE") == "done"
    for charger in (first, second):
        await until(_true(lambda one: one.outlets[0].transaction is not None, charger), "a transaction runs")


def test_two_chargers_are_adopted_limited_stopped_and_reset(gateway: Gateway) -> None:
    async def site() -> None:
        async with adopted(gateway) as (first, second):
            first.plug_in(1, 16.0, "NOBODY")
            await until(_true(lambda: not first.outlets[0].asked), "the unknown tag was answered")
            assert first.outlets[0].transaction is None
            first.unplug(1)
            await until(lambda: _has_status(gateway, "cp1", "Available"), "it is free again")
            await _use_both(gateway, first, second)
            for charger in (first, second):
                await until(_draws(charger, 7.5, 8.0), "nobody said otherwise: the safe limit holds")
            for station in ("cp1", "cp3"):
                answer = await gateway.send("PATCH", f"/api/stations/{station}", {"limit_a": 10.0})
                assert [one["outcome"] for one in answer["results"]] == ["done"]
            for charger in (first, second):
                await until(_draws(charger, 9.5, 10.0), "the new limit holds")
            await gateway.send("PATCH", "/api/stations/cp1", {"status": "off"})
            await until(_draws(first, 0.0, 0.0), "off is off")
            why = (await gateway.get("/api/stations/cp1/why"))["items"][0]
            assert "ana" in why["reason"]
            answer = await gateway.send("PATCH", "/api/stations/cp1", {"status": "on"})
            assert "stays off for at least 60 s" in answer["results"][0]["reason"]
            for station, charger in (("cp1", first), ("cp3", second)):
                assert await gateway.tell(station, "stop") == "done"
                await until(_true(lambda one: one.sessions, charger), "its session ended")
            await until(lambda: _ended(gateway, 2), "both sessions are stored as ended")
            await _same_energy(gateway, first, second)
            for station, charger in (("cp1", first), ("cp3", second)):
                before = charger.connections
                assert await gateway.tell(station, "reset", kind="soft") == "done"
                await until(
                    _true(lambda one, n: one.connections > n, charger, before),
                    "it rebooted",
                )
            assert first.violations == second.violations == []

    with gateway.running():
        asyncio.run(site())


def test_a_schedule_starts_limits_stops_and_resets(gateway: Gateway) -> None:
    lines = """
schedules:
  - id: everything
    every_s: 1
    then: [{{station: {name}, {act}}}]
"""

    async def schedule(name: str, act: str) -> None:
        text = gateway.config.read_text().split("\nschedules:")[0]
        gateway.config.write_text(text + lines.format(name=name, act=act))

    async def site() -> None:
        async with adopted(gateway) as (first, second):
            await gateway.send("PUT", "/api/id-tags", {"tag": "NIGHT"})
            for name, charger in (("cp1", first), ("cp3", second)):
                outlet = charger.outlets[0]
                charger.plug_in(1, 16.0)
                await schedule(name, "do: start, args: {id_tag: NIGHT}")
                await until(_true(lambda one: one.transaction is not None, outlet), "the schedule started it")
                await schedule(name, "limit_a: 6.5")
                await until(_draws(charger, 6.4, 6.5), "the schedule limits it")
                await schedule(name, 'set: "off"')
                await until(_draws(charger, 0.0, 0.0), "the schedule switched it off")
                await schedule(name, "do: stop")
                await until(_true(lambda one: one.transaction is None, outlet), "the schedule stopped it")
                before = charger.connections
                await schedule(name, "do: reset, args: {kind: soft}")
                await until(_true(lambda one, n: one.connections > n, charger, before), "the schedule reset it")
            gateway.config.write_text(gateway.config.read_text().split("\nschedules:")[0])
            await until(lambda: _ended(gateway, 2), "both sessions are stored as ended")

    with gateway.running():
        asyncio.run(site())


def test_kill_9_in_the_middle_of_transactions_loses_and_doubles_nothing(gateway: Gateway) -> None:
    async def begin() -> None:
        async with adopted(gateway) as (first, second):
            await _use_both(gateway, first, second)
            for charger in (first, second):
                await until(_true(lambda one: one.outlets[0].evse.session_wh > 5, charger), "energy flows")
            child.send_signal(signal.SIGKILL)
            await asyncio.to_thread(child.wait)
            # The chargers charge on without us: one driver leaves and another comes meanwhile.
            first.finish(first.outlets[0], "Local")
            first.unplug(1)
            await asyncio.sleep(1.0)
            with gateway.running():
                await until(lambda: _ended(gateway, 1), "what ended meanwhile was told and is stored")
                running = [one for one in await gateway.sessions() if one["stop"] is None]
                assert [one["device"] for one in running] == ["cp3"], "the other goes on as the same session"
                second.finish(second.outlets[0], "Local")
                second.unplug(1)
                await until(lambda: _ended(gateway, 2), "both ended")
                await _same_energy(gateway, first, second)

    with gateway.running() as child:
        asyncio.run(begin())


async def _ended(gateway: Gateway, count: int) -> bool:
    return sum(one["stop"] is not None for one in await gateway.sessions()) == count


async def _same_energy(gateway: Gateway, *chargers: SimulatedCharger) -> None:
    """What we stored is what the chargers' meters say, session by session, to 1 Wh."""
    stored = sorted((one["device"], one["energy_wh"]) for one in await gateway.sessions())
    names = {"CP-0001": "cp1", "CP-0003": "cp3"}
    counted = sorted(
        (names[charger.settings.identity], one.stop_wh - one.start_wh)
        for charger in chargers
        for one in charger.sessions
    )
    assert [device for device, _ in stored] == [device for device, _ in counted]
    for (_, ours), (_, theirs) in zip(stored, counted, strict=True):
        assert ours == pytest.approx(theirs, abs=1)


def test_a_wrong_password_stays_outside(gateway: Gateway) -> None:
    async def site() -> None:
        async with adopted(gateway):
            pass
        async with gateway.charger("CP-0001", "1.6", b"not the password of this one", "stranger") as stranger:
            await until(_true(lambda: "401" in stranger.last_error), "it is turned away")
            assert await gateway.tell("cp1", "reset", kind="soft") == "failed"

    with gateway.running():
        asyncio.run(site())


def test_a_changed_configuration_leaves_the_other_chargers_alone(gateway: Gateway) -> None:
    async def site() -> None:
        async with adopted(gateway) as (first, second):
            before = first.connections
            first.plug_in(1, 16.0)
            assert await gateway.tell("cp1", "start", id_tag="VAN-3") == "done"
            await until(_true(lambda: first.outlets[0].transaction), "a transaction runs")
            await gateway.send("POST", "/api/devices", {"id": "cp9", "driver": "ocpp", "charge_point_id": "CP-0009"})
            await gateway.send("DELETE", "/api/devices/cp3", None)
            await until(partial(_waits, gateway, "CP-0003"), "it is nobody's again")
            assert second.connected
            assert first.connections == before
            await until(partial(_devices_are, gateway, {"cp1", "cp9"}), "the file is applied")
            (running,) = await gateway.sessions()
            assert running["stop"] is None
            text = gateway.config.read_text()
            gateway.ocpp_port, old = free_port(), gateway.ocpp_port
            gateway.config.write_text(text.replace(f":{old}", f":{gateway.ocpp_port}"))
            await until(_true(lambda: not first.connected), "the old port is closed")
            first.url = first.url.replace(f":{old}", f":{gateway.ocpp_port}")
            await until(_true(lambda: first.online), "it is served at the new one")
            assert await gateway.tell("cp1", "stop") == "done"
            await until(lambda: _ended(gateway, 1), "the session went on over all this")
            await _same_energy(gateway, first)

    with gateway.running():
        asyncio.run(site())


def test_another_time_zone_of_the_site_ends_no_connection_of_a_charger(gateway: Gateway) -> None:
    async def main() -> None:
        url = f"ws://127.0.0.1:{gateway.ocpp_port}/ocpp/CP-0009"
        async with connect(url, subprotocols=[Subprotocol("ocpp1.6")]) as charger:
            await gateway.send("PATCH", "/api/site", {"timezone": "Asia/Tokyo"})

            async def applied() -> bool:
                return bool((await gateway.get("/api/site"))["timezone"] == "Asia/Tokyo")

            await until(applied, "the gateway is in that zone")
            await charger.send('[2,"h","Heartbeat",{}]')
            async with asyncio.timeout(PATIENCE_S):
                assert json.loads(await charger.recv())[:2] == [3, "h"]

    with gateway.running():
        asyncio.run(main())
