"""The embedded MQTT broker of the demo and the tests: amqtt, pure Python, MQTT 3.1.1.

``python -m drivers.sim.broker [--host H] [--port N]`` serves until SIGTERM or SIGINT and prints ``listening on H:N``,
which is how a caller that asked for port 0 learns the port. Anybody may connect: it belongs on loopback only. Faults
are the line's to that port; who comes through ``--inner-port``, as the central server does, is not touched by them.
"""

import argparse
import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import ProtocolHandlerError

from agent.core.clock import SystemClock
from drivers.sim.directed import Report, add_control, begin

_LISTENER = "default"
_MQTT_5 = 5
_UNACCEPTABLE_VERSION = bytes([0x20, 2, 0, 1])  #: CONNACK with return code 1 (MQTT 3.1.1, 3.2.2.3)
_VERSION_OFFSET = 6  #: of the protocol level, behind the name ``MQTT`` and its length (3.1.2.2)


class _Started(StreamReaderAdapter):  # type: ignore[misc] # amqtt ships no types
    """A connection whose first bytes have been read already."""

    def __init__(self, reader: asyncio.StreamReader, start: bytes) -> None:
        super().__init__(reader)
        self._start = start

    async def read(self, n: int = -1) -> bytes:
        """As ``StreamReaderAdapter.read``: exactly ``n`` bytes, or all with -1."""
        if not self._start:
            return bytes(await super().read(n))
        taken = self._start if n < 0 else self._start[:n]
        self._start = self._start[len(taken) :]
        if len(taken) == n:
            return taken
        return taken + bytes(await super().read(n - len(taken) if n >= 0 else n))


async def _read_up_to_version(reader: asyncio.StreamReader) -> bytes:
    """The start of a CONNECT up to the protocol level: amqtt waits for ever on a version 5 CONNECT that has a will."""
    start = await reader.readexactly(2)
    while start[-1] & 0x80 and len(start) < 5:  # noqa: PLR2004 - the remaining length has up to 4 bytes
        start += await reader.readexactly(1)
    return start + await reader.readexactly(_VERSION_OFFSET + 1)


class Fault(StrEnum):
    """What can be switched on."""

    DOWN = "down"  #: nobody listens, and all connections are cut
    HALF_OPEN = "half_open"  #: connections are taken and kept, and nothing is read or answered


class _Door:
    """The listener in front of the engine: ours and not amqtt's, which hides its sockets, so that port 0 is unknown."""

    def __init__(self, engine: Broker, host: str, port: int) -> None:
        self._engine = engine
        self._host = host
        self._faults: set[Fault] = set()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self.port = port

    async def open(self) -> None:
        """Listen. Raises ``OSError``."""
        self._server = await asyncio.start_server(self._connected, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def end(self) -> None:
        """End the connections, when the engine has said goodbye."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def switch(self, name: str, on: bool) -> None:  # noqa: FBT001 - as the order says it
        """Switch a fault; what it did to connections ends with them. Raises ``ValueError`` and ``OSError``."""
        fault = Fault(name)
        self._faults = self._faults | {fault} if on else self._faults - {fault}
        if on and fault is Fault.HALF_OPEN:
            for writer in self._connections.values():
                writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport
        else:
            for writer in self._connections.values():
                writer.transport.abort()
        if Fault.DOWN in self._faults:
            self.shut()
        elif self._server is None:
            await self.open()

    def report(self) -> Report:
        """How it is, for who directs it."""
        return {"clients": len(self._connections)}

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a stream callback runs in a task
        self._connections[task] = writer
        try:
            if Fault.HALF_OPEN in self._faults:
                await writer.wait_closed()
                return
            start = await _read_up_to_version(reader)
            if start[-1] == _MQTT_5:
                writer.write(_UNACCEPTABLE_VERSION)
                await writer.drain()
                return
            await self._engine.external_connected(_Started(reader, start), StreamWriterAdapter(writer), _LISTENER)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client or the broker goes away
        finally:
            self._connections.pop(task)
            writer.close()


@asynccontextmanager
async def _serving(host: str, port: int, inner_port: int | None = None) -> AsyncIterator[_Door]:
    # amqtt logs each lost client as a warning or an error: in a simulation that is the point, not a fault.
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = BrokerConfig(
        listeners={_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )
    engine = Broker(config)
    door = _Door(engine, host, port)
    doors = [door] if inner_port is None else [door, _Door(engine, host, inner_port)]
    await engine.start()
    try:
        for one in doors:
            await one.open()
        yield door
    finally:
        for one in doors:
            one.shut()
        await engine.shutdown()
        for one in doors:
            await one.end()


@asynccontextmanager
async def broker(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve MQTT 3.1.1 without authentication while the context lasts; gives the port. Raises ``OSError``."""
    async with _serving(host, port) as door:
        yield door.port


def unless_a_client_was_lost(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What nobody waited for is printed, but for what amqtt leaves behind of a client that went away."""
    if not isinstance(context.get("exception"), ProtocolHandlerError):
        loop.default_exception_handler(context)


async def _serve(host: str, port: int, inner_port: int | None, *, control: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(unless_a_client_was_lost)
    async with _serving(host, port, inner_port) as door:
        print(f"listening on {host}:{door.port}", flush=True)  # noqa: T201 - the command's output
        directed = begin({"fault": door.switch}, door.report, SystemClock(), stop.set) if control else None
        await stop.wait()
        if directed is not None:
            directed.cancel()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m drivers.sim.broker", description="MQTT broker for demo and tests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="0 takes a free one")
    parser.add_argument("--inner-port", type=int, help="another port, whose line never fails")
    add_control(parser)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.host, arguments.port, arguments.inner_port, control=arguments.control))


if __name__ == "__main__":
    main()
