"""What an operation is, and what it is given to ask with. The operations themselves stand in one file a version."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.core.errors import CommandRejected, Refusal
from agent.core.ports import Action
from drivers.ocpp.ports import ChargerState, Payload

Args = Mapping[str, Any]  #: held against the operation's schema before
ACCEPTED = frozenset({"Accepted"})

#: Names of configuration keys and variables whose values are shown to nobody.
_SECRET = re.compile(r"authorizationkey|password|passphrase|secret|private_?key|simpin|vpn.*key", re.IGNORECASE)
#: The charger's own password: it is changed by credential rotation, which lets both in until the new one was used.
_OWN_PASSWORD = frozenset({"authorizationkey", "basicauthpassword"})
HIDDEN = "***"

OUTLET = {"type": "integer", "minimum": 1, "maximum": 64, "description": "1.6 connectorId, 2.0.1 evseId"}
OUTLET_OR_ALL = {**OUTLET, "minimum": 0, "description": "outlet; 0 or absent: the whole charger"}
TIME = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
    "description": "such as 2026-01-31T12:00:00Z",
}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 2147483647}
#: A URL may carry a password: it is shown to nobody.
URL = {"type": "string", "minLength": 1, "maxLength": 512, "writeOnly": True, "description": "URL"}
RETRIES = {"retries": {**NUMBER, "maximum": 100}, "retry_interval_s": {**NUMBER, "maximum": 86400}}


def id_tag(length: int) -> Mapping[str, object]:
    """The schema of an id tag, which is shown as a hash only."""
    return {"type": "string", "minLength": 1, "maxLength": length, "writeOnly": True}


def text(length: int, **more: object) -> Mapping[str, object]:
    """The schema of a text."""
    return {"type": "string", "minLength": 1, "maxLength": length, **more}


def one_of(*values: str) -> Mapping[str, object]:
    """The schema of a choice."""
    return {"type": "string", "enum": list(values)}


class Asker(Protocol):
    """What an operation is done with."""

    @property
    def state(self) -> ChargerState:
        """The charger."""

    async def call(self, message: str, payload: Payload, good: frozenset[str] = ACCEPTED) -> Payload:
        """Ask; an answer whose ``status`` is none of ``good`` raises ``CommandRejected``. Empty: any will do."""

    async def report(self, message: str, payload: Payload, parts: str, good: frozenset[str]) -> Payload:
        """Ask for what comes in parts by messages of their own, and collect those: ``items`` and ``complete``."""

    def number(self) -> int:
        """A new number for a request."""

    def session_profile(self, args: Args) -> Payload:
        """The TxProfile of a session that is to begin, with the arguments' ``limit_a``, on their ``outlet``."""

    async def items_per_message(self, message: str) -> int:
        """How many variables a message may carry (2.0.1 DeviceDataCtrlr.ItemsPerMessage)."""


Do = Callable[[Asker, Args], Awaitable[Payload]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a charger can be told to do. ``message`` is the OCPP action: a model may skip it."""

    message: str
    doc: str
    do: Do
    args: Mapping[str, object] = field(default_factory=dict)  #: schemas of the arguments, by name
    required: tuple[str, ...] = ()

    def action(self) -> Action:
        """As others see it. ``writeOnly`` arguments are shown to nobody."""
        schema: dict[str, object] = {"type": "object", "properties": dict(self.args), "additionalProperties": False}
        if self.required:
            schema["required"] = list(self.required)
        return Action(self.doc, schema)


def plain(message: str, build: Callable[[Args], Payload], good: frozenset[str] = ACCEPTED) -> Do:
    """An operation of one message."""

    async def do(asker: Asker, args: Args) -> Payload:
        return await asker.call(message, build(args), good)

    return do


def given(args: Args, **names: str) -> dict[str, object]:
    """The arguments that are there, under OCPP's names: ``given(args, retries="retries")``."""
    return {ocpp: args[name] for name, ocpp in names.items() if name in args}


def is_secret(name: object) -> bool:
    """Whether a key or variable of this name holds what nobody may see."""
    return isinstance(name, str) and _SECRET.search(name) is not None


def refuse_own_password(op: str, name: object) -> None:
    """Raise ``CommandRejected`` where the charger's own password would be set."""
    if isinstance(name, str) and name.rpartition(".")[2].lower() in _OWN_PASSWORD:
        text = "the charger's password is not set like this: the gateway would not let it in with the new one"
        hint = "enter a new one at the charger; when it is turned away with it, adopt it again"
        raise CommandRejected(op, Refusal.NOT_CAPABLE, text, hint)


def refuse_downgrade(op: str, state: ChargerState, profile: object) -> None:
    """Raise ``CommandRejected`` for a security profile below that of this charger (2.0.1 part 2, A00.FR.005).

    Who has to do it all the same does it at the charger, or knows what ``raw`` is for.
    """
    own = state.settings.security_profile
    least = state.central.endpoint.profile if own is None else own
    if str(profile).isdecimal() and int(str(profile)) < least:
        reason = f"security profile {profile} is lower than {least}, and is never lowered over OCPP"
        raise CommandRejected(op, Refusal.INTERLOCKED, reason, "lower it at the charger itself")


def without_secrets(value: object) -> object:
    """An answer as it may be shown: the values of secret keys and variables are hidden."""
    if isinstance(value, Mapping):
        variable = value.get("variable")
        name = variable.get("name") if isinstance(variable, Mapping) else value.get("key")
        if is_secret(name):
            return {key: _hidden(key, one) for key, one in value.items()}
        return {
            key: HIDDEN if is_secret(key) and isinstance(one, str) else without_secrets(one)
            for key, one in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [without_secrets(one) for one in value]
    return value


def _hidden(key: str, value: object) -> object:
    if key in {"value", "attributeValue"} and value:
        return HIDDEN
    if key == "variableAttribute" and isinstance(value, list):
        return [{**one, "value": HIDDEN} if isinstance(one, Mapping) and "value" in one else one for one in value]
    return value
