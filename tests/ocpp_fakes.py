"""A store in memory for tests of chargers, which may fail or be killed at any step, and a charger that stands on it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event, Session, SignalSpec
from drivers.codec.ocpp_model import Version
from drivers.ocpp.charger import Charger, charger_specs
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.ports import Call, Fault, Payload
from drivers.ocpp.quirks import Quirks
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint
from tests.ocpp_asked import Answer, AskedLink, accept
from tests.sinks import RecordingSink

SCHEMAS = Schemas()
CENTRAL = CentralSettings(Endpoint("127.0.0.1", 0), Path("/nowhere"))


class Killed(BaseException):
    """The process ends here."""


class MemorySessions:
    """``Sessions`` in memory. What is stored went through JSON, as it does on disk."""

    def __init__(self) -> None:
        self.rows: dict[int, Session] = {}
        self.events: list[Event] = []
        self.last_id = 100
        self.fail = 0  #: so many of the next writes fail, with nothing stored
        self.kill_before = -1  #: the write, counted from 0, before which the process ends
        self.kill_after = -1  #: the same, but it is stored
        self.dead = False  #: a process that was killed writes nothing any more, whatever its objects are told to do
        self.writes = 0
        self.reads = 0
        self.gate = asyncio.Event()  #: while it is closed writes are taken, in order, but not acknowledged
        self.gate.set()

    async def begin(self, session: Session, events: Sequence[Event] = ()) -> tuple[Session, bool]:
        for row in self.rows.values():
            if (row.device, row.key) == (session.device, session.key):
                return row, False
        stored = replace(session, id=self.last_id + 1)
        self._write(stored, events)
        self.last_id += 1
        await self.gate.wait()
        return self.rows[stored.id], True

    async def change(self, session: Session, events: Sequence[Event] = (), *, at_once: bool = True) -> None:
        assert self.rows[session.id].key == session.key
        self._write(session, events)
        await self.gate.wait()

    async def find(self, device: str, *, id: int = 0, key: str = "", remote_id: str = "") -> Session | None:  # noqa: A002
        assert id or key or remote_id
        self.reads += 1
        found = [
            row
            for row in self.rows.values()
            if row.device == device
            and (not id or row.id == id)
            and (not key or row.key == key)
            and (not remote_id or row.remote_id == remote_id)
        ]
        return found[-1] if found else None

    async def running(self, device: str) -> Sequence[Session]:
        found = [row for row in self.rows.values() if row.device == device and row.running]
        return sorted(found, key=lambda row: (row.start_us, row.id))

    def _write(self, session: Session, events: Sequence[Event]) -> None:
        if self.dead:
            return
        if self.fail:
            self.fail -= 1
            raise StoreError("store", "the disk is full")
        number, self.writes = self.writes, self.writes + 1
        self.dead = number in {self.kill_before, self.kill_after}
        if number == self.kill_before:
            raise Killed
        data = json.loads(json.dumps(dict(session.data), allow_nan=False))
        self.rows[session.id] = replace(session, data=data)
        self.events += [
            replace(event, data={"session": session.id} | dict(event.data))
            if event.kind.startswith("session.")
            else event
            for event in events
        ]
        if number == self.kill_after:
            raise Killed

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class MemoryNotebook:
    """``Notebook`` in memory."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Mapping[str, object]]] = {}
        self.events: list[Event] = []
        self.fail = 0

    def note(self, kind: str, key: str) -> Mapping[str, object] | None:
        return self.data.get(kind, {}).get(key)

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        return dict(self.data.get(kind, {}))

    async def write(self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()) -> None:
        if self.fail:
            self.fail -= 1
            raise StoreError("store", "the disk is full")
        if data is None:
            self.data.get(kind, {}).pop(key, None)
        else:
            self.data.setdefault(kind, {})[key] = json.loads(json.dumps(dict(data)))
        self.events += events

    def tag(self, tag: str, status: str = "Accepted", until_us: int | None = None, parent: str = "") -> None:
        note = {"label": tag, "status": status, "until_us": until_us, "parent": parent}
        self.data.setdefault("id_tag", {})[tag.casefold()] = note


class Site:
    """A store and a clock on which chargers stand; ``restart`` is what a new process finds."""

    def __init__(self, policy: str = "known") -> None:
        self.clock = FakeClock()
        self.sessions = MemorySessions()
        self.notebook = MemoryNotebook()
        self.notebook.tag("AABB")
        self.policy = policy
        self.id_tags = self._tags()

    def restart(self) -> None:
        self.sessions.dead = False
        self.id_tags = self._tags()

    def _tags(self) -> IdTags:
        return IdTags("any" if self.policy == "any" else "known", self.notebook, self.clock)


