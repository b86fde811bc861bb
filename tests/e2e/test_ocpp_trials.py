"""Trials O1 to O11: what chargers, and others at their port, do to the real gateway process while another one charges.

All trials are made at one gateway, beside one healthy charger: its session survives them all, no task of the gateway
dies, and its descriptors come back. The full sizes are marked ``long``.
"""

import asyncio
import base64
import contextlib
import json
import logging
import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from agent.core.clock import FakeClock
from drivers.sim.charger_ocpp import SimulatedCharger
from tests.e2e.site import PATIENCE_S, wait_until
from tests.e2e.test_ocpp_site import Gateway
from tests.ocpp_peers import heard, site, until
from tests.ports import free_port

FLEET = 200
PASSWORD = b"a-password-of-the-twin's"
SITE = """\
data_dir: {folder}/data
site: {{id: depot}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}", sample_s: 1, id_tags: any}}
devices:
  - {{id: twin, driver: ocpp, charge_point_id: TWIN, password_file: {folder}/twin}}
  - {{id: pinned, driver: ocpp, charge_point_id: PINNED, security_profile: 0, version: ocpp1.6}}
"""
DEVICE = "  - {{id: {device}, driver: ocpp, charge_point_id: {identity}, security_profile: 0}}\n"
BOOT = {"chargePointVendor": "Trial", "chargePointModel": "Sick"}


def full(size: int) -> Any:  # noqa: ANN401 - a parameter of pytest
    """The size that the trial has in full."""
    return pytest.param(size, marks=pytest.mark.long)


