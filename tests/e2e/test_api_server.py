"""The embedded server on a real port of the loopback."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import cast

import httpx
import pytest

from agent.api.live import MAX_STREAMS
from agent.api.server import ApiServer, loopback_of
from agent.core.clock import SystemClock
from agent.core.errors import Unavailable
from tests.fake_view import SOC, FakeView

DEADLINE_S = 30.0


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
async def serving(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Served]:
    clock = SystemClock()
    view = FakeView(clock)
    server = ApiServer(view, clock, host, port)
    task = asyncio.create_task(server.run())
    await listening(server, task)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as client:
            yield Served(view, server, task, client)
    finally:
        await stop(task)


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


def test_every_described_route_answers_over_the_wire() -> None:
    async def test() -> None:
        async with serving() as served:
            paths = (await served.client.get("/openapi.json")).json()["paths"]
            for path in paths:
                if path == "/api/live":
                    continue
                url = path.replace("{device_id}", "battery1")
                params = {"signal": "battery1.soc_pct"} if "history" in path else None
                response = await served.client.get(url, params=params)
                assert response.status_code == 200, path
                assert response.content
            assert len(paths) == 8

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


def test_a_taken_port_is_unavailable_and_free_again_after_stop() -> None:
    async def test() -> None:
        async with serving() as served:
            assert served.server.address is not None
            port = served.server.address[1]
            clock = SystemClock()
            with pytest.raises(Unavailable, match=rf"listen on 127.0.0.1:{port}: .*in use"):
                await ApiServer(FakeView(clock), clock, "127.0.0.1", port).run()
        async with serving(port=port) as served:
            assert (await served.client.get("/api/system/health")).status_code == 200

    run(test)


def test_answers_do_not_wait_for_acknowledgements() -> None:
    clock = SystemClock()
    server = ApiServer(FakeView(clock), clock, "127.0.0.1", 0)
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


@pytest.mark.announced_warnings
def test_an_address_of_the_network_is_not_listened_on_yet(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving("0.0.0.0") as served:  # noqa: S104 - that it is not used is what this shows
            assert served.server.address is not None
            assert served.server.address[0] == "127.0.0.1"

    run(test)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "127.0.0.1 instead of 0.0.0.0" in line


@pytest.mark.parametrize(
    ("host", "used"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.5", "127.0.0.5"),
        ("localhost", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - the same
        ("10.0.0.7", "127.0.0.1"),
        ("gateway.example", "127.0.0.1"),
    ],
)
def test_only_the_loopback_is_listened_on(host: str, used: str) -> None:
    assert loopback_of(host) == used


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
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stuck:
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stuck.setblocking(False)
                await loop.sock_connect(stuck, served.server.address)
                await loop.sock_sendall(stuck, b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while not served.view.hub.counters()["subscribers"]:  # noqa: ASYNC110 - the hub tells nobody
                    await asyncio.sleep(0.01)
                await stop(served.task)
                assert served.view.hub.counters()["subscribers"] == 0

    run(test)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
