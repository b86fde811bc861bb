"""The whole API over made-up ports, in process, with a user of each role."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import httpx
from fastapi import FastAPI

from agent.api.access import LOGIN
from agent.api.app import create_app
from agent.api.auth import Auth
from agent.api.users import Role, UserBook
from agent.api.view import Adopted, SitePorts
from agent.control.alarm_model import Alarms
from agent.control.memory import Memory
from agent.control.model import Station
from agent.control.registered import RegisteredStations, may_be_registered
from agent.control.timed_events import TimedEvents
from agent.core.clock import FakeClock
from agent.core.model import Event, Session
from agent.store import audit_file, ledger, schema
from agent.store.audit import Row
from agent.store.audit_file import Wanted
from tests.fake_view import (
    KNOCKING,
    START_US,
    FakeChannels,
    FakeControl,
    FakeDeriver,
    FakeEditor,
    FakeNotebook,
    FakeSessions,
    FakeView,
    fake_hash,
    quick_auth,
    quick_passwords,
)

Json = dict[str, Any]
PASSWORD = "a few words of mine"  # noqa: S105 - of tests
#: Who asks from another machine, unless a test says otherwise.
ELSEWHERE = "10.0.0.9"

SESSIONS = [
    Session("cp1", 1, "a", START_US, 7, "", "04A2", 1000, 4000, START_US + 9, START_US + 10, 3000, "Local"),
    Session("cp1", 2, "b", START_US + 1_000_000, 8, "=tx", "", None, None),
]


class MemoryLedger:
    """The ledger's own code over a database in memory: ``AuditBook``."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        schema.migrate(self.connection)
        self.connection.execute("INSERT INTO boot(id, boot, wall_us, mono_us) VALUES(1, ?, 0, 0)", ("b" * 32,))

    def put(self, *events: Event) -> None:
        ledger.insert_events(self.connection, 1, events)

    def ledger(self, wanted: Wanted, limit: int, offset: int) -> tuple[int, list[Row]]:
        return audit_file.page(self.connection, wanted, limit, offset)

    def ledger_csv(self, wanted: Wanted, iso: Callable[[int], str]) -> Iterator[str]:
        return audit_file.to_csv(audit_file.linked(lambda: nullcontext(self.connection), wanted), iso)


class Rig:
    """``call`` asks as a role, or as nobody; ``audit`` is what was told."""

    def __init__(
        self,
        folder: Path,
        *,
        users: bool = True,
        alarms: Alarms | None = None,
        **ports: Any,  # noqa: ANN401 - those beside the ones that all tests have
    ) -> None:
        self.folder = folder
        self.clock = FakeClock(START_US)
        self.view = FakeView(self.clock)
        self.control = FakeControl(self.clock)
        self.alarms = alarms
        self.ports: dict[str, Any] = {"load": lambda: None, "notify": FakeChannels(), **ports}
        self.editor = FakeEditor()
        self.notebook = FakeNotebook()
        self.sessions = FakeSessions(list(SESSIONS))
        self.ledger = MemoryLedger()
        self.event_notes = FakeNotebook()
        self.derived = FakeDeriver()
        self.events = TimedEvents(self.clock, Memory(self.event_notes), self.derived)
        self.told: list[Event] = []
        self.adopted: list[str] = []
        self.forgotten: list[str] = []
        self.auth: Auth
        self.app: FastAPI
        self.tokens: dict[Role, str] = {}
        if users:
            text, tokens = known_users()
            self.tokens = dict(tokens)
            (folder / "users.json").write_text(text)
            (folder / "users.json").chmod(0o600)
        self.restart()

    def restart(self) -> None:
        """A new process over the same folder."""
        self.auth = quick_auth(self.folder, self.clock, self.told.append)
        self.registered = RegisteredStations(self.clock, self.notebook, self._stations_changed)
        ports = SitePorts(
            control=self.control,
            registered=self.registered,
            alarms=self.alarms,
            events=self.events,
            editor=self.editor,
            sessions=self.sessions,
            ledger=self.ledger,
            notebook=self.notebook,
            tag_hash=fake_hash,
            pending=lambda: [KNOCKING],
            adopt=self._adopt,
            identity_of=lambda device: "CP-7" if device == "meter1" else "",
            forget=self._forget,
            record=self.told.append,
            **self.ports,
        )
        self.app = create_app(self.view, self.clock, self.auth, ports)

    async def _stations_changed(self) -> None:
        """Control knows the registered stations, as the composition root has it."""
        there = {one.id: one.name for one in self.registered.targets()}
        for name in [name for name in self.control.known if may_be_registered(name) and name not in there]:
            del self.control.known[name]
        for name, called in there.items():
            known = self.control.known.get(name) or Station(name, name, 0, called, {}, {})
            self.control.known[name] = replace(known, name=called)

    async def _adopt(self, identity: str) -> Adopted:
        self.adopted.append(identity)
        return Adopted("enter", "enter this password at the charger", "s3cret", "733363726574")

    async def _forget(self, identity: str) -> None:
        self.forgotten.append(identity)

    def call(
        self,
        method: str,
        url: str,
        role: Role | None = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        address: str = ELSEWHERE,
        **more: Any,  # noqa: ANN401 - what httpx takes
    ) -> httpx.Response:
        """One request and its answer."""
        proof = token or (self.tokens[role] if role else "")
        if "json" in more:  # as text, so that NaN and halves of characters reach the gateway as well
            more |= {"content": json.dumps(more.pop("json")).encode()}
            headers = {"content-type": "application/json", **(headers or {})}
        sent = {**({"authorization": f"Bearer {proof}"} if proof else {}), **(headers or {})}

        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(address, 1))  # what would be a 500 is raised here
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, url, headers=sent, **more)

        return asyncio.run(main())

    def log_in(self, user: str = "viewer", password: str = PASSWORD, address: str = ELSEWHERE) -> httpx.Response:
        return self.call("POST", LOGIN, json={"username": user, "password": password}, address=address)

    def tokens_of(self, user: str = "viewer") -> Json:
        answer = self.log_in(user)
        assert answer.status_code == 200, answer.text
        return cast("Json", answer.json())

    def audit(self) -> list[tuple[object, object, object, object]]:
        """(who, what, of what, result) of each."""
        assert all(event.kind == "audit" for event in self.told)
        told = [event.data for event in (*self.told, *self.notebook.events) if event.kind == "audit"]
        return [(data["who"], data["what"], data["target"], data["result"]) for data in told]


@cache
def known_users() -> tuple[str, Mapping[Role, str]]:
    """A file with a user of each role, and their API tokens: made once, for each change of it waits for the disk."""
    with TemporaryDirectory() as folder:
        book, secret = UserBook(Path(folder)), quick_passwords().hash(PASSWORD)
        for role in reversed(Role):
            book.add(role, role, secret)
        tokens = {role: book.add_token(role, "tests", START_US) for role in Role}
        return book.path.read_text(), tokens


def problem(answer: httpx.Response, status: int, *words: str) -> Json:
    """The body of a problem that says these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = cast("Json", answer.json())
    assert body["status"] == status
    for word in words:
        assert word in body["detail"], body
    return body
