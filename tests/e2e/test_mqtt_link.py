"""The link over real sockets: versions, windows, PUBACKs of every kind, half-open connections, refusals, stopping."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import shutil
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import Unavailable
from cloud_sync.link import EARLY_ENDS, GOOD_CONNECTION_S, MAX_BACKOFF_S, TAKEN_OVER_BACKOFF_S, MqttLink
from cloud_sync.mqtt import (
    LEAVE_BEHIND_S,
    MAX_IN_FLIGHT,
    MAX_IN_FLIGHT_BYTES,
    TAKEN_OVER_NEWS_S,
    Refused,
    Session,
)
from cloud_sync.mqtt_wire import ANSWER_TIMEOUT_S, CONNACK_TIMEOUT_S, Wire
from cloud_sync.settings import LinkSettings, Will
from drivers.sim.broker import broker
from tests.e2e.proxy import proxy_to
from tests.e2e.scripted_broker import Script, scripted_broker


class HurriedClock(SystemClock):
    """The real clock, but a back-off is noted and not waited for."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep_s(self, seconds: float) -> None:
        if seconds == LEAVE_BEHIND_S:
            await asyncio.sleep(seconds)
            return
        self.waits.append(seconds)
        await asyncio.sleep(0)


class SteppedClock(FakeClock):
    """A clock that jumps to the end of each back-off at once and notes its length."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep_s(self, seconds: float) -> None:
        if seconds == LEAVE_BEHIND_S:
            await asyncio.sleep(seconds)
            return
        self.waits.append(seconds)
        self.advance(seconds)


def settings(port: int, keepalive_s: int = 30, will: Will | None = None) -> LinkSettings:
    return LinkSettings(f"mqtt://127.0.0.1:{port}", "test", keepalive_s=keepalive_s, will=will)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens behind a socket
            await asyncio.sleep(0.005)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def once(link: MqttLink, serve: Callable[[Session], Awaitable[None]]) -> None:
    """Run the link until ``serve`` has come to its end."""
    async with asyncio.timeout(60):
        await link.run(serve)


async def stop(task: "asyncio.Future[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@pytest.mark.parametrize(("versions", "taken"), [((4, 5), "5"), ((4,), "3.1.1")])
@pytest.mark.announced_warnings
def test_mqtt_5_is_taken_and_3_1_1_where_the_broker_has_no_more(versions: tuple[int, ...], taken: str) -> None:
    async def scenario() -> None:
        script = Script(versions=versions)
        async with scripted_broker(script) as port:
            link = MqttLink(settings(port), HurriedClock())

            async def serve(session: Session) -> None:
                await (await session.publish("a/b", b"x"))
                assert session.protocol == taken

            await once(link, serve)
            assert script.published == [("a/b", b"x")]
            assert script.disconnects == 1
            assert link.stats.acknowledged == 1

    asyncio.run(scenario())


def test_a_version_that_is_refused_in_so_many_words_costs_no_wait() -> None:
    async def scenario() -> None:
        async with broker() as port:
            clock = HurriedClock()

            async def serve(session: Session) -> None:
                assert session.protocol == "3.1.1"

            await once(MqttLink(settings(port), clock), serve)
            assert clock.waits == []

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.announced_warnings
def test_duplicate_and_unknown_pubacks_do_nothing(version: int) -> None:
    async def scenario() -> None:
        script = Script(versions=(version,), pubacks=3, unknown_pubacks=True)
        async with scripted_broker(script) as port:
            link = MqttLink(settings(port), HurriedClock())

            async def serve(session: Session) -> None:
                acknowledgements = [await session.publish("a", b"%d" % number) for number in range(300)]
                await asyncio.gather(*acknowledgements)
                assert session.unacknowledged == 0

            await once(link, serve)
            assert [payload for _, payload in script.published] == [b"%d" % number for number in range(300)]
            assert link.stats.acknowledged == 300

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("script", "window"),
    [
        (Script(pubacks=0), MAX_IN_FLIGHT),
        (Script(pubacks=0, connack=b"\x00\x00\x03\x21\x00\x01"), 1),  # Receive Maximum 1
    ],
)
def test_the_window_is_ours_or_the_brokers(script: Script, window: int) -> None:
    async def scenario() -> None:
        async with scripted_broker(script) as port:

            async def serve(session: Session) -> None:
                async def publish_all() -> None:
                    for number in range(300):
                        await session.publish("a", b"%d" % number)

                publishing = asyncio.ensure_future(publish_all())
                await until(lambda: len(script.published) == window)
                await asyncio.sleep(0.1)
                assert session.unacknowledged == len(script.published) == window
                assert session._wire._client is not None
                assert len(session._wire._client._out_messages) == window, "paho holds more than the window"
                await stop(publishing)

            await once(MqttLink(settings(port), HurriedClock()), serve)

    asyncio.run(scenario())


def test_the_window_counts_bytes_too_and_a_larger_message_goes_alone() -> None:
    async def scenario() -> None:
        script = Script(pubacks=0)
        async with scripted_broker(script) as port:

            async def serve(session: Session) -> None:
                await session.publish("a", bytes(MAX_IN_FLIGHT_BYTES + 1))
                waiting = asyncio.ensure_future(session.publish("a", b"x"))
                await until(lambda: len(script.published) == 1)
                await asyncio.sleep(0.05)
                assert not waiting.done()
                await stop(waiting)  # type: ignore[arg-type]

            await once(MqttLink(settings(port), HurriedClock()), serve)

    asyncio.run(scenario())


def test_what_a_broker_says_of_its_limits_is_believed() -> None:
    async def scenario() -> None:
        script = Script(connack=b"\x00\x00\x05\x27\x00\x00\x03\xe8")  # Maximum Packet Size 1000
        async with scripted_broker(script) as port:

            async def serve(session: Session) -> None:
                with pytest.raises(Refused, match="more than the broker takes"):
                    await session.publish("a", bytes(1000))
                await (await session.publish("a", bytes(900)))

            await once(MqttLink(settings(port), HurriedClock()), serve)

    asyncio.run(scenario())


def test_a_refused_message_fails_alone() -> None:
    async def scenario() -> None:
        script = Script(refuse_code=0x99)
        async with scripted_broker(script) as port:

            async def serve(session: Session) -> None:
                with pytest.raises(Refused, match="Payload format invalid"):
                    await (await session.publish("a", b"x"))
                script.refuse_code = 0x10  # no matching subscribers: taken all the same
                await (await session.publish("a", b"x"))

            await once(MqttLink(settings(port), HurriedClock()), serve)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_broker_that_refuses_everything_is_a_fault_of_the_connection() -> None:
    async def scenario() -> None:
        script = Script(refuse_code=0x87)
        async with scripted_broker(script) as port:
            link = MqttLink(settings(port), HurriedClock())

            async def serve(session: Session) -> None:
                if link.stats.connections == 2:
                    return
                with pytest.raises(Unavailable, match="Not authorized"):
                    await (await session.publish("a", b"x"))
                await asyncio.sleep(10)

            await once(link, serve)
            assert "Not authorized" in link.stats.last_error

    asyncio.run(scenario())


def test_a_refused_subscription_says_so() -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(suback=0x87)) as port:

            async def serve(session: Session) -> None:
                with pytest.raises(Refused, match="Not authorized"):
                    await session.subscribe("a/#")

            await once(MqttLink(settings(port), HurriedClock()), serve)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_connection_that_is_cut_fails_what_waits_and_comes_back() -> None:
    async def scenario() -> None:
        async with broker() as port, proxy_to(port) as proxy:
            link = MqttLink(settings(proxy.port), HurriedClock())
            seen: list[str] = []

            async def serve(session: Session) -> None:
                if seen:
                    await (await session.publish("a", b"again"))
                    seen.append("again")
                    return
                proxy.mute = True
                waiting = await session.publish("a", b"x")
                proxy.cut()
                with pytest.raises(Unavailable, match="closed the connection"):
                    await waiting
                with pytest.raises(Unavailable):
                    await session.publish("a", b"y")
                proxy.mute = False
                seen.append("cut")
                await asyncio.sleep(10)

            await once(link, serve)
            assert seen == ["cut", "again"]
            assert link.stats.connections == 2

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_half_open_connection_is_found_by_the_keep_alive() -> None:
    """Trial D9: within 1.5 keep-alives. The shortest keep-alive; only the test's own limit is asserted."""

    async def scenario() -> None:
        async with broker() as port, proxy_to(port) as proxy:
            link = MqttLink(settings(proxy.port, keepalive_s=5), HurriedClock())

            async def serve(session: Session) -> None:
                if link.stats.connections > 1:
                    return
                await (await session.publish("a", b"x"))
                proxy.frozen = True
                waiting = await session.publish("a", b"y")
                with pytest.raises(Unavailable, match="no answer to a ping within 5 s"):
                    await waiting
                proxy.frozen = False
                await asyncio.sleep(10)

            await once(link, serve)
            assert link._patience == 1, "it was not slow: it had acknowledged before"

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_broker_that_never_acknowledges_is_left_but_not_soon() -> None:
    async def scenario() -> None:
        script = Script(pubacks=0)
        clock = FakeClock()
        async with scripted_broker(script) as port:
            link = MqttLink(settings(port, keepalive_s=3600), clock, jitter=lambda: 1.0)
            task = asyncio.ensure_future(link.run(_publish_and_wait))
            await until(lambda: len(script.published) == 1)
            clock.advance(ANSWER_TIMEOUT_S - 1)
            await asyncio.sleep(1.2)
            assert link.stats.connected
            clock.advance(2)
            await until(lambda: not link.stats.connected)
            assert link.stats.last_error == "no PUBACK or SUBACK for 120 s"
            await until(lambda: link.stats.next_try_s is not None)
            clock.advance(1.0)
            await until(lambda: len(script.published) == 2)
            await stop_with(clock, task)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_broker_that_never_answers_a_subscription_is_left() -> None:
    async def scenario() -> None:
        asked = asyncio.Event()

        async def serve(session: Session) -> None:
            asked.set()
            await session.subscribe("a")

        clock = FakeClock()
        async with scripted_broker(Script(suback=None)) as port:
            link = MqttLink(settings(port, keepalive_s=3600), clock, jitter=lambda: 1.0)
            task = asyncio.ensure_future(link.run(serve))
            await asked.wait()
            await until(lambda: link.stats.connected)
            clock.advance(ANSWER_TIMEOUT_S - 1)
            await asyncio.sleep(1.2)
            assert link.stats.connected
            clock.advance(2)
            await until(lambda: not link.stats.connected)
            assert link.stats.last_error == "no PUBACK or SUBACK for 120 s"
            await stop_with(clock, task)

    asyncio.run(scenario())


