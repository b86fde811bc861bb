"""What a charger can be told to do once, over both versions; the operations stand in ``operations16`` and ``..201``.

Rules of this file:

1. Arguments are held against the operation's schema, and the message against OCPP's by the link, before anything is
   sent. What is wrong with them is said without their values: they may hold passwords and id tags.
2. An answer that says no raises ``CommandRejected``: ``not_capable`` where the charger does not know such a thing,
   otherwise ``device_refused``.
3. Nothing is repeated. What comes in parts is collected until the last part, or until none came for ``PART_S``.
4. Passwords, keys and the like in answers are hidden.
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import Any

import fastjsonschema

from agent.core.clock import Clock
from agent.core.errors import BadData, CommandRejected, DeviceError, Refusal
from agent.core.ports import Action
from drivers.codec.ocpp_model import Boot, Version
from drivers.ocpp.limits_profiles import FIRST_ID, LAST_ID
from drivers.ocpp.limits_writer import ProfileWriter
from drivers.ocpp.operations16 import OPERATIONS as OPERATIONS_16
from drivers.ocpp.operations201 import OPERATIONS as OPERATIONS_201
from drivers.ocpp.operations_model import ACCEPTED, Args, Operation, given, refuse_own_password, without_secrets
from drivers.ocpp.ports import Call, ChargerState, Link, Payload
from drivers.waiting import within

#: Longest silence between two parts of a report.
PART_S = 60.0
MAX_PARTS = 5000
MAX_REPORTS = 4
#: Variables in a message where the charger does not say how many it takes.
ITEMS = 10
#: What is meant for the only outlet of a charger where none is named: some do nothing when they are not told where,
#: and only those that say so reserve connector 0 (1.6 edition 2, 5.13).
_SOMEWHERE = frozenset({"start", "reserve"})
_NOT_CAPABLE = re.compile("NotSupported|NotImplemented|Unknown")
#: What a part carries, by message.
_CONTENT = {
    "NotifyReport": "reportData",
    "ReportChargingProfiles": "chargingProfile",
    "NotifyCustomerInformation": "data",
}
RAW = Action(
    "send any message of its OCPP version, for experts; its answer is given as it is",
    {
        "type": "object",
        "properties": {"message": {"type": "string", "maxLength": 64}, "payload": {"type": "object"}},
        "required": ["message"],
        "additionalProperties": False,
    },
)


class Operations:
    """``Operable`` of one charger."""

    def __init__(self, state: ChargerState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._writer = ProfileWriter(state, clock)
        self._version = state.settings.version or Version.V16
        self._number = clock.now_us() // 1_000_000 % 1_000_000_000
        self._reports: dict[tuple[str, int], _Report] = {}
        self._items: tuple[Link | None, dict[str, int]] = (None, {})
        #: Memory of set-up over connections: when it last closed one that answered nothing, the boot in which
        #: measurands were last tried, and whether TriggerMessage is answered for connector 0 only.
        self.closed_s: float | None = None
        self.triggers_whole = False
        self.probed: Boot | None = None

    @property
    def state(self) -> ChargerState:
        """The charger."""
        return self._state

    @property
    def version(self) -> Version:
        """What it speaks, or spoke when it was last here."""
        with contextlib.suppress(DeviceError):
            self._version = self._state.link.version
        return self._version

    @property
    def actions(self) -> Mapping[str, Action]:
        """What it can be told, by name: of its version, without what its model must not be sent."""
        return {name: one.action() for name, one in self._known().items()} | {"raw": RAW}

    async def act(self, action: str, args: Mapping[str, object]) -> Mapping[str, object]:
        """Do it; what the charger answered. Raises as ``Operable.act``."""
        known = self._known()
        if action == "raw":
            _check(action, RAW, args)
            return await self._raw(args)
        if action not in known:
            raise CommandRejected(self._op(action), Refusal.NOT_CAPABLE, "this charger has no such action")
        _check(action, known[action].action(), args)
        outlets = self._state.settings.outlets
        outlet = args.get("outlet", 0)
        if isinstance(outlet, int) and outlet > outlets:
            text = f"it has {outlets} outlet{'s' if outlets > 1 else ''}, not {outlet}"
            raise CommandRejected(self._op(action), Refusal.OUT_OF_RANGE, text)
        _own_ids(action, args)
        if outlets == 1 and not outlet and action in _SOMEWHERE:
            args = {**args, "outlet": 1}
        return _shown(await known[action].do(self, args))

    def reported(self, call: Call) -> None:
        """A part of what was asked for came as a call of its own (NotifyReport, …). Returns at once, never raises."""
        number = call.payload.get("requestId")
        report = self._reports.get((call.action, number)) if isinstance(number, int) else None
        if report is not None:
            report.add(call.payload)

    async def set_password(self, password: bytes) -> None:
        """Give it the password with which it is to connect (1.6 security extension, A01; 2.0.1 part 2, A01).

        Whoever calls has the old one and this one valid until it has connected with this one. Raises as ``act``.
        """
        if self.version.two:
            variable = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
            items = [{**variable, "attributeValue": password.decode("ascii")}]
            answer = await self._send("SetVariables", {"setVariableData": items})
            results = answer.get("setVariableResult")
            first = results[0] if isinstance(results, list) and results and isinstance(results[0], Mapping) else {}
            status = first.get("attributeStatus")
        else:
            payload = {"key": "AuthorizationKey", "value": password.hex()}
            status = (await self._send("ChangeConfiguration", payload)).get("status")
        if status not in {"Accepted", "RebootRequired"}:
            raise CommandRejected(self._op("set its password"), _refusal(status), f"it answered {status}")

    # -- what operations are done with (``Asker``) --

    async def call(self, message: str, payload: Payload, good: frozenset[str] = ACCEPTED) -> Payload:
        """Ask; an answer whose ``status`` is none of ``good`` raises ``CommandRejected``. Empty: any will do.

        Of a message whose answer has no status (GetConfiguration) any answer is good.
        """
        answer = await self._send(message, payload)
        status = answer.get("status")
        if good and status is not None and status not in good:
            info = answer.get("statusInfo")
            reason = info.get("reasonCode") if isinstance(info, Mapping) else None
            text = f"it answered {status}" + (f" ({reason})" if reason else "")
            raise CommandRejected(self._op(message), _refusal(status), text)
        return answer

    async def report(self, message: str, payload: Payload, parts: str, good: frozenset[str]) -> Payload:
        """Ask for what comes in parts by messages of their own, and collect those: ``items`` and ``complete``."""
        number = self.number()
        if len(self._reports) >= MAX_REPORTS:
            raise CommandRejected(self._op(message), Refusal.INTERLOCKED, "other reports are still coming", "wait")
        report = self._reports[parts, number] = _Report(_CONTENT[parts])
        try:
            answer = await self.call(message, {**payload, "requestId": number}, good)
            if answer.get("status") == "Accepted":
                await report.wait(self._clock)
        finally:
            del self._reports[parts, number]
        complete = report.complete or answer.get("status") != "Accepted"
        return {**answer, "items": report.items(), "complete": complete}

    def number(self) -> int:
        """A new number for a request."""
        self._number += 1
        return self._number

    def session_profile(self, args: Args) -> Payload:
        """The TxProfile of a session that is to begin, with the arguments' ``limit_a``, on their ``outlet``."""
        settings, limit_a = self._state.settings, args["limit_a"]
        if not (limit_a == 0 or settings.min_a <= limit_a <= settings.max_a):
            text = f"limit_a must be 0 or from {settings.min_a:g} to {settings.max_a:g}"
            raise CommandRejected(self._op("start"), Refusal.OUT_OF_RANGE, text)
        return self._writer.session(args.get("outlet", 1), limit_a)

    async def items_per_message(self, message: str) -> int:
        """How many variables a message may carry (2.0.1 DeviceDataCtrlr.ItemsPerMessage), asked once a connection."""
        link = self._state.link
        if self._items[0] is not link:
            self._items = link, {}
        known = self._items[1]
        if message not in known:
            variable = {"name": "ItemsPerMessage", "instance": message}
            item = {"component": {"name": "DeviceDataCtrlr"}, "variable": variable}
            try:
                answer = await self._send("GetVariables", {"getVariableData": [item]})
            except (CommandRejected, BadData):
                answer = {}
            known[message] = _positive(answer) or ITEMS
        return known[message]

    async def _raw(self, args: Args) -> Payload:
        message = str(args["message"])
        payload = args.get("payload", {})
        for name in _names(payload):
            refuse_own_password(self._op(message), name)
        if message in self._state.quirks.skip:
            raise CommandRejected(self._op(message), Refusal.NOT_CAPABLE, "this model must not be sent that")
        return _shown(await self._send(message, payload))

    async def _send(self, message: str, payload: Payload) -> Payload:
        if message in self._state.quirks.skip:
            raise CommandRejected(self._op(message), Refusal.NOT_CAPABLE, "this model must not be sent that")
        try:
            return await self._state.link.call(message, payload)
        except ValueError as error:  # what an operation made of its arguments is no such message
            raise CommandRejected(self._op(message), Refusal.OUT_OF_RANGE, str(error)) from error

    def _known(self) -> Mapping[str, Operation]:
        known = OPERATIONS_201 if self.version.two else OPERATIONS_16
        skip = self._state.quirks.skip
        return {name: one for name, one in known.items() if one.message not in skip}

    def _op(self, what: str) -> str:
        return f"{what} {self._state.settings.device}"


