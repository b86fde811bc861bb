"""The chargers' port: who comes in and who does not, and what must not bring it down (trials 5, O1, O3, O5 to O7)."""

import asyncio
import contextlib
import random
import socket
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agent.core.clock import FakeClock
from agent.core.errors import Unavailable
from drivers.codec.ocpp_model import Entry, Version
from drivers.ocpp.ports import Call, Decision, Fault, Knock, Payload
from drivers.ocpp.server import ServerLimits
from drivers.ocpp.settings import Endpoint
from tests.ocpp_peers import OpenGate, RecordingPeer, Site, ask, heard, site, until

PASSWORDS = {"CP1": b"0123456789abcdef", "CP2": b"\xff:odd\x00"}


async def _status(opening: object) -> int:
    """The HTTP status with which it is refused; 101 when it is not."""
    try:
        async with opening:  # type: ignore[attr-defined]
            return 101
    except InvalidStatus as error:
        response = error.response
    assert ("WWW-Authenticate" in response.headers) is (response.status_code == 401)
    assert ("Retry-After" in response.headers) is (response.status_code == 429)
    assert "Server" not in response.headers
    assert response.body
    return response.status_code


def test_basic_authentication() -> None:
    """As the certification cases ask: TC_A_01 and 02, and what wrong ones get."""

    async def scene() -> None:
        async with site(gate=OpenGate(PASSWORDS)) as a:
            assert await _status(a.connect("CP1", password=PASSWORDS["CP1"])) == 101
            assert await _status(a.connect("CP2", password=PASSWORDS["CP2"])) == 101
            assert await _status(a.connect("CP1", password=b"wrong")) == 401
            assert await _status(a.connect("CP1", password=b"")) == 401
            assert await _status(a.connect("CP1")) == 401
            assert await _status(a.connect("CP1", password=PASSWORDS["CP2"], user="CP2")) == 401
            assert await _status(a.connect("CP3", password=b"x")) == 404
            assert a.counts["refused.401"] == 4
            # A wrong user was refused before anybody was asked.
            assert all(knock.user in {knock.identity, None} for knock in a.gate.knocks)
            assert not any("authorization" in knock.headers for knock in a.gate.knocks)

    asyncio.run(scene())


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Bearer abc", "Basic Q1Ax", "basic\tQ1AxOng=, Basic Q1AxOng="])
def test_headers_that_are_no_authentication(header: str) -> None:
    async def scene() -> None:
        async with site(gate=OpenGate(PASSWORDS)) as a:
            assert (await _raw(a, _request(f"Authorization: {header}"))).startswith(b"HTTP/1.1 401 ")
            assert not a.gate.knocks

    asyncio.run(scene())


@pytest.mark.parametrize("path", ["/", "/ocpp", "/ocpp/", "/ocpp/a/b", "/x/CP1", "/ocpp/%00", "/ocpp/%ff", "*"])
def test_other_paths(path: str) -> None:
    async def scene() -> None:
        async with site() as a:
            assert (await _raw(a, _request(path=path))).startswith(b"HTTP/1.1 404 ")
            assert not a.gate.knocks

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("offers", "pinned", "without", "answer"),
    [
        (("ocpp1.6",), None, None, "ocpp1.6"),
        (("ocpp1.6", "ocpp2.0.1"), None, None, "ocpp2.0.1"),
        (("ocpp1.6", "ocpp2.0.1"), Version.V16, None, "ocpp1.6"),
        (("ocpp2.1", "ocpp2.0.1"), None, None, "ocpp2.0.1"),
        (("ocpp2.1",), None, None, "ocpp2.1"),
        (("OCPP1.6",), None, None, "OCPP1.6"),
        (("ocpp1.5", "mqtt"), None, Version.V16, 400),
        (("ocpp1.6",), Version.V201, None, 400),
        ((), None, None, 400),
        ((), None, Version.V16, None),
    ],
)
def test_subprotocols(
    offers: tuple[str, ...], pinned: Version | None, without: Version | None, answer: str | int | None
) -> None:
    """Trials O6."""

    async def scene() -> None:
        gate = OpenGate()
        if pinned:
            gate.pinned["CP1"] = pinned
        async with site(gate=gate, without=without) as a:
            if isinstance(answer, int):
                assert await _status(a.connect(offers=offers)) == answer
                assert not gate.came
                return
            async with a.connect(offers=offers) as charger:
                assert charger.subprotocol == answer
                assert (await ask(charger, "Heartbeat"))[0] == 3
                assert gate.came == [("CP1", Version((answer or "ocpp1.6").lower()))]

    asyncio.run(scene())


