"""Who has knocked: what is shown of it to those who may adopt a charger, and what the ledger is told. All bounded."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Literal

from agent.core.clock import Clock
from agent.core.model import Event
from drivers.codec.ocpp_model import Boot, Entry, Version
from drivers.ocpp.credentials import Sealed, is_strong, opens, seal
from drivers.ocpp.ports import Knock
from drivers.ocpp.throttle import Throttle

MAX_KNOWN = 256
#: The same of the same charger is told once in so much time, with how often it was.
TOLD_EVERY_S = 600.0
#: Of all chargers together, for an identity is quickly invented: so many at once, and then one each minute.
_EVENTS, _EVENT_EVERY_S = 60, 60.0
_MAX_TEXT = 64

Presented = Literal["nothing", "weak", "strong"]


@dataclass(frozen=True, slots=True)
class KnockInfo:
    """One who waits or was turned away, newest state. Times are µs UTC."""

    identity: str
    address: str
    profile: int  #: security profile of the port
    entry: Entry
    reason: str  #: one word: ``unknown``, ``no_credential``, ``wrong_password``, …
    first_us: int
    last_us: int
    count: int = 1
    subprotocols: tuple[str, ...] = ()
    version: Version | None = None  #: what was agreed on, when it came in to wait
    connected: bool = False
    presented: Presented = "nothing"  #: its password: strong ones can be pinned
    contested: bool = False  #: another password was presented under this identity, or it knocked elsewhere meanwhile
    boot: Boot | None = None  #: what it says of itself


@dataclass(frozen=True, slots=True)
class _Seen:
    info: KnockInfo
    proof: Sealed | None


class Knocks:
    """The last ones who knocked, by identity. ``record`` is given the events."""

    def __init__(self, clock: Clock, record: Callable[[Event], None]) -> None:
        self._clock = clock
        self._record = record
        self._seen: dict[str, _Seen] = {}  #: the longest unseen first
        self._told: dict[Hashable, tuple[float, int]] = {}  #: when, and how often since
        self._budget = Throttle(clock, _EVENTS, _EVENT_EVERY_S)
        self._untold = 0

    def add(self, knock: Knock, entry: Entry, reason: str, subject: str) -> Sealed | None:
        """Somebody knocked; what can be kept of the password that it presented, if that may be pinned."""
        now_us = self._clock.now_us()
        password = _password(knock)
        known = self._seen.pop(knock.identity, None)
        # Only what waits can be pinned: who is turned away costs no hash.
        proof, contested = self._proof(known, password if entry is Entry.PENDING else b"")
        info = KnockInfo(
            knock.identity,
            knock.address,
            knock.profile,
            entry,
            reason,
            now_us,
            now_us,
            subprotocols=tuple(name[:_MAX_TEXT] for name in knock.subprotocols[:8]),
            presented=_strength(password),
            contested=contested,
        )
        if known is not None:
            old = known.info
            info = replace(info, first_us=old.first_us, count=old.count + 1, boot=old.boot)
            if old.connected:  # who is here is shown, not who would like to be in its place
                moved = _host(knock.address) != _host(old.address)
                info = replace(old, last_us=now_us, count=info.count, contested=old.contested or contested or moved)
        self._keep_bound()
        self._seen[knock.identity] = _Seen(info, proof)
        self._tell(replace(info, address=knock.address, entry=entry, reason=reason), subject)
        return proof

    def proof(self, identity: str) -> Sealed | None:
        """The password that was presented last under this identity, unless there were different ones."""
        seen = self._seen.get(identity)
        return None if seen is None or seen.info.contested else seen.proof

    def arrived(self, knock: Knock) -> None:
        """It has come in to wait."""
        presented = _strength(_password(knock))
        self.change(knock.identity, connected=True, address=knock.address, presented=presented)

    def change(self, identity: str, **new: object) -> None:
        """Something of it is known better now."""
        seen = self._seen.get(identity)
        if seen is not None:
            self._seen[identity] = replace(seen, info=replace(seen.info, **new))  # type: ignore[arg-type] # its fields

    def forget(self, identity: str) -> None:
        """It is no stranger any more."""
        self._seen.pop(identity, None)

    def has(self, identity: str) -> bool:
        """Whether it is among them."""
        return identity in self._seen

    def all(self) -> list[KnockInfo]:
        """All of them, the latest first."""
        return [seen.info for seen in reversed(self._seen.values())]

    def _proof(self, known: _Seen | None, password: bytes) -> tuple[Sealed | None, bool]:
        """What can be pinned, and whether somebody presented another one before."""
        before = known.proof if known is not None else None
        contested = known is not None and known.info.contested
        if not is_strong(password):
            return None, contested
        if before is not None and opens(before, password):
            return before, contested
        return seal(password), contested or before is not None

    def _keep_bound(self) -> None:
        if len(self._seen) >= MAX_KNOWN:
            gone = next((name for name, seen in self._seen.items() if not seen.info.connected), next(iter(self._seen)))
            del self._seen[gone]

    def _tell(self, info: KnockInfo, subject: str) -> None:
        """The event, unless the same was told lately or there were too many."""
        kind = "charger.knocked" if info.entry is Entry.PENDING else "charger.refused"
        key = (kind, info.identity, info.reason)
        now_s = self._clock.monotonic_s()
        told_s, count = self._told.get(key, (float("-inf"), 0))
        if now_s - told_s < TOLD_EVERY_S:
            self._told[key] = told_s, count + 1
            return
        if not self._budget.take():
            self._untold += 1
            return
        self._told.pop(key, None)
        if len(self._told) >= 2 * MAX_KNOWN:
            del self._told[next(iter(self._told))]
        self._told[key] = now_s, 0
        data: dict[str, object] = {
            "identity": info.identity,
            "address": info.address,
            "reason": info.reason,
            "times": count + 1,
        }
        if self._untold:
            data["others_not_told"], self._untold = self._untold, 0
        self._record(Event(kind, self._clock.now_us(), subject, data))


def _password(knock: Knock) -> bytes:
    """The password that it presented as its own; empty when it did not."""
    return (knock.password or b"") if knock.user == knock.identity else b""


def _strength(password: bytes) -> Presented:
    if not password:
        return "nothing"
    return "strong" if is_strong(password) else "weak"


def _host(address: str) -> str:
    return address.rpartition(":")[0]
