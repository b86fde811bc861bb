"""``/api/system/logs``, ``doctor`` and ``backup``: one file for who asks for help, one at a time; the audit knows."""

import asyncio
import io
import logging
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from starlette.types import Message

from agent.api.users import Role
from agent.api.view import LogPage, MadeBackup
from agent.core.errors import StoreError
from agent.doctor import Bundle, Finding, Section, make_bundle
from agent.doctor_redact import Known
from agent.log_ring import LogLine
from tests.fake_view import START_US
from tests.unit.api_rig import ELSEWHERE, Rig, problem

LINES = [
    LogLine(START_US + 1, logging.CRITICAL, "agent.app", "the worst"),
    LogLine(START_US, logging.DEBUG, "drivers.can", "the least"),
]


class FakeDesk:
    """``SupportDesk``."""

    def __init__(self, rig: Callable[[], Rig]) -> None:
        self._rig = rig
        self.asked: list[tuple[object, ...]] = []
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Event()
        self.stopped = threading.Event()
        self.file: BinaryIO | None = None
        self.error: StoreError | None = None

    def load(self) -> "FakeDesk":
        return self

    def logs(self, level: int, text: str, limit: int) -> LogPage:
        self.asked.append((level, text, limit))
        return LogPage(7, 3, LINES[:limit])

    def doctor(self, live: Mapping[str, object], findings: Sequence[tuple[str, str, str]]) -> Bundle:
        self.began.set()
        assert self.go.wait(60)
        sections = [Section(name, lambda told=told: told) for name, told in live.items()]  # type: ignore[misc]
        found = [Finding(*one) for one in findings]
        return make_bundle("depot 7/x", sections, lambda: found, Known(), self._rig().clock)

    def backup(self, stop: threading.Event, *, with_secrets: bool) -> MadeBackup:
        self.asked.append(("backup", with_secrets))
        self.began.set()
        while not self.go.wait(0.01):
            if stop.is_set():
                self.stopped.set()
                raise StoreError("back up", "nobody waits for it any more")
        if self.error is not None:
            raise self.error
        self.file = io.BytesIO(b"x" * 700_000)
        return MadeBackup(self.file, 700_000, "f" * 32, ("secret.key",))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made: list[Rig] = []
    made.append(Rig(tmp_path, support=FakeDesk(lambda: made[0]).load))
    return made[0]


def desk_of(rig: Rig) -> FakeDesk:
    load = rig.ports["support"]
    assert callable(load)
    found = load()
    assert isinstance(found, FakeDesk)
    return found


def test_log_lines_newest_first(rig: Rig) -> None:
    answer = rig.call("GET", "/api/system/logs?level=debug&text=the&limit=2", Role.ADMIN)
    assert answer.json() == {
        "total": 7,
        "dropped": 3,
        "items": [
            {"time": "2023-11-14T22:13:20.000001Z", "level": "error", "logger": "agent.app", "text": "the worst"},
            {"time": "2023-11-14T22:13:20.000000Z", "level": "debug", "logger": "drivers.can", "text": "the least"},
        ],
    }
    rig.call("GET", "/api/system/logs", Role.ADMIN)
    assert desk_of(rig).asked == [(logging.DEBUG, "the", 2), (logging.INFO, "", 200)]
    for wrong in ("level=loud", "limit=0", "limit=1001", f"text={'x' * 201}", "lines=1"):
        problem(rig.call("GET", f"/api/system/logs?{wrong}", Role.ADMIN), 422)