async def stop_with(clock: FakeClock, task: "asyncio.Future[None]") -> None:
    task.cancel()
    while not task.done():
        clock.advance(1.0)
        await asyncio.sleep(0.05)
    assert task.cancelled()


async def _publish_and_wait(session: Session) -> None:
    await session.publish("a", b"x")
    await asyncio.sleep(60)


@pytest.mark.announced_warnings
def test_a_session_that_was_taken_over_waits_long(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        script = Script(farewell=0x8E)
        async with scripted_broker(script) as port:
            clock = HurriedClock()
            link = MqttLink(settings(port), clock)

            async def serve(session: Session) -> None:
                if link.stats.connections == 3:
                    return
                await session.publish("a", b"x")
                await asyncio.sleep(10)

            await once(link, serve)
            assert "taken over" in link.stats.last_error
            assert len(clock.waits) == 2
            assert all(TAKEN_OVER_BACKOFF_S <= wait_s <= 2 * TAKEN_OVER_BACKOFF_S for wait_s in clock.waits)
            assert clock.waits[0] != clock.waits[1], "both would meet again and again"

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_refusals_back_off_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Trial D12 in short: no socket, no thread and no log line more after many refusals than after a few."""

    async def scenario() -> None:
        async with broker() as port, proxy_to(port) as proxy:
            clock = HurriedClock()
            link = MqttLink(settings(proxy.port), clock, jitter=lambda: 1.0)
            proxy.refuse = True
            served = asyncio.Event()

            async def serve(session: Session) -> None:
                served.set()

            task = asyncio.ensure_future(link.run(serve))
            await until(lambda: proxy.accepted > 20)
            gc.collect()
            files, threads = open_files(), threading.active_count()
            await until(lambda: proxy.accepted > 120, 120)
            gc.collect()
            assert open_files() <= files + 6
            assert threading.active_count() <= threads + 2
            assert clock.waits[:8] == [1, 2, 4, 8, 16, 32, MAX_BACKOFF_S, MAX_BACKOFF_S]
            assert link.stats.last_error == "the broker closed the connection"
            proxy.refuse = False
            async with asyncio.timeout(60):
                await served.wait()
                await task
            lines = [record for record in caplog.records if record.name == "cloud_sync.link"]
            assert [record.levelno for record in lines] == [logging.WARNING, logging.INFO]

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_jitter_spreads_the_tries_and_only_a_good_connection_resets_them() -> None:
    async def scenario() -> None:
        async with scripted_broker(Script()) as port:
            clock = SteppedClock()
            link = MqttLink(settings(port), clock, jitter=lambda: 0.0)
            lives = [1.0, 1.0, GOOD_CONNECTION_S, 1.0]

            async def serve(session: Session) -> None:
                if not lives:
                    return
                clock.advance(lives.pop(0))
                raise Unavailable("serve", "enough")

            await once(link, serve)
            assert clock.waits == [0.5, 1.0, 0.5, 1.0]
            assert link.stats.last_error == "enough"

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_connection_that_the_broker_closes_later_on_lacked_no_connack() -> None:
    """It was taken for one, so that the next connection was made with MQTT 3.1.1."""

    async def scenario() -> None:
        async with scripted_broker(Script()) as port, proxy_to(port) as proxy:
            clock = SteppedClock()
            link = MqttLink(settings(proxy.port), clock)

            async def serve(session: Session) -> None:
                if link.stats.connections == 1:
                    clock.advance(CONNACK_TIMEOUT_S + 1)
                    proxy.cut()
                    await asyncio.sleep(10)

            await once(link, serve)
            assert link.stats.last_error == "the broker closed the connection"
            assert link.stats.protocol == "5"

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_broker_that_cuts_again_and_again_is_taken_for_one_that_has_another_client_of_our_name() -> None:
    """Mosquitto 2.0 tells of no take-over, with MQTT 5 neither."""

    async def scenario() -> None:
        async with scripted_broker(Script()) as port, proxy_to(port) as proxy:
            clock = SteppedClock()
            link = MqttLink(settings(proxy.port), clock, jitter=lambda: 0.0)

            async def serve(session: Session) -> None:
                if link.stats.connections <= EARLY_ENDS:
                    assert not link.stats.duplicate(clock.monotonic_s())
                    proxy.cut()
                    await asyncio.sleep(10)
                elif link.stats.connections == EARLY_ENDS + 1:
                    assert link.stats.duplicate(clock.monotonic_s())
                    clock.advance(TAKEN_OVER_NEWS_S)
                    assert not link.stats.duplicate(clock.monotonic_s())

            await once(link, serve)
            assert clock.waits == [0.5, 1.0, 2.0, 4.0, TAKEN_OVER_BACKOFF_S]
            assert "does another client call itself test" in link.stats.last_error

    asyncio.run(scenario())


def test_a_gateway_with_more_than_a_thousand_open_files_connects() -> None:
    """select(2) can't take descriptors from 1024 on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1500:
        pytest.skip("this machine allows fewer open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))

    async def scenario() -> None:
        async with scripted_broker(Script()) as port:

            async def serve(session: Session) -> None:
                await (await session.publish("a", b"x"))

            with contextlib.ExitStack() as files:
                while open_files() < 1100:
                    files.callback(os.close, os.dup(0))
                await once(MqttLink(settings(port), HurriedClock()), serve)

    try:
        asyncio.run(scenario())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.announced_warnings
def test_nobody_there_is_said_in_words() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        link = MqttLink(settings(port), HurriedClock())
        task = asyncio.ensure_future(link.run(_never))
        await until(lambda: link.stats.failures > 2)
        assert link.stats.last_error == "Connection refused"
        await stop(task)

    asyncio.run(scenario())


async def _never(session: Session) -> None:
    raise AssertionError("there is no connection")


def test_stopping_while_the_broker_says_nothing_is_quick() -> None:
    async def scenario() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with server:
            task = asyncio.ensure_future(
                MqttLink(settings(server.sockets[0].getsockname()[1]), SystemClock()).run(_never)
            )
            await asyncio.sleep(0.2)
            async with asyncio.timeout(60):
                await stop(task)

    asyncio.run(scenario())


def test_messages_come_in_and_are_acknowledged_by_whom_they_reach() -> None:
    async def scenario() -> None:
        async with broker() as port:
            link = MqttLink(settings(port), SystemClock())

            async def serve(session: Session) -> None:
                await session.subscribe("in/+")
                for number in range(20):
                    await (await session.publish(f"in/{number}", b"%d" % number))
                received = [await session.next_message() for _ in range(20)]
                for message in received:
                    session.acknowledge(message)
                assert {(message.topic, message.payload) for message in received} == {
                    (f"in/{number}", b"%d" % number) for number in range(20)
                }
                assert not any(message.retain for message in received)

            await once(link, serve)
            assert link.stats.inbox_dropped == 0

    asyncio.run(scenario())


def test_what_serve_raises_comes_out() -> None:
    async def scenario() -> None:
        async with broker() as port:

            async def serve(session: Session) -> None:
                raise KeyError("a bug")

            with pytest.raises(KeyError, match="a bug"):
                await once(MqttLink(settings(port), SystemClock()), serve)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_thread_that_dies_is_a_connection_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda caught: died.append(str(caught.exc_value)))
    real = Wire._overdue

    def once_broken(self: Wire, *args: object) -> object:
        if not died and self._stood:
            raise KeyError("inside the client")
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Wire, "_overdue", once_broken)

    async def scenario() -> None:
        async with broker() as port:
            link = MqttLink(settings(port), HurriedClock())

            async def serve(session: Session) -> None:
                if link.stats.connections == 1:
                    await asyncio.sleep(10)

            await once(link, serve)
            assert link.stats.last_error == "the client's thread died"
            assert died == ["'inside the client'"]

    asyncio.run(scenario())


OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed: TLS is not tried")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls_and_the_password_of_a_file(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2\n")

    async def scenario() -> None:
        script = Script()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        async with scripted_broker(script, context) as port:
            chosen = LinkSettings(
                f"mqtts://localhost:{port}", "test", username="depot", password_file=password, ca_file=certificate[0]
            )
            chosen.check_files()

            async def serve(session: Session) -> None:
                await (await session.publish("a", bytes(200_000)))

            await once(MqttLink(chosen, HurriedClock()), serve)
            assert len(script.published[0][1]) == 200_000
            assert script.connect_bodies[0].endswith(b"\x00\x05depot\x00\x07hunter2")

    asyncio.run(scenario())


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.announced_warnings
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_that_does_not_hold_is_no_connection(certificate: tuple[Path, Path], host: str) -> None:
    """With the right name it lacks a trusted issuer; with the wrong name it is trusted and still not the broker's."""

    async def scenario() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        script = Script()
        async with scripted_broker(script, context) as port:
            trusted = certificate[0] if host == "127.0.0.1" else None
            link = MqttLink(LinkSettings(f"mqtts://{host}:{port}", "test", ca_file=trusted), HurriedClock())
            task = asyncio.ensure_future(link.run(_never))
            await until(lambda: link.stats.failures > 0)
            await stop(task)
            assert link.stats.last_error.startswith("TLS: ")
            assert ("mismatch" if trusted else "self-signed") in link.stats.last_error
            assert script.connects == []
        gc.collect()

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_password_file_that_is_gone_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script()) as port:
            chosen = LinkSettings(f"mqtt://127.0.0.1:{port}", "test", username="depot", password_file=tmp_path / "gone")
            link = MqttLink(chosen, HurriedClock())
            task = asyncio.ensure_future(link.run(_never))
            await until(lambda: link.stats.failures > 0)
            await stop(task)
            assert link.stats.last_error == f"No such file or directory: {tmp_path / 'gone'}"

    asyncio.run(scenario())