class Rig:
    """A charger with its connection; ``ask`` gives what it is answered, held against the schemas."""

    def __init__(
        self,
        site: Site | None = None,
        version: Version = Version.V16,
        quirks: Sequence[Quirks] = (),
        answer: Answer = accept,
        device: str = "cp",
        **settings: object,
    ) -> None:
        self.site = site or Site()
        self.clock = self.site.clock
        self.version = version
        self.sink = RecordingSink()
        self.settings = ChargerSettings(device, device.upper(), **settings)  # type: ignore[arg-type]
        self.specs = charger_specs(self.settings)
        self.ids = {spec.name: number for number, spec in enumerate(self.specs, 1)}
        self.answer = answer
        self.link = AskedLink(version, answer)
        self.charger = Charger(
            self.settings,
            CENTRAL,
            quirks,
            self.ids,
            self.clock,
            self.site.sessions,
            self.site.notebook,
            self.site.id_tags,
        )

    async def __aenter__(self) -> Self:
        self.charger.open(self.sink)
        await self.settle()
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.charger.close()

    async def connect(self) -> None:
        self.link = AskedLink(self.version, self.answer)
        self.charger.attach(self.link)
        await self.settle()
        self.charger.limits._tried.set()  # who starts in a test does not wait, unless it is about that
        self.charger.limits._waits_until_s = 0.0

    async def disconnect(self) -> None:
        self.charger.detach(self.link)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def advance(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass in steps, so that what runs each second does."""
        await self.settle()
        while seconds > 0:
            self.clock.advance(min(step_s, seconds))
            seconds -= step_s
            await self.settle()

    async def handle(self, action: str, payload: Payload, deviation: str = "") -> Payload | Fault:
        return await self.charger.handle(Call("1", action, payload, deviation, ""))

    async def ask(self, action: str, payload: Payload, version: Version | None = None) -> Payload:
        spoken = version or self.version
        deviation = SCHEMAS.deviation(spoken, action, payload)
        answer = await self.handle(action, payload, deviation)
        assert not isinstance(answer, Fault), answer
        assert not SCHEMAS.deviation(spoken, action, answer, result=True, strict=True), answer
        return answer

    def at(self, seconds: float = 0) -> str:
        """The charger's clock, so many seconds from now."""
        from drivers.codec.ocpp_values import wire_time  # noqa: PLC0415 - for this alone

        return wire_time(self.clock.now_us() + round(seconds * 1e6))

    def value(self, name: str) -> object:
        """The newest physical value of a signal; None: unknown; ``KeyError``: it never had one."""
        numbers = {**self.ids}
        specs: dict[int, SignalSpec] = dict(enumerate(self.specs, 1))
        for index, spec in enumerate(self.sink.declared):
            numbers[spec.name], specs[1_000_000 + index] = 1_000_000 + index, spec
        number = numbers[name]
        rows = [row for row in self.sink.rows if row[0] == number]
        if not rows:
            raise KeyError(name)
        return specs[number].physical(rows[-1][2]) if rows[-1][3] else None

    def status(self) -> object:
        found = self.value("charger_status")
        return None if found is None else self.specs[0].labels[int(found)]  # type: ignore[call-overload]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.sink.events]

    def told(self, kind: str) -> list[Mapping[str, object]]:
        return [event.data for event in (*self.sink.events, *self.site.sessions.events) if event.kind == kind]

    @property
    def rows(self) -> list[Session]:
        return list(self.site.sessions.rows.values())

    # -- what a charger of 1.6 says --

    async def start16(self, tag: str = "AABB", meter: float = 1000, at: str | None = None, outlet: int = 1) -> int:
        payload = {"connectorId": outlet, "idTag": tag, "meterStart": meter, "timestamp": at or self.at()}
        number = (await self.ask("StartTransaction", payload))["transactionId"]
        assert isinstance(number, int)
        return number

    async def stop16(self, number: int, meter: float, at: str | None = None, **more: object) -> Payload:
        payload = {"transactionId": number, "meterStop": meter, "timestamp": at or self.at(), **more}
        return await self.ask("StopTransaction", payload)

    async def meter16(self, wh: float, number: int | None = None, at: str | None = None, outlet: int = 1) -> None:
        payload: dict[str, object] = {
            "connectorId": outlet,
            "meterValue": [{"timestamp": at or self.at(), "sampledValue": [{"value": str(wh), "unit": "Wh"}]}],
        }
        if number is not None:
            payload["transactionId"] = number
        await self.ask("MeterValues", payload)

    async def status16(self, status: str, error: str = "NoError", outlet: int = 1) -> None:
        payload = {"connectorId": outlet, "status": status, "errorCode": error, "timestamp": self.at()}
        await self.ask("StatusNotification", payload)

    # -- what a charger of 2.x says --

    async def event201(self, kind: str, seq: int, wh: float | None = None, **more: object) -> Payload:
        info = {"transactionId": "T1"}
        info |= {name: str(more.pop(name)) for name in ("chargingState", "stoppedReason") if name in more}
        at = more.pop("at", None) or self.at()
        context = {"Started": "Transaction.Begin", "Ended": "Transaction.End"}.get(kind, "Sample.Periodic")
        payload: dict[str, object] = {
            "eventType": kind,
            "timestamp": at,
            "triggerReason": "Authorized",
            "seqNo": seq,
            "transactionInfo": info,
            "evse": {"id": 1, "connectorId": 1},
            **more,
        }
        if wh is not None:
            payload["meterValue"] = [{"timestamp": at, "sampledValue": [{"value": wh, "context": context}]}]
        return await self.ask("TransactionEvent", payload)


MEXICO = ZoneInfo("America/Mexico_City")
