"""Chargers in a process of their own, told over a pipe what to do; each one is a ``Script`` on a WebSocket."""

import asyncio
import base64
import gc
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bench._ocpp_charger import SUBPROTOCOLS, Script

PASSWORD = "bench-password-of-all"  # noqa: S105 - of no charger
ANSWER_S = 60.0
RETRY_S = 0.05

_Say = Callable[[Script], str]


def identities(count: int) -> list[tuple[str, str]]:
    """Identity and version of so many chargers: three of four speak 1.6."""
    return [(f"CP-{number:04}", "2.0.1" if number % 4 == 3 else "1.6") for number in range(count)]  # noqa: PLR2004


async def dial(url: str, identity: str, version: str, password: str = PASSWORD) -> ClientConnection:
    """Connect, as chargers do: no compression, a password."""
    proof = base64.b64encode(f"{identity}:{password}".encode()).decode()
    return await connect(
        f"{url}/{identity}",
        subprotocols=[Subprotocol(SUBPROTOCOLS[version])],
        additional_headers={"Authorization": f"Basic {proof}"},
        compression=None,
        ping_interval=None,
        open_timeout=ANSWER_S,
        max_size=None,
    )


class LightCharger:
    """One charger on a connection."""

    def __init__(self, url: str, identity: str, version: str, number: int) -> None:
        self.script = Script(identity, version, number)
        self._url = url
        self._waiting: asyncio.Future[None] | None = None
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Until it is connected, however often it takes."""
        while True:
            try:
                self._socket = await dial(self._url, self.script.identity, self.script.version)
                break
            except (OSError, TimeoutError):
                await asyncio.sleep(RETRY_S)
        self._reader = asyncio.create_task(self._read(self._socket))

    async def boot(self) -> None:
        """Connect, and be accepted."""
        await self.connect()
        self.script.again()
        await self.ask(self.script.next())
        if not self.script.accepted:
            raise SystemExit(f"bench: {self.script.identity} was not accepted")

    async def drop(self) -> None:
        """Lose the connection."""
        if self._socket is not None and self._reader is not None:
            self._socket.transport.abort()
            await self._reader

    async def ask(self, text: str) -> float:
        """Seconds until the answer."""
        assert self._socket is not None  # noqa: S101 - it is connected
        self._waiting = asyncio.get_running_loop().create_future()
        start_s = time.perf_counter()
        await self._socket.send(text)
        await asyncio.wait_for(self._waiting, ANSWER_S)
        return time.perf_counter() - start_s

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                reply = self.script.hear(text)
                if reply is not None:
                    await socket.send(reply)
                elif self._waiting is not None and not self._waiting.done():
                    self._waiting.set_result(None)
        except ConnectionClosed:
            return


class Fleet:
    """All of them. Each method is a command of the pipe; what it returns goes back."""

    def __init__(self, url: str, count: int) -> None:
        self._chargers = [LightCharger(url, *one, number) for number, one in enumerate(identities(count))]

    async def boot(self) -> float:
        """All connect at once: seconds until the last one is Accepted."""
        start_s = time.perf_counter()
        await asyncio.gather(*(one.boot() for one in self._chargers))
        return time.perf_counter() - start_s

    async def drop(self) -> None:
        """All connections are lost at once."""
        await asyncio.gather(*(one.drop() for one in self._chargers))

    async def flat_out(self, seconds: float) -> int:
        """Each says the next thing as soon as the last one was answered: how many were answered."""
        until_s = time.perf_counter() + seconds

        async def play(one: LightCharger) -> int:
            asked = 0
            while time.perf_counter() < until_s:
                await one.ask(one.script.next())
                asked += 1
            return asked

        return sum(await asyncio.gather(*(play(one) for one in self._chargers)))

    async def charge(self) -> None:
        """A transaction begins at each."""
        await asyncio.gather(*(one.ask(one.script.status("Preparing")) for one in self._chargers))
        await asyncio.gather(*(one.ask(one.script.start()) for one in self._chargers))
        await asyncio.gather(*(one.ask(one.script.status("Charging")) for one in self._chargers))

    async def sampled(self, seconds: float, every_s: float, heartbeat_each: int) -> list[float]:
        """Values at a fixed rhythm, and a heartbeat instead of each so many of them: the seconds until each answer."""
        begin_s = time.perf_counter() + 0.1
        texts = [lambda script: script.heartbeat(), *[lambda script: script.sample()] * (heartbeat_each - 1)]
        parts = await asyncio.gather(*(_play(*one, begin_s, seconds, every_s, texts) for one in self._shifted()))
        return [one for part in parts for one in part]

    async def paced(self, seconds: float, beat_s: float, sample_s: float) -> tuple[list[float], list[float]]:
        """Every other one only heartbeats, the others only values: the seconds until each answer of both."""
        begin_s = time.perf_counter() + 0.1
        beat, sample = [lambda script: script.heartbeat()], [lambda script: script.sample()]
        parts = await asyncio.gather(
            *(
                _play(*one, begin_s, seconds, *((sample_s, sample) if index % 2 else (beat_s, beat)))
                for index, one in enumerate(self._shifted())
            )
        )
        return [one for part in parts[::2] for one in part], [one for part in parts[1::2] for one in part]

    def _shifted(self) -> list[tuple[LightCharger, float]]:
        """Each with its share of the rhythm, so that they don't all speak at once."""
        return [(one, index / len(self._chargers)) for index, one in enumerate(self._chargers)]


async def _play(
    one: LightCharger, shift: float, begin_s: float, seconds: float, every_s: float, texts: Sequence[_Say]
) -> list[float]:
    """An answer that comes late delays what is due behind it: that counts from when it was due."""
    took: list[float] = []
    for number in range(int(seconds / every_s)):
        due_s = begin_s + (number + shift) * every_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        behind_s = max(0.0, time.perf_counter() - due_s) if took and took[-1] > every_s else 0.0
        took.append(behind_s + await one.ask(texts[number % len(texts)](one.script)))
    return took


def serve(make: Callable[[], object], control: Connection, nice: int = 0) -> None:
    """Do what comes over the pipe until it ends: a method's name and its arguments."""
    gc.freeze()
    if nice:
        os.nice(nice)
    asyncio.run(_obey(make(), control))


def fleet(url: str, count: int, control: Connection) -> None:
    """A process: so many chargers."""
    serve(lambda: Fleet(url, count), control)


async def _obey(doer: object, control: Connection) -> None:
    while True:
        try:
            name, *arguments = await asyncio.to_thread(control.recv)
        except EOFError:
            return
        control.send(await _call(doer, name, arguments))


async def _call(doer: object, name: str, arguments: Sequence[object]) -> object:
    method: Callable[..., Awaitable[object]] = getattr(doer, name)
    return await method(*arguments)
