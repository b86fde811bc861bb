"""The event backend's client against a real HTTP server on loopback, in all its moods."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests  # noqa: F401 - loaded here, so that no short time-out of a test is over before it is

from agent.core.clock import SystemClock
from agent.core.model import Event
from cloud_sync.backend_http import MAX_BYTES
from cloud_sync.event_backend import EventBackend
from cloud_sync.settings import EventBackendSettings
from drivers.ocpp.authority import SiteAuthority
from tests.control_fakes import FakeNotebook

TOKEN = "s3cret-t0ken"  # noqa: S105 - of tests
START, FINISH = "/api/events-status/pending-start/", "/api/events-status/pending-finish/"
SIX = 6


class Backend:
    """A server with events in ``states``; ``mood`` says how it answers, ``posts`` what it was told, ``asked`` all.

    A mood is that of all questions, of a method (``POST error``), or of one question (``POST /x/ error``).
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.states: dict[str, str] = {}
        self.over: set[str] = set()
        self.mood = ""
        self.asked: list[str] = []
        self.posts: list[str] = []
        self.tokens: set[str | None] = set()
        self.away = ""  #: where a redirect leads
        self.free = threading.Event()
        self.busy = threading.Event()  #: it was asked ``SIX`` times
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                backend.answer(self, "GET")

            def do_POST(self) -> None:
                backend.answer(self, "POST")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake in the connection's own thread: a client that breaks it off must not end the server.
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.free.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        self.asked.append(f"{method} {request.path}")
        if len(self.asked) == SIX:
            self.busy.set()
        self.tokens.add(request.headers["Authorization"])
        kind, _, mood = self.mood.rpartition(" ")
        if mood and kind in {"", method, f"{method} {request.path}"}:
            with contextlib.suppress(OSError):  # who asked may be gone
                getattr(self, f"_{mood}")(request)
            return
        if request.headers["Authorization"] != f"Bearer {TOKEN}":
            _send(request, 401, b'{"detail": "no"}')
        elif method == "GET":
            _send(request, 200, json.dumps(self._listed(request.path)).encode())
        else:
            self._take(request.path)
            _send(request, 200, b"{}")

    def _listed(self, path: str) -> list[dict[str, object]]:
        due = {START: "pending", FINISH: "started"}[path]
        found = [one for one, state in self.states.items() if state == due and (path == START or one in self.over)]
        return [{"id": int(one) if one.isdecimal() else one, "name": f"Event {one}"} for one in found]

    def _take(self, path: str) -> None:
        _, _, event_id, what = path.rstrip("/").rsplit("/", 3)
        event_id = unquote(event_id)
        self.posts.append(f"{event_id} {what}")
        self.states[event_id] = {"start": "started", "finish": "finished"}[what]

    def _error(self, request: BaseHTTPRequestHandler) -> None:
        _send(request, 500, b"<html>oops</html>")

    def _missing(self, request: BaseHTTPRequestHandler) -> None:
        _send(request, 404, b"nothing")

    def _garbage(self, request: BaseHTTPRequestHandler) -> None:
        _send(request, 200, b"\x00\xffgarbage")

    def _noise(self, request: BaseHTTPRequestHandler) -> None:
        request.connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        request.close_connection = True

    def _huge(self, request: BaseHTTPRequestHandler) -> None:
        _send(request, 200, b'["' + b"x" * (MAX_BYTES + 1) + b'"]')

    def _endless(self, request: BaseHTTPRequestHandler) -> None:
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self.free.is_set():
            request.connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    def _zipped(self, request: BaseHTTPRequestHandler) -> None:
        _send(request, 200, b"x", "Content-Encoding: gzip")

    def _cut(self, request: BaseHTTPRequestHandler) -> None:
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[")
        request.close_connection = True

    def _lost(self, request: BaseHTTPRequestHandler) -> None:
        self._take(request.path)
        request.close_connection = True

    def _away(self, request: BaseHTTPRequestHandler) -> None:
        _send(request, 307, b"", f"Location: {self.away}?secret=1")

    def _hang(self, request: BaseHTTPRequestHandler) -> None:
        self.free.wait()
        request.close_connection = True

    def _drip(self, request: BaseHTTPRequestHandler) -> None:
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.free.wait(0.02):
            request.connection.sendall(b"x")
        request.close_connection = True

    def _twice(self, request: BaseHTTPRequestHandler) -> None:
        _send(request, 200, json.dumps({"results": self._listed(request.path) * 3}).encode())


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, *headers: str) -> None:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    request.connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


@pytest.fixture
def backend() -> Iterator[Backend]:
    one = Backend()
    yield one
    one.close()


