"""The local API over TLS on a real port of the loopback: as browsers, programs and those who mean harm meet it."""

import asyncio
import contextlib
import hashlib
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import cast

import httpx
import pytest

from agent.api import door, server
from agent.api.server import ApiServer, Face
from agent.api.tls import FOLDER, Certificates
from agent.api.users import Role, UserBook
from agent.core.clock import SystemClock
from agent.core.errors import Unavailable
from tests.e2e import site
from tests.fake_view import SOC, FakeView, quick_passwords
from tests.ports import free_port

DEADLINE_S = 60.0
PASSWORD = "a few words of mine"  # noqa: S105 - of tests


class Served:
    def __init__(self, api: ApiServer, made: Certificates, folder: Path, view: FakeView) -> None:
        assert api.address is not None
        self.view = view
        self.certificates = made
        self.folder = folder
        self.port = api.address[1]
        self.url = f"https://localhost:{self.port}"

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=(self.folder / FOLDER / "authority.pem").read_text())

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=DEADLINE_S, verify=self.trusting())

    async def serial(self) -> int:
        """Of the certificate that a new connection is shown."""
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trusting(), server_hostname="localhost"
        )
        try:
            told = writer.get_extra_info("peercert")["serialNumber"]
            return int(told, 16)
        finally:
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(folder: Path, host: str = "127.0.0.1", own: tuple[Path, Path] | None = None) -> AsyncIterator[Served]:
    clock = SystemClock()
    users = UserBook(folder)
    if not users.set_up:
        users.add("ana", Role.ADMIN, quick_passwords().hash(PASSWORD))
    made = Certificates(folder, clock, own)
    view = FakeView(clock)
    api = ApiServer(view, clock, host, 0, folder, face=Face(made), passwords=quick_passwords())
    task = asyncio.create_task(api.run())
    while api.address is None and not task.done():  # noqa: ASYNC110 - what a program beside it could see
        await asyncio.sleep(0.01)
    try:
        yield Served(api, made, folder, view)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def run(test: Callable[[], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), DEADLINE_S)

    asyncio.run(main())