class _Report:
    """The parts of one report. Bounded; the parts may come in any order, twice, or before the answer."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._parts: dict[int, Payload] = {}
        self._last: int | None = None
        self._moved = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether all parts are there."""
        return self._last is not None and len(self._parts) > self._last

    def add(self, payload: Payload) -> None:
        """One part. Parts of charging profiles are not numbered: they come in order."""
        number = payload.get("seqNo", len(self._parts))
        if not isinstance(number, int) or not 0 <= number < MAX_PARTS:
            return
        self._parts.setdefault(number, payload)
        if not payload.get("tbc", False):
            self._last = number
        self._moved.set()

    async def wait(self, clock: Clock) -> None:
        """Until all are there, or none came for ``PART_S``."""
        while not self.complete:
            self._moved.clear()
            if await within(clock, PART_S, self._moved.wait()) is None:
                return

    def items(self) -> object:
        """What the parts carry, joined: a list, or of texts one text."""
        parts = [self._parts[number] for number in sorted(self._parts)]
        contents = [part.get(self._content) for part in parts]
        if self._content == "data":
            return "".join(one for one in contents if isinstance(one, str))
        if self._content == "chargingProfile":
            return [
                {**given(part, evseId="evseId", chargingLimitSource="chargingLimitSource"), "chargingProfile": one}
                for part, content in zip(parts, contents, strict=True)
                for one in (content if isinstance(content, list) else [])
            ]
        return [one for content in contents if isinstance(content, list) for one in content]


