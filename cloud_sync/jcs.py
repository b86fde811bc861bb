r"""JSON in its one canonical form (RFC 8785, JCS): the same value gives the same bytes, whoever writes them. Pure.

Rules of this file:

1. No blanks; members of an object sorted by the UTF-16 code units of their names (RFC 8785, 3.2.3); UTF-8.
2. Texts as ECMAScript's ``JSON.stringify`` writes them (3.2.2.2): only ``"``, ``\`` and what is below U+0020 is
   escaped, with ``\b \t \n \f \r`` where there is one, else ``\u00xx`` in small letters.
3. Numbers are IEEE 754 doubles, written as ECMAScript's ``Number.prototype.toString`` does (3.2.2.3): the fewest digits
   that read back as the same double, plain from 1e-6 to below 1e21, else with an exponent.
4. What has no such form is refused: no number, infinity, whole numbers beyond 2^53 - 1 (I-JSON, RFC 7493, 2.2), which a
   double does not hold exactly, halves of surrogate pairs, and objects of which two members have one name.
"""

import json
import math
from collections.abc import Mapping, Sequence

#: The largest whole number of which each smaller one is a double too.
MAX_WHOLE = (1 << 53) - 1

#: ECMA-262, Number::toString: with so many digits before the point and no more an exponent is not used.
_MOST_BEFORE_POINT = 21
_MOST_ZEROS_BEHIND_POINT = 6


def canonical(value: object) -> bytes:
    """A value as ``json.loads`` gives it, in canonical form. Raises ``ValueError`` for what has none."""
    return _text(value).encode()  # its UnicodeEncodeError, of half a surrogate pair, is a ValueError


def members_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """For ``json.loads(object_pairs_hook=…)``: an object. Raises ``ValueError`` where a name comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("two members of an object have one name")
    return found


def _text(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Mapping):
        members = sorted(value.items(), key=_utf16)
        return "{" + ",".join(f"{_text(name)}:{_text(one)}" for name, one in members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    raise ValueError(f"{type(value).__name__} is no value of JSON")


def _utf16(member: tuple[object, object]) -> bytes:
    name, _ = member
    if not isinstance(name, str):
        raise ValueError("the name of a member is no text")  # noqa: TRY004 - as all else that has no form
    return name.encode("utf-16-be")


def number(value: float) -> str:
    """A number as ECMAScript writes it. Raises ``ValueError`` for one that is no double."""
    if isinstance(value, int):
        if abs(value) > MAX_WHOLE:
            raise ValueError("a whole number is beyond 2^53 - 1, and not the same everywhere")
        return str(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number of JSON")
    if value == 0:
        return "0"  # -0 too
    sign = "-" if value < 0 else ""
    # Python's shortest digits are those of ECMAScript: of several equally short ones, the nearest.
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    return sign + _placed(digits.rstrip("0"), point)


def _placed(digits: str, point: int) -> str:
    """0.``digits`` x 10^``point``."""
    count = len(digits)
    if count <= point <= _MOST_BEFORE_POINT:
        return digits + "0" * (point - count)
    if 0 < point <= _MOST_BEFORE_POINT:
        return f"{digits[:point]}.{digits[point:]}"
    if -_MOST_ZEROS_BEHIND_POINT < point <= 0:
        return "0." + "0" * -point + digits
    behind = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{behind}e{'+' if point > 0 else '-'}{abs(point - 1)}"