def test_a_bundle_has_what_runs_and_says_what_is_wrong_first(rig: Rig) -> None:
    answer = rig.call("POST", "/api/system/doctor", Role.ADMIN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    name = "enlace-doctor-depot_7_x-20231114T221320Z.zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        files = {one: archive.read(one).decode() for one in archive.namelist()}
    assert list(files)[:2] == ["summary.txt", "README.txt"]
    assert files["summary.txt"].splitlines() == [
        "warning: meter1: offline: open can1: no such device; is the adapter plugged in?"
    ]
    assert '"last_error": "open can1: no such device"' in files["gateway/devices.json"]
    assert "enlace_device_online" in files["gateway/metrics.txt"]
    assert "battery1.soc_pct" in files["gateway/signals.json"]
    assert rig.audit() == [("user:admin", "make support bundle", "gateway", "done")]


def test_a_backup_is_sent_whole_and_its_file_is_closed(rig: Rig) -> None:
    answer = rig.call("POST", "/api/system/backup?secrets=false", Role.ADMIN)
    assert (answer.status_code, len(answer.content)) == (200, 700_000)
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["content-length"] == "700000"
    disposition = 'attachment; filename="enlace-depot-7-20231114T221320Z.tar"'
    assert answer.headers["content-disposition"] == disposition
    desk = desk_of(rig)
    assert desk.asked == [("backup", False)]
    assert desk.file is not None
    assert desk.file.closed
    assert rig.audit() == [("user:admin", "make backup without secrets", "gateway", "done")]
    assert rig.told[-1].data["not_in_it"] == ["secret.key"]
    # and another one may follow
    assert rig.call("POST", "/api/system/backup", Role.ADMIN).status_code == 200


def test_a_backup_that_can_not_be_made_is_a_problem(rig: Rig) -> None:
    desk_of(rig).error = StoreError("back up to /data", "/data has 3 MiB left, 40 MiB are needed", "free some space")
    problem(rig.call("POST", "/api/system/backup", Role.ADMIN), 503, "3 MiB left", "free some space")
    assert rig.audit() == []


@pytest.mark.parametrize("what", ["doctor", "backup"])
def test_one_at_a_time(rig: Rig, what: str) -> None:
    desk = desk_of(rig)
    desk.go.clear()
    headers = {"authorization": f"Bearer {rig.tokens[Role.ADMIN]}"}

    async def main() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(rig.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            first = asyncio.create_task(client.post(f"/api/system/{what}"))
            await asyncio.to_thread(desk.began.wait, 60)
            second = await client.post(f"/api/system/{what}")
            desk.go.set()
            return await first, second

    first, second = asyncio.run(main())
    assert first.status_code == 200
    problem(second, 409, "is being made already")


def test_nobody_who_waits_any_more_ends_a_backup(rig: Rig) -> None:
    desk = desk_of(rig)
    desk.go.clear()
    headers = {"authorization": f"Bearer {rig.tokens[Role.ADMIN]}"}

    async def main() -> None:
        transport = httpx.ASGITransport(rig.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            first = asyncio.create_task(client.post("/api/system/backup"))
            await asyncio.to_thread(desk.began.wait, 60)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert await asyncio.to_thread(desk.stopped.wait, 60)

    asyncio.run(main())
    desk.go.set()
    assert rig.call("POST", "/api/system/backup", Role.ADMIN).status_code == 200


def test_a_client_that_leaves_ends_a_backup_too(rig: Rig) -> None:
    desk = desk_of(rig)
    desk.go.clear()

    async def main() -> list[int]:
        statuses: list[int] = []
        messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.to_thread(desk.began.wait, 60)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

        proof = f"Bearer {rig.tokens[Role.ADMIN]}".encode()
        path = "/api/system/backup"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"content-length", b"0"), (b"authorization", proof)],
            "client": (ELSEWHERE, 1),
            "server": ("localhost", 80),
        }
        await rig.app(scope, receive, send)
        assert await asyncio.to_thread(desk.stopped.wait, 60)
        return statuses

    assert asyncio.run(main()) == [400]


def test_a_gateway_without_a_desk_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for method, path in (("GET", "logs"), ("POST", "doctor"), ("POST", "backup")):
        problem(rig.call(method, f"/api/system/{path}", Role.ADMIN), 503, "runs without")