def _check(action: str, known: Action, args: Args) -> None:
    """Hold arguments against the schema. Raises ``CommandRejected`` that names what is wrong, without values."""
    check: Any = fastjsonschema.compile(dict(known.args), use_default=False)
    try:
        check(dict(args))
    except fastjsonschema.JsonSchemaException as error:
        text = str(error).replace("data.", "", 1).replace("data must", "the arguments must", 1)
        raise CommandRejected(action, Refusal.OUT_OF_RANGE, text) from None


def _own_ids(action: str, args: Args) -> None:
    profile = args.get("profile")
    if action != "set_charging_profile" or not isinstance(profile, Mapping):
        return
    number = profile.get("chargingProfileId", profile.get("id"))
    if isinstance(number, int) and FIRST_ID <= number <= LAST_ID:
        text = f"profile ids from {FIRST_ID} to {LAST_ID} are the gateway's own"
        raise CommandRejected(action, Refusal.OUT_OF_RANGE, text, "take another id")


def _shown(answer: Payload) -> Payload:
    shown = without_secrets(answer)
    return shown if isinstance(shown, Mapping) else {}


def _refusal(status: object) -> Refusal:
    known = isinstance(status, str) and _NOT_CAPABLE.match(status)
    return Refusal.NOT_CAPABLE if known else Refusal.DEVICE_REFUSED


def _positive(answer: Payload) -> int | None:
    """The value of the one variable that was asked for, where it is a number above 0."""
    results = answer.get("getVariableResult")
    first = results[0] if isinstance(results, list) and results else None
    value = first.get("attributeValue") if isinstance(first, Mapping) else None
    return int(value) if isinstance(value, str) and value.isdecimal() and int(value) else None


def _names(payload: object) -> list[object]:
    """All texts that may name a key or variable in a payload."""
    if isinstance(payload, Mapping):
        own = [value for key, value in payload.items() if key in {"key", "name"}]
        return own + [name for value in payload.values() for name in _names(value)]
    return [name for one in payload for name in _names(one)] if isinstance(payload, list) else []