class Healthy:
    """A charger that charges all the time, in a thread of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self.charger: SimulatedCharger = gateway.charger("WELL", "1.6", None)
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._live()))

    async def _live(self) -> None:
        async with self.charger:
            await self._over.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.charger.registered == "Accepted", "it is served")
        self.do(self.charger.plug_in, 1, 16.0, "VAN")
        wait_until(lambda: self.charger.outlets[0].transaction is not None, "it charges")
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._over.set)
        self._thread.join()
        self._loop.close()

    def do(self, what: Any, *arguments: object) -> None:  # noqa: ANN401 - a method of the charger
        self._loop.call_soon_threadsafe(what, *arguments)


@dataclass
class Trial:
    """The gateway under trial."""

    gateway: Gateway
    well: SimulatedCharger
    healthy: Healthy
    pid: int = 0
    figures: dict[str, object] = field(default_factory=dict)

    def connect(self, identity: str = "SICK", *offers: str, password: bytes | None = None, **more: Any) -> connect:  # noqa: ANN401
        headers = []
        if password is not None:
            pair = base64.b64encode(identity.encode() + b":" + password).decode()
            headers = [("Authorization", f"Basic {pair}")]
        return connect(
            f"ws://127.0.0.1:{self.gateway.ocpp_port}/ocpp/{identity}",
            subprotocols=[Subprotocol(one) for one in offers or ("ocpp1.6",)] if offers != ("",) else None,
            additional_headers=headers,
            ping_interval=None,
            open_timeout=PATIENCE_S,
            proxy=None,
            **{"max_size": None, **more},
        )

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def cpu_s(self) -> float:
        """What the gateway has used of the processor."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def sessions(self, device: str) -> list[tuple[Any, ...]]:
        """From the database itself."""
        file = self.gateway.folder / "data" / "enlace.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            ask = "SELECT id, start_us, start_wh, energy_wh, stop_us FROM session WHERE device = ? ORDER BY start_us"
            return database.execute(ask, (device,)).fetchall()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What holds before a trial and after it: the session beside it, all parts, the descriptors."""
        before, session = self.descriptors(), self.sessions("well")
        connections, told_wh = self.well.connections, self.well.outlets[0].register_wh
        assert len(session) == 1
        assert session[0][4] is None
        started_s, used_s = time.monotonic(), self.cpu_s()
        yield
        self.figures["s"] = round(time.monotonic() - started_s, 1)
        self.figures["cpu_s"] = round(self.cpu_s() - used_s, 1)
        wait_until(lambda: self.descriptors() <= before + 2, "its descriptors are back")
        wait_until(lambda: self.well.outlets[0].register_wh > told_wh, "the other one charges on")
        assert self.well.connections == connections, "the other one lost its connection"
        assert [(row[0], row[4]) for row in self.sessions("well")] == [(session[0][0], None)]
        self.is_well()
        logging.getLogger(__name__).info("%s", self.figures)

    def is_well(self) -> None:
        health = asyncio.run(self.gateway.get("/api/system/health"))
        assert health["db"] == "OK"
        assert [part for part in health["parts"] if not part["ok"]] == []
        for log in self.gateway.folder.glob("gateway*.log"):
            assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("trials")
    gateway = Gateway(folder, free_port(), free_port())
    names = ["WELL", "SICK", "QUEUE", *(f"F-{number:04d}" for number in range(1, FLEET + 1))]
    text = SITE.format(folder=folder, api=gateway.api_port, ocpp=gateway.ocpp_port)
    text += "".join(DEVICE.format(device=name.lower(), identity=name) for name in names)
    gateway.config.write_text(text)
    (folder / "twin").write_bytes(PASSWORD)
    with gateway.running() as child, Healthy(gateway) as healthy:
        made = Trial(gateway, healthy.charger, healthy, child.pid)
        wait_until(lambda: len(made.sessions("well")) == 1, "its session is stored")
        yield made
        healthy.do(healthy.charger.finish, healthy.charger.outlets[0], "Local")
        wait_until(lambda: made.sessions("well")[0][4] is not None, "its session ended")
        (mine,) = healthy.charger.sessions
        assert made.sessions("well")[0][3] == pytest.approx(mine.stop_wh - mine.start_wh, abs=1)


async def ask(charger: ClientConnection, action: str, payload: object, name: str = "1") -> list[Any]:
    """A call and its answer; what the gateway asks meanwhile is refused, what else it answers is passed over."""
    await charger.send(json.dumps([2, name, action, payload]))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message: list[Any] = json.loads(await charger.recv())
            if message[0] == 2:
                await charger.send(json.dumps([4, message[1], "NotSupported", "", {}]))
            elif message[1] == name:
                return message


async def _listen(charger: ClientConnection) -> None:
    while True:
        await charger.recv()


# O1, O2, O7: what is said

DEEP = "[" * 100_000
HOSTILE: list[str | bytes] = [
    *("", "{}", "[]", "null", "[2]", "NaN", "[2,null,null,null]", '[2,"1"]', "[[[[]]]]", '[2,"1","Heartbeat",{}', DEEP),
    '[2,"d","DataTransfer",{"a":' * 1 + '{"a":' * 5000 + "1" + "}" * 5001 + "]",
    *('[2,"1",{"a":1},{}]', '[2,"1",["Heartbeat"],{}]', '[2,null,"Heartbeat",{}]', '[2,{},"Heartbeat",{}]'),
    *('[2,"1","Heartbeat",[]]', '[2,"1","Heartbeat",null]', '[2,"1","Heartbeat",7]', '[7,"1","Heartbeat",{}]'),
    '[2,"n","MeterValues",{"connectorId":' + "9" * 5000 + ',"meterValue":[]}]',
    "[" + "9" * 5000 + ',"1",{}]',
    '[2,"f","MeterValues",{"connectorId":1e999,"meterValue":NaN}]',
    '[2,"s","StatusNotification",{"connectorId":-1,"status":{"x":[]},"errorCode":7}]',
    '[2,"b","BootNotification",{"chargePointVendor":[],"chargePointModel":{}}]',
    '[2,"t","StartTransaction",{"connectorId":"x","idTag":{},"meterStart":"y","timestamp":[]}]',
    '[2,"p","StopTransaction",{"transactionId":{},"meterStop":null,"timestamp":0,"transactionData":7}]',
    '[2,"\\ud800","Heartbeat",{}]',
    '[2,"' + "i" * 100_000 + '","Heartbeat",{}]',
    '[2,"a","' + "A" * 100_000 + '",{}]',
    *('[3,"x",[]]', "[3]", '[4,"x"]', '[4,"x",{},[],7]', '[4,null,"GenericError","",{}]', "[3,null,{}]"),
    *(b"\xff\xfe\x00", b"\x00" * 1000, b'[2,"1","Heartbeat",{}]'),
]


def _mutated(count: int) -> Iterator[str | bytes]:
    """The same frames with something exchanged, left out or doubled."""
    chance = random.Random(4)  # noqa: S311 - a trial
    for _ in range(count):
        frame = chance.choice(HOSTILE)
        raw = bytearray((frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame)[:5000])
        for _ in range(chance.randrange(1, 8)):
            at = chance.randrange(len(raw) + 1)
            raw[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        yield raw.decode("utf-8", "replace") if chance.random() < 0.9 else bytes(raw)


@pytest.mark.parametrize("count", [300, full(10_000)])
def test_o1_hostile_frames(trial: Trial, count: int) -> None:
    async def main() -> None:
        frames, closed = iter([*HOSTILE, *_mutated(count)]), 0
        left = True
        while left:
            async with trial.connect() as charger:
                try:
                    for number, frame in enumerate(frames):
                        await charger.send(frame)
                        if number % 20 == 0:
                            assert (await ask(charger, "Heartbeat", {}, f"h{number}"))[0] == 3
                    assert (await ask(charger, "Heartbeat", {}, "last"))[0] == 3
                    left = False
                except ConnectionClosed:
                    closed += 1
        trial.figures = {"O1": count, "closed": closed}

    with trial.held():
        asyncio.run(main())


@pytest.mark.parametrize("count", [1500, full(10_000)])
def test_o2_results_that_nobody_waits_for(trial: Trial, count: int) -> None:
    """Of no question, late, and each real answer more than once; more chargers for more of them."""

    async def hears(charger: ClientConnection, done: asyncio.Event) -> None:
        late: list[str] = []
        while True:
            message = json.loads(await charger.recv())
            if message[:2] == [3, "h"]:
                done.set()
            if message[0] == 2:
                answer = json.dumps([4, message[1], "NotSupported", "", {}])
                late = [*late[-20:], answer]
                for text in (answer, answer, *late):
                    await charger.send(text)

    async def portion(identity: str, size: int) -> None:
        done = asyncio.Event()
        async with trial.connect(identity) as charger:
            hearing = asyncio.create_task(hears(charger, done))
            await charger.send(json.dumps([2, "b", "BootNotification", BOOT]))
            for number in range(size):
                stray = [3, f"s{number % 700}", {"status": "Accepted"}]
                await charger.send(json.dumps(stray if number % 3 else [4, stray[1], "GenericError", "", {}]))
            await charger.send(json.dumps([2, "h", "Heartbeat", {}]))
            async with asyncio.timeout(PATIENCE_S):
                await done.wait()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def main() -> None:
        for number, at in enumerate(range(0, count, 1500), 1):
            await portion(f"F-{number:04d}", min(1500, count - at))
        trial.figures = {"O2": count}

    with trial.held():
        asyncio.run(main())


def test_o7_sizes(trial: Trial) -> None:
    async def main() -> None:
        async with trial.connect() as charger:
            large = {"vendorId": "V", "data": "x" * 64 * 1024}
            assert (await ask(charger, "DataTransfer", large))[2] == {"status": "UnknownVendorId"}
        for compression, size in ((None, 1024 * 1024 + 1), ("deflate", 64 * 1024 * 1024)):
            async with trial.connect(compression=compression) as charger:
                listening = asyncio.create_task(_listen(charger))
                with contextlib.suppress(ConnectionClosed):
                    await charger.send("[" + " " * size + "]")
                with pytest.raises(ConnectionClosed) as caught:
                    await listening
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1009
        trial.figures = {"O7": 64}

    with trial.held():
        asyncio.run(main())


# O3, O4, O5, O6: who comes


@pytest.mark.parametrize("count", [200, full(500)])
def test_o3_handshakes_that_never_end(trial: Trial, count: int) -> None:
    def is_open(half: socket.socket) -> bool:
        try:
            while data := half.recv(4096, socket.MSG_DONTWAIT):
                assert data
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def gets_in() -> float:
        before_s = time.monotonic()
        async with trial.connect() as charger:
            assert (await ask(charger, "Heartbeat", {}))[0] == 3
        return time.monotonic() - before_s

    with trial.held():
        halves = []
        for number in range(count):
            half = socket.create_connection(("127.0.0.1", trial.gateway.ocpp_port))
            half.sendall(b"GET /ocpp/SICK HTTP/1.1\r\nHost: x\r\n"[: number % 34])
            halves.append(half)
        opened_s = time.monotonic()
        in_s = asyncio.run(gets_in())
        wait_until(lambda: not any(is_open(half) for half in halves), "all are closed")
        trial.figures = {"O3": count, "closed_s": round(time.monotonic() - opened_s, 1), "in_s": round(in_s, 2)}
        for half in halves:
            half.close()


@pytest.mark.parametrize(("count", "rounds"), [(100, 2), pytest.param(200, 10, marks=pytest.mark.long)])
def test_o4_all_come_back_at_once(trial: Trial, count: int, rounds: int) -> None:
    async def one(number: int, go: asyncio.Event) -> ClientConnection:
        await go.wait()
        charger = await trial.connect(f"F-{number:04d}")
        assert (await ask(charger, "BootNotification", BOOT))[2]["status"] == "Accepted"
        return charger

    async def main() -> None:
        slowest_s = 0.0
        for _ in range(rounds):
            go = asyncio.Event()
            tasks = [asyncio.create_task(one(number, go)) for number in range(1, count + 1)]
            began_s = time.monotonic()
            go.set()
            chargers = await asyncio.gather(*tasks)
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            for charger in chargers:
                charger.transport.abort()
                await charger.wait_closed()
        trial.figures = {"O4": (count, rounds), "all_accepted_s": round(slowest_s, 1)}

    with trial.held():
        asyncio.run(main())


def test_o5_one_id_two_sockets(trial: Trial) -> None:
    async def main() -> None:
        async with trial.connect("TWIN", password=PASSWORD) as first:
            await ask(first, "BootNotification", BOOT)
            with pytest.raises(InvalidStatus, match="401"):
                await trial.connect("TWIN", password=b"not-the-password-of-it")
            assert (await ask(first, "Heartbeat", {}))[0] == 3
            async with trial.connect("TWIN", password=PASSWORD) as second:
                with pytest.raises(ConnectionClosed) as caught:
                    await _listen(first)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1008
                assert (await ask(second, "Heartbeat", {}))[0] == 3
        async with trial.connect("SICK") as first:  # without a credential: who is here stays
            answering = asyncio.create_task(_listen(first))
            with pytest.raises(InvalidStatus, match="409"):
                await trial.connect("SICK")
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            assert (await ask(first, "Heartbeat", {}))[0] == 3
        trial.figures = {"O5": 2}

    with trial.held():
        asyncio.run(main())


def test_o6_subprotocols(trial: Trial) -> None:
    async def main() -> None:
        for offers in (("ocpp1.5",), ("",), ("mqtt", "soap")):
            with pytest.raises(InvalidStatus, match="400"):
                await trial.connect("SICK", *offers)
        for identity, offers, chosen in (
            ("SICK", ("ocpp1.6", "ocpp2.0.1"), "ocpp2.0.1"),
            ("PINNED", ("ocpp1.6", "ocpp2.0.1"), "ocpp1.6"),
            ("SICK", ("ocpp1.6",), "ocpp1.6"),
        ):
            async with trial.connect(identity, *offers) as charger:
                assert charger.subprotocol == chosen
        with pytest.raises(InvalidStatus, match="400"):
            await trial.connect("PINNED", "ocpp2.0.1")
        trial.figures = {"O6": 7}

    with trial.held():
        asyncio.run(main())


# O9, O10, O11: what must not be lost


@pytest.mark.parametrize("count", [1000, full(10_000)])
def test_o9_transactions_that_were_made_offline(trial: Trial, count: int) -> None:
    """In order, each once with its energy, though some are told again as after a lost answer."""
    first_us = 1_700_000_000 if count > 1000 else 1_600_000_000

    def stamp(second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(first_us + second))

    async def main() -> None:
        async with trial.connect("QUEUE") as charger:
            await ask(charger, "BootNotification", BOOT, "b")
            numbers: list[int] = []
            for n in range(count):
                start = {"connectorId": 1, "idTag": "T", "meterStart": 10 * n, "timestamp": stamp(60 * n)}
                number = (await ask(charger, "StartTransaction", start, f"a{n}"))[2]["transactionId"]
                numbers.append(number)
                stop = {"transactionId": number, "meterStop": 10 * n + n % 10, "timestamp": stamp(60 * n + 30)}
                await ask(charger, "StopTransaction", stop, f"o{n}")
                if n % 100 == 50:
                    again = await ask(charger, "StartTransaction", start, f"again{n}")
                    assert again[2]["transactionId"] == number
                    await ask(charger, "StopTransaction", stop, f"stopped{n}")
            assert numbers == sorted(set(numbers))

    with trial.held():
        already = len(trial.sessions("queue"))
        asyncio.run(main())
        trial.figures = {"O9": count}
        rows = trial.sessions("queue")[-count:] if count > 1000 else trial.sessions("queue")[:count]
        assert len(trial.sessions("queue")) == already + count
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        assert [row[1] // 1_000_000 - first_us for row in rows] == [60 * n for n in range(count)]
        assert [(row[2], row[3]) for row in rows] == [(10 * n, n % 10) for n in range(count)]


def test_o11_the_clock_jumps_while_an_answer_is_awaited() -> None:
    async def main() -> None:
        clock = FakeClock()
        async with site(clock=clock) as here, here.connect() as charger:
            peer = here.gate.peer("CP1")
            await peer.attached.wait()
            for jump_s in (86_400.0, -2 * 86_400.0):
                asking = asyncio.create_task(peer.link.call("Reset", {"type": "Soft"}))
                _, name, *_ = await heard(charger)
                clock.jump_wall(jump_s)
                await asyncio.sleep(0.01)
                assert not asking.done()
                await charger.send(json.dumps([3, name, {"status": "Accepted"}]))
                assert await asking == {"status": "Accepted"}
            assert not here.counts["no_answer"]
            await until(lambda: not here.counts["silent"])

    asyncio.run(main())


def test_o10_the_gateway_is_killed_in_the_middle_of_a_transaction(tmp_path: Path) -> None:
    """At a gateway of its own: the session goes on as the same one, and no Wh of it is missing."""
    gateway = Gateway(tmp_path, free_port(), free_port())
    text = SITE.format(folder=tmp_path, api=gateway.api_port, ocpp=gateway.ocpp_port)
    gateway.config.write_text(text + DEVICE.format(device="well", identity="WELL"))
    (tmp_path / "twin").write_bytes(PASSWORD)

    with gateway.running() as child, Healthy(gateway) as healthy:
        trial = Trial(gateway, healthy.charger, healthy, child.pid)
        wait_until(lambda: len(trial.sessions("well")) == 1, "its session is stored")
        child.kill()
        child.wait()
        at_kill_wh = healthy.charger.outlets[0].register_wh
        wait_until(lambda: healthy.charger.outlets[0].register_wh > at_kill_wh, "it charges on without us")
        with gateway.running():
            wait_until(lambda: healthy.charger.connections > 1, "it has come back")
            healthy.do(healthy.charger.finish, healthy.charger.outlets[0], "Local")
            wait_until(lambda: trial.sessions("well")[0][4] is not None, "its session ended")
            (mine,) = healthy.charger.sessions
            ((_, _, start_wh, energy_wh, _),) = trial.sessions("well")
            assert (start_wh, energy_wh) == (mine.start_wh, mine.stop_wh - mine.start_wh)
            trial.is_well()