def test_the_refusal_of_versions_says_what_to_offer() -> None:
    async def scene() -> None:
        async with site() as a:
            with pytest.raises(InvalidStatus) as caught:
                await a.connect(offers=("ocpp1.5",))
            assert b"ocpp1.6" in bytes(caught.value.response.body or b"")

    asyncio.run(scene())


async def _end(charger: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await heard(charger)
    return (0, "") if caught.value.rcvd is None else (caught.value.rcvd.code, caught.value.rcvd.reason)


def test_the_same_identity_with_the_same_credential_takes_over() -> None:
    """Trials O5: what runs stays with the peer, which sees the old one leave before the new one comes."""

    async def scene() -> None:
        async with site(gate=OpenGate(PASSWORDS)) as a:
            async with a.connect(password=PASSWORDS["CP1"]) as old:
                peer = a.gate.peer("CP1")
                await peer.attached.wait()
                asking = asyncio.create_task(peer.link.call("Reset", {"type": "Soft"}))
                await heard(old)
                async with a.connect(password=PASSWORDS["CP1"]) as new:
                    assert (await ask(new, "Heartbeat"))[0] == 3
                    assert (await _end(old))[0] == 1008
                    with pytest.raises(Unavailable):
                        await asking
                    assert peer.log == ["attach 0", "detach 0", "attach 1"]
                    assert await _status(a.connect(password=b"wrong")) == 401
                    assert (await ask(new, "Heartbeat"))[0] == 3
            await until(lambda: peer.log[-1] == "detach 1")

    asyncio.run(scene())


def test_the_same_identity_without_a_credential_stays_while_it_lives() -> None:
    async def scene() -> None:
        clock = FakeClock()
        async with site(clock=clock) as a, a.connect(close_timeout=0.1) as old:
            peer = a.gate.peer("CP1")
            await peer.attached.wait()
            assert await _status(a.connect()) == 409
            assert (await ask(old, "Heartbeat"))[0] == 3
            old.transport.pause_reading()  # its cable is cut
            opening = asyncio.create_task(_status(a.connect(close_timeout=0.1)))
            await until(lambda: a.counts["duplicate"] == 2)
            for _ in range(20):
                await asyncio.sleep(0)
            clock.advance(5.1)
            assert await opening == 101
            await until(lambda: peer.log[:3] == ["attach 0", "detach 0", "attach 1"])

    asyncio.run(scene())


def test_many_of_one_identity_at_once_leave_one() -> None:
    async def scene() -> None:
        async with site(gate=OpenGate(PASSWORDS)) as a, contextlib.AsyncExitStack() as stack:
            opening = (a.connect(password=PASSWORDS["CP1"]) for _ in range(12))
            chargers = await asyncio.gather(*(stack.enter_async_context(one) for one in opening))
            peer = a.gate.peer("CP1")
            await until(lambda: len(peer.log) == 23)
            attached = 0
            for line in peer.log:
                attached += 1 if line.startswith("attach") else -1
                assert attached in (0, 1)
            alive = [one for one in chargers if one.close_code is None]
            assert len(alive) == 1
            assert (await ask(alive[0], "Heartbeat"))[0] == 3

    asyncio.run(scene())


def test_messages_of_any_length_that_is_allowed() -> None:
    """Trials O7."""

    async def scene() -> None:
        async with site() as a:
            async with a.connect() as charger:
                for length in (64 << 10, (1 << 20) - 100):
                    assert (await ask(charger, "DataTransfer", {"vendorId": "V", "data": "x" * length}))[0] == 3
                await charger.send("x" * ((1 << 20) + 1))
                assert (await _end(charger))[0] == 1009
            async with a.connect("CP2") as charger:  # in parts
                with contextlib.suppress(ConnectionClosed):
                    await charger.send(["x" * (600 << 10), "x" * (600 << 10)])
                assert (await _end(charger))[0] == 1009

    asyncio.run(scene())


def test_a_message_that_unpacks_to_far_more() -> None:
    async def scene() -> None:
        async with site() as a, a.connect() as charger:
            assert "permessage-deflate" in charger.response.headers["Sec-WebSocket-Extensions"]  # type: ignore[union-attr]
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -12)
            data = b"".join(squeeze.compress(b" " * (1 << 20)) for _ in range(64)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            assert len(data) < 1 << 18
            head = bytes((0xC1, 0xFF)) + len(data[:-4]).to_bytes(8, "big") + bytes(4)  # compressed, a mask of zeros
            charger.transport.write(head + data[:-4])
            assert (await _end(charger))[0] == 1009
            assert not a.counts["frames"]

    asyncio.run(scene())


# Handshakes that are none


def _request(*headers: str, path: str = "/ocpp/CP1") -> bytes:
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: x",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol: ocpp1.6",
        *headers,
    )
    return "\r\n".join((*lines, "", "")).encode()


