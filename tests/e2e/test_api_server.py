"""The embedded server on a real port of the loopback."""

import asyncio
import contextlib
import json
import logging
import re
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import cast

import h11
import httpx
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.api.connections import DEFAULT_PATIENCE, Patience, Sweep
from agent.api.live import MAX_STREAMS
from agent.api.server import ApiServer
from agent.api.users import Role, UserBook
from agent.config_api import is_loopback
from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import Unavailable
from tests.fake_view import SOC, FakeView, quick_passwords
from tests.unit.test_api import READINGS

DEADLINE_S = 60.0


class Served:
    """A running server and a client of it."""

    def __init__(
        self, view: FakeView, server: ApiServer, task: "asyncio.Task[None]", client: httpx.AsyncClient
    ) -> None:
        self.view = view
        self.server = server
        self.task = task
        self.client = client


@contextlib.asynccontextmanager
async def serving(
    host: str = "127.0.0.1", port: int = 0, patience: Patience = DEFAULT_PATIENCE
) -> AsyncIterator[Served]:
    clock = SystemClock()
    view = FakeView(clock)
    with tempfile.TemporaryDirectory() as folder:
        users = UserBook(Path(folder))
        users.add("ana", Role.ADMIN, "no password is this hash")
        headers = {"authorization": f"Bearer {users.add_token('ana', 'tests', 0)}"}
        server = ApiServer(view, clock, host, port, Path(folder))
        server.patience = patience
        task = asyncio.create_task(server.run())
        await listening(server, task)
        try:
            async with httpx.AsyncClient(base_url=reached(server), timeout=DEADLINE_S, headers=headers) as client:
                yield Served(view, server, task, client)
        finally:
            await stop(task)


def reached(server: ApiServer) -> str:
    return server.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - where it listens, not where it is reached


async def listening(server: ApiServer, task: "asyncio.Task[None]") -> None:
    """Wait until the server listens or has failed."""
    while not server.url and not task.done():  # noqa: ASYNC110 - what a program beside it could see
        await asyncio.sleep(0.01)


async def stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def run(test: Callable[[], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), DEADLINE_S)

    asyncio.run(main())


