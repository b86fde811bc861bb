"""A TCP proxy on loopback that can be told to misbehave as networks do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards to a port of this machine. The attributes may be changed at any time and hold from the next bytes on."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.frozen = False  #: take bytes and give none, in both directions: a half-open connection
        self.mute = False  #: the same for what comes from the target only: no PUBACK comes back
        self.refuse = False  #: close each new connection at once
        self.no_version5 = False  #: close connections of MQTT 5 without a word, as brokers did that never heard of it
        self.puback_delay_s = 0.0  #: hold back what comes from the target for so long
        self.bytes_per_s = 0  #: towards the target; 0 is no limit
        self.accepted = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Reset every connection that stands."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self.refuse:
                await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the target is down, or the proxy ends: to the client that is a connection that closes
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await _up_to_version(reader) if self.no_version5 else b""
        if start[-1:] == b"\x05":
            return
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        self._writers.add(to_writer)
        to_writer.write(start)
        pumps = [
            asyncio.ensure_future(self._pump(reader, to_writer, outwards=True)),
            asyncio.ensure_future(self._pump(to_reader, writer, outwards=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(to_writer)
            to_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, outwards: bool) -> None:
        while data := await reader.read(max(self.bytes_per_s // 10, 1) if self.bytes_per_s else 65536):
            if self.frozen or (self.mute and not outwards):
                continue
            if self.puback_delay_s and not outwards:
                asyncio.get_running_loop().call_later(self.puback_delay_s, _write, writer, data)
                continue
            if outwards and self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            writer.write(data)
            await writer.drain()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


async def _up_to_version(reader: asyncio.StreamReader) -> bytes:
    """The start of a CONNECT up to its protocol level (MQTT 3.1.1, 3.1.2.2)."""
    start = await reader.readexactly(2)
    while start[-1] & 0x80:
        start += await reader.readexactly(1)
    return start + await reader.readexactly(7)


@asynccontextmanager
async def proxy_to(target_port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port of loopback while the context lasts."""
    proxy = Proxy(target_port)
    server = await asyncio.start_server(proxy._connected, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        if proxy._tasks:
            await asyncio.wait(set(proxy._tasks), timeout=2)
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
        await server.wait_closed()
