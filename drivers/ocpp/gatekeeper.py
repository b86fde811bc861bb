"""Who comes in at the port of the chargers, who waits, and who is turned away.

Rules of this file:

1. A port has one security profile, and that is the one that counts; nothing that a charger sends lowers it (1.6
   security and 2.0.1 part 2: A00.FR.001 to FR.006). Only the configuration can: ``security_profile: 0`` lets one
   charger in without a password on a port of profile 1.
2. Profiles 1 and 2: user name = identity in the URL, and the charger's password (A00.FR.204 and FR.205). Profile 3: the
   common name of the verified certificate is the identity, or contains it between dots or the like: what is issued for
   CP-00012 does not open for CP-0001.
3. Who is not configured, or has no password yet, waits (``pending.py``) and is shown; nobody is taken in unasked.
4. Strangers cost little: tables are bounded, wrong passwords are limited for each address before anything is hashed,
   and what is written to the ledger is limited for all of them together (``knocks.py``).
"""

import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Event
from agent.core.ports import Notebook
from drivers.codec.ocpp_model import Entry, Version
from drivers.ocpp.adoption import AdoptResult, adopt
from drivers.ocpp.credentials import Credentials, Sealed, canonical
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.knocks import KnockInfo, Knocks
from drivers.ocpp.pending import Pending
from drivers.ocpp.ports import Call, Decision, Knock, Peer
from drivers.ocpp.settings import CentralSettings, ChargerSettings
from drivers.ocpp.throttle import Throttle, network

PASSWORD_FROM, CERTIFICATE = 1, 3
MAX_WAITING = 32
#: A handshake that was let in and never came costs its place for so long.
_ARRIVAL_S = 15.0
#: Wrong passwords of one charger at one address, and of one address: a site's chargers may stand behind one.
_PER_CHARGER = (10, 6.0)
_PER_ADDRESS = (60, 1.0)
#: Transactions of chargers that wait: so many at once, and then one each five minutes, of at most so many characters.
_KEPT, _KEPT_EVERY_S, _MAX_KEPT_TEXT = 100, 300.0, 8192
_UNADOPTED = ("ocpp.unadopted", "transactions")
#: Members of a payload that say who charges.
_TAGS = frozenset({"idTag", "parentIdTag", "idToken", "groupIdToken"})
#: RFC 6455, 7.4.1 and its registry: service restart, come again.
COME_AGAIN = 1012

Chargers = Mapping[str, tuple[ChargerSettings, Peer]]


