"""A subscriber that stands for the central server: the demo shows with it what arrives, the tests compare with it.

``python -m cloud_sync.watch --broker URL [--root enlace] [--site X] [--format lines|jsonl]``. ``lines`` is for people,
one line per message; ``jsonl`` gives one JSON object per value::

    {"t": <µs UTC>, "site", "signal": "<device.point>", "id", "value": <number or null>, "unit", "seq"}
    {"t", "site", "event": "<kind>", "subject", "data", "seq"}
    {"site", "online": <bool>} · {"site", "gap": "<stream>", "from", "to"} · {"site", "repeated": "<stream>", "seq"}

A repeated record is reported once and its values are not given again, as a database with the key (site, stream, seq)
would do.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from agent.core.clock import SystemClock
from agent.core.errors import AgentError, ConfigError
from cloud_sync.lanes import Ranges
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Session
from cloud_sync.settings import LinkSettings
from cloud_sync.subscriber import (
    Catalog,
    EventMessage,
    PayloadError,
    Row,
    State,
    Status,
    Telemetry,
    decode_event,
    decode_state,
    decode_status,
    decode_telemetry,
)

#: Telemetry that waits for its catalogue; beyond it the oldest is given up and counted.
MAX_WAITING = 1000
VALUES_PER_LINE = 4


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one telemetry message, with their names."""

    message: Telemetry
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers of a stream that never came, and never will: ``base`` has passed them."""

    stream: str
    first_seq: int
    seq: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """A record that had come before."""

    stream: str
    seq: int


@dataclass(frozen=True, slots=True)
class Bad:
    """A message that can't be read, or whose names never came."""

    topic: str
    reason: str


Item: TypeAlias = Values | EventMessage | State | Status | Catalog | Gap | Repeated | Bad


@dataclass(slots=True)
class _Numbers:
    """The numbers of one stream so far, in any order: live data comes beside the backlog.

    What is missing is a gap when ``base`` has passed it. A number below it with a boot never seen is a store that began
    anew.
    """

    stream: str
    base: int | None = None  #: up to there all that is missing was reported; None: nothing came yet
    boots: set[str] = field(default_factory=set)
    came: Ranges = field(default_factory=Ranges)  #: above ``base``

    def take(self, first_seq: int, seq: int, boot: str, base: int) -> Iterator[Gap | Repeated]:
        known = boot in self.boots
        self.boots.add(boot)
        if self.base is None or (seq <= self.base and not known):
            self.base, self.came = base, Ranges()
        if seq <= self.base or self.came.covers(max(first_seq, self.base + 1), seq):
            yield Repeated(self.stream, seq)
        self.came.add(first_seq, seq)
        while self.base < base:
            there = min(self.came.reach(self.base), base)
            if there == self.base:
                there = min((self.came.next_above(there) or base + 1) - 1, base)
                yield Gap(self.stream, self.base + 1, there)
            self.base = there
        self.came.forget(self.base)


class Receiver:
    """Makes sense of the messages of one site, in the order in which they come."""

    def __init__(self) -> None:
        self.catalog: Catalog | None = None
        self._telemetry = _Numbers("telemetry")
        self._events = _Numbers("event")
        self._waiting: deque[Telemetry] = deque()

    def feed(self, topic: str, payload: bytes) -> Iterator[Item]:
        """What a message says. Bytes that make no sense give a ``Bad``."""
        name = topic.rpartition("/")[2]
        try:
            if name == "state":
                yield decode_state(payload)
            elif name == "catalog":
                yield from self._take_catalog(Catalog.from_payload(payload))
            elif name == "status":
                yield decode_status(payload)
            elif name == "telemetry":
                yield from self._take_telemetry(decode_telemetry(payload))
            elif name == "event":
                event = decode_event(payload)
                findings = list(self._events.take(event.seq, event.seq, event.boot, event.base))
                yield from findings
                if not any(isinstance(finding, Repeated) for finding in findings):
                    yield event
        except PayloadError as error:
            yield Bad(topic, str(error))

    def _take_catalog(self, catalog: Catalog) -> Iterator[Item]:
        self.catalog = catalog
        yield catalog
        while self._waiting and self._waiting[0].catalog <= catalog.version:
            message = self._waiting.popleft()
            yield Values(message, list(message.rows(catalog)))

    def _take_telemetry(self, message: Telemetry) -> Iterator[Item]:
        findings = list(self._telemetry.take(message.first_seq, message.seq, message.boot, message.base))
        yield from findings
        if any(isinstance(finding, Repeated) for finding in findings):
            return
        if self.catalog is not None and self.catalog.version >= message.catalog and not self._waiting:
            yield Values(message, list(message.rows(self.catalog)))
            return
        self._waiting.append(message)
        if len(self._waiting) > MAX_WAITING:
            yield Bad("telemetry", f"the catalogue that message {self._waiting.popleft().seq} needs never came")


def as_json_lines(site: str, item: Item) -> Iterator[str]:
    """An item in the form ``jsonl``."""
    for entry in _entries(item):
        yield json.dumps({**entry, "site": site}, ensure_ascii=False)