class Client:
    """The client, and what it called and told."""

    def __init__(self, folder: Path, url: str, *, timeout_s: float = 10, token: str = TOKEN) -> None:
        self.token_file = folder / "token"
        self.token_file.write_text(token + "\n")
        self.events: list[Event] = []
        self.notebook = FakeNotebook()
        self.log: list[str] = []
        self.backend = EventBackend(
            EventBackendSettings(url, self.token_file, 60, timeout_s),
            SystemClock(),
            self.notebook,
            self.events.append,
            lambda event_id, data: self.log.append(f"start {event_id} {data['name']}"),
            lambda event_id, data: self.log.append(f"finish {event_id} {data['name']}"),
        )

    def looks(self, times: int = 1) -> str:
        """Ask so many times; why it can't be used after that."""

        async def main() -> None:
            for _ in range(times):
                await self.backend.look()

        asyncio.run(main())
        return self.backend.failing

    def edges(self) -> list[str]:
        return [event.kind for event in self.events if event.subject == "event_backend"]


def test_events_begin_and_end_as_the_server_says(tmp_path: Path, backend: Backend) -> None:
    backend.states = {"7": "pending", "a b/c": "pending"}
    client = Client(tmp_path, backend.url)
    assert client.looks(2) == ""
    assert client.log == ["start 7 Event 7", "start a b/c Event a b/c"]
    backend.over = {"7"}
    assert client.looks(2) == ""
    assert client.log[2:] == ["finish 7 Event 7"]
    assert [one for one in backend.asked if one.startswith("POST")] == [
        "POST /api/events-status/7/start/",
        "POST /api/events-status/a%20b%2Fc/start/",
        "POST /api/events-status/7/finish/",
    ]
    assert backend.tokens == {f"Bearer {TOKEN}"}
    assert client.edges() == []


