"""What a message of the topic ``command`` says, and the message of its result. Pure; schemas in ``schemas/``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cloud_sync.signed import SIGNATURE, UNSIGNED, Signed, taken_apart
from cloud_sync.subscriber import SCHEMA

MAX_BYTES = 16 * 1024
MAX_ID = 128
MAX_NAME = 128
MAX_CORRELATION = 1024
DEFAULT_TTL_S = 60.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEYS = frozenset({"schema", "id", "site", "issued_at", "ttl_s", "target", "action", "args", "issuer"})
_MAX_WHOLE = 1 << 63


class CommandError(ValueError):
    """Bytes that are no command and have no id."""


@dataclass(frozen=True, slots=True)
class Order:
    """One command from the central server. ``objection``: why it is not to be done, empty: nothing is against it.

    Its time to live counts from ``received_s`` (monotonic) and, where the clock is good, from ``issued_us``;
    ``waited``: it may have waited at the broker, for how long is not known.
    """

    id: str
    target: str = ""
    action: str = ""
    args: Mapping[str, object] = field(default_factory=dict)
    issuer: str = ""  #: who gave it, as the central server says
    issued_us: int = 0
    ttl_s: float = DEFAULT_TTL_S
    received_s: float = 0.0
    waited: bool = False
    objection: str = ""
    site: str = ""  #: whom it is for, as it says; empty: it does not say
    signed: Signed = UNSIGNED

    def refused(self, objection: str) -> "Order":
        """The same, not to be done; what was first against it stays."""
        return self if self.objection else replace(self, objection=objection)


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What came of an order. ``outcome`` is ``done rejected failed expired superseded``; ``refusal`` one word more."""

    id: str
    outcome: str
    reason: str = ""
    refusal: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    t_us: int = 0


def parse_command(payload: bytes) -> Order:
    """The order of a message; one with an objection where it has an id but is no command. Raises ``CommandError``."""
    found = _object(payload)
    if SIGNATURE not in found:
        return _order(found)
    text, signed = taken_apart(payload)
    try:
        order = _order(found if signed.flaw else _object(text))
    except CommandError as error:  # it had an id, but its canonical form is beyond what is read
        order = _order({"id": found["id"]}).refused(str(error))
    return replace(order, signed=signed)


def _object(payload: bytes) -> dict[str, object]:
    """A message with an id. Raises ``CommandError``."""
    if len(payload) > MAX_BYTES:
        raise CommandError(f"it has {len(payload)} bytes, {MAX_BYTES} are read")
    try:
        found = json.loads(payload, parse_constant=_no_number, parse_int=_whole, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"it is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CommandError("it is no JSON object")
    command_id = found.get("id")
    if not isinstance(command_id, str) or not 0 < len(command_id) <= MAX_ID or not command_id.isprintable():
        raise CommandError(f"it has no id: a text of 1 to {MAX_ID} printable characters")
    return found


def _order(found: Mapping[str, object]) -> Order:
    """The order of an object with an id."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # neither the store nor the ledger could keep it
        return Order(str(found["id"])).refused("it holds half of a surrogate pair, which is no character")
    target, action, args = found.get("target"), found.get("action"), found.get("args", {})
    issuer, issued_us, ttl_s = found.get("issuer", ""), _time_us(found.get("issued_at")), _number(found.get("ttl_s"))
    site = found.get("site", "")
    order = Order(
        str(found["id"]),
        _name(target),
        _name(action),
        args if isinstance(args, dict) else {},
        _name(issuer),
        issued_us or 0,
        DEFAULT_TTL_S if ttl_s is None else ttl_s,
        site=_name(site),
    )
    keys = found.keys() - {SIGNATURE}
    for holds, objection in (
        (keys <= _KEYS, f"it has keys that nobody knows: {', '.join(sorted(keys - _KEYS))[:200]}"),
        (found.get("schema", SCHEMA) == SCHEMA, f"its schema is not {SCHEMA}"),
        (site == "" or _name(site), f"its site is no text of up to {MAX_NAME} printable characters"),
        (_name(target), f"its target is no text of 1 to {MAX_NAME} printable characters"),
        (_name(action), f"its action is no text of 1 to {MAX_NAME} printable characters"),
        (isinstance(args, dict), "its args are no object"),
        (issuer == "" or _name(issuer), f"its issuer is no text of up to {MAX_NAME} printable characters"),
        (issued_us is not None, "its issued_at is no time: ISO 8601 with a zone, or whole µs since 1970 UTC"),
        (ttl_s is not None or found.get("ttl_s") is None, "its ttl_s is no number"),
    ):
        if not holds:
            return order.refused(objection)
    return order


def encode_result(result: OrderResult) -> bytes:
    """The message of a result."""
    document = {
        "schema": SCHEMA,
        "id": result.id,
        "outcome": result.outcome,
        "reason": result.reason,
        "refusal": result.refusal,
        "data": result.data,
        "t": result.t_us,
    }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace")


def _name(value: object) -> str:
    """A short text; empty for everything else."""
    return value if isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable() else ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _time_us(value: object) -> int | None:
    """A moment, µs since 1970 UTC."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value > 0 else None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None or moment.tzinfo is None:
            return None
        return max((moment - _EPOCH) // timedelta(microseconds=1), 1)
    except (ValueError, OverflowError):
        return None


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) >= _MAX_WHOLE:
        raise ValueError("a whole number has more than 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError("a number is beyond all bounds")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