def as_text(site: str, item: Item) -> Iterator[str]:
    """An item in the form ``lines``; the catalogue's arrival is no news for people but in numbers."""
    match item:
        case Values(message, rows):
            newest = {row.signal.full_name: _value(row) for row in rows}
            shown = ", ".join(f"{name} {value}" for name, value in list(newest.items())[:VALUES_PER_LINE])
            more = f" and {len(newest) - VALUES_PER_LINE} more" if len(newest) > VALUES_PER_LINE else ""
            time = _clock_text(max((row.t_us for row in rows), default=0))
            yield f"{time} {site} #{message.seq}, {len(rows)} values: {shown}{more}"
        case EventMessage(seq=seq, kind=kind, t_us=t_us, subject=subject, data=data):
            yield f"{_clock_text(t_us)} {site} event #{seq}: {kind} {subject} {json.dumps(data, ensure_ascii=False)}"
        case State(online=online, version=version):
            yield f"{site} is {'online' if online else 'offline'}, version {version}"
        case Status(t_us=t_us, values=values):
            yield f"{_clock_text(t_us)} {site} newest values of {len(values)} signals"
        case Catalog(version=version, signals=signals):
            yield f"{site} catalogue version {version}: {len(signals)} signals"
        case Gap(stream, first_seq, seq):
            yield f"{site} {stream}: {first_seq} to {seq} never came"
        case Repeated(stream, seq):
            yield f"{site} {stream}: {seq} came again"
        case Bad(topic, reason):
            yield f"{topic}: {reason}"


def _entries(item: Item) -> Iterator[dict[str, object]]:
    match item:
        case Values(message, rows):
            for row in rows:
                yield {
                    "t": row.t_us,
                    "signal": row.signal.full_name,
                    "id": row.signal.id,
                    "value": row.value,
                    "unit": row.signal.unit,
                    "seq": message.seq,
                }
        case EventMessage(seq=seq, kind=kind, t_us=t_us, subject=subject, data=data):
            yield {"t": t_us, "event": kind, "subject": subject, "data": data, "seq": seq}
        case State(online=online):
            yield {"online": online}
        case Gap(stream, first_seq, seq):
            yield {"gap": stream, "from": first_seq, "to": seq}
        case Repeated(stream, seq):
            yield {"repeated": stream, "seq": seq}
        case Bad(topic, reason):
            yield {"bad": topic, "reason": reason}
        case Catalog() | Status():
            return


def _value(row: Row) -> str:
    if row.value is None:
        return "unknown"
    label = row.signal.labels.get(int(row.value)) if row.signal.labels and row.value == row.value // 1 else None
    return label or f"{row.value:.6g} {row.signal.unit}".rstrip()


def _clock_text(t_us: int) -> str:
    try:
        return datetime.fromtimestamp(t_us / 1e6, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{t_us} µs"


async def watch(settings: LinkSettings, root: str, site: str, *, json_lines: bool) -> None:
    """Print what arrives until cancelled. ``site`` may be ``+``: every site."""
    receivers: dict[str, Receiver] = {}
    form = as_json_lines if json_lines else as_text

    async def serve(session: Session) -> None:
        await session.subscribe(
            *(f"{root}/{site}/{name}" for name in ("state", "catalog", "status", "telemetry", "event"))
        )
        while True:
            message = await session.next_message()
            name = message.topic.split("/")[-2]
            for item in receivers.setdefault(name, Receiver()).feed(message.topic, message.payload):
                for line in form(name, item):
                    sys.stdout.write(line + "\n")
            sys.stdout.flush()
            session.acknowledge(message)

    await MqttLink(settings, SystemClock()).run(serve)


async def _until_signal(settings: LinkSettings, root: str, site: str, *, json_lines: bool) -> None:
    task = asyncio.ensure_future(watch(settings, root, site, json_lines=json_lines))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


def main() -> int:
    """The command; 2 on arguments that can't work, 1 when the broker refuses."""
    parser = argparse.ArgumentParser(prog="python -m cloud_sync.watch", description="print what a site sends")
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", help="mqtt://host:port or mqtts://host:port")
    parser.add_argument("--root", default="enlace")
    parser.add_argument("--site", default="+", help="the site's id; every site without it")
    parser.add_argument("--format", choices=("lines", "jsonl"), default="lines")
    parser.add_argument("--client-id", default="enlace-watch")
    parser.add_argument("--username", default="")
    for name in ("password-file", "ca-file", "cert-file", "key-file"):
        parser.add_argument(f"--{name}", type=Path)
    chosen = parser.parse_args()
    try:
        settings = LinkSettings(
            url=chosen.broker,
            client_id=chosen.client_id,
            username=chosen.username,
            password_file=chosen.password_file,
            ca_file=chosen.ca_file,
            cert_file=chosen.cert_file,
            key_file=chosen.key_file,
        )
        settings.check_files()
        asyncio.run(_until_signal(settings, chosen.root, chosen.site, json_lines=chosen.format == "jsonl"))
    except AgentError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