def test_the_authority_is_fetched_by_everybody_and_then_trusted(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            async with httpx.AsyncClient(base_url=served.url, verify=False) as stranger:  # noqa: S501 - the first look
                pem = (await stranger.get("/api/system/authority.pem")).text
            assert "PRIVATE" not in pem
            trusting = ssl.create_default_context(cadata=pem)
            async with httpx.AsyncClient(base_url=served.url, verify=trusting) as client:
                answer = await client.get("/api/system/health")
            assert answer.json() == {"status": "degraded"} or answer.json() == {"status": "OK"}
            assert "strict-transport-security" not in answer.headers, "a browser could not be talked out of it"
            with pytest.raises(httpx.ConnectError, match="self-signed"):
                await httpx.AsyncClient(base_url=served.url).get("/")

    run(test)


def test_a_browser_logs_in_by_cookie_over_tls(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.client() as browser:
            own = {"origin": served.url, "sec-fetch-site": "same-origin", "x-enlace-csrf": "1"}
            body = {"username": "ana", "password": PASSWORD, "cookie": True}
            answer = await browser.post("/api/auth/login", json=body, headers=own)
            assert answer.status_code == 200, answer.text
            name, _, rest = answer.headers["set-cookie"].partition("=")
            # RFC 6265bis, 4.1.3.2: what a browser asks of such a name, or it keeps nothing.
            attributes = {one.strip().lower() for one in rest.split(";")[1:]}
            assert name == "__Host-enlace_session"
            assert {"secure", "path=/", "httponly", "samesite=strict"} <= attributes
            assert not any(one.startswith("domain") for one in attributes)
            assert (await browser.get("/api/auth/me")).json() == {"username": "ana", "role": "admin"}
            new = {"username": "luis", "password": PASSWORD, "role": "viewer"}
            plain = own | {"origin": served.url.replace("https", "http")}
            assert (await browser.post("/api/users", json=new, headers=plain)).status_code == 403
            assert (await browser.post("/api/users", json=new, headers=own)).status_code == 201
            async with browser.stream("GET", "/api/live", headers=own) as stream:
                assert stream.status_code == 200
            # The name that is used without TLS is worth nothing here.
            value = rest.partition(";")[0]
            browser.cookies.clear()
            answer = await browser.get("/api/auth/me", headers={"cookie": f"enlace_session={value}"})
            assert answer.status_code == 401
            answer = await browser.get("/api/auth/me", headers={"cookie": f"__Host-enlace_session={value}"})
            assert answer.status_code == 200
            assert (
                await browser.post("/api/auth/logout", headers=own | {"cookie": f"{name}={value}"})
            ).status_code == 204

    run(test)


def test_plain_http_is_sent_to_https_and_gets_nothing_else(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            base = served.url.replace("https", "http")
            async with httpx.AsyncClient(base_url=base, timeout=DEADLINE_S) as client:
                answer = await client.get("/docs?x=1")
                assert (answer.status_code, answer.headers["location"]) == (307, f"{served.url}/docs?x=1")
                answer = await client.post("/api/auth/login", json={"username": "ana", "password": PASSWORD})
                assert answer.status_code == 400
                assert "speaks TLS" in answer.json()["detail"]
                answer = await client.get("/", headers={"host": "evil.example"})
                assert answer.status_code == 421, "nobody is sent to another name"

    run(test)


def test_a_certificate_is_renewed_while_a_stream_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CERTIFICATES_S", 0.02)

    async def test() -> None:
        async with serving(tmp_path) as served, served.client() as client:
            tokens = (await client.post("/api/auth/login", json={"username": "ana", "password": PASSWORD})).json()
            proof = {"authorization": f"Bearer {tokens['access_token']}"}
            async with (
                client.stream("GET", "/api/live", headers=proof) as stream,
                contextlib.aclosing(cast("AsyncGenerator[str, None]", stream.aiter_lines())) as lines,
            ):
                assert await anext(lines) == "retry: 2000"
                before = await served.serial()
                (tmp_path / FOLDER / "server.pem").unlink()
                while await served.serial() == before:  # noqa: ASYNC110 - what a client could see
                    await asyncio.sleep(0.02)
                served.view.put((SOC, 81))
                while await anext(lines) != "event: change":
                    continue  # the open connection goes on

    run(test)


@pytest.mark.announced_warnings
def test_the_sites_own_certificate_with_hsts_and_a_bad_one_put_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "CERTIFICATES_S", 0.02)
    Certificates(tmp_path, SystemClock()).look()
    pair = tmp_path / FOLDER / "server.pem", tmp_path / "own.key"
    pair[1].write_bytes(pair[0].read_bytes())

    async def test() -> None:
        async with serving(tmp_path, own=pair) as served, served.client() as client:
            answer = await client.get("/api/system/health")
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert (await client.get("/api/system/authority.pem")).status_code == 404
            pair[1].write_bytes(b"nonsense")
            while "the certificate that is there stays" not in caplog.text:  # noqa: ASYNC110 - what a person could see
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            assert caplog.text.count("the certificate that is there stays") == 1
            assert await served.serial()

    run(test)


@pytest.mark.announced_warnings
def test_without_a_usable_certificate_it_serves_nobody(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_bytes(b"nonsense")

    async def test() -> None:
        clock = SystemClock()
        made = Certificates(tmp_path, clock, (tmp_path / "none.pem", tmp_path / "none.pem"))
        api = ApiServer(FakeView(clock), clock, "127.0.0.1", 0, tmp_path, face=Face(made))
        with pytest.raises(Unavailable, match=r"none\.pem"):
            await api.run()
        assert api.address is None

    run(test)


def test_who_opens_connections_and_says_nothing_loses_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_S", 3.0)  # so long has who is honest, on a busy machine too

    async def test() -> None:
        async with serving(tmp_path) as served, served.client() as client:
            silent = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(20)]
            half, half_writer = await asyncio.open_connection("127.0.0.1", served.port)
            half_writer.write(b"\x16\x03\x01\x02\x00")  # begins a handshake and never goes on
            garbage, garbage_writer = await asyncio.open_connection("127.0.0.1", served.port)
            garbage_writer.write(b"\x16" + b"\x00" * 100)
            assert (await client.get("/api/system/health")).status_code == 200
            for reader in (*(one[0] for one in silent), half):
                assert await reader.read() == b""
            await garbage.read()  # an alert, and the end
            for writer in (*(one[1] for one in silent), half_writer, garbage_writer):
                writer.close()

    run(test)


def test_connections_that_begin_with_anything_do_no_harm_to_the_next(tmp_path: Path) -> None:
    """Their sockets' numbers are used again at once: what is still known of the old one must not be the new one's."""
    beginnings = (
        b"\x16" + b"\x00" * 50,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b"",
        b"\x00",
        b"\x16\x03\x01\x00\x01\x01",
    )

    async def begin(port: int, number: int) -> None:
        with contextlib.suppress(OSError):  # cut by the other side
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(beginnings[number % len(beginnings)])
            writer.close()
            await writer.wait_closed()

    async def test() -> None:
        async with serving(tmp_path) as served:
            for turn in range(10):
                await asyncio.gather(*(begin(served.port, turn + number) for number in range(30)))
                async with served.client() as client:
                    assert (await client.get("/api/system/health")).status_code == 200

    run(test)


def test_one_address_has_so_many_places_and_leaves_some_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MAX_OF_ADDRESS", 5)
    # As if each address of the loopback were another machine.
    monkeypatch.setattr(door, "site_of", lambda address: address)

    async def test() -> None:
        async with serving(tmp_path, "0.0.0.0") as served, served.client() as client:  # noqa: S104 - all of the loopback
            greedy = [
                await asyncio.open_connection("127.0.0.1", served.port, local_addr=("127.0.0.9", 0)) for _ in range(9)
            ]
            for reader, _ in greedy[5:]:
                assert await reader.read() == b""
            assert (await client.get("/api/system/health")).status_code == 200
            for _, writer in greedy:
                writer.close()
            answer = None
            while answer is None:  # the places come back
                with contextlib.suppress(OSError):
                    transport = httpx.AsyncHTTPTransport(verify=served.trusting(), local_address="127.0.0.9")
                    async with httpx.AsyncClient(transport=transport, base_url=served.url) as other:
                        answer = await other.get("/api/system/health")
            assert answer.status_code == 200

    run(test)


def test_a_gateway_that_others_can_reach_speaks_tls_from_its_first_start(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "run.log"
    config = tmp_path / "site.yaml"
    contact = "mailto:security@site.example"
    text = f'data_dir: data\nsite: {{id: test}}\napi: {{listen: "0.0.0.0:{port}", security_contact: "{contact}"}}\n'
    config.write_text(text.replace("data_dir: data", f"data_dir: {tmp_path}/data"))
    with site.process("agent", "run", "--config", str(config), log=log):
        site.wait_until(lambda: "with the code" in log.read_text(), "the code")
        assert f"api: https://0.0.0.0:{port}" in log.read_text()
        context = ssl.create_default_context(cafile=tmp_path / "data" / FOLDER / "authority.pem")
        for name in ("localhost", "127.0.0.1"):
            with urllib.request.urlopen(f"https://{name}:{port}/.well-known/security.txt", context=context) as answer:
                assert f"Contact: {contact}\n" in answer.read().decode()
        token = _token(port, log, context)
        site.wait_until(lambda: _certificate_days(port, token, context)[-1:] == [396], "it watches its certificate")
        fingerprint = re.findall(r"SHA-256 (\S+)", log.read_text())[0]
        with urllib.request.urlopen(f"https://localhost:{port}/api/system/authority.pem", context=context) as answer:
            shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(answer.read().decode())).hexdigest()
        assert fingerprint.replace(":", "").lower() == shown
    assert "Traceback" not in log.read_text()


def _token(port: int, log: Path, context: ssl.SSLContext) -> str:
    """Of the first admin, made over TLS with the code of the log."""
    code = re.findall(r"with the code (\S+)", log.read_text())[-1]
    body = json.dumps({"code": code, "username": "ana", "password": PASSWORD}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"https://localhost:{port}/api/auth/setup", body, headers, method="POST")
    with urllib.request.urlopen(request, context=context) as answer:  # noqa: S310 - https, made above
        return str(json.load(answer)["access_token"])


def _certificate_days(port: int, token: str, context: ssl.SSLContext) -> list[float]:
    """What the gateway knows of its certificate."""
    url = f"https://localhost:{port}/api/history?signal=gateway.certificate_days"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, context=context) as answer:  # noqa: S310 - https, made above
            return [one["last"] for one in json.load(answer)["points"]]
    except urllib.error.HTTPError as error:
        with error:
            return []  # there is no such signal yet
