"""A central server as small as it can be: stores by (site, stream, seq), acknowledges what it has without a gap."""

import asyncio
import contextlib
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from agent.core.model import Number
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Message, Session
from cloud_sync.settings import LinkSettings
from cloud_sync.subscriber import decode_event, decode_state, decode_telemetry
from tests.e2e.subscriber import QuickClock, until

SITE = "depot-7"
PREFIX = f"enlace/{SITE}"


class Central:
    """Takes JSON telemetry. ``kept`` asks the broker to keep what comes while we are away."""

    def __init__(
        self, url: str, *, kept: bool = True, ack: bool = True, group: str = "", link: LinkSettings | None = None
    ) -> None:
        self.rows: dict[int, frozenset[tuple[int, int, Number | None]]] = {}
        self.events: dict[int, str] = {}
        self.repeats: Counter[str] = Counter()
        self.changed: list[str] = []  #: records that came again with another content
        self.states: list[bool] = []
        self.catalogs = 0
        self.results: dict[str, str] = {}
        self.ready = asyncio.Event()
        self.session: Session | None = None
        self._ack = ack
        self._whole = Counter[str]()  #: up to where each stream has no gap
        self._filter = f"$share/{group}/{PREFIX}/#" if group else f"{PREFIX}/#"
        self.link = MqttLink(
            link or LinkSettings(url, "central", session_expiry_s=3600 if kept else 0),
            QuickClock(),
        )

    async def run(self) -> None:
        await self.link.run(self._serve)

    async def ask(self, command_id: str) -> None:
        """Give a command, again each second until its outcome comes: nobody may be listening yet."""
        now = datetime.now(UTC).isoformat()
        order = {"id": command_id, "issued_at": now, "ttl_s": 600, "target": "cp1", "action": "reset"}
        assert self.session is not None
        async with asyncio.timeout(60):
            while command_id not in self.results:
                await (await self.session.publish(f"{PREFIX}/command", json.dumps(order).encode()))
                with contextlib.suppress(TimeoutError):
                    await until(lambda: command_id in self.results, 1)

    async def _serve(self, session: Session) -> None:
        await session.subscribe(self._filter)
        self.session = session
        self.ready.set()
        try:
            while True:
                message = await session.next_message()
                stream = self._take(message)
                if stream and self._ack:
                    payload = json.dumps({"stream": stream, "upto": self._upto(stream)}).encode()
                    await session.publish(f"{PREFIX}/ack", payload)
                session.acknowledge(message)
        finally:
            self.ready.clear()

    def _take(self, message: Message) -> str:
        """Store a message; gives the stream of a record."""
        name = message.topic.removeprefix(f"{PREFIX}/")
        if name == "state":
            self.states.append(decode_state(message.payload).online)
        elif name == "catalog":
            self.catalogs += 1
        elif name == "command/result":
            told = json.loads(message.payload)
            self.results[told["id"]] = told["outcome"]
        elif name == "telemetry":
            record = decode_telemetry(message.payload)
            rows = frozenset(
                (column.signal, t_us, value)
                for column in record.columns
                for t_us, value in zip(column.times_us, column.values, strict=True)
            )
            self._store(self.rows, record.seq, rows, name)
            return name
        elif name == "event":
            event = decode_event(message.payload)
            self._store(self.events, event.seq, event.kind, name)
            return name
        return ""

    def _store(self, table: dict[int, Any], seq: int, content: object, name: str) -> None:
        if seq in table:
            self.repeats[name] += 1
            if table[seq] != content:
                self.changed.append(f"{name} {seq}")
        table[seq] = content

    def _upto(self, stream: str) -> int:
        table = self.rows if stream == "telemetry" else self.events
        while self._whole[stream] + 1 in table:
            self._whole[stream] += 1
        return self._whole[stream]
