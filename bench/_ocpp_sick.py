"""A charger that is ill, in a process of its own: everything that it does, it does as often as it can."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from bench._ocpp_charger import Script
from bench._ocpp_fleet import dial, serve

#: Those who measure are not to wait for the one who floods.
NICE = 19
_AGAIN_S = 0.02
_BIG = 900_000
_TOO_BIG = 2_000_000

Illness = Callable[["SickCharger"], Awaitable[None]]


class SickCharger:
    """``be(kind, seconds)`` is its only command; it answers with how many frames or connections it made."""

    def __init__(self, url: str, identity: str) -> None:
        self.url = url
        self.identity = identity
        self.script = Script(identity, "1.6")
        self.done = 0

    async def be(self, kind: str, seconds: float) -> int:
        """So ill for so long."""
        self.done = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    # The library raises the last one when it ends a connection that has ended.
                    with suppress(OSError, WebSocketException, AttributeError):
                        await KINDS[kind](self)
                    await asyncio.sleep(_AGAIN_S)
        return self.done

    async def booted(self) -> ClientConnection:
        """Connected and accepted."""
        socket = await dial(self.url, self.identity, "1.6")
        self.script.again()
        await socket.send(self.script.boot())
        while not self.script.accepted:
            reply = self.script.hear(await socket.recv())
            if reply is not None:
                await socket.send(reply)
        return socket

    async def say(self, text: Callable[[], str | bytes], *, reads: bool = True) -> None:
        """The same again and again, as fast as the connection takes it; what comes is thrown away."""
        socket = await self.booted()
        drain = asyncio.create_task(_drain(socket)) if reads else None
        try:
            while True:
                await socket.send(text())
                self.done += 1
                await asyncio.sleep(0)
        finally:
            if drain is not None:
                drain.cancel()
            socket.transport.abort()


async def _drain(socket: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()


async def _floods(sick: SickCharger) -> None:
    await sick.say(sick.script.sample)


async def _garbage(sick: SickCharger) -> None:
    kinds = [b"\xff\xfe garbage " * 40, b'[2,"a","Heartbeat"', b"[" * 5000, b"{}", b'[3,"nobody asked",{}]']
    await sick.say(lambda: kinds[sick.done % len(kinds)].decode("latin-1"))


async def _huge(sick: SickCharger) -> None:
    rows = [{"value": str(number), "measurand": "Voltage"} for number in range(_BIG // 40)]
    body = {"connectorId": 1, "meterValue": [{"timestamp": "2026-01-01T00:00:00Z", "sampledValue": rows}]}
    head, _, tail = json.dumps([2, "%", "MeterValues", body]).partition("%")
    await sick.say(lambda: f"{head}{sick.done}{tail}")


async def _too_huge(sick: SickCharger) -> None:
    text = "[" + "1," * (_TOO_BIG // 2) + "1]"
    await sick.say(lambda: text)


async def _never_reads(sick: SickCharger) -> None:
    await sick.say(sick.script.heartbeat, reads=False)


async def _answers_nothing(sick: SickCharger) -> None:
    socket = await sick.booted()
    try:
        sick.done += 1
        await _drain(socket)
    finally:
        socket.transport.abort()


async def _comes_and_goes(sick: SickCharger) -> None:
    socket = await sick.booted()
    sick.done += 1
    socket.transport.abort()


async def _wrong_password(sick: SickCharger) -> None:
    sick.done += 1
    await dial(sick.url, sick.identity, "1.6", "not the password of this one")


KINDS: Mapping[str, Illness] = {
    "floods": _floods,
    "sends garbage": _garbage,
    "sends 0.9 MB frames": _huge,
    "sends 2 MB frames": _too_huge,
    "never reads": _never_reads,
    "answers nothing": _answers_nothing,
    "comes and goes": _comes_and_goes,
    "wrong password": _wrong_password,
}


def sick(url: str, identity: str, control: Connection) -> None:
    """A process: one such charger."""
    serve(lambda: SickCharger(url, identity), control, NICE)