def test_serves_on_a_free_port_that_it_tells(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent")

    async def test() -> None:
        async with serving() as served:
            assert served.server.address is not None
            assert served.server.address[1] > 0
            response = await served.client.get("/api/system/health")
            assert response.status_code == 200
            assert response.headers["content-type"] == "application/json"
            assert "server" not in response.headers
            assert f"api: {served.server.url}" in caplog.messages

    run(test)


def test_readings_answer_over_the_wire() -> None:
    async def test() -> None:
        async with serving() as served:
            for url in READINGS:
                response = await served.client.get(url)
                assert response.status_code == 200, url
                assert response.content

    run(test)


async def events(response: httpx.Response) -> AsyncGenerator[tuple[str, dict[str, object]], None]:
    kind = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            values = cast("list[dict[str, object]]", json.loads(line.removeprefix("data: "))["values"])
            yield kind, {str(value["name"]): value["value"] for value in values}


def test_the_live_stream_brings_changes_and_ends_cleanly_at_stop() -> None:
    async def test() -> None:
        async with serving() as served, served.client.stream("GET", "/api/live?device=battery1") as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            async with contextlib.aclosing(events(response)) as stream:
                kind, values = await anext(stream)
                assert (kind, values["battery1.soc_pct"]) == ("snapshot", None)
                served.view.put((SOC, 81))
                assert await anext(stream) == ("change", {"battery1.soc_pct": 81})
                stopping = asyncio.create_task(stop(served.task))
                # The body ends as chunked encoding wants it: a cut connection would raise here.
                assert [event async for event in stream] == []
            await stopping
            assert served.view.hub.counters()["subscribers"] == 0

    run(test)


def test_a_client_that_leaves_gives_its_place_back() -> None:
    async def test() -> None:
        async with serving() as served:
            for _ in range(MAX_STREAMS + 3):
                async with served.client.stream("GET", "/api/live") as response:
                    assert response.status_code == 200
                    async with contextlib.aclosing(events(response)) as stream:
                        await anext(stream)
            while served.view.hub.counters()["subscribers"]:
                served.view.put((SOC, 1))
                await asyncio.sleep(0.02)

    run(test)


def test_one_stream_too_many_is_refused() -> None:
    async def test() -> None:
        async with serving() as served, contextlib.AsyncExitStack() as stack:
            for _ in range(MAX_STREAMS):
                response = await stack.enter_async_context(served.client.stream("GET", "/api/live"))
                stream = await stack.enter_async_context(contextlib.aclosing(events(response)))
                await anext(stream)
            refused = await served.client.get("/api/live")
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["retry-after"] == "10"

    run(test)


def test_an_unknown_device_has_no_stream() -> None:
    async def test() -> None:
        async with serving() as served:
            assert (await served.client.get("/api/live?device=nobody")).status_code == 404

    run(test)


def test_leaves_the_signals_of_the_process_alone() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def test() -> None:
        installed = {number: signal.getsignal(number) for number in before}
        async with serving() as served:
            await served.client.get("/api/system/health")
            assert {number: signal.getsignal(number) for number in before} == installed

    run(test)
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_taken_port_is_unavailable_and_free_again_after_stop(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving() as served:
            assert served.server.address is not None
            port = served.server.address[1]
            clock = SystemClock()
            with pytest.raises(Unavailable, match=rf"listen on 127.0.0.1:{port}: .*in use"):
                await ApiServer(FakeView(clock), clock, "127.0.0.1", port, tmp_path).run()
        async with serving(port=port) as served:
            assert (await served.client.get("/api/system/health")).status_code == 200

    run(test)


def test_answers_do_not_wait_for_acknowledgements(tmp_path: Path) -> None:
    clock = SystemClock()
    server = ApiServer(FakeView(clock), clock, "127.0.0.1", 0, tmp_path)
    with server._listen() as listening:
        # asyncio switches Nagle's algorithm off for accepted sockets whose protocol is named, and for no others.
        assert listening.proto == socket.IPPROTO_TCP


def test_runs_again_on_the_same_port() -> None:
    async def test() -> None:
        async with serving() as served:
            address = served.server.address
            await stop(served.task)
            assert served.server.url == ""
            task = asyncio.create_task(served.server.run())
            await listening(served.server, task)
            assert served.server.address == address
            await stop(task)

    run(test)


def test_an_address_of_the_network_is_listened_on_and_strange_names_are_not_answered() -> None:
    async def test() -> None:
        async with serving("0.0.0.0") as served:  # noqa: S104 - what this is about
            assert served.server.address is not None
            assert served.server.address[0] == "0.0.0.0"  # noqa: S104 - the same
            hosts = {"10.0.0.7": 200, socket.gethostname().lower(): 200, "evil.example": 421}
            for host, status in hosts.items():
                response = await served.client.get("/api/signals", headers={"host": host})
                assert response.status_code == status, host

    run(test)


def test_the_loopback_is_known_as_such() -> None:
    hosts = {"127.0.0.1": True, "127.0.0.5": True, "localhost": True, "::1": True, "::": False, "0.0.0.0": False}  # noqa: S104 - the same
    assert {host: is_loopback(host) for host in hosts} == hosts


def test_set_up_by_the_code_that_is_said_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        clock = SystemClock()
        server = ApiServer(FakeView(clock), clock, "127.0.0.1", 0, tmp_path, passwords=quick_passwords())
        task = asyncio.create_task(server.run())
        await listening(server, task)
        async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as client:
            assert (await client.get("/api/signals")).status_code == 403
            assert (await client.get("/api/system/health")).json() == {"status": "degraded"}
            (code,) = re.findall(r"with the code (\S+)", capsys.readouterr().err)
            body = {"code": code, "username": "ana", "password": "a few words of mine"}
            made = await client.post("/api/auth/setup", json=body)
            assert made.status_code == 200, made.text
            proof = {"authorization": f"Bearer {made.json()['access_token']}"}
            assert (await client.get("/api/signals", headers=proof)).status_code == 200
            assert (await client.post("/api/auth/setup", json=body)).status_code == 409
        await stop(task)
        # Set up once: the next start says no code.
        task = asyncio.create_task(server.run())
        await listening(server, task)
        await stop(task)
        assert "code" not in capsys.readouterr().err

    run(test)


def test_garbage_on_the_port_disturbs_nobody() -> None:
    async def test() -> None:
        async with serving() as served:
            assert served.server.address is not None
            for garbage in (b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"GET " + b"a" * 100_000):
                reader, writer = await asyncio.open_connection(*served.server.address)
                writer.write(garbage)
                writer.write_eof()
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            assert (await served.client.get("/api/system/health")).status_code == 200

    run(test)


def test_listens_on_ipv6_where_there_is_one() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    async def test() -> None:
        async with serving("::1") as served:
            assert served.server.url.startswith("http://[::1]:")
            assert (await served.client.get("/api/system/health")).status_code == 200

    run(test)


def test_a_client_that_never_reads_does_not_hold_up_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving() as served:
            assert served.server.address is not None
            # A snapshot of 20 MB: more than all buffers hold, so the answer can't go on.
            served.view.known = [replace(SOC, name="x" * 10_000, id=n) for n in range(1, 2000)]
            loop = asyncio.get_running_loop()
            proof = served.client.headers["authorization"].encode()
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stuck:
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stuck.setblocking(False)
                await loop.sock_connect(stuck, served.server.address)
                await loop.sock_sendall(
                    stuck, b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + proof + b"\r\n\r\n"
                )
                while not served.view.hub.counters()["subscribers"]:  # noqa: ASYNC110 - the hub tells nobody
                    await asyncio.sleep(0.01)
                await stop(served.task)
                assert served.view.hub.counters()["subscribers"] == 0

    run(test)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


HEAD = b"GET /api/system/health HTTP/1.1\r\nhost: localhost\r\n"
BODY = (
    b"POST /api/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{"
)


@pytest.mark.parametrize(
    "sent",
    [[b""], [HEAD], [b"GET / HTTP/1.1\r\nx: ", b"a", b"b"], [BODY], [BODY, b'"', b"u"], [HEAD + b"\r\n", HEAD]],
    ids=["nothing", "half a head", "a head byte by byte", "half a body", "a body byte by byte", "a second head"],
)
def test_a_client_that_sends_too_slowly_is_cut(sent: list[bytes]) -> None:
    async def test() -> None:
        async with serving(patience=Patience(0.2, 0.2, 0.2, 0.2)) as served:
            assert served.server.address is not None
            reader, writer = await asyncio.open_connection(*served.server.address)
            for part in sent:
                writer.write(part)
                await writer.drain()
                if part.endswith(b"\r\n\r\n"):
                    await reader.readuntil(b"}")
            with contextlib.suppress(ConnectionResetError):
                assert not await reader.read(), "nothing is answered, the connection ends"
            writer.close()
            response = await served.client.get("/api/system/health")
            assert response.status_code == 200

    run(test)


def test_single_bytes_give_a_slow_client_no_more_time() -> None:
    clock, now = FakeClock(), 0.0
    one = _Slow()
    sweep = Sweep(lambda: [cast("H11Protocol", one)], clock)
    one.conn.receive_data(b"GET / HTTP/1.1\r\n")
    while not one.aborted:
        sweep.look()
        one.conn.receive_data(b"x")
        clock.advance(1)
        now += 1
        assert now < 60
    assert now == pytest.approx(DEFAULT_PATIENCE.head_s, abs=2)


def test_who_reads_nothing_is_cut_and_who_reads_slowly_is_not() -> None:
    clock = FakeClock()
    reading, deaf = _Slow(unread=1000), _Slow(unread=1000)
    sweep = Sweep(lambda: cast("list[H11Protocol]", [reading, deaf]), clock)
    for _ in range(60):
        sweep.look()
        reading.unread -= 1
        clock.advance(1)
    assert (reading.aborted, deaf.aborted) == (False, True)


class _Slow:
    """A connection as uvicorn has it, without a socket."""

    def __init__(self, unread: int = 0) -> None:
        self.conn = h11.Connection(h11.SERVER)
        self.cycle = None
        self.transport = self
        self.unread = unread
        self.aborted = False

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True
