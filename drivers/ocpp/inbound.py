"""What a charger asks, of whatever version: the parts that both have in common.

Rules of this file:

1. Every request that the standard knows gets an answer that fits its schema. What we do not do is refused in the
   answer's own words; what the standard does not know is ``NotImplemented``.
2. What breaks its schema is handled as far as it can be understood, and told once (``charger.deviates``). A message of
   a transaction that can't be understood at all is kept as an event before it is answered, and the answer lets nobody
   charge but ends no loop of repeats either.
3. Id tags leave as their hashes.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import tzinfo
from typing import Protocol

from agent.core.model import BadFrame
from drivers.codec.ocpp_model import Boot, Reading, Status, Verdict
from drivers.codec.ocpp_values import QUOTED, wire_time
from drivers.ocpp.certificates import Certificates
from drivers.ocpp.ports import Call, Fault, Payload
from drivers.ocpp.readings import Taken
from drivers.ocpp.settings import CentralSettings
from drivers.ocpp.times import Times
from drivers.ocpp.transactions import Book, clean

MAX_KEPT = 8192
#: Members that hold id tags, casefolded: the codecs read them in any case too.
_TAGS = frozenset({"idtag", "parentidtag", "idtoken", "groupidtoken", "additionalidtoken"})


class Station(Protocol):
    """A charger as its messages change it. One owner: ``charger.py``."""

    @property
    def central(self) -> CentralSettings:
        """As configured for all chargers."""

    @property
    def book(self) -> Book:
        """Its sessions."""

    @property
    def certificates(self) -> Certificates:
        """What it asks to be signed."""

    @property
    def times(self) -> Times:
        """What its timestamps are worth."""

    @property
    def zone(self) -> tzinfo:
        """Of its times without one."""

    def now_us(self) -> int:
        """Wall time."""

    async def booted(self, boot: Boot) -> None:
        """BootNotification."""

    def status_told(self, status: Status) -> None:
        """StatusNotification."""

    def state_told(self, outlet: int, charging_state: str, *, stopped: bool | None = None) -> None:
        """The chargingState of an outlet's transaction; empty: it has ended. ``stopped``: that it was told to."""

    def heard_of(self, outlet: int) -> None:
        """Something came that is about the outlet's session."""

    async def sampled(self, outlet: int, readings: tuple[Reading, ...]) -> None:
        """Values that were measured just now."""

    async def ready(self) -> None:
        """Until the safe limit was installed, or it took too long."""

    async def keep(self, kind: str, data: Mapping[str, object]) -> None:
        """An event that is on disk when this returns."""

    def tell(self, kind: str, data: Mapping[str, object]) -> None:
        """An event."""

    def reported(self, call: Call) -> None:
        """For those who asked the charger for it."""

    def count(self, name: str) -> None:
        """Something to be counted."""


Handler = Callable[[Station, Call], Awaitable[Payload | Fault]]


def constant(answer: Mapping[str, object], event: str = "", *members: str) -> Handler:
    """Answer always the same; those who asked for it hear of it, and an event tells these members of it."""

    async def handle(station: Station, call: Call) -> Payload:
        station.reported(call)
        if event:
            told = {name: short(call.payload[name]) for name in members if name in call.payload}
            station.tell(event, {"message": call.action, **told})
        return answer

    return handle


async def heartbeat(station: Station, call: Call) -> Payload:  # noqa: ARG001 - a handler
    """Heartbeat."""
    return {"currentTime": wire_time(station.now_us())}


async def sign(station: Station, call: Call) -> Payload:
    """SignCertificate."""
    return await station.certificates.asked(call)


async def boot_answered(station: Station, boot: Boot | BadFrame) -> Payload:
    """The answer to BootNotification. One that can't be read is let in too: it is known by its URL."""
    if isinstance(boot, BadFrame):
        station.count(f"bad.{boot.reason}")
        boot = Boot("", "")
    await station.booted(boot)
    return {
        "currentTime": wire_time(station.now_us()),
        "interval": station.central.heartbeat_s,
        "status": "Accepted",
    }


async def authorised(station: Station, tag: str, kind: str = "") -> Verdict:
    """The verdict about a tag that was presented, audited."""
    await station.ready()
    id_tags = station.book.id_tags
    verdict = await id_tags.verdict(tag, device=station.book.device, kind=kind)
    outcome = "auth.accepted" if verdict is Verdict.ACCEPTED else "auth.refused"
    data = {"id_tag": id_tags.tag_hash(tag), "verdict": str(verdict), "asked_by": "authorize"}
    station.tell(outcome, data)
    return verdict


async def measured(station: Station, outlet: int, samples: list[Taken]) -> None:
    """The samples become signals, unless they waited in the charger's queue: those are the sessions' only."""
    for sample in samples:
        if sample.when.live:
            await station.sampled(outlet, sample.readings)


async def unprocessed(station: Station, call: Call, bad: BadFrame) -> None:
    """Keep a message of a transaction that nobody can make anything of (rule 2)."""
    station.count("unprocessed")
    text = json.dumps(_hashed(station, call.payload), ensure_ascii=True)
    data = {"message": call.action, "reason": bad.reason, "payload": text[:MAX_KEPT]}
    await station.keep("charger.unprocessed", data)


def short(value: object) -> object:
    """A member of a payload, fit for an event."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    return clean(value if isinstance(value, str) else json.dumps(value))


def _hashed(station: Station, value: object) -> object:
    if isinstance(value, Mapping):
        return {
            name: station.book.id_tags.tag_hash(str(member))
            if name.strip(QUOTED).casefold() in _TAGS and not isinstance(member, Mapping)
            else _hashed(station, member)
            for name, member in value.items()
        }
    if isinstance(value, list):
        return [_hashed(station, member) for member in value]
    return value
