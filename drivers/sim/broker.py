"""The embedded MQTT broker of the demo and the tests: amqtt, pure Python, MQTT 3.1.1.

``python -m drivers.sim.broker [--host H] [--port N]`` serves until SIGTERM or SIGINT and prints ``listening on H:N``,
which is how a caller that asked for port 0 learns the port. Anybody may connect: it belongs on loopback only.
"""

import argparse
import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

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


@asynccontextmanager
async def broker(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve MQTT 3.1.1 without authentication while the context lasts; gives the port. Raises ``OSError``."""
    # amqtt logs each lost client as a warning or an error: in a simulation that is the point, not a fault.
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = BrokerConfig(
        listeners={_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )
    engine = Broker(config)
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The listener is ours and not amqtt's, which hides its sockets, so that port 0 would stay unknown.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a stream callback runs in a task
        connections.add(task)
        try:
            start = await _read_up_to_version(reader)
            if start[-1] == _MQTT_5:
                writer.write(_UNACCEPTABLE_VERSION)
                await writer.drain()
                return
            await engine.external_connected(_Started(reader, start), StreamWriterAdapter(writer), _LISTENER)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client or the broker goes away
        finally:
            connections.discard(task)
            writer.close()

    await engine.start()
    try:
        server = await asyncio.start_server(connected, host, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
    finally:
        await engine.shutdown()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with broker(host, port) as taken:
        print(f"listening on {host}:{taken}", flush=True)  # noqa: T201 - the command's output
        await stop.wait()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m drivers.sim.broker", description="MQTT broker for demo and tests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="0 takes a free one")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
