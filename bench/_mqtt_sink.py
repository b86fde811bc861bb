"""The least that acknowledges: takes CONNECT and QoS 1 PUBLISH, answers CONNACK and PUBACK, keeps nothing.

``python -m bench._mqtt_sink`` prints its port. The uplink's benchmark sends to it, so that no broker is measured. As a
topic of ``python -m bench`` it has no figures of its own.
"""

import asyncio
import struct

_CONNECT, _PUBLISH, _PING = 1, 3, 12


class _Sink(asyncio.Protocol):
    """One client. Bytes are looked at where they lie; a packet that is not whole yet waits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is a TCP server
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data, position, answers = self._rest + data, 0, []
        while (packet := _packet(data, position)) is not None:
            kind, start, end = packet
            if kind == _CONNECT:
                answers.append(b"\x20\x03\x00\x00\x00" if data[start + 6] == 5 else b"\x20\x02\x00\x00")  # noqa: PLR2004
            elif kind == _PUBLISH:
                topic_bytes = struct.unpack_from(">H", data, start)[0]
                answers.append(b"\x40\x02" + data[start + 2 + topic_bytes : start + 4 + topic_bytes])
            elif kind == _PING:
                answers.append(b"\xd0\x00")
            position = end
        self._rest = data[position:]
        if answers:
            self._transport.write(b"".join(answers))


def _packet(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Kind, start and end of the body of the packet at ``position``; None when it is not whole."""
    size = shift = 0
    start = position + 1
    while start < len(data):
        byte = data[start]
        start += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follow
            return (data[position] >> 4, start, start + size) if start + size <= len(data) else None
    return None


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Nothing to measure here: ``bench.uplink`` does."""


if __name__ == "__main__":
    asyncio.run(_serve())
