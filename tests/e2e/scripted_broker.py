"""A broker that speaks just enough MQTT 3.1.1 and 5 to misbehave on demand."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_PAYLOAD_INVALID = 0x99
CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


@dataclass
class Script:
    """What the broker does; may be changed while it runs."""

    connack: bytes = b"\x00\x00"  #: flags and return code, with MQTT 5 the properties behind
    versions: tuple[int, ...] = (4, 5)  #: on others it closes the connection without a word
    pubacks: int = 1  #: how many for each PUBLISH
    unknown_pubacks: bool = False  #: one for a message that was never sent, before the true one
    puback_delay_s: float = 0.0
    poison: bytes = b"\0never\0"  #: a message that holds this is refused (MQTT 5), or ends the connection
    refuse_code: int = 0  #: MQTT 5 reason code in each PUBACK
    suback: int | None = 1  #: None: none ever
    answer_pings: bool = True
    farewell: int | None = None  #: MQTT 5 DISCONNECT with this reason after the first PUBLISH
    connects: list[tuple[int, int]] = field(default_factory=list)  #: protocol level and keep-alive of each
    connect_bodies: list[bytes] = field(default_factory=list)
    serials: list[str] = field(default_factory=list)  #: of the certificates that clients showed
    published: list[tuple[str, bytes]] = field(default_factory=list)
    unacked: int = 0
    max_unacked: int = 0
    disconnects: int = 0


@asynccontextmanager
async def scripted_broker(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port of loopback while the context lasts; gives the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _serve(script, reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # the client or the test has ended
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _serve(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    shown = writer.get_extra_info("peercert")
    if shown:
        script.serials.append(shown["serialNumber"])
    kind, _, body = await _packet(reader)
    assert kind == CONNECT
    script.connect_bodies.append(body)
    version = body[6]
    script.connects.append((version, int.from_bytes(body[8:10])))
    if version not in script.versions:
        return
    connack = script.connack + (b"\x00" if version == 5 and len(script.connack) == 2 else b"")
    writer.write(bytes([0x20, len(connack)]) + connack)
    while True:
        kind, flags, body = await _packet(reader)
        if kind == PUBLISH:
            await _published(script, version, flags, body, writer)
            if script.farewell is not None:
                writer.write(bytes([0xE0, 2, script.farewell, 0]))
                await writer.drain()
                return
        elif kind == SUBSCRIBE and script.suback is not None:
            writer.write(
                bytes([0x90, 4]) + body[:2] + bytes([0, script.suback])
                if version == 5
                else bytes([0x90, 3]) + body[:2] + bytes([script.suback])
            )
        elif kind == PINGREQ and script.answer_pings:
            writer.write(bytes([0xD0, 0]))
        elif kind == DISCONNECT:
            script.disconnects += 1
            return


async def _published(script: Script, version: int, flags: int, body: bytes, writer: asyncio.StreamWriter) -> None:
    size = int.from_bytes(body[:2])
    topic, mid = body[2 : 2 + size].decode(), body[2 + size : 4 + size]
    assert flags >> 1 & 3 == 1
    script.published.append((topic, body[4 + size + (version == 5) :]))
    script.unacked += 1
    script.max_unacked = max(script.max_unacked, script.unacked)
    await asyncio.sleep(0)
    if script.poison in script.published[-1][1]:
        if version != 5:
            writer.close()
        writer.write(bytes([0x40, 3]) + mid + bytes([_PAYLOAD_INVALID]))
        script.unacked -= 1
        return
    if script.puback_delay_s:
        asyncio.get_running_loop().call_later(script.puback_delay_s, _acknowledge, script, version, mid, writer)
        return
    _acknowledge(script, version, mid, writer)


def _acknowledge(script: Script, version: int, mid: bytes, writer: asyncio.StreamWriter) -> None:
    if writer.is_closing():
        return
    if script.unknown_pubacks:
        writer.write(bytes([0x40, 2, 0xEE, 0xEE]))
    for _ in range(script.pubacks):
        if version == 5 and script.refuse_code:
            writer.write(bytes([0x40, 3]) + mid + bytes([script.refuse_code]))
        else:
            writer.write(bytes([0x40, 2]) + mid)
        script.unacked = max(script.unacked - 1, 0)


async def _packet(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    first = (await reader.readexactly(1))[0]
    size = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first >> 4, first & 15, await reader.readexactly(size)