class Gate:
    """The ``Gatekeeper`` of one port. ``chargers`` are the configured ones by identity."""

    def __init__(
        self,
        central: CentralSettings,
        chargers: Chargers,
        notebook: Notebook,
        clock: Clock,
        record: Callable[[Event], None],
    ) -> None:
        self._central = central
        self._chargers = dict(chargers)
        self._notebook = notebook
        self._clock = clock
        self.credentials = Credentials(notebook, clock)
        self._tags = IdTags(central.id_tags, notebook, clock)
        self._knocks = Knocks(clock, record)
        self._places: dict[Pending, float] = {}  #: who waits or is about to, and since when (monotonic)
        self._tried = Throttle(clock, *_PER_CHARGER)
        self._tried_address = Throttle(clock, *_PER_ADDRESS)
        self._kept = Throttle(clock, _KEPT, _KEPT_EVERY_S)
        self._kept_before: dict[bytes, None] = {}
        self._key = secrets.token_bytes(16)
        self._closing: set[asyncio.Task[None]] = set()

    def update(self, chargers: Chargers) -> None:
        """These are the configured ones from now on. Who waited and is one of them now is sent to come again."""
        self._chargers = dict(chargers)
        for pending in list(self._places):
            settings = self._settings(pending.identity)
            if settings is not None and self._may_enter(settings):
                self._send_again(pending)

    async def decide(self, knock: Knock) -> Decision:
        """Whether it comes in, waits or is turned away."""
        decision = await self._judge(knock)
        if decision.entry is not Entry.ADOPTED:
            proof = self._note(knock, decision.entry, decision.reason)
            if isinstance(decision.peer, Pending):
                decision.peer.proof = proof
        return decision

    def refused(self, knock: Knock, reason: str) -> None:
        """It was turned away at the port itself: the place that it may have been given is free again."""
        for pending in [one for one in self._places if one.knock is knock]:
            del self._places[pending]
        self._note(knock, Entry.REFUSED, reason)

    def connected(self, knock: Knock, decision: Decision, version: Version) -> None:
        """It came in."""
        if decision.entry is Entry.ADOPTED:
            self._knocks.forget(knock.identity)
        else:
            self._knocks.change(knock.identity, version=version)

    def knocks(self) -> list[KnockInfo]:
        """Who waits, or was turned away; the latest first."""
        waiting = {pending.identity: pending for pending in self._places if pending.link is not None}
        for identity, pending in waiting.items():
            if pending.boot is not None:
                self._knocks.change(identity, boot=pending.boot)
        return self._knocks.all()

    async def adopt(self, identity: str) -> AdoptResult:
        """Take a charger in, as far as proof is concerned: from now on it can prove who it is, or the result says what
        is to be done for that. It is served once it is configured, too. Raises ``StoreError``: nothing was done.
        """  # noqa: D205 - one sentence
        settings = self._settings(identity)
        pending = next((one for one in self._places if one.identity == identity and one.link is not None), None)
        proof: Sealed | None = pending.proof if pending is not None else self._knocks.proof(identity)
        profile = self._central.endpoint.profile
        knocks = self._knocks.has(identity)
        result = await adopt(self.credentials, identity, profile, settings, pending, proof, knocks=knocks)
        if pending is not None and settings is not None:
            self._send_again(pending)
        return result

    async def forget(self, identity: str) -> None:
        """Its password is not valid any more: it waits until it is adopted again. Raises ``StoreError``."""
        settings = self._settings(identity)
        await self.credentials.forget(identity, settings.device if settings is not None else "")

    # -- what those who wait need (``pending.Host``)

    def arrived(self, pending: Pending) -> None:
        """It has connected."""
        self._places[pending] = self._clock.monotonic_s()
        self._knocks.arrived(pending.knock)

    def left(self, pending: Pending) -> None:
        """Its connection has ended."""
        self._places.pop(pending, None)
        self._knocks.change(pending.identity, connected=False, boot=pending.boot)

    async def keep(self, pending: Pending, call: Call) -> bool:
        """Write down a message about a transaction, once however often it is repeated; true when it is on disk."""
        try:
            await self._tags.ready()
        except StoreError:
            return False
        text = json.dumps(self._hashed(call.payload), ensure_ascii=False, separators=(",", ":"))
        mark = hashlib.sha256(f"{pending.identity}\0{call.action}\0{text}".encode(errors="replace")).digest()
        if mark in self._kept_before:
            return True
        if not self._kept.take():
            return False
        data: dict[str, object] = {
            "identity": pending.identity,
            "address": pending.knock.address,
            "action": call.action,
            "payload": text[:_MAX_KEPT_TEXT],
        }
        if len(text) > _MAX_KEPT_TEXT:
            data["characters"] = len(text)
        event = Event("charger.unadopted_transaction", self._clock.now_us(), pending.identity, data)
        count = (self._notebook.note(*_UNADOPTED) or {}).get("count")
        number = count + 1 if isinstance(count, int) else 1
        try:
            await self._notebook.write(*_UNADOPTED, {"count": number}, [event])
        except StoreError:
            return False
        if len(self._kept_before) >= MAX_WAITING * MAX_WAITING:
            del self._kept_before[next(iter(self._kept_before))]
        self._kept_before[mark] = None
        return True

    def _hashed(self, value: object) -> object:
        """A payload with the hashes of the tags of who charges: the ledger is read by many."""
        if isinstance(value, Mapping):
            return {key: self._tag(one) if key in _TAGS else self._hashed(one) for key, one in value.items()}
        return [self._hashed(one) for one in value] if isinstance(value, list | tuple) else value

    def _tag(self, tag: object) -> object:
        return self._tags.tag_hash(tag) if isinstance(tag, str) else self._hashed(tag)

    # -- decisions

    async def _judge(self, knock: Knock) -> Decision:
        if knock.profile == CERTIFICATE and not self._certified(knock):
            return _refuse("wrong_certificate", 401)
        configured = self._chargers.get(knock.identity)
        if configured is None:
            return self._wait(knock, "unknown") if self._central.unknown == "pending" else _refuse("unknown", 404)
        settings, peer = configured
        if settings.security_profile not in _allowed(knock.profile):
            return _refuse("wrong_profile", 403)
        if knock.profile == CERTIFICATE:
            return _admit(settings, peer, f"certificate:{knock.certificate_cn}")
        if _open(settings, knock.profile):
            return _admit(settings, peer, "")
        return await self._judge_password(knock, settings, peer)

    def _certified(self, knock: Knock) -> bool:
        """Whether it is its own certificate; what is the whole name of another charger is that one's."""
        name, identity = knock.certificate_cn, knock.identity
        return names(name, identity) and (name == identity or name not in self._chargers)

    async def _judge_password(self, knock: Knock, settings: ChargerSettings, peer: Peer) -> Decision:
        if not self.credentials.knows(knock.identity, settings):
            return self._wait(knock, "no_credential", settings.version)
        if knock.password is None or knock.user is None:
            return _refuse("no_password", 401)
        if knock.user != knock.identity:
            return _refuse("wrong_user", 401)
        address = network(knock.address)
        if not (self._tried.allows((address, knock.identity)) and self._tried_address.allows(address)):
            return _refuse("too_many_attempts", 429)
        if not await self.credentials.check(settings, knock.password):
            self._tried.take((address, knock.identity))
            self._tried_address.take(address)
            return _refuse("wrong_password", 401)
        return _admit(settings, peer, f"password:{knock.identity}")

    def _wait(self, knock: Knock, reason: str, version: Version | None = None) -> Decision:
        now_s = self._clock.monotonic_s()
        for pending, since_s in list(self._places.items()):
            if pending.link is None and now_s - since_s > _ARRIVAL_S:
                del self._places[pending]
        # Strangers take no place from those that are configured, whose number is bounded anyway.
        if knock.identity not in self._chargers and len(self._places) >= MAX_WAITING:
            return _refuse("too_many_wait", 403)
        pending = Pending(knock, self._clock, self)
        self._places[pending] = now_s
        return Decision(Entry.PENDING, reason, self._fingerprint(knock), pending, version)

    def _fingerprint(self, knock: Knock) -> str:
        """The same for the same password under the same identity, as long as this process lives; empty for none."""
        if knock.password is None:
            return ""
        secret = knock.identity.encode(errors="replace") + b"\0" + canonical(knock.password)
        return f"presented:{hmac.digest(self._key, secret, hashlib.sha256).hex()[:16]}"

    def _note(self, knock: Knock, entry: Entry, reason: str) -> Sealed | None:
        settings = self._settings(knock.identity)
        return self._knocks.add(knock, entry, reason, knock.identity if settings is None else settings.device)

    def _settings(self, identity: str) -> ChargerSettings | None:
        return self._chargers[identity][0] if identity in self._chargers else None

    def _may_enter(self, settings: ChargerSettings) -> bool:
        """Whether it would be let in now, if it proves who it is."""
        profile = self._central.endpoint.profile
        return profile == CERTIFICATE or _open(settings, profile) or self.credentials.knows(settings.identity, settings)

    def _send_again(self, pending: Pending) -> None:
        if pending.link is not None:
            task = asyncio.ensure_future(pending.link.close(COME_AGAIN, "adopted: connect again"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def names(common_name: str | None, identity: str) -> bool:
    """Whether a certificate is that charger's: its common name is the identity, or has it as a part of its own."""
    part = rf"(?:^|[\s.,:;/@=|]){re.escape(identity)}(?:$|[\s.,:;/@=|])"
    return bool(common_name and identity and re.search(part, common_name))


def _allowed(profile: int) -> tuple[int | None, ...]:
    """What a charger's ``security_profile`` may be at a port of this one."""
    return (None, 0, 1) if profile == PASSWORD_FROM else (None, profile)


def _open(settings: ChargerSettings, profile: int) -> bool:
    """Whether it needs no proof."""
    return profile == 0 or (profile == PASSWORD_FROM and settings.security_profile == 0)


def _admit(settings: ChargerSettings, peer: Peer, credential: str) -> Decision:
    return Decision(Entry.ADOPTED, "", credential, peer, settings.version)


def _refuse(reason: str, status: int) -> Decision:
    return Decision(Entry.REFUSED, reason, status=status)
