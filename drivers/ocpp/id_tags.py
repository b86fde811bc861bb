"""Who may charge: the site's id tags, and what is shown of them.

Rules of this file:

1. A tag is a note of kind ``id_tag``; its key is the tag casefolded, for id tags are compared without regard to case
   (OCPP 1.6 edition 2, 7.28 IdToken, a CiString20; OCPP 2.0.1 part 2, IdTokenType.idToken). Unknown tags are refused
   unless the site lets anybody charge.
2. A tag that is known charges at one outlet of the site at a time; the second one is told ``ConcurrentTx``. Tags of one
   group (the same ``parent``) are different tags. Tags that nobody knows, where anybody may charge, are not counted:
   chargers without a reader send the same one for all outlets.
3. What we asked a charger to start with is let in there for some minutes, whatever the tag; but not a blocked one.
4. Outside of the store and the charger a tag is shown as its hash only: keyed, with a key that never leaves the site,
   because the numbers of RFID cards are few enough to be tried one by one.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from agent.core.clock import Clock
from agent.core.ports import Notebook
from drivers.codec.ocpp_model import Verdict

KIND = "id_tag"
_SECRET = ("ocpp.secret", "id_tag")
_HASH_DIGITS = 12
#: How long a charger may take from our request until it says that somebody starts with that tag.
EXPECTED_S = 300.0
MAX_EXPECTED = 1000
#: 2.0.1 IdTokenEnum: nothing was presented, the charger lets start without (a button, a plug).
NOBODY = "NoAuthorization"
#: The same: what is read from a card at the charger, and what nobody presents there: groups, and whom we start for.
CARD, OURS = "ISO14443", "Central"


@dataclass(frozen=True, slots=True)
class TagInfo:
    """What is known of a tag beside its verdict: until when (µs UTC) and of which group."""

    until_us: int | None = None
    parent: str = ""


@dataclass(frozen=True, slots=True)
class KnownTag:
    """A tag of the site, as a charger's local list has it."""

    tag: str  #: as it was written down, with its letters' case
    status: Verdict  #: Accepted or Blocked
    until_us: int | None
    parent: str


class IdTags:
    """The tags of a site; one for all chargers, which tell it what is in use."""

    def __init__(self, policy: Literal["known", "any"], notebook: Notebook, clock: Clock) -> None:
        self._policy = policy
        self._notebook = notebook
        self._clock = clock
        self._own_key = secrets.token_bytes(16)
        self._uses: dict[str, set[tuple[str, int]]] = {}  #: tag -> (device, session)
        self._expected: dict[tuple[str, str], float] = {}  #: (device, tag) -> monotonic time until which

    async def ready(self) -> None:
        """Have the hash's key on disk, so that hashes stay the same for ever. Raises ``StoreError``."""
        if self._notebook.note(*_SECRET) is None:
            await self._notebook.write(*_SECRET, {"key": self._own_key.hex()})

    def tag_hash(self, tag: str) -> str:
        """What is shown of a tag: 12 hex digits, the same for the same tag at this site; empty for none."""
        if not tag:
            return ""
        digest = hmac.digest(self._hash_key(), _fold(tag).encode(errors="replace"), hashlib.sha256)
        return digest.hex()[:_HASH_DIGITS]

    async def verdict(
        self, tag: str, *, device: str = "", besides: Collection[int] | None = None, kind: str = ""
    ) -> Verdict:
        """Whether that tag may charge.

        ``besides`` are the device's sessions that don't count as another use of the tag: the one that asks, and those
        that it replaces; None: nothing starts, so no use matters. ``kind`` is the IdTokenEnum of 2.x.
        """
        note = self._notebook.note(KIND, _fold(tag)) if tag else None
        blocked = note is not None and note.get("status") != Verdict.ACCEPTED
        if kind == NOBODY or (self._is_expected(device, tag) and not blocked):
            return Verdict.ACCEPTED
        if note is None:
            return Verdict.ACCEPTED if self._policy == "any" else Verdict.INVALID
        until_us = note.get("until_us")
        if note.get("status") != Verdict.ACCEPTED:
            return Verdict.BLOCKED
        if isinstance(until_us, int) and until_us <= self._clock.now_us():
            return Verdict.EXPIRED
        if besides is None:
            return Verdict.ACCEPTED
        others = self._uses.get(_fold(tag), set()) - {(device, session) for session in besides}
        return Verdict.CONCURRENT if others else Verdict.ACCEPTED

    def info(self, tag: str) -> TagInfo:
        """What a charger is told of a tag beside the verdict."""
        note = (self._notebook.note(KIND, _fold(tag)) if tag else None) or {}
        until_us, parent = note.get("until_us"), note.get("parent")
        return TagInfo(until_us if isinstance(until_us, int) else None, parent if isinstance(parent, str) else "")

    def known(self) -> list[KnownTag]:
        """All tags of the site, in a fixed order."""
        found = []
        for key, note in sorted(self._notebook.notes(KIND).items()):
            status = Verdict.ACCEPTED if note.get("status") == Verdict.ACCEPTED else Verdict.BLOCKED
            info = self.info(key)
            found.append(KnownTag(str(note.get("tag") or key), status, info.until_us, info.parent))
        return found

    def same_group(self, tag: str, other: str) -> bool:
        """Whether one may end what the other began: the same tag, or one of its group (1.6, 4.2.; 2.0.1, C09)."""
        mine, theirs = self.info(tag).parent, self.info(other).parent
        return _fold(tag) == _fold(other) or (bool(mine) and _fold(mine) == _fold(theirs))

    def expect(self, device: str, tag: str) -> None:
        """We are about to ask that charger to start with this tag."""
        now_s = self._clock.monotonic_s()
        self._expected = {key: until_s for key, until_s in self._expected.items() if until_s > now_s}
        if tag and len(self._expected) < MAX_EXPECTED:
            self._expected[device, _fold(tag)] = now_s + EXPECTED_S

    def begun(self, tag: str, device: str, session: int) -> None:
        """A session of that tag runs; also of one that ran when we started."""
        if tag:
            self._uses.setdefault(_fold(tag), set()).add((device, session))

    def ended(self, tag: str, device: str, session: int) -> None:
        """It has ended."""
        uses = self._uses.get(_fold(tag))
        if uses is not None:
            uses.discard((device, session))
            if not uses:
                del self._uses[_fold(tag)]

    def _is_expected(self, device: str, tag: str) -> bool:
        return bool(tag) and self._expected.get((device, _fold(tag)), 0.0) > self._clock.monotonic_s()

    def _hash_key(self) -> bytes:
        """The site's key: the one on disk, which may have been written by another since; until then our own."""
        note = self._notebook.note(*_SECRET)
        try:
            return self._own_key if note is None else bytes.fromhex(str(note["key"]))
        except (KeyError, ValueError):
            return self._own_key


def _fold(tag: str) -> str:
    return tag.casefold()