@pytest.mark.announced_warnings
@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("error", "HTTP 500"),
        ("missing", r"is url: right\?"),
        ("garbage", "no JSON"),
        ("noise", "can't be reached"),
        ("huge", "longer than 1000000 bytes"),
        ("endless", "longer than 1000000 bytes"),
        ("zipped", "compressed"),
        ("cut", "can't be reached"),
    ],
)
def test_a_server_that_fails_is_told_once_and_asked_again(
    tmp_path: Path, backend: Backend, mood: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend.states, backend.mood = {"7": "pending"}, mood
    client = Client(tmp_path, backend.url)
    for _ in range(3):
        failing = client.looks()
    assert backend.asked == [f"GET {START}", f"GET {FINISH}"] * 3
    assert re.search(words, failing), failing
    backend.mood = ""
    assert client.looks() == ""
    assert client.log == ["start 7 Event 7"]
    assert client.edges() == ["event_backend.failed", "event_backend.back"]
    assert client.events[0].data["reason"] == failing
    lines = [record.getMessage() for record in caplog.records if record.name == "cloud_sync.event_backend"]
    assert len(lines) == 2
    assert TOKEN not in caplog.text


@pytest.mark.announced_warnings
def test_a_server_that_is_not_there_comes_back(tmp_path: Path) -> None:
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        client = Client(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert "can't be reached" in client.looks(3)
    assert client.edges() == ["event_backend.failed"]


@pytest.mark.announced_warnings
@pytest.mark.parametrize("mood", ["hang", "drip"])
def test_a_server_that_hangs_or_drips_holds_one_thread_and_nobody_else(
    tmp_path: Path, backend: Backend, mood: str
) -> None:
    backend.states, backend.mood = {"7": "pending"}, mood
    client = Client(tmp_path, backend.url, timeout_s=0.3)

    async def main() -> None:
        for _ in range(3):
            await client.backend.look()

    asyncio.run(main())  # which does not wait for the thread
    assert client.backend.failing
    waiting = [one for one in threading.enumerate() if one.name == "event backend"]
    assert len(waiting) <= 1
    backend.mood = ""
    backend.free.set()
    for one in waiting:
        one.join(10)
    client = Client(tmp_path, backend.url)
    assert client.looks() == ""
    assert client.log == ["start 7 Event 7"]


@pytest.mark.announced_warnings
def test_the_token_is_read_anew_and_never_told(
    tmp_path: Path, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.states = {"7": "pending"}
    client = Client(tmp_path, backend.url, token="wr0ng-one")  # noqa: S106 - of tests
    assert "refuses the token (HTTP 401)" in client.looks()
    client.token_file.write_text("two words")
    assert "holds no token" in client.looks()
    client.token_file.unlink()
    assert "No such file" in client.looks()
    assert len(backend.asked) == 2, "without a token nobody is asked"
    client.token_file.write_text(TOKEN)
    assert client.looks() == ""
    assert client.log == ["start 7 Event 7"]
    told = caplog.text + repr(client.events) + repr(client.notebook.events)
    assert not any(word in told for word in ("wr0ng", "two words", TOKEN))


@pytest.mark.announced_warnings
def test_nothing_is_followed_to_another_place(tmp_path: Path, backend: Backend) -> None:
    other = Backend()
    try:
        backend.states, backend.mood, backend.away = {"7": "pending"}, "away", f"{other.url}/x"
        client = Client(tmp_path, backend.url)
        failing = client.looks()
        assert "sends us on to http://127.0.0.1" in failing
        assert "secret" not in failing
        backend.mood = "POST away"
        assert "sends us on" in client.looks()
        assert client.notebook.notes("backend_event") == {}, "it did not begin"
        assert other.asked == []
    finally:
        other.close()


@pytest.mark.announced_warnings
def test_an_answer_that_was_lost_is_not_told_twice(tmp_path: Path, backend: Backend) -> None:
    backend.states, backend.mood = {"7": "pending"}, "POST lost"
    client = Client(tmp_path, backend.url)
    assert "can't be reached" in client.looks()
    assert client.log == []
    backend.mood = ""
    assert client.looks() == ""
    assert (client.log, backend.posts) == (["start 7 Event 7"], ["7 start"])
    backend.over, backend.mood = {"7"}, "POST lost"
    client.looks()
    backend.mood = ""
    assert client.looks() == ""
    assert (client.log[1:], backend.posts) == (["finish 7 Event 7"], ["7 start", "7 finish"])


def test_what_is_listed_several_times_is_one(tmp_path: Path, backend: Backend) -> None:
    backend.states, backend.mood = {"7": "pending", "8": "pending"}, "GET twice"
    client = Client(tmp_path, backend.url)
    assert client.looks() == ""
    assert sorted(backend.posts) == ["7 start", "8 start"]


@pytest.mark.announced_warnings
@pytest.mark.parametrize("mood", ["error", "garbage", "missing", "cut", "zipped"])
@pytest.mark.parametrize("path", [START, FINISH])
def test_a_list_that_fails_holds_up_no_other(tmp_path: Path, backend: Backend, path: str, mood: str) -> None:
    backend.states, backend.over = {"7": "pending", "9": "started"}, {"9"}
    backend.mood = f"GET {path} {mood}"
    client = Client(tmp_path, backend.url)
    for _ in range(2):
        assert client.looks()
    assert backend.posts == (["9 finish"] if path == START else ["7 start"])
    backend.mood = ""
    assert client.looks() == ""
    assert sorted(backend.posts) == ["7 start", "9 finish"]
    assert client.edges() == ["event_backend.failed", "event_backend.back"]


@pytest.mark.announced_warnings
@pytest.mark.parametrize("what", ["start", "finish"])
def test_an_event_that_the_server_fails_over_holds_up_no_other(tmp_path: Path, backend: Backend, what: str) -> None:
    backend.states = {"7": "pending", "8": "pending", "9": "started", "10": "started"}
    backend.over = {"9", "10"}
    hurt = "7" if what == "start" else "9"
    backend.mood = f"POST /api/events-status/{hurt}/{what}/ error"
    client = Client(tmp_path, backend.url)
    assert f"{what} event {hurt}: it answers HTTP 500" in client.looks(3)
    rest = sorted({"7 start", "8 start", "9 finish", "10 finish"} - {f"{hurt} {what}"})
    assert sorted(backend.posts) == rest
    backend.mood = ""
    assert client.looks() == ""
    assert backend.posts[3:] == [f"{hurt} {what}"]
    assert client.edges() == ["event_backend.failed", "event_backend.back"]


@pytest.mark.announced_warnings
@pytest.mark.parametrize("mood", ["hang", "cut"])
def test_an_event_that_nobody_answers_for_lets_the_others_have_their_turn(
    tmp_path: Path, backend: Backend, mood: str
) -> None:
    backend.states, backend.over = {"7": "pending", "8": "pending", "9": "started"}, {"9"}
    backend.mood = f"POST /api/events-status/7/start/ {mood}"
    client = Client(tmp_path, backend.url, timeout_s=0.5)
    for _ in range(20):  # on a busy machine others are too slow too
        assert client.looks()
        if len(backend.posts) == 2:
            break
    assert sorted(backend.posts) == ["8 start", "9 finish"]
    backend.free.set()


@pytest.mark.announced_warnings
def test_a_certificate_is_verified_before_the_token_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = SiteAuthority(tmp_path, SystemClock())
    backend = Backend(authority.server_pairs("127.0.0.1")[0])
    try:
        backend.states = {"7": "pending"}
        client = Client(tmp_path, backend.url)
        assert "certificate can't be verified" in client.looks()
        assert backend.asked == []
        trusted = tmp_path / "trusted.pem"
        trusted.write_text(authority.certificate_pem())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
        assert client.looks() == ""
        assert client.log == ["start 7 Event 7"]
    finally:
        backend.close()


def test_a_login_of_this_machine_is_not_sent(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ana password nobody-asked\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert Client(tmp_path, backend.url).looks() == ""
    assert backend.tokens == {f"Bearer {TOKEN}"}


def test_it_is_asked_each_time_until_it_is_cancelled(tmp_path: Path, backend: Backend) -> None:
    client = Client(tmp_path, backend.url)
    object.__setattr__(client.backend._settings, "every_s", 0.01)

    async def main() -> None:
        running = asyncio.ensure_future(client.backend.run())
        assert await asyncio.to_thread(backend.busy.wait, 60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert backend.asked[:4] == [f"GET {START}", f"GET {FINISH}"] * 2
