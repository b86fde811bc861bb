"""From a stranger's knock to an adopted charger: the real port and store, and simulated chargers of both versions."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from agent.core.clock import SystemClock
from agent.core.model import Event
from agent.store.db import Store
from drivers.codec.ocpp_model import Entry
from drivers.ocpp.credentials import seal
from drivers.ocpp.gatekeeper import Gate
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import SimSettings
from tests.ocpp_peers import RecordingPeer, ask, heard

WAIT_S = 60.0
STRONG = b"a-password-of-more-than-16"
VERSIONS = ["1.6", "2.0.1"]


class House:
    """A port with the real gate over a real store."""

    def __init__(self, gate: Gate, store: Store, port: int, events: list[Event]) -> None:
        self.gate = gate
        self.store = store
        self.port = port
        self.events = events
        self.peer = RecordingPeer()

    def configure(self, identity: str = "CP-1") -> None:
        """Write the charger into the configuration."""
        self.gate.update({identity: (ChargerSettings("cp1", identity), self.peer)})

    def sim(self, version: str, password: bytes | None = None, identity: str = "CP-1") -> SimulatedCharger:
        url = f"ws://127.0.0.1:{self.port}/ocpp/{identity}"
        settings = SimSettings(url, version=version, password=password, pace=0.0, backoff_s=(0.05, 0.1), reboot_s=0.05)
        return SimulatedCharger(settings, SystemClock())

    def dial(
        self, password: bytes | None = None, identity: str = "CP-1", user: str | None = None, offer: str = "ocpp1.6"
    ) -> connect:
        token = base64.b64encode((user or identity).encode() + b":" + (password or b"")).decode()
        headers = [("Authorization", f"Basic {token}")] if password is not None else []
        url = f"ws://127.0.0.1:{self.port}/ocpp/{identity}"
        return connect(url, subprotocols=[Subprotocol(offer)], additional_headers=headers, ping_interval=None)

    async def status(
        self, password: bytes | None = None, identity: str = "CP-1", user: str | None = None, offer: str = "ocpp1.6"
    ) -> int:
        """What such a handshake is answered: 101 when it comes in."""
        try:
            async with self.dial(password, identity, user, offer):
                return 101
        except InvalidStatus as error:
            return error.response.status_code


@asynccontextmanager
async def house(folder: Path, profile: int = 1) -> AsyncIterator[House]:
    clock = SystemClock()
    store = Store.open(folder / "enlace.db", clock)
    events: list[Event] = []
    central = CentralSettings(Endpoint("127.0.0.1", 0, profile), folder)
    gate = Gate(central, {}, store, clock, events.append)
    counts: Counter[str] = Counter()
    server = OcppServer(central, gate, clock, lambda name, amount: counts.update({name: amount}))
    task = asyncio.create_task(server.run())
    try:
        yield House(gate, store, await asyncio.wait_for(server.opened(), WAIT_S), events)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.005)


def knows(here: House) -> Callable[[], bool]:
    """Whether somebody waits and has said what it is."""
    return lambda: any(one.connected and one.boot is not None for one in here.gate.knocks())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stranger_without_a_password_is_adopted_over_its_connection(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as here, here.sim(version) as charger:
            await until(knows(here))
            (info,) = here.gate.knocks()
            assert info.boot is not None
            assert (info.entry, info.reason, info.presented) == (Entry.PENDING, "unknown", "nothing")
            assert (info.boot.vendor, info.boot.model, info.boot.firmware) == ("Enlace", "Sim", "1.0")
            assert (await here.gate.adopt("CP-1")).outcome == "set"
            here.configure()
            await until(lambda: bool(here.peer.calls))
            assert here.peer.calls[0].action == "BootNotification"
            assert charger.password is not None
            assert here.gate.knocks() == []
            assert await here.status(b"another-password-of-16") == 401
            assert await here.status(None) == 401
            note = str(here.store.notes("ocpp.credential")) + str(here.events)
            assert charger.password.decode() not in note
            assert charger.password.hex() not in note

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stranger_with_a_password_keeps_it(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as here, here.sim(version, STRONG) as charger:
            await until(knows(here))
            assert (await here.gate.adopt("CP-1")).outcome == "pinned"
            here.configure()
            await until(lambda: bool(here.peer.calls))
            assert charger.password == STRONG
            assert await here.status(STRONG[:-1]) == 401

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_tc_a_09_an_adopted_charger_gets_a_new_password_and_comes_back_with_it(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await here.gate.credentials.put("CP-1", seal(STRONG), "test")
            here.configure()
            async with here.sim(version, STRONG) as charger:
                await until(lambda: bool(here.peer.links))
                await here.gate.credentials.rotate(here.peer.link, ChargerSettings("cp1", "CP-1"))
                await until(lambda: len(here.peer.links) == 2)
                assert charger.password not in (STRONG, None)
                assert await here.status(STRONG) == 401
                kinds = [stored.event.data["what"] for stored in here.store.events(0, 9, "charger.security")]
                assert kinds == ["test", "new password told", "new password in use"]

    asyncio.run(main())


def test_a_configured_charger_whose_password_was_lost_waits_and_is_adopted_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            here.configure()
            async with here.sim("1.6", STRONG):
                await until(knows(here))
                assert here.gate.knocks()[0].reason == "no_credential"
                assert (await here.gate.adopt("CP-1")).outcome == "pinned"
                await until(lambda: bool(here.peer.calls))

    asyncio.run(main())


def test_a_stranger_is_told_to_wait_and_no_transaction_of_it_is_taken(tmp_path: Path) -> None:
    start = {"connectorId": 1, "idTag": "T", "meterStart": 7, "timestamp": "2026-01-01T00:00:00Z"}

    async def main() -> None:
        async with house(tmp_path) as here, here.dial() as charger:
            boot = await ask(charger, "BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})
            assert boot[2]["status"] == "Pending"  # type: ignore[index]
            for name in ("2", "3"):
                assert (await ask(charger, "StartTransaction", start, name))[:3] == [4, name, "SecurityError"]
            kept = here.store.events(0, 9, "charger.unadopted_transaction")
            assert len(kept) == 1
            assert '"meterStart":7' in str(kept[0].event.data["payload"])
            assert (await ask(charger, "Authorize", {"idTag": "T"}, "4"))[2] == {"idTagInfo": {"status": "Invalid"}}
            here.configure()  # it has no password yet: it is not sent away for nothing
            assert (await ask(charger, "Heartbeat", {}, "5"))[0] == 3
            adopting = asyncio.ensure_future(here.gate.adopt("CP-1"))
            call = await heard(charger)
            assert call[2] == "ChangeConfiguration"
            await charger.send(json.dumps([3, call[1], {"status": "NotSupported"}]))
            result = await adopting
            assert result.outcome == "enter"
            assert "NotSupported" in result.text
            assert await here.status(result.password_hex.encode()) == 101

    asyncio.run(main())


def test_tc_a_02_and_03_wrong_names_and_passwords_are_answered_with_401(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await here.gate.credentials.put("CP-1", seal(STRONG), "test")
            here.configure()
            assert await here.status(STRONG, user="CP-2") == 401
            assert await here.status(b"wrong") == 401
            assert await here.status(b"") == 401
            assert await here.status(STRONG) == 101
            assert await here.status(None, "CP-9") == 101  # a stranger, who waits
            assert {await here.status(b"wrong") for _ in range(20)} == {401, 429}

    asyncio.run(main())


def test_who_is_turned_away_by_the_port_itself_is_shown_and_told(tmp_path: Path) -> None:
    def refused(here: House) -> list[object]:
        return [one.data["reason"] for one in here.events if one.kind == "charger.refused"]

    async def main() -> None:
        async with house(tmp_path, 0) as here:
            here.configure()
            for _ in range(40):
                assert await here.status(STRONG, user="CP-2") == 401
                assert await here.status(STRONG, "CP-9", offer="ocpp1.2") == 400
            shown = {one.identity: (one.entry, one.reason) for one in here.gate.knocks()}
            assert shown == {"CP-1": (Entry.REFUSED, "wrong_user"), "CP-9": (Entry.REFUSED, "no_version")}
            assert refused(here) == ["wrong_user", "no_version"]  # told once, however often it was
            assert {one.subject for one in here.events} == {"cp1", "CP-9"}
            async with here.dial() as first:
                assert here.gate.knocks()[0].identity == "CP-9"  # the other one has come in
                assert await here.status() == 409
                assert (await ask(first, "Heartbeat"))[0] == 3
            assert refused(here)[2:] == ["connected_already"]
            assert await here.status(identity="CP-8") == 101  # places are not taken by who was turned away

    asyncio.run(main())


def test_a_stranger_that_is_refused_later_frees_its_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            for number in range(80):  # more than may wait at once
                async with here.dial(None, f"S-{number}"):
                    pass
                await until(lambda: not any(one.connected for one in here.gate.knocks()))
            async with here.dial() as charger:
                here.gate.update({"CP-1": (ChargerSettings("cp1", "CP-1", security_profile=0), here.peer)})
                with pytest.raises(ConnectionClosed, match="1012"):
                    await charger.recv()
            assert await here.status(None) == 101
            assert here.peer.links

    asyncio.run(main())