async def _raw(a: Site, data: bytes, *, ends: bool = False) -> bytes:
    """What comes back for these bytes, up to the end of the connection or of the headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
    answer = b""
    try:
        writer.write(data)
        if ends:
            writer.write_eof()
        while b"\r\n\r\n" not in answer and (part := await reader.read(65536)):
            answer += part
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return answer


BROKEN: dict[str, bytes] = {
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
    "bare LF": _request().replace(b"\r\n", b"\n"),
    "http 1.0": _request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "post": _request().replace(b"GET", b"POST"),
    "with a body": _request("Content-Length: 5") + b"hello",
    "chunked": _request("Transfer-Encoding: chunked"),
    "no upgrade": _request().replace(b"Upgrade: websocket\r\n", b""),
    "no key": _request().replace(b"Sec-WebSocket-Key", b"X-Key"),
    "bad key": _request().replace(b"AAAAAAAAAAAAAAAAAAAAAA==", b"AAAA"),
    "old version": _request().replace(b"Version: 13", b"Version: 8"),
    "long line": _request("X: " + "x" * 20_000),
    "long path": _request(path="/ocpp/" + "x" * 20_000),
    "many headers": _request(*(f"X-{n}: y" for n in range(300))),
    "bad header": _request("no colon"),
    "binary header": _request("X: \x01\x02"),
    "folded": _request("X: a\r\n b"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_handshakes_that_are_broken(data: bytes) -> None:
    async def scene() -> None:
        async with site() as a:
            answer = await _raw(a, data, ends=True)
            assert not answer.startswith(b"HTTP/1.1 101")
            assert not a.gate.came
            async with a.connect() as charger:
                assert (await ask(charger, "Heartbeat"))[0] == 3

    asyncio.run(scene())


@pytest.mark.parametrize(
    "data",
    [
        _request().replace(b"Connection: Upgrade\r\n", b""),
        _request().replace(b"Connection: Upgrade", b"connection: keep-alive, upgrade"),
        _request().replace(b"Upgrade: websocket", b"UPGRADE: WebSocket"),
        _request().replace(b"Protocol: ocpp1.6", b"Protocol: ocpp1.6, "),
        _request().replace(b"Protocol: ocpp1.6", b'Protocol: "ocpp1.6"'),
        _request("Origin: https://example.org", "X: \xff"),
        _request(path="//ocpp/CP1/?a=b"),
    ],
)
def test_handshakes_that_are_odd_but_do_no_harm(data: bytes) -> None:
    async def scene() -> None:
        async with site() as a:
            answer = await _raw(a, data)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nSec-WebSocket-Protocol: ocpp1.6\r\n" in answer
            await until(lambda: a.gate.came == [("CP1", Version.V16)])

    asyncio.run(scene())


def _noise(seed: int) -> bytes:
    draw = random.Random(seed)  # noqa: S311 - noise
    good = bytearray(_request())
    for _ in range(draw.randrange(1, 12)):
        at = draw.randrange(len(good))
        match draw.randrange(3):
            case 0:
                good[at] = draw.randrange(256)
            case 1:
                del good[at : at + draw.randrange(1, 20)]
            case _:
                good[at:at] = draw.randbytes(draw.randrange(1, 20))
    return bytes(good)


async def _noises(a: Site, seeds: range) -> None:
    for first in range(seeds.start, seeds.stop, 20):
        await asyncio.gather(*(_raw(a, _noise(seed), ends=True) for seed in range(first, first + 20)))
    async with a.connect("WELL") as charger:
        assert (await ask(charger, "Heartbeat"))[0] == 3


def test_handshakes_of_noise() -> None:
    async def scene() -> None:
        async with site() as a:
            await _noises(a, range(200))

    asyncio.run(scene())


@pytest.mark.long
def test_handshakes_of_noise_at_length() -> None:
    async def scene() -> None:
        async with site() as a:
            await _noises(a, range(20_000))

    asyncio.run(scene())


def test_frames_that_are_none() -> None:
    async def scene() -> None:
        async with site() as a:
            for number, data in enumerate((b"\x81\x05hello", b"\xf1\x80\0\0\0\0", b"\x8f\x80\0\0\0\0", b"\x80" * 40)):
                async with a.connect(f"CP{number}") as charger:
                    charger.transport.write(data)
                    assert (await _end(charger))[0] in {0, 1002}
            async with a.connect("WELL") as charger:
                assert (await ask(charger, "Heartbeat"))[0] == 3

    asyncio.run(scene())


@pytest.mark.parametrize("frame", [b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x00\x81\0\0\0\0 "])
def test_floods_of_what_is_no_message(frame: bytes) -> None:
    async def scene() -> None:
        clock = FakeClock()
        async with site(clock=clock) as a, a.connect("WELL") as well:
            async with a.connect("CP1") as charger:
                for _ in range(5):
                    charger.transport.write(b"\x01\x81\0\0\0\0 " + frame * 900 + b"\x80\x81\0\0\0\0 ")
                    assert (await ask(charger, "Heartbeat"))[0] == 3
                    clock.advance(1.0)
                    assert (await ask(well, "Heartbeat"))[0] == 3
                charger.transport.write(b"\x01\x81\0\0\0\0 " + frame * 2000)
                assert (await _end(charger))[0] == 0
            assert (await ask(well, "Heartbeat"))[0] == 3

    asyncio.run(scene())


# Slow and many


async def _half(port: int, source: str, data: bytes) -> socket.socket:
    """A connection that says a little and then no more."""
    loop = asyncio.get_running_loop()
    half = socket.socket()
    half.setblocking(False)
    half.bind((source, 0))
    await loop.sock_connect(half, ("127.0.0.1", port))
    await loop.sock_sendall(half, data)
    return half


async def _is_over(half: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(half, 4096):
            pass
    except OSError:
        pass
    return True


@pytest.mark.parametrize("data", [b"", b"G", b"GET /ocpp/CP1 HTTP/1.1\r\nHost: x\r\n"])
def test_handshakes_that_never_end(data: bytes) -> None:
    """Trials O3: bounded in number, over after 10 s, and nobody else has to wait for them."""

    async def scene() -> None:
        clock = FakeClock()
        limits = ServerLimits(half_open=150, half_open_each=100)
        async with site(clock=clock, limits=limits) as a:
            door = a.server._door
            assert door is not None
            halves = [await _half(a.port, f"127.0.0.{2 + n // 110}", data) for n in range(200)]
            await until(lambda: a.counts["handshake.crowded"] >= 50)
            assert door.waiting <= 150
            async with a.connect() as charger:
                assert (await ask(charger, "Heartbeat"))[0] == 3
                await until(lambda: door.waiting <= 150)
                clock.advance(8.0)
                await until(lambda: door.waiting > 0)
                clock.advance(1.5)
                assert all(await asyncio.gather(*map(_is_over, halves)))
                await until(lambda: door.waiting == 0)
                assert a.counts["handshake.crowded"] + a.counts["handshake.slow"] >= 200
                assert (await ask(charger, "Heartbeat"))[0] == 3
            for half in halves:
                half.close()

    asyncio.run(scene())


def test_too_many_connections() -> None:
    async def scene() -> None:
        async with site(gate=OpenGate(PASSWORDS), limits=ServerLimits(connections=1)) as a:
            async with a.connect("CP1", password=PASSWORDS["CP1"]):
                assert await _status(a.connect("CP2", password=PASSWORDS["CP2"])) == 503
                assert await _status(a.connect("CP1", password=PASSWORDS["CP1"])) == 101  # takes its own place
            await until(lambda: a.gate.peer("CP1").log[-1] == "detach 1")
            assert await _status(a.connect("CP2", password=PASSWORDS["CP2"])) == 101

    asyncio.run(scene())


def test_who_comes_again_and_again_is_turned_away_for_a_while() -> None:
    async def scene() -> None:
        clock = FakeClock()
        async with site(gate=OpenGate(PASSWORDS), clock=clock, limits=ServerLimits(arrivals=(3, 2.0))) as a:

            async def comes(identity: str = "CP1", password: bytes = PASSWORDS["CP1"]) -> int:
                return await _status(a.connect(identity, password=password))

            assert [await comes(password=b"wrong") for _ in range(5)] == [401] * 5  # locks nobody out
            assert [await comes() for _ in range(3)] == [101] * 3
            asked = len(a.gate.knocks)
            assert [await comes() for _ in range(2)] == [429] * 2
            assert len(a.gate.knocks) == asked  # no password is looked at
            assert a.gate.turned_away == [("CP1", "too_often")] * 2
            assert await comes("CP2", PASSWORDS["CP2"]) == 101
            clock.advance(2.0)
            assert [await comes() for _ in range(2)] == [101, 429]
            clock.advance(100.0)
            assert [await comes() for _ in range(4)] == [101, 101, 101, 429]

    asyncio.run(scene())


def test_who_comes_often_and_waits_is_counted_by_address() -> None:
    class Waiting(OpenGate):
        async def decide(self, knock: Knock) -> Decision:
            return replace(await super().decide(knock), entry=Entry.PENDING)

    async def scene() -> None:
        limits = ServerLimits(strangers=(3, 2.0), arrivals=(1, 1000.0))
        async with site(gate=Waiting(), clock=FakeClock(), limits=limits) as a:
            assert [await _status(a.connect(f"CP{number}")) for number in range(5)] == [101, 101, 101, 429, 429]
            assert a.gate.turned_away == [("CP3", "too_often"), ("CP4", "too_often")]

    asyncio.run(scene())


# Opening and closing


def test_a_port_that_is_taken() -> None:
    async def scene() -> None:
        async with site() as a:
            with pytest.raises(Unavailable, match="another program"):
                async with site(endpoint=Endpoint("127.0.0.1", a.port)):
                    pass
            with pytest.raises(Unavailable):
                async with site(endpoint=Endpoint("192.0.2.1", 0)):
                    pass

    asyncio.run(scene())


def test_it_opens_again_on_the_same_port() -> None:
    async def scene() -> None:
        async with site() as a, a.connect() as charger:
            assert (await ask(charger, "Heartbeat"))[0] == 3
            port = a.port
            a.task.cancel()
            assert await _end(charger) == (1001, "")
        async with site(endpoint=Endpoint("127.0.0.1", port)) as a, a.connect() as charger:
            assert (await ask(charger, "Heartbeat"))[0] == 3

    asyncio.run(scene())


def test_it_closes_in_time_whatever_its_chargers_do() -> None:
    """A peer that never comes to an end, a charger that does not read, and a half handshake."""

    async def never(call: Call) -> Payload | Fault:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return {}

    async def scene() -> None:
        gate = OpenGate()
        gate.peers["CP1"] = RecordingPeer(never)
        async with (
            site(gate=gate) as a,
            a.connect(close_timeout=0.1) as deaf,
            a.connect("CP2", close_timeout=0.1) as ill,
        ):
            await ill.send('[2,"1","Heartbeat",{}]')
            half = await _half(a.port, "127.0.0.1", b"GET")
            await gate.peer("CP1").attached.wait()
            deaf.transport.pause_reading()
            a.task.cancel()
            async with asyncio.timeout(60):  # bounded: else the test would wait for ever
                await asyncio.gather(a.task, return_exceptions=True)
            assert await _is_over(half)
            half.close()
            assert gate.peer("CP1").log == ["attach 0", "detach 0"]

    asyncio.run(scene())


def test_both_kinds_of_addresses() -> None:
    async def scene() -> None:
        if not socket.has_ipv6:
            pytest.skip("no IPv6 here")
        try:
            async with site(endpoint=Endpoint("::", 0)) as a, a.connect() as charger:
                assert (await ask(charger, "Heartbeat"))[0] == 3
                assert a.gate.knocks[0].address.startswith("127.0.0.1:")
        except Unavailable:
            pytest.skip("no IPv6 here")

    asyncio.run(scene())


@pytest.mark.parametrize("offers", [("ocpp1.6",), ("ocpp2.0.1",)])
def test_two_hundred_at_once(offers: tuple[str, ...]) -> None:
    """Trials O4 in short: all of them come in, each is answered."""

    async def scene() -> None:
        async with site() as a:

            async def charger(number: int) -> bool:
                async with a.connect(f"CP{number}", offers=offers) as one:
                    return (await ask(one, "Heartbeat", {}, str(number)))[:2] == [3, str(number)]

            assert all(await asyncio.gather(*map(charger, range(200))))
            assert a.counts["connected"] == 200

    asyncio.run(scene())


@pytest.mark.announced_warnings
def test_a_gatekeeper_that_fails_lets_nobody_in() -> None:
    class Broken(OpenGate):
        decide: Callable[..., object]  # type: ignore[assignment]

        def __init__(self) -> None:
            super().__init__()
            self.decide = self._fail

        async def _fail(self, _: object) -> None:
            raise KeyError("a bug")

    async def scene() -> None:
        async with site(gate=Broken()) as a:
            assert await _status(a.connect()) == 500

    asyncio.run(scene())
