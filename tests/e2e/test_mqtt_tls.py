"""TLS to the broker: who is refused and in which words, renewed files, and what an access list lets through."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from agent.core.clock import SystemClock
from agent.core.errors import Unavailable
from cloud_sync.credentials import text_of
from cloud_sync.link import LOOK_EVERY_S, MqttLink
from cloud_sync.mqtt import LEAVE_BEHIND_S, Message, Refused, Session
from cloud_sync.sending import GOODBYE_S
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.uplink import Uplink
from tests.authority import Authority
from tests.e2e.brokers import ROOT, BrokerProcess, mosquitto, needs
from tests.e2e.central_stub import Central
from tests.e2e.scripted_broker import Script, scripted_broker
from tests.e2e.subscriber import until
from tests.unit.uplink_fakes import BOOT, MemoryOutbox, block

YESTERDAY = -dt.timedelta(days=1)


class QuickClock(SystemClock):
    """A hundredth of each wait for files and of each back-off; goodbyes have their time."""

    async def sleep_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds if seconds in {GOODBYE_S, LEAVE_BEHIND_S} else seconds / 100)


@asynccontextmanager
async def tls_broker(
    authority: Authority, settings: str = "", server: str = "localhost", life: dt.timedelta = dt.timedelta(days=5)
) -> AsyncIterator[BrokerProcess]:
    folder = authority.ca_file.parent
    cert_file, key_file = authority.issue(f"server-{server}", server, life=life)
    broker = mosquitto(
        folder, f"cafile {authority.ca_file}\ncertfile {cert_file}\nkeyfile {key_file}\n{settings}", persistent=True
    )
    try:
        await broker.start()
        yield broker
    finally:
        await broker.kill()


@asynccontextmanager
async def standing(link: MqttLink) -> AsyncIterator[Session]:
    """The first connection; those after it stand too."""
    first: asyncio.Future[Session] = asyncio.get_running_loop().create_future()

    async def serve(session: Session) -> None:
        if not first.done():
            first.set_result(session)
        await asyncio.Event().wait()

    task = asyncio.ensure_future(link.run(serve))
    try:
        yield await asyncio.wait_for(first, 60)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def why_not(settings: LinkSettings, said: str) -> str:
    """Why no connection comes to stand, when the broker has ``said`` it: what is still sent to it as it closes may cost
    its words.
    """
    link = MqttLink(settings, QuickClock())

    async def serve(session: Session) -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(link.run(serve))
    try:
        # A broker that refuses a certificate after the handshake lets no connection stand either.
        with contextlib.suppress(TimeoutError):
            await until(lambda: (link.stats.failures > 1 and link.stats.last_error == said) or link.stats.connected)
        assert not link.stats.connected
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return link.stats.last_error


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.announced_warnings
@needs("mosquitto")
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("broker of another authority", "TLS: self-signed certificate in certificate chain"),
        ("broker's certificate has ended", "TLS: certificate has expired"),
        ("broker has another name", "TLS: Hostname mismatch, certificate is not valid for 'localhost'."),
        ("no certificate of ours", "TLS: the broker wants a certificate: cert_file and key_file"),
        ("ours is of another authority", "TLS: the broker does not know who signed our certificate"),
        ("ours has ended", "TLS: the broker says that our certificate has expired"),
        ("ours is not its key's", "TLS: cert_file and key_file do not belong together"),
    ],
)
def test_what_does_not_hold_is_no_connection_and_said_in_words(case: str, said: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        good, bad = Authority(tmp_path), Authority(tmp_path, "other")
        server, wants = "localhost", "require_certificate true\nuse_identity_as_username true"
        ours: tuple[Path | None, Path | None] = good.issue("ours", "depot-7")
        trusted, life = good.ca_file, dt.timedelta(days=5)
        if case == "broker of another authority":
            trusted = bad.ca_file
        elif case == "broker's certificate has ended":
            life = YESTERDAY
        elif case == "broker has another name":
            server = "broker.example"
        elif case == "no certificate of ours":
            ours = None, None
        elif case == "ours is of another authority":
            ours = bad.issue("ours", "depot-7")
        elif case == "ours has ended":
            ours = good.issue("ours", "depot-7", life=YESTERDAY)
        elif case == "ours is not its key's":
            ours = ours[0], good.issue("second", "depot-7")[1]
        async with tls_broker(good, wants, server, life) as broker:
            url = f"mqtts://localhost:{broker.port}"
            chosen = LinkSettings(url, "depot-7", ca_file=trusted, cert_file=ours[0], key_file=ours[1])
            assert await why_not(chosen, said) == said

    asyncio.run(scenario())


@contextmanager
def answering(answer: ssl.SSLContext | bytes) -> Iterator[int]:
    """A server that shakes hands, or answers with bytes, on a thread: asyncio would close without the alert."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # the test has ended
            with connection:
                try:
                    connection.settimeout(5)
                    if isinstance(answer, bytes):
                        connection.recv(1000)
                        connection.sendall(answer)
                        connection.recv(1000)
                    else:
                        answer.wrap_socket(connection, server_side=True).close()
                except OSError:
                    pass  # the client does not want it: that is what is tried

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)
@pytest.mark.announced_warnings
def test_a_server_with_old_tls_only_and_one_without_any(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.load_cert_chain(*authority.issue("server", "localhost"))

    async def scenario() -> None:
        for answer, said in (
            (context, "TLS: the broker has nothing newer than TLS 1.1"),
            (b"\x20\x02\x00\x00 and no TLS", "TLS: the broker does not speak TLS on this port"),
        ):
            with answering(answer) as port:
                chosen = LinkSettings(f"mqtts://localhost:{port}", "test", ca_file=authority.ca_file)
                assert await why_not(chosen, said) == said

    asyncio.run(scenario())


def test_a_key_that_asks_for_a_password_is_refused_before_the_start(tmp_path: Path) -> None:
    """OpenSSL would ask at the terminal, and the gateway would hang there."""
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - used here only
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    cert_file, key_file = Authority(tmp_path).issue("ours", "depot-7")
    key = load_pem_private_key(key_file.read_bytes(), None)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(Exception, match="the key has a password"):
        LinkSettings("mqtts://h", "c", cert_file=cert_file, key_file=key_file).check_files()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A gateway runs on without it; the one line of its log says which file it waits for."""
    gone = tmp_path / "gone.pem"
    with pytest.raises(FileNotFoundError) as caught:
        LinkSettings("mqtts://h", "c", ca_file=gone).tls_context()
    assert text_of(caught.value) == f"No such file or directory: {gone}"


def asking(authority: Authority) -> ssl.SSLContext:
    """A broker's context that wants certificates of this authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca_file))
    context.load_cert_chain(*authority.issue("server", "localhost"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def connected_by_certificate(tmp_path: Path) -> AsyncIterator[tuple[Authority, Script, MqttLink, Session]]:
    """A link that stands with the certificate ``ours``, and what the broker saw."""
    authority, script = Authority(tmp_path), Script()
    cert_file, key_file = authority.issue("ours", "depot-7")
    async with scripted_broker(script, asking(authority)) as port:
        chosen = LinkSettings(
            f"mqtts://localhost:{port}", "depot-7", ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file
        )
        link = MqttLink(chosen, QuickClock())
        async with standing(link) as session:
            yield authority, script, link, session


async def looks(number: int) -> None:
    """Wait while the files are looked at."""
    await asyncio.sleep(number * LOOK_EVERY_S / 100 + 0.1)


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    """It takes two looks, some 20 s; the connection is closed in good order, and nothing is a fault."""
    assert LOOK_EVERY_S * 3 < 60

    async def scenario() -> None:
        async with connected_by_certificate(tmp_path) as (authority, script, link, _):
            await looks(3)
            assert len(script.serials) == 1, "nothing new: nothing is done"
            authority.issue("ours", "depot-7")
            await until(lambda: link.stats.connections == 2)
            await looks(3)
            assert len(script.serials) == len(set(script.serials)) == 2
            assert script.disconnects == 1
            assert link.stats.failures == 0

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_broken_new_file_is_refused_and_the_old_one_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with connected_by_certificate(tmp_path) as (authority, script, link, _):
            (tmp_path / "ours.pem").write_text("no certificate")
            await until(lambda: "can't be used" in caplog.text)
            await looks(3)
            assert link.stats.connections == 1
            assert caplog.text.count("can't be used") == 1
            authority.issue("ours", "depot-7")
            await until(lambda: link.stats.connections == 2)
            assert len(set(script.serials)) == 2
            assert link.stats.failures == 0

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_while_the_files_are_broken_a_lost_connection_comes_back_with_the_old_ones(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected_by_certificate(tmp_path) as (_, script, link, session):
            (tmp_path / "ours.pem").unlink()
            (tmp_path / "ca.pem").write_text("")
            script.farewell = 0x8B  # the broker shuts down
            await session.publish("a", b"x")
            await until(lambda: not link.stats.connected)
            script.farewell = None
            await until(lambda: link.stats.connections == 2)
            assert len(script.serials) == 2
            assert len(set(script.serials)) == 1

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.announced_warnings
def test_a_new_certificate_that_the_broker_refuses_locks_nobody_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with connected_by_certificate(tmp_path) as (authority, script, link, _):
            Authority(tmp_path, "other").issue("ours", "depot-7")
            await until(lambda: link.stats.connections == 2)
            assert len(set(script.serials)) == 1
            assert "the former ones are in use" in caplog.text
            authority.issue("ours", "depot-7")
            await until(lambda: link.stats.connections == 3)
            assert len(set(script.serials)) == 2

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_renewed_password_is_taken_and_an_empty_file_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        file, script = tmp_path / "password", Script()
        file.write_text("first\n")
        async with scripted_broker(script) as port:
            chosen = LinkSettings(f"mqtt://127.0.0.1:{port}", "test", username="depot", password_file=file)
            link = MqttLink(chosen, QuickClock())
            async with standing(link):
                file.write_text("")  # as while it is being written
                await looks(3)
                assert link.stats.connections == 1
                file.write_text("second\n")
                await until(lambda: link.stats.connections == 2)
        assert [body.rpartition(b"depot")[2][2:] for body in script.connect_bodies] == [b"first", b"second"]

    asyncio.run(scenario())


#: As the head of config/mosquitto.acl says.
BY_CERTIFICATE = f"require_certificate true\nuse_identity_as_username true\nacl_file {ROOT}/config/mosquitto.acl"


def settings_of(authority: Authority, site: str, port: int, *, shown: str = "") -> LinkSettings:
    cert_file, key_file = authority.issue(f"client-{site}", shown or site)
    url = f"mqtts://localhost:{port}"
    return LinkSettings(url, f"client-{site}", ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file)


@pytest.mark.announced_warnings
@needs("mosquitto")
def test_with_the_example_access_list_a_gateway_reaches_nothing_of_another_site(tmp_path: Path) -> None:
    """A hundred messages each way that must not arrive, beside those that must."""

    async def scenario() -> None:
        authority = Authority(tmp_path)
        async with tls_broker(authority, BY_CERTIFICATE) as broker:
            forger = settings_of(authority, "forger", broker.port, shown="a")
            links = [
                MqttLink(settings_of(authority, name, broker.port), QuickClock()) for name in ("a", "b", "central")
            ]
            async with standing(links[0]) as a, standing(links[1]) as b, standing(links[2]) as central:
                await central.subscribe("enlace/+/telemetry", "enlace/+/event", "enlace/+/state")
                await b.subscribe("enlace/b/command", "enlace/b/ack")
                for wanted in (
                    "enlace/b/command",
                    "enlace/b/#",
                    "enlace/+/command",
                    "enlace/#",
                    "#",
                    "$share/g/enlace/#",
                ):
                    await _subscribe_anyhow(a, wanted)
                for number in range(25):
                    for topic in ("enlace/b/telemetry", "enlace/b/event", "enlace/b/command", "enlace/b/state"):
                        await _forge(forger, topic, b"forged %d" % number)
                for _ in range(50):
                    for topic in ("enlace/b/command", "enlace/b/ack"):
                        await (await central.publish(topic, b"for b"))
                await (await a.publish("enlace/a/telemetry", b"a's own"))
                await (await b.publish("enlace/b/event", b"b's own"))
                told = await _take(central, 2)
                assert sorted((m.topic, m.payload) for m in told) == [
                    ("enlace/a/telemetry", b"a's own"),
                    ("enlace/b/event", b"b's own"),
                ]
                got = await _take(b, 100)
                assert {message.payload for message in got} == {b"for b"}
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(a.next_message(), 0.5)

    asyncio.run(scenario())


async def _forge(forger: LinkSettings, topic: str, payload: bytes) -> None:
    """On a connection of its own: the broker ends it at once."""
    async with standing(MqttLink(forger, QuickClock())) as session:
        with pytest.raises(Unavailable):
            await (await session.publish(topic, payload))


async def _take(session: Session, number: int) -> list[Message]:
    taken = []
    for _ in range(number):
        taken.append(await asyncio.wait_for(session.next_message(), 60))
        session.acknowledge(taken[-1])
    return taken


async def _subscribe_anyhow(session: Session, topic_filter: str) -> None:
    with contextlib.suppress(Refused):  # it may also be granted and give nothing
        await session.subscribe(topic_filter)


@needs("mosquitto")
def test_a_certificate_that_is_renewed_under_way_costs_no_record(tmp_path: Path) -> None:
    """The whole uplink by client certificates and the example access list, with a new certificate in the middle."""

    async def scenario() -> None:
        authority, outbox = Authority(tmp_path), MemoryOutbox()
        async with tls_broker(authority, BY_CERTIFICATE) as broker:
            chosen = settings_of(authority, "depot-7", broker.port)
            uplink = Uplink(
                UplinkSettings(
                    chosen.url, "depot-7", ca_file=chosen.ca_file, cert_file=chosen.cert_file, key_file=chosen.key_file
                ),
                *(outbox, QuickClock(), lambda _: None),
                boot=BOOT,
                version="1",
            )
            central = Central("", link=settings_of(authority, "central", broker.port), ack=False)
            tasks = [asyncio.ensure_future(central.run())]
            await central.ready.wait()
            tasks.append(asyncio.ensure_future(uplink.run()))
            try:
                for seq in range(1, 101):
                    outbox.add(block(seq))
                    if seq == 50:
                        authority.issue("client-depot-7", "depot-7")
                    await asyncio.sleep(0.01)
                await until(lambda: uplink.status().connections == 2 and sorted(central.rows) == list(range(1, 101)))
                assert uplink.status().failures == 0
                assert central.changed == []
                assert central.states == [True, False, True]
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
